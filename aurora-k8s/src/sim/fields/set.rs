//! Sets of field paths as `managedFields` stores them (the `FieldsV1` format).

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::schema::{Shape, Ty};

/// One step of a path into an object.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Element {
    /// A field of a struct, or a key of a map.
    Field(String),
    /// An item of a list whose items are told apart by these keys (values as JSON text).
    Key(BTreeMap<String, String>),
    /// An item of a set (as JSON text).
    Item(String),
    /// A position in a list.
    Index(usize),
}

impl Element {
    pub(crate) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let body: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
                    .collect();
                format!("k:{{{}}}", body.join(","))
            }
            Self::Item(value) => format!("v:{value}"),
            Self::Index(at) => format!("i:{at}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (tag, rest) = text.split_once(':')?;
        match tag {
            "f" => Some(Self::Field(rest.to_owned())),
            "i" => rest.parse().ok().map(Self::Index),
            "v" => serde_json::from_str::<Value>(rest)
                .ok()
                .map(|value| Self::Item(value.to_string())),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).ok()?;
                Some(Self::Key(
                    keys.into_iter()
                        .map(|(name, value)| (name, value.to_string()))
                        .collect(),
                ))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Key(keys) => {
                let body: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                write!(out, "[{}]", body.join(","))
            }
            Self::Item(value) => write!(out, "[={value}]"),
            Self::Index(at) => write!(out, "[{at}]"),
        }
    }
}

/// Writes a path the way the API server does: `.spec.containers[name="web"].image`.
pub(crate) fn path_text(path: &[Element]) -> String {
    path.iter().map(ToString::to_string).collect()
}

/// A set of paths.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct FieldSet {
    children: BTreeMap<Element, Node>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.children
            .values()
            .all(|node| !node.member && node.below.is_empty())
    }

    pub(crate) fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.children.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Tells whether the one-step path `element` itself is in the set.
    pub(crate) fn has(&self, element: &Element) -> bool {
        self.children.get(element).is_some_and(|node| node.member)
    }

    /// Tells whether `path` itself is in the set.
    #[cfg(test)]
    pub(crate) fn contains(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self
                .children
                .get(first)
                .is_some_and(|node| node.below.contains(rest)),
        }
    }

    /// The paths that continue after `element`.
    pub(crate) fn below(&self, element: &Element) -> Option<&FieldSet> {
        self.children
            .get(element)
            .map(|node| &node.below)
            .filter(|set| !set.is_empty())
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut children = self.children.clone();
        for (element, node) in &other.children {
            let mine = children.entry(element.clone()).or_default();
            mine.member |= node.member;
            mine.below = mine.below.union(&node.below);
        }
        Self { children }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.merged(other, |mine, theirs| {
            let theirs = theirs?;
            Some(Node {
                member: mine.member && theirs.member,
                below: mine.below.intersection(&theirs.below),
            })
        })
    }

    /// The paths that are not in `other`.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.merged(other, |mine, theirs| {
            Some(match theirs {
                None => mine.clone(),
                Some(theirs) => Node {
                    member: mine.member && !theirs.member,
                    below: mine.below.difference(&theirs.below),
                },
            })
        })
    }

    /// The paths that neither are in `other` nor lie below one that is.
    pub(crate) fn recursive_difference(&self, other: &Self) -> Self {
        self.merged(other, |mine, theirs| match theirs {
            None => Some(mine.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node {
                member: mine.member,
                below: mine.below.recursive_difference(&theirs.below),
            }),
        })
    }

    /// Adds each declared field on the way to a path as a path of its own.
    pub(crate) fn with_named_fields(&self, ty: Ty) -> Self {
        let children = self
            .children
            .iter()
            .map(|(element, node)| {
                let declared = match (element, ty.shape()) {
                    (Element::Field(name), Shape::Map { fields, .. }) => fields.contains_key(name),
                    _ => false,
                };
                let node = Node {
                    member: node.member || (declared && !node.below.is_empty()),
                    below: node.below.with_named_fields(ty.step(element)),
                };
                (element.clone(), node)
            })
            .collect();
        Self { children }
    }

    /// Every path of the set, parents before children.
    pub(crate) fn paths(&self) -> Vec<Vec<Element>> {
        fn walk(set: &FieldSet, at: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
            for (element, node) in &set.children {
                at.push(element.clone());
                if node.member {
                    out.push(at.clone());
                }
                walk(&node.below, at, out);
                at.pop();
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }

    /// The `FieldsV1` form.
    pub(crate) fn encode(&self) -> Value {
        let mut out = Map::new();
        for (element, node) in &self.children {
            if !node.member && node.below.is_empty() {
                continue;
            }
            let mut below = node.below.encode();
            if node.member && !node.below.is_empty() {
                below["."] = Value::Object(Map::new());
            }
            out.insert(element.encode(), below);
        }
        Value::Object(out)
    }

    /// Reads the `FieldsV1` form; what cannot be read is left out.
    pub(crate) fn decode(fields: &Value) -> Self {
        let mut children = BTreeMap::new();
        for (name, below) in fields.as_object().into_iter().flatten() {
            let Some(element) = Element::decode(name) else {
                continue;
            };
            let leaf = below.as_object().is_none_or(Map::is_empty);
            let node = Node {
                member: leaf || below.get(".").is_some(),
                below: Self::decode(below),
            };
            children.insert(element, node);
        }
        Self { children }
    }

    fn merged(&self, other: &Self, keep: impl Fn(&Node, Option<&Node>) -> Option<Node>) -> Self {
        let children = self
            .children
            .iter()
            .filter_map(|(element, node)| {
                let node = keep(node, other.children.get(element))?;
                (node.member || !node.below.is_empty()).then(|| (element.clone(), node))
            })
            .collect();
        Self { children }
    }
}
