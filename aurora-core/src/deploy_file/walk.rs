//! Reading a tree against a schema: every problem is noted with its pointer and place, none stops the reading.

use std::fmt::Write as _;

use super::suggest::nearest;
use super::tree::{Key, Kind, Node, Place};
use super::{Problem, Severity};

/// What has been found wrong so far, and in which file.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

/// A node and the pointer to it.
#[derive(Clone, Debug)]
pub(crate) struct At<'n> {
    pub(crate) node: &'n Node,
    pub(crate) pointer: String,
}

/// The entries of a map, taken out one by one; what is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Entries<'n> {
    place: Place,
    pointer: String,
    rest: Vec<(&'n Key, &'n Node)>,
    known: Vec<&'static str>,
}

/// Problems beyond this number help nobody.
const MAX_PROBLEMS: usize = 100;

impl<'a> Walk<'a> {
    pub(crate) const fn new(file: &'a str) -> Self {
        Self {
            file,
            problems: Vec::new(),
        }
    }

    /// Notes an error at a node.
    pub(crate) fn error(&mut self, at: &At<'_>, code: &str, message: impl Into<String>, hint: &str) {
        self.note(
            Severity::Error,
            at.node.place,
            at.pointer.clone(),
            code,
            message.into(),
            hint,
        );
    }

    /// Notes a warning at a node.
    pub(crate) fn warn(&mut self, at: &At<'_>, code: &str, message: impl Into<String>, hint: &str) {
        self.note(
            Severity::Warning,
            at.node.place,
            at.pointer.clone(),
            code,
            message.into(),
            hint,
        );
    }

    /// Notes that a part of the schema is known and cannot run yet.
    pub(crate) fn not_yet(&mut self, at: &At<'_>, what: &str) {
        let message =
            format!("{what} is part of the deploy file, but this version of Aurora cannot run it yet");
        self.error(at, "notYet", message, "take it out to deploy with this version");
    }

    pub(crate) fn note(
        &mut self,
        severity: Severity,
        place: Place,
        pointer: String,
        code: &str,
        message: String,
        hint: &str,
    ) {
        if self.problems.len() < MAX_PROBLEMS {
            let problem = Problem {
                severity,
                ..Problem::error(code, pointer, message)
            };
            self.problems
                .push(problem.with_hint(hint).at(self.file, place.line, place.column));
        }
    }

    /// The problems in the order of the file.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems
            .sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }

    /// The entries of a map; `None` and a problem for anything else.
    pub(crate) fn map<'n>(&mut self, at: &At<'n>) -> Option<Entries<'n>> {
        if let Kind::Map(entries) = &at.node.kind {
            return Some(Entries {
                place: at.node.place,
                pointer: at.pointer.clone(),
                rest: entries.iter().map(|(key, node)| (key, node)).collect(),
                known: Vec::new(),
            });
        }
        self.wrong_kind(at, "a map");
        None
    }

    /// The items of a list; `None` and a problem for anything else, also for an empty one.
    pub(crate) fn list<'n>(&mut self, at: &At<'n>) -> Option<Vec<At<'n>>> {
        match &at.node.kind {
            Kind::List(items) if items.is_empty() => {
                self.error(
                    at,
                    "empty",
                    "the list is empty",
                    "give it at least one entry, or leave the key out",
                );
                None
            }
            Kind::List(items) => {
                let item = |(index, node)| At {
                    node,
                    pointer: format!("{}/{index}", at.pointer),
                };
                Some(items.iter().enumerate().map(item).collect())
            }
            _ => {
                self.wrong_kind(at, "a list");
                None
            }
        }
    }

    /// A text; numbers and booleans are not silently turned into one.
    pub(crate) fn text(&mut self, at: &At<'_>) -> Option<String> {
        match &at.node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Bool(_) | Kind::Number(_) => {
                self.error(
                    at,
                    "wrongType",
                    format!("expected a text, found {}", at.node.word()),
                    "put it in quotes",
                );
                None
            }
            _ => {
                self.wrong_kind(at, "a text");
                None
            }
        }
    }

    /// A text that is not blank.
    pub(crate) fn name(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.text(at)?;
        if text.trim().is_empty() {
            self.error(
                at,
                "empty",
                "the text is empty",
                "give it a value, or leave the key out",
            );
            return None;
        }
        Some(text)
    }

    /// Names of a list that is not empty.
    pub(crate) fn names(&mut self, at: &At<'_>) -> Vec<(String, Place)> {
        let items = self.list(at).unwrap_or_default();
        items
            .iter()
            .filter_map(|item| Some((self.name(item)?, item.node.place)))
            .collect()
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        if let Kind::Bool(value) = at.node.kind {
            return Some(value);
        }
        self.error(
            at,
            "wrongType",
            format!("expected true or false, found {}", at.node.word()),
            "",
        );
        None
    }

    /// A whole number of a range.
    pub(crate) fn whole(&mut self, at: &At<'_>, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        if let Kind::Number(number) = &at.node.kind
            && let Some(value) = number.as_u64().filter(|value| range.contains(value))
        {
            return Some(value);
        }
        let found = match &at.node.kind {
            Kind::Number(number) => number.to_string(),
            _ => at.node.word().to_owned(),
        };
        let message = if *range.end() == u64::MAX {
            format!(
                "expected a whole number of at least {}, found {found}",
                range.start()
            )
        } else {
            format!(
                "expected a whole number from {} to {}, found {found}",
                range.start(),
                range.end()
            )
        };
        self.error(at, "wrongType", message, "");
        None
    }

    fn wrong_kind(&mut self, at: &At<'_>, expected: &str) {
        self.error(
            at,
            "wrongType",
            format!("expected {expected}, found {}", at.node.word()),
            "",
        );
    }
}

impl<'n> At<'n> {
    pub(crate) const fn root(node: &'n Node) -> Self {
        Self {
            node,
            pointer: String::new(),
        }
    }
}

impl<'n> Entries<'n> {
    /// Takes the value of a key that the schema knows; one that is null counts as absent.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<At<'n>> {
        self.known.push(key);
        let index = self.rest.iter().position(|(found, _)| found.text == key)?;
        let (_, node) = self.rest.remove(index);
        let at = At {
            node,
            pointer: self.pointer_to(key),
        };
        (!matches!(node.kind, Kind::Null)).then_some(at)
    }

    /// Takes every entry, for maps with free keys.
    pub(crate) fn take_all(&mut self) -> Vec<(&'n Key, At<'n>)> {
        let rest = std::mem::take(&mut self.rest);
        rest.into_iter()
            .map(|(key, node)| {
                (
                    key,
                    At {
                        node,
                        pointer: self.pointer_to(&key.text),
                    },
                )
            })
            .collect()
    }

    /// Notes every key that nobody took, with the nearest known one; tells whether there was none.
    pub(crate) fn finish(self, walk: &mut Walk<'_>) -> bool {
        for (key, _) in &self.rest {
            if walk.problems.len() >= MAX_PROBLEMS {
                break;
            }
            let hint = match nearest(&key.text, self.known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            let text: String = key.text.chars().take(80).collect();
            let message = format!("unknown key `{text}`");
            walk.note(
                Severity::Error,
                key.place,
                self.pointer_to(&key.text),
                "unknownKey",
                message,
                &hint,
            );
        }
        self.rest.is_empty()
    }

    /// Notes a key that must be there and is not.
    pub(crate) fn missing(&self, walk: &mut Walk<'_>, key: &str, hint: &str) {
        let message = format!("`{key}` is missing");
        walk.note(
            Severity::Error,
            self.place,
            self.pointer_to(key),
            "missing",
            message,
            hint,
        );
    }

    fn pointer_to(&self, key: &str) -> String {
        let mut pointer = self.pointer.clone();
        // Writing to a String cannot fail.
        let _ = write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1"));
        pointer
    }
}
