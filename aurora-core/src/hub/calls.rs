//! The commands of one session that have no outcome yet, and the results that repeats are answered with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::command::{Outcome, Update};
use crate::digest::Digest;
use crate::hub::figures::Tally;
use crate::hub::mailbox::Mailbox;
use crate::id::{CommandId, RequestId};

/// A command that is missing from so many heartbeats in a row was lost on the way.
const MISSES_BEFORE_LOST: u8 = 2;

/// The commands of one session.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_request: BTreeMap<RequestId, Call>,
    /// Mutations that a repeat attaches to.
    by_command: BTreeMap<CommandId, RequestId>,
    due: BTreeSet<(Instant, RequestId)>,
    closed: bool,
    tally: Tally,
}

/// One command on its way or in the agent's hands.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) command: CommandId,
    pub(super) mutation: bool,
    pub(super) due: Instant,
    pub(super) blobs: BTreeMap<Digest, Bytes>,
    pub(super) viewers: Vec<Arc<Mailbox>>,
    pub(super) dispatched: bool,
    pub(super) misses: u8,
}

/// What is to be done after the last reader of a call left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Left {
    /// Others still read, or it has ended.
    Nothing,
    /// Nobody reads: the agent is told to stop.
    Cancel,
}

impl Calls {
    /// None yet; their outcomes are counted here.
    pub(super) fn counted_by(tally: Tally) -> Self {
        Self {
            tally,
            ..Self::default()
        }
    }

    /// Adds a call; gives it back when the session is over.
    pub(super) fn insert(&mut self, request: RequestId, call: Call) -> Result<(), Box<Call>> {
        if self.closed {
            return Err(Box::new(call));
        }
        if call.mutation {
            self.by_command.insert(call.command, request);
        }
        self.due.insert((call.due, request));
        self.by_request.insert(request, call);
        Ok(())
    }

    /// Lets another reader follow a mutation in flight.
    pub(super) fn attach(&mut self, command: CommandId, mailbox: &Arc<Mailbox>) -> Option<RequestId> {
        let request = *self.by_command.get(&command)?;
        let call = self.by_request.get_mut(&request)?;
        mailbox.post(Update::Accepted);
        call.viewers.push(Arc::clone(mailbox));
        Some(request)
    }

    /// Removes a reader; a call that nobody reads cannot be attached to any more.
    pub(super) fn leave(&mut self, request: RequestId, mailbox: &Arc<Mailbox>) -> Left {
        let Some(call) = self.by_request.get_mut(&request) else {
            return Left::Nothing;
        };
        call.viewers.retain(|held| !Arc::ptr_eq(held, mailbox));
        if !call.viewers.is_empty() {
            return Left::Nothing;
        }
        if self.by_command.get(&call.command) == Some(&request) {
            self.by_command.remove(&call.command);
        }
        Left::Cancel
    }

    /// Passes news on; an outcome ends the call and is given back with the command's id if it was a mutation.
    pub(super) fn news(&mut self, request: RequestId, update: Update) -> News {
        let Some(call) = self.by_request.get_mut(&request) else {
            return News::Unknown;
        };
        call.misses = 0;
        match update {
            Update::Finished(outcome) => {
                let stored = self.finish(request, &outcome);
                News::Ended(stored.map(|command| (command, outcome)))
            }
            update => {
                match call.viewers.split_last() {
                    Some((last, others)) => {
                        for other in others {
                            other.post(update.clone());
                        }
                        last.post(update);
                    }
                    None => return News::Unread,
                }
                News::Passed
            }
        }
    }

    /// Ends a call; gives its command back if it was a mutation.
    pub(super) fn finish(&mut self, request: RequestId, outcome: &Outcome) -> Option<CommandId> {
        let call = self.by_request.remove(&request)?;
        self.tally.ended(outcome);
        self.due.remove(&(call.due, request));
        if self.by_command.get(&call.command) == Some(&request) {
            self.by_command.remove(&call.command);
        }
        for viewer in &call.viewers {
            viewer.post(Update::Finished(outcome.clone()));
        }
        call.mutation.then_some(call.command)
    }

    /// The frame was handed to the link.
    pub(super) fn dispatched(&mut self, request: RequestId) {
        if let Some(call) = self.by_request.get_mut(&request) {
            call.dispatched = true;
        }
    }

    pub(super) fn is_dispatched(&self, request: RequestId) -> Option<bool> {
        self.by_request.get(&request).map(|call| call.dispatched)
    }

    /// How much time a call has left.
    pub(super) fn remaining(&self, request: RequestId, now: Instant) -> Option<Duration> {
        let call = self.by_request.get(&request)?;
        Some(call.due.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// When the next call's time is over.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Ends the calls whose time is over and names them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<RequestId> {
        let mut over = Vec::new();
        while let Some((at, request)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.finish(request, &Outcome::DeadlineExceeded);
            over.push(request);
        }
        over
    }

    /// Compares with what the agent has in hand: lost calls end; ids that are nobody's are given back.
    pub(super) fn reconcile(&mut self, in_hand: &[RequestId]) -> Vec<RequestId> {
        let held: BTreeSet<_> = in_hand.iter().copied().collect();
        let mut lost = Vec::new();
        for (request, call) in &mut self.by_request {
            if held.contains(request) {
                call.misses = 0;
            } else if call.dispatched {
                call.misses += 1;
                if call.misses > MISSES_BEFORE_LOST {
                    lost.push(*request);
                }
            }
        }
        for request in lost {
            self.finish(request, &Outcome::AgentLost { dispatched: true });
        }
        held.into_iter()
            .filter(|request| !self.by_request.contains_key(request))
            .collect()
    }

    /// The session is over: every call ends as lost and none is taken any more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for (request, dispatched) in self
            .by_request
            .iter()
            .map(|(request, call)| (*request, call.dispatched))
            .collect::<Vec<_>>()
        {
            self.finish(request, &Outcome::AgentLost { dispatched });
        }
    }

    /// A body that a call in hand names.
    pub(super) fn blob(&self, digest: Digest) -> Option<Bytes> {
        self.by_request
            .values()
            .find_map(|call| call.blobs.get(&digest).cloned())
    }

    pub(super) fn len(&self) -> usize {
        self.by_request.len()
    }
}

/// What became of an agent's news.
#[derive(Debug)]
pub(super) enum News {
    /// The call ended; a mutation's result may be kept.
    Ended(Option<(CommandId, Outcome)>),
    /// Readers have it.
    Passed,
    /// No such call: late, or of an earlier time.
    Unknown,
    /// The call is being cancelled and nobody reads.
    Unread,
}

/// Results of mutations, for repeats.
#[derive(Debug, Default)]
pub(super) struct Results {
    by_command: BTreeMap<CommandId, Outcome>,
    ages: VecDeque<(Instant, CommandId)>,
}

/// Results that are kept of one agent; the oldest go first.
const RESULTS_PER_AGENT: usize = 1024;

/// How long a result is kept.
const KEEP_RESULTS: Duration = Duration::from_secs(600);

impl Results {
    pub(super) fn keep(&mut self, command: CommandId, outcome: Outcome, now: Instant) {
        if self.by_command.insert(command, outcome).is_none() {
            self.ages.push_back((now, command));
        }
        self.forget_old(now);
    }

    pub(super) fn of(&mut self, command: CommandId, now: Instant) -> Option<Outcome> {
        self.forget_old(now);
        self.by_command.get(&command).cloned()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, command)) = self.ages.front().copied() {
            let young = now.saturating_duration_since(at) < KEEP_RESULTS;
            if self.ages.len() <= RESULTS_PER_AGENT && young {
                break;
            }
            self.ages.pop_front();
            self.by_command.remove(&command);
        }
    }
}
