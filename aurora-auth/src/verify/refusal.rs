//! The closed set of reasons for which a token is refused.

use aurora_core::port::token::TokenError;

/// Why a token is refused: for logs and metrics, never for the one who presented it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Algorithm,
    Audience,
    Claims,
    Expired,
    Format,
    Header,
    Issuer,
    IssuedInFuture,
    LivesTooLong,
    NotYetValid,
    Signature,
    TooLarge,
    Type,
    UnknownKey,
}

impl Refusal {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Expired => "expired",
            Self::Format => "format",
            Self::Header => "header",
            Self::Issuer => "issuer",
            Self::IssuedInFuture => "issued in the future",
            Self::LivesTooLong => "lives too long",
            Self::NotYetValid => "not yet valid",
            Self::Signature => "signature",
            Self::TooLarge => "too large",
            Self::Type => "type",
            Self::UnknownKey => "unknown key",
        }
    }
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        Self::Unauthenticated {
            reason: refusal.as_str(),
        }
    }
}
