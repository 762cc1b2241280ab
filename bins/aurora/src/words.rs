//! The words for states that lists and trees print, read back.

use aurora_core::pipeline::{ArmoryStatus, State};
use serde::de::DeserializeOwned;

/// A state, by one of its words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum StateWord {
    /// As the older product calls it; lists print these.
    Armory(ArmoryStatus),
    /// As views call it; trees print these.
    Own(State),
}

/// The words that mean something; case, spaces, dashes and underscores do not matter.
const KNOWN: [&str; 12] = [
    "awaiting_approval",
    "cancelled",
    "failed",
    "not_started",
    "parked",
    "paused",
    "rolling_back",
    "running",
    "succeeded",
    "unknown",
    "waiting",
    "waiting_for_approval",
];

impl StateWord {
    /// Reads a word.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let plain = |text: &str| -> String {
            let letters = text.chars().filter(|letter| letter.is_ascii_alphabetic());
            letters.map(|letter| letter.to_ascii_lowercase()).collect()
        };
        let known = KNOWN.iter().find(|known| plain(known) == plain(text))?;
        let armory = word::<ArmoryStatus>(known.to_uppercase()).map(Self::Armory);
        armory.or_else(|| word::<State>(camel(known)).map(Self::Own))
    }

    /// All of them, for people.
    pub(crate) fn known() -> String {
        KNOWN.join(", ")
    }
}

fn word<T: DeserializeOwned>(text: String) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

fn camel(text: &str) -> String {
    let mut parts = text.split('_');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        camel.push_str(&part[..1].to_uppercase());
        camel.push_str(&part[1..]);
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_means_a_state() {
        for known in KNOWN {
            assert!(StateWord::read(known).is_some(), "{known}");
        }
    }

    #[test]
    fn words_are_read_as_lists_and_trees_print_them() {
        for (text, word) in [
            (
                "AWAITING_APPROVAL",
                StateWord::Armory(ArmoryStatus::AwaitingApproval),
            ),
            (
                "awaiting-approval",
                StateWord::Armory(ArmoryStatus::AwaitingApproval),
            ),
            ("waiting for approval", StateWord::Own(State::WaitingForApproval)),
            ("waitingForApproval", StateWord::Own(State::WaitingForApproval)),
            ("rolling back", StateWord::Own(State::RollingBack)),
            ("SUCCEEDED", StateWord::Armory(ArmoryStatus::Succeeded)),
        ] {
            assert_eq!(StateWord::read(text), Some(word), "{text}");
        }
        assert_eq!(StateWord::read("done"), None);
    }
}
