//! The tree of a deploy file that was read: places for what is found out later, and the file as JSON.

use std::fmt;

use serde_json::Value;

use super::tree::{Key, Kind, Node};
use super::{Files, Problem};

/// A deploy file as it was written: knows the place of everything in it.
#[derive(Clone)]
pub struct Document {
    name: String,
    root: Node,
}

/// What a submit by link says beside the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    /// The account of every target, in place of those of the file.
    pub account: Option<String>,
    /// The only targets that run, in place of the file's `targetFilters`.
    pub only: Option<Vec<String>>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Document {
    /// Manifest texts that came along are not kept: they have places of their own.
    pub(super) fn new(name: &str, mut root: Node) -> Self {
        if let Kind::Map(entries) = &mut root.kind {
            entries.retain(|(key, _)| key.text != "files");
        }
        Self {
            name: name.to_owned(),
            root,
        }
    }

    /// Adds file, line and column to a problem that has only a pointer into this document.
    ///
    /// A pointer to what is not there gets the place of what is around it.
    #[must_use]
    pub fn locate(&self, problem: Problem) -> Problem {
        if problem.line > 0 || !problem.file.is_empty() {
            return problem;
        }
        let mut node = &self.root;
        for step in problem.pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            let below = match &node.kind {
                Kind::Map(entries) => entries
                    .iter()
                    .find(|(key, _)| key.text == step)
                    .map(|(_, value)| value),
                Kind::List(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
                _ => None,
            };
            let Some(below) = below else { break };
            node = below;
        }
        problem.at(&self.name, node.place.line, node.place.column)
    }

    /// The file as JSON with these manifest texts in it: it needs nothing else to be submitted again.
    pub fn to_json(&self, files: &Files) -> Value {
        let mut json = self.root.to_json();
        if let Value::Object(file) = &mut json
            && !files.0.is_empty()
        {
            let files = files.0.iter().map(|(path, texts)| {
                let texts = texts
                    .iter()
                    .map(|file| serde_json::json!({"name": file.name, "text": file.text}));
                (path.clone(), Value::Array(texts.collect()))
            });
            file.insert("files".to_owned(), Value::Object(files.collect()));
        }
        json
    }
}

impl Overrides {
    /// Puts them into a tree; what they say has the place of what they replace, or of what is around it.
    pub(super) fn apply(&self, root: &mut Node) {
        let Kind::Map(entries) = &mut root.kind else {
            return;
        };
        if let Some(only) = &self.only {
            let filters = only.iter().map(|name| {
                let name = Node {
                    place: root.place,
                    kind: Kind::Text(name.clone()),
                };
                Node {
                    place: root.place,
                    kind: Kind::Map(vec![(key("includeTarget", &name), name)]),
                }
            });
            let filters = Node {
                place: root.place,
                kind: Kind::List(filters.collect()),
            };
            put(entries, "targetFilters", filters);
        }
        if let Some(account) = &self.account {
            let targets = entries.iter_mut().find(|(key, _)| key.text == "targets");
            if let Some((
                _,
                Node {
                    kind: Kind::Map(targets),
                    ..
                },
            )) = targets
            {
                for (_, target) in targets {
                    let value = Node {
                        place: target.place,
                        kind: Kind::Text(account.clone()),
                    };
                    if let Kind::Map(fields) = &mut target.kind {
                        put(fields, "account", value);
                    }
                }
            }
        }
    }
}

fn key(text: &str, value: &Node) -> Key {
    Key {
        place: value.place,
        text: text.to_owned(),
    }
}

fn put(entries: &mut Vec<(Key, Node)>, name: &str, value: Node) {
    entries.retain(|(key, _)| key.text != name);
    entries.push((key(name, &value), value));
}
