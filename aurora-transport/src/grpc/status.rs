//! One table between error kinds and gRPC codes.

use aurora_core::error::ErrorKind;
use tonic::Code;
#[cfg(feature = "grpc")]
use tonic::Status;

/// Each kind and its code, to be read in both directions: the first row of a code counts.
const TABLE: [(ErrorKind, Code); 11] = [
    (ErrorKind::Cancelled, Code::Cancelled),
    (ErrorKind::Conflict, Code::FailedPrecondition),
    (ErrorKind::Deadline, Code::DeadlineExceeded),
    (ErrorKind::Denied, Code::PermissionDenied),
    (ErrorKind::Exhausted, Code::ResourceExhausted),
    (ErrorKind::Internal, Code::Internal),
    (ErrorKind::Invalid, Code::InvalidArgument),
    (ErrorKind::NotFound, Code::NotFound),
    (ErrorKind::Unavailable, Code::Unavailable),
    (ErrorKind::Unauthenticated, Code::Unauthenticated),
    (ErrorKind::Unsupported, Code::Unimplemented),
];

/// An error as a status.
#[cfg(feature = "grpc")]
pub(super) fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let code = TABLE
        .iter()
        .find(|(of, _)| *of == kind)
        .map_or(Code::Internal, |(_, code)| *code);
    Status::new(code, message)
}

/// What can be done about a status; codes that we never send are read as the nearest of ours.
pub(super) fn kind(code: Code) -> ErrorKind {
    let ours = TABLE.iter().find(|(_, of)| *of == code).map(|(kind, _)| *kind);
    ours.unwrap_or(match code {
        Code::Aborted | Code::AlreadyExists => ErrorKind::Conflict,
        Code::OutOfRange => ErrorKind::Invalid,
        // What a connection that broke gives.
        Code::Unknown => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    })
}

#[cfg(all(test, feature = "grpc"))]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back_from_its_code() {
        for (of, code) in TABLE {
            assert_eq!(kind(code), of);
            assert_eq!(status(of, "x").code(), code);
        }
    }
}
