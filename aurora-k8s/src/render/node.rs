//! A value inside a manifest that knows where it is.

use serde_json::Value;

/// A value and its RFC 6901 pointer.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) pointer: String,
}

static NOTHING: Value = Value::Null;

impl<'a> Node<'a> {
    /// The whole manifest.
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            value,
            pointer: String::new(),
        }
    }

    /// A field; `None` when it is absent or null.
    pub(super) fn get(&self, key: &str) -> Option<Node<'a>> {
        Some(self.field(key)).filter(|node| !node.value.is_null())
    }

    /// A field, null when it is absent.
    pub(super) fn field(&self, key: &str) -> Node<'a> {
        Node {
            value: self.value.get(key).unwrap_or(&NOTHING),
            pointer: self.pointer_of(key),
        }
    }

    /// A field some levels down, null when it is absent.
    pub(super) fn path(&self, keys: &[&str]) -> Node<'a> {
        keys.iter().fold(self.clone(), |node, key| node.field(key))
    }

    /// The members of a list; none for anything else.
    pub(super) fn items(&self) -> Vec<Node<'a>> {
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        let node = |(index, value)| Node {
            value,
            pointer: format!("{}/{index}", self.pointer),
        };
        items.iter().enumerate().map(node).collect()
    }

    /// The fields of an object; none for anything else.
    pub(super) fn entries(&self) -> Vec<(&'a str, Node<'a>)> {
        let node = |(key, value): (&'a String, &'a Value)| {
            let pointer = self.pointer_of(key);
            (key.as_str(), Node { value, pointer })
        };
        self.value.as_object().into_iter().flatten().map(node).collect()
    }

    /// A text field.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.value.get(key)?.as_str()
    }

    /// A text field that says something.
    pub(super) fn name(&self, key: &str) -> Option<&'a str> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// A whole number.
    pub(super) fn int(&self, key: &str) -> Option<i64> {
        self.value.get(key)?.as_i64()
    }

    /// Whether a field is there and not null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a field is `true`.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool) == Some(true)
    }

    /// The pointer of a field.
    pub(super) fn pointer_of(&self, key: &str) -> String {
        format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1"))
    }
}
