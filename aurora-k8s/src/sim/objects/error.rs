//! What the object store refuses.

use aurora_core::error::ErrorKind;

use crate::sim::resource::Resource;

/// A refused write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// An object of that name is there already.
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists {
        /// Qualified plural, `deployments.apps`.
        resource: String,
        /// Name asked for.
        name: String,
    },
    /// A precondition does not hold, or the object changed in between.
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {reason}")]
    Conflict {
        /// Qualified plural.
        resource: String,
        /// Name of the object.
        name: String,
        /// Which precondition failed.
        reason: String,
    },
    /// The object as sent can never be stored.
    #[error("{kind} \"{name}\" is invalid: {field}: {reason}")]
    Invalid {
        /// Kind as in manifests.
        kind: String,
        /// API group of the kind.
        group: String,
        /// Name of the object, empty when it has none.
        name: String,
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing new is created in a namespace that is being deleted.
    #[error(
        "{resource} \"{name}\" is forbidden: unable to create new content in namespace {namespace} because it is being terminated"
    )]
    NamespaceTerminating {
        /// Qualified plural.
        resource: String,
        /// Name asked for.
        name: String,
        /// The namespace that is being deleted.
        namespace: String,
    },
    /// There is no such object, or no such namespace.
    #[error("{resource} \"{name}\" not found")]
    NotFound {
        /// Qualified plural.
        resource: String,
        /// Name asked for.
        name: String,
    },
}

impl ObjectError {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyExists { .. } | Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::NamespaceTerminating { .. } => ErrorKind::Denied,
            Self::NotFound { .. } => ErrorKind::NotFound,
        }
    }

    /// An `Invalid` about one field of an object of this kind.
    pub(crate) fn invalid(resource: &Resource, name: &str, field: &str, reason: &str) -> Self {
        Self::Invalid {
            kind: resource.kind.to_string(),
            group: resource.group.to_string(),
            name: name.to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// The history no longer reaches back to the version asked for: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    /// Version that a watch wanted to resume from.
    pub requested: u64,
    /// Oldest version that can be resumed from.
    pub oldest: u64,
}

/// A snapshot that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot of a simulated cluster cannot be read at {place}: {problem}")]
pub struct RestoreError {
    /// JSON pointer into the snapshot.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl Expired {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Conflict
    }
}

impl RestoreError {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
