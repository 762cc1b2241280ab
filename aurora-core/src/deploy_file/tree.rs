//! YAML and JSON as a tree in which every key and value knows its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Budget, Options, Spanned};

use super::Problem;

/// The deepest nesting that is read; real files stay below 30.
const MAX_DEPTH: usize = 64;

/// Address space for the reading thread's stack; only what is used of it is ever backed by memory.
const READING_STACK: usize = 32 * 1024 * 1024;

/// Where something was written, from 1; 0 when it is not known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Bool(bool),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    Null,
    Number(Number),
    Text(String),
}

/// A key and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) place: Place,
    pub(crate) text: String,
}

impl Node {
    /// Reads every document of a text; empty ones are left out.
    pub(crate) fn documents(text: &str, max_documents: usize) -> Result<Vec<Self>, Problem> {
        // Each level of nesting costs the parser tens of kilobytes of stack: more than a caller's thread may
        // have left for the depth that is allowed, so the reading gets a stack of its own.
        let reading = std::thread::Builder::new()
            .name("yaml".into())
            .stack_size(READING_STACK);
        let read = std::thread::scope(|scope| {
            let read = || {
                serde_saphyr::from_multiple_with_options(text, options(text.len(), max_documents))
                    .map_err(|error| problem_of(&error))
            };
            reading
                .spawn_scoped(scope, read)
                .ok()
                .and_then(|thread| thread.join().ok())
        });
        let busy =
            || Err(Problem::error("busy", "", "the text cannot be read just now").with_hint("try again"));
        let read: Vec<Spanned<Kind>> = read.unwrap_or_else(busy)?;
        Ok(read
            .into_iter()
            .map(Self::from)
            .filter(|node| !matches!(node.kind, Kind::Null))
            .collect())
    }

    /// The word for what this is, for messages.
    pub(crate) const fn word(&self) -> &'static str {
        match self.kind {
            Kind::Bool(_) => "a boolean",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Null => "nothing",
            Kind::Number(_) => "a number",
            Kind::Text(_) => "a text",
        }
    }

    /// The text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, where it is one.
    pub(crate) const fn boolean(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The number, where it is one.
    pub(crate) fn number(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// The number, where it is a whole one from zero; `3.0` is whole.
    pub(crate) fn whole(&self) -> Option<u64> {
        let Kind::Number(number) = &self.kind else {
            return None;
        };
        number.as_u64().or_else(|| {
            // Up to 2^53 a float that is whole stands for just one number.
            let value = number.as_f64()?;
            let exact = value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&value);
            exact.then(|| format!("{value:.0}").parse().ok()).flatten()
        })
    }

    /// How large it is at least when written out, without the value of one key.
    pub(crate) fn size_without(&self, key: Option<&str>) -> usize {
        match &self.kind {
            Kind::Map(entries) => entries
                .iter()
                .filter(|(found, _)| Some(found.text.as_str()) != key)
                .map(|(found, value)| found.text.len() + 1 + value.size_without(None))
                .sum(),
            Kind::List(items) => items.iter().map(|item| 1 + item.size_without(None)).sum(),
            Kind::Text(text) => text.len(),
            Kind::Bool(_) | Kind::Null | Kind::Number(_) => 1,
        }
    }

    /// The same without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Bool(value) => Value::Bool(*value),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(k, v)| (k.text.clone(), v.to_json()))
                    .collect::<Map<_, _>>(),
            ),
            Kind::Null => Value::Null,
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
        }
    }
}

impl From<Spanned<Kind>> for Node {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            place: place_of(spanned.referenced),
            kind: spanned.value,
        }
    }
}

fn place_of(location: serde_saphyr::Location) -> Place {
    let small = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Place {
        line: small(location.line()),
        column: small(location.column()),
    }
}

/// Reads scalars as Kubernetes does (`no`, `012` and `1_000` are texts) and bounds what is read.
fn options(bytes: usize, max_documents: usize) -> Options {
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.flow_nesting_limit = MAX_DEPTH;
    budget.max_documents = max_documents;
    // A node takes two bytes at least, so what is not an alias never needs more than this.
    budget.max_nodes = bytes.saturating_add(1000).min(1_000_000);
    budget.max_events = budget.max_nodes.saturating_mul(2);
    budget.max_aliases = 2_000;
    budget.max_anchors = 2_000;
    budget.max_merge_keys = 2_000;
    budget.max_recorded_anchor_events = 200_000;
    budget.max_total_scalar_bytes = bytes.saturating_add(8 * 1024 * 1024);
    let mut options = Options::default();
    options.budget = Some(budget);
    options.emit_comments = false;
    options.strict_booleans = true;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options
}

fn problem_of(error: &serde_saphyr::Error) -> Problem {
    let place = error.location().map(place_of).unwrap_or_default();
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    // The place stands beside the message; what the parser's caller could set is nothing to its user.
    let first = first.split(" at line ").next().unwrap_or_default();
    let message = match first.strip_prefix("duplicate mapping key: ") {
        Some(key) => {
            let key = key.split(", set ").next().unwrap_or_default();
            format!(
                "the key `{}` stands here a second time",
                key.chars().take(80).collect::<String>()
            )
        }
        None if first.starts_with("budget breached") || first.starts_with("recursion limit") => {
            "the text is nested too deep, or refers to itself too often".to_owned()
        }
        None => first.chars().take(300).collect(),
    };
    Problem::error("syntax", "", message).at("", place.line, place.column)
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        Number::from_f64(value)
            .map(Kind::Number)
            .ok_or_else(|| E::custom("infinite numbers and .nan have no meaning here"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Kind>>()? {
            list.push(item.into());
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            map.push((
                Key {
                    place: place_of(key.referenced),
                    text: key.value,
                },
                value.into(),
            ));
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Node {
        Node::documents(text, 10).unwrap().remove(0)
    }

    #[test]
    fn keys_and_values_know_their_places() {
        let Kind::Map(entries) = first("a: 1\nlist:\n  - x: deep\n").kind else {
            panic!("a map")
        };
        assert_eq!(entries[0].1.place, Place { line: 1, column: 4 });
        assert_eq!(entries[1].0.place, Place { line: 2, column: 1 });
        let Kind::List(items) = &entries[1].1.kind else {
            panic!("a list")
        };
        let Kind::Map(inner) = &items[0].kind else {
            panic!("a map")
        };
        assert_eq!(
            (inner[0].0.place.line, inner[0].1.place),
            (3, Place { line: 3, column: 8 })
        );
    }

    #[test]
    fn scalars_are_read_as_kubernetes_reads_them() {
        let node = first("{a: no, b: y, c: 012, d: 1_000, e: true, f: 3, g: 0.5, h: null, i: on}");
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": "no", "b": "y", "c": "012", "d": "1_000", "e": true, "f": 3, "g": 0.5, "h": null, "i": "on"})
        );
    }

    #[test]
    fn json_is_read_too() {
        assert_eq!(
            first(r#"{"a": ["x", {"b": -1}]}"#).to_json(),
            serde_json::json!({"a": ["x", {"b": -1}]})
        );
    }

    #[test]
    fn a_duplicate_key_is_an_error_with_its_place() {
        let problem = Node::documents("a: 1\nb: 2\na: 3\n", 10).unwrap_err();
        assert_eq!(
            (problem.code.as_str(), problem.line),
            ("syntax", 3),
            "{problem:?}"
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            assert!(Node::documents(&text, 10).is_err());
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let alias = format!("*a{}, ", level - 1).repeat(9);
            text.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
        }
        assert!(Node::documents(&text, 10).is_err());
    }
}
