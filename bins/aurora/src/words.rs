//! The words for states that lists and trees print, read back.

use aurora_core::pipeline::{State, Summary};

use crate::watch::tree::serde_name;

/// Every word, and the states that it means; case, spaces, dashes and underscores do not matter.
const KNOWN: [(&str, &[State]); 13] = [
    ("awaiting_approval", &[State::WaitingForApproval]),
    ("cancelled", &[State::Cancelled]),
    ("failed", &[State::Failed]),
    ("not_started", &[State::NotStarted, State::Queued]),
    ("parked", &[State::Parked]),
    ("paused", &[State::Waiting]),
    ("queued", &[State::Queued]),
    ("rolling_back", &[State::RollingBack]),
    ("running", &[State::RollingBack, State::Running]),
    ("succeeded", &[State::Succeeded]),
    ("unknown", &[State::Parked]),
    ("waiting", &[State::Waiting]),
    ("waiting_for_approval", &[State::WaitingForApproval]),
];

/// The states that a word means; `None` for a word that means none.
pub(crate) fn states(text: &str) -> Option<&'static [State]> {
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|letter| letter.is_ascii_alphabetic());
        letters.map(|letter| letter.to_ascii_lowercase()).collect()
    };
    let known = KNOWN.iter().find(|(word, _)| plain(word) == plain(text));
    known.map(|(_, states)| *states)
}

/// All of them, for people.
pub(crate) fn known() -> String {
    let words: Vec<&str> = KNOWN.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

/// What a list calls the state of a row: the older product's word, but a run in the queue is not merely not started.
pub(crate) fn of_row(row: &Summary) -> String {
    match row.state {
        State::Queued => "QUEUED".to_owned(),
        _ => serde_name(&row.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_lists_and_trees_print_them() {
        for (text, state) in [
            ("AWAITING_APPROVAL", State::WaitingForApproval),
            ("awaiting-approval", State::WaitingForApproval),
            ("waiting for approval", State::WaitingForApproval),
            ("waitingForApproval", State::WaitingForApproval),
            ("rolling back", State::RollingBack),
            ("QUEUED", State::Queued),
            ("PAUSED", State::Waiting),
        ] {
            assert_eq!(states(text), Some(&[state][..]), "{text}");
        }
        assert_eq!(states("done"), None);
        assert!(
            states("RUNNING").unwrap().contains(&State::RollingBack),
            "a list calls it so"
        );
    }

    #[test]
    fn every_state_has_its_own_word_and_that_of_lists() {
        for state in [
            State::Cancelled,
            State::Failed,
            State::NotStarted,
            State::Parked,
            State::Queued,
            State::RollingBack,
            State::Running,
            State::Succeeded,
            State::Waiting,
            State::WaitingForApproval,
        ] {
            for word in [state.name().to_owned(), serde_name(&state.armory())] {
                assert!(
                    states(&word).is_some_and(|known| known.contains(&state)),
                    "{word}"
                );
            }
        }
    }
}
