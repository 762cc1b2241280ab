//! A text that must not be shown, logged or compared in varying time.

use std::fmt;

/// Holds a secret; `Debug` is redacted and there is no `Display` or `Serialize`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Hands the secret out, where it is used and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub fn equals(&self, other: &str) -> bool {
        let (ours, theirs) = (self.0.as_bytes(), other.as_bytes());
        let mut difference = u8::from(ours.len() != theirs.len());
        for (index, byte) in theirs.iter().enumerate() {
            difference |= byte ^ ours.get(index).copied().unwrap_or(!byte);
        }
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(redacted)");
    }

    #[test]
    fn equality_needs_every_byte() {
        let secret = Secret::new("abc");
        assert!(secret.equals("abc"));
        assert!(!secret.equals("abd"));
        assert!(!secret.equals("ab"));
        assert!(!secret.equals("abcd"));
        assert!(!secret.equals(""));
    }
}
