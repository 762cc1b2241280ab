//! Walking a tree: every problem is noted with its pointer and place, none stops the reading.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::schema::Object;
use super::suggest::nearest;
use super::tree::{Kind, Node};
use super::{Problem, Severity};

/// What has been found wrong so far, and in which file.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a str,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A node and the pointer to it.
#[derive(Clone, Debug)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    pub(crate) pointer: String,
}

/// Errors beyond this number help nobody, nor do warnings; many of one kind never hide the other.
const MAX_PROBLEMS: usize = 100;

impl<'a> Walk<'a> {
    pub(crate) const fn new(file: &'a str) -> Self {
        Self {
            file,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Notes an error at a node.
    pub(crate) fn error(&mut self, at: &At<'_>, code: &str, message: impl Into<String>, hint: &str) {
        self.note(Severity::Error, at, code, message.into(), hint);
    }

    /// Notes a warning at a node.
    pub(crate) fn warn(&mut self, at: &At<'_>, code: &str, message: impl Into<String>, hint: &str) {
        self.note(Severity::Warning, at, code, message.into(), hint);
    }

    fn note(&mut self, severity: Severity, at: &At<'_>, code: &str, message: String, hint: &str) {
        let kept = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        if kept.len() < MAX_PROBLEMS {
            let problem = Problem {
                severity,
                ..Problem::error(code, at.pointer.clone(), message)
            };
            let place = at.node.place;
            kept.push(problem.with_hint(hint).at(self.file, place.line, place.column));
        }
    }

    /// Whether more errors would not be kept.
    pub(crate) const fn is_full(&self) -> bool {
        self.errors.len() >= MAX_PROBLEMS
    }

    /// Whether more warnings would not be kept.
    pub(crate) const fn is_full_of_warnings(&self) -> bool {
        self.warnings.len() >= MAX_PROBLEMS
    }

    /// The problems in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.errors;
        problems.extend(self.warnings);
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    /// Whether a name is one of those the file defines; else a problem that suggests the nearest.
    pub(crate) fn known(&mut self, at: &At<'_>, what: &str, name: &str, all: &BTreeSet<&str>) -> bool {
        if all.contains(name) {
            return true;
        }
        if self.is_full() {
            return false;
        }
        let hint = match nearest(name, all.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => match all.iter().copied().take(20).collect::<Vec<_>>() {
                some if some.is_empty() => format!("the file has no {what}"),
                some => format!("the file has {}", some.join(", ")),
            },
        };
        let shown: String = name.chars().take(80).collect();
        self.error(at, "unknownName", format!("there is no {what} `{shown}`"), &hint);
        false
    }
}

impl<'n> At<'n> {
    pub(crate) const fn root(node: &'n Node) -> Self {
        Self {
            node,
            pointer: String::new(),
        }
    }

    /// A value under a key of this map.
    pub(crate) fn below(&self, node: &'n Node, key: &str) -> Self {
        Self {
            node,
            pointer: self.pointer_to(key),
        }
    }

    /// The value of a key that the table has, also by its older spelling; one that is null counts as absent.
    pub(crate) fn get(&self, object: &Object, key: &str) -> Option<Self> {
        let Kind::Map(entries) = &self.node.kind else {
            return None;
        };
        let alias = object.field(key).and_then(|field| field.alias);
        let (found, node) = entries.iter().find(|(found, node)| {
            (found.text == key || alias == Some(&found.text)) && !matches!(node.kind, Kind::Null)
        })?;
        Some(self.below(node, &found.text))
    }

    /// The items of a list; none for anything else.
    pub(crate) fn items(&self) -> Vec<Self> {
        let Kind::List(items) = &self.node.kind else {
            return Vec::new();
        };
        let item = |(index, node)| Self {
            node,
            pointer: format!("{}/{index}", self.pointer),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The entries of a map with free keys; none for anything else.
    pub(crate) fn entries(&self) -> Vec<(&'n str, Self)> {
        let Kind::Map(entries) = &self.node.kind else {
            return Vec::new();
        };
        entries
            .iter()
            .map(|(key, node)| (key.text.as_str(), self.below(node, &key.text)))
            .collect()
    }

    /// The text of a key, where it is one.
    pub(crate) fn text_of(&self, object: &Object, key: &str) -> Option<String> {
        self.get(object, key)?.node.text().map(str::to_owned)
    }

    /// The texts of a list, each with its place.
    pub(crate) fn texts_of(&self, object: &Object, key: &str) -> Vec<(String, Self)> {
        let items = self.get(object, key).map(|at| at.items()).unwrap_or_default();
        items
            .into_iter()
            .filter_map(|item| Some((item.node.text()?.to_owned(), item)))
            .collect()
    }

    pub(crate) fn pointer_to(&self, key: &str) -> String {
        let mut pointer = self.pointer.clone();
        // Writing to a String cannot fail.
        let _ = write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1"));
        pointer
    }
}
