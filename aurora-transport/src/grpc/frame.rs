//! The codec of session frames, for transports of your own: the same bytes as on a gRPC session.
//!
//! A transport carries frames in order and nothing else. What `proto/aurora/agent/v1` says of fields,
//! bounds and frames that may be skipped holds here too, so an agent in another language can speak over
//! such a transport as well.
//!
//! ```
//! use aurora_core::session::FromHub;
//! use aurora_transport::grpc::frame::{Decoded, decode_from_hub, encode_from_hub};
//!
//! let bytes = encode_from_hub(FromHub::Heartbeat, 7);
//! assert!(matches!(decode_from_hub(bytes), Ok(Decoded::Frame(FromHub::Heartbeat))));
//! ```

use aurora_core::command::Update;
use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::id::RequestId;
use aurora_core::session::{FromAgent, FromHub, MAX_ENVELOPE_BYTES};
use bytes::Bytes;
use prost::Message;

use super::proto::agent as pb;
use super::wire::{
    BadField, Incoming, agent_frame, bad_command, from_agent_frame, from_hub_frame, hub_frame,
};

/// What comes of the bytes of a frame.
#[derive(Debug)]
pub enum Decoded<T> {
    /// A frame: pass it on.
    Frame(T),
    /// One of a newer version that may be passed over.
    Skipped,
    /// A frame whose fault concerns one command alone: the session goes on.
    ///
    /// An agent that read it answers the hub with this update; a hub passes it on in the frame's place.
    Failed(RequestId, Update),
}

/// Bytes that are no frame: the session ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A field is not acceptable.
    #[error("the frame cannot be used: {problem}")]
    Field {
        /// Which field, and what is wrong with it.
        problem: String,
    },
    /// They are not a message of the protocol.
    #[error("the bytes are no frame of the protocol")]
    Malformed {
        /// Why.
        source: BoxError,
    },
    /// They are more than a frame may have.
    #[error("the frame has {bytes} bytes, at most {MAX_ENVELOPE_BYTES} are taken")]
    TooLarge {
        /// How many they are.
        bytes: usize,
    },
}

impl FrameError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// An agent's frame as bytes, in the session of this epoch: 0 until the hub's welcome has named it.
pub fn encode_from_agent(frame: FromAgent, epoch: u64) -> Bytes {
    agent_frame(frame, epoch).encode_to_vec().into()
}

/// Reads an agent's frame.
///
/// # Errors
/// [`FrameError`], after which the session cannot go on.
pub fn decode_from_agent(bytes: Bytes) -> Result<Decoded<FromAgent>, FrameError> {
    decode::<pb::AgentFrame, _>(bytes, from_agent_frame)
}

/// A hub's frame as bytes, in the session of this epoch, which is the one of its welcome.
pub fn encode_from_hub(frame: FromHub, epoch: u64) -> Bytes {
    hub_frame(frame, epoch).encode_to_vec().into()
}

/// Reads a hub's frame.
///
/// # Errors
/// [`FrameError`], after which the session cannot go on.
pub fn decode_from_hub(bytes: Bytes) -> Result<Decoded<FromHub>, FrameError> {
    decode::<pb::HubFrame, _>(bytes, from_hub_frame)
}

fn decode<W: Message + Default, T>(
    bytes: Bytes,
    read: impl FnOnce(W) -> Result<Incoming<T>, BadField>,
) -> Result<Decoded<T>, FrameError> {
    if bytes.len() > MAX_ENVELOPE_BYTES {
        return Err(FrameError::TooLarge { bytes: bytes.len() });
    }
    let wire = W::decode(bytes).map_err(|error| FrameError::Malformed { source: error.into() })?;
    match read(wire) {
        Ok(Incoming::Frame(frame)) => Ok(Decoded::Frame(frame)),
        Ok(Incoming::Skipped) => Ok(Decoded::Skipped),
        Ok(Incoming::Failed(request, bad)) => Ok(Decoded::Failed(request, bad_command(bad))),
        Err(bad) => Err(FrameError::Field {
            problem: bad.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_reads_back_and_other_bytes_are_refused() {
        let request = RequestId::at(jiff::Timestamp::UNIX_EPOCH, [7; 10]);
        let bytes = encode_from_agent(FromAgent::Heartbeat(vec![request]), 3);
        let read = decode_from_agent(bytes).unwrap();
        assert!(matches!(read, Decoded::Frame(FromAgent::Heartbeat(ids)) if ids == [request]));
        let garbage = decode_from_hub(Bytes::from_static(b"\xff\xff\xff"));
        assert!(
            matches!(garbage, Err(FrameError::Malformed { .. })),
            "{garbage:?}"
        );
        let nothing = decode_from_hub(Bytes::new());
        assert!(matches!(nothing, Err(FrameError::Field { .. })), "{nothing:?}");
        let large = decode_from_hub(vec![0; MAX_ENVELOPE_BYTES + 1].into());
        assert!(matches!(large, Err(FrameError::TooLarge { .. })), "{large:?}");
    }
}
