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
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        let pointer = self.pointer_of(key);
        Some(Node { value, pointer })
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
        let mut pointer = String::with_capacity(self.pointer.len() + keys.len() * 16);
        pointer.push_str(&self.pointer);
        let mut value = self.value;
        for key in keys {
            value = value.get(key).unwrap_or(&NOTHING);
            push(&mut pointer, key);
        }
        Node { value, pointer }
    }

    /// The members of a list; none for anything else.
    pub(super) fn items(&self) -> Vec<Node<'a>> {
        let items = self.value.as_array().map_or(&[][..], Vec::as_slice);
        let node = |(index, value): (usize, &'a Value)| {
            let mut pointer = String::with_capacity(self.pointer.len() + 4);
            pointer.push_str(&self.pointer);
            push(&mut pointer, &index.to_string());
            Node { value, pointer }
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
        self.value.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether a field is `true`.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.value.get(key).and_then(Value::as_bool) == Some(true)
    }

    /// The pointer of a field.
    pub(super) fn pointer_of(&self, key: &str) -> String {
        let mut pointer = String::with_capacity(self.pointer.len() + 1 + key.len());
        pointer.push_str(&self.pointer);
        push(&mut pointer, key);
        pointer
    }
}

/// Adds a token to a pointer.
fn push(pointer: &mut String, key: &str) {
    pointer.push('/');
    if key.contains(['~', '/']) {
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    } else {
        pointer.push_str(key);
    }
}

/// The value that a pointer without escapes names, as [`Value::pointer`] finds it, without its copies.
pub(super) fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    let step = |value: &'a Value, token: &str| match value {
        Value::Array(items) => items.get(token.parse::<usize>().ok()?),
        other => other.get(token),
    };
    pointer.split('/').skip(1).try_fold(value, step)
}

/// The same, to be changed; through maps only.
pub(super) fn at_mut<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Value> {
    let tokens = pointer.split('/').skip(1);
    tokens
        .into_iter()
        .try_fold(value, |value, token| value.get_mut(token))
}
