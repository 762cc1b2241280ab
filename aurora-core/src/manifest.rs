//! Kubernetes objects as data, and the names of objects.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which object: group, kind, namespace and name; versions do not distinguish objects.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ObjectRef {
    /// The API group; empty for the core group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; empty for cluster-scoped objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object.
    pub fn new(
        group: impl Into<String>,
        kind: impl Into<String>,
        namespace: impl Into<String>,
        name: impl Into<String>,
    ) -> Self {
        Self {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Reads the name of an object from its body; what is absent is empty.
    pub fn of(body: &Value) -> Self {
        let metadata = body.get("metadata").unwrap_or(&Value::Null);
        let version = text(body, "apiVersion");
        Self::new(
            version.split_once('/').map_or("", |(group, _)| group),
            text(body, "kind"),
            text(metadata, "namespace"),
            text(metadata, "name"),
        )
    }
}

fn text<'a>(fields: &'a Value, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Where a manifest was written: for errors that say what to mend and where.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Origin {
    /// The file as the user named it, or the deploy file's own place for inline text.
    pub file: String,
    /// The document inside the file, from 0.
    pub document: usize,
    /// The line of the document's first key, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One Kubernetes object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object as JSON.
    pub body: Arc<Value>,
    /// Where it was written.
    pub origin: Origin,
}

impl Manifest {
    /// An object that came from somewhere.
    pub fn new(body: Value, origin: Origin) -> Self {
        Self {
            body: Arc::new(body),
            origin,
        }
    }

    /// The object's name.
    pub fn object(&self) -> ObjectRef {
        ObjectRef::of(&self.body)
    }
}
