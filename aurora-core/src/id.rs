//! Identifiers: newtypes over UUIDs, plain UUID text on every wire.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not a UUID")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
}

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID made elsewhere.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Makes a time-ordered id (UUIDv7) of the time and ten random bytes.
            pub fn at(now: Timestamp, entropy: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &entropy).into_uuid())
            }

            /// The UUID inside.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { text: text.chars().take(64).collect() })
            }
        }
    };
}

uuid_newtype!(
    /// Names one command for ever: a replay of the same decision has the same id.
    CommandId
);
uuid_newtype!(
    /// Names one agent process from its start to its end.
    InstanceId
);
uuid_newtype!(
    /// Names one pipeline: the run of one deploy file over all its targets.
    PipelineId
);
uuid_newtype!(
    /// Names one authenticated agent connection, hello to goodbye.
    SessionId
);
uuid_newtype!(
    /// The hub's correlation of one command on one link.
    RequestId
);

impl CommandId {
    /// The id of the `ordinal`-th command that event `version` of a pipeline asks for.
    pub fn derive(pipeline: PipelineId, version: u64, ordinal: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"aurora/command/v1");
        hash.update(pipeline.as_uuid().as_bytes());
        hash.update(version.to_be_bytes());
        hash.update(ordinal.to_be_bytes());
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_decision_has_the_same_command_id() {
        let pipeline = PipelineId::at(Timestamp::UNIX_EPOCH, [7; 10]);
        assert_eq!(
            CommandId::derive(pipeline, 3, 0),
            CommandId::derive(pipeline, 3, 0)
        );
        assert_ne!(
            CommandId::derive(pipeline, 3, 0),
            CommandId::derive(pipeline, 3, 1)
        );
        assert_ne!(
            CommandId::derive(pipeline, 3, 0),
            CommandId::derive(pipeline, 4, 0)
        );
    }

    #[test]
    fn ids_read_back_from_their_text() {
        let id = PipelineId::at(Timestamp::UNIX_EPOCH, [1; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("not an id".parse::<PipelineId>().is_err());
    }
}
