//! Frames that wait for a session's link: control frames pass commands, nothing blocks the one who puts them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::command::Command;
use crate::id::RequestId;
use crate::session::FromHub;

/// While so many control frames wait, an agent's claims about unknown commands are passed over.
const MAX_CONTROL: usize = 4096;

/// Bounded by the commands in flight: one command, one cancel and one credit each, besides heartbeats.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    lanes: Mutex<Lanes>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Lanes {
    control: VecDeque<FromHub>,
    commands: VecDeque<(RequestId, Command)>,
}

impl Outbox {
    /// Adds a control frame; credits for one command are added up.
    pub(crate) fn control(&self, frame: FromHub) {
        let mut lanes = self.lanes();
        if let FromHub::Credit { request, bytes } = frame {
            let waiting = lanes.control.iter_mut().find_map(|held| match held {
                FromHub::Credit { request: held, bytes } if *held == request => Some(bytes),
                _ => None,
            });
            if let Some(held) = waiting {
                *held = held.saturating_add(bytes);
                return;
            }
        }
        let nack = |frame: &FromHub| matches!(frame, FromHub::InventoryNack(_));
        if nack(&frame) && lanes.control.iter().any(nack) {
            return;
        }
        lanes.control.push_back(frame);
        drop(lanes);
        self.changed.notify_one();
    }

    /// Cancels what the hub does not know; while many frames wait it is left to the next heartbeat.
    pub(crate) fn cancel_unknown(&self, request: RequestId) {
        if self.lanes().control.len() < MAX_CONTROL {
            self.control(FromHub::Cancel(request));
        }
    }

    /// Adds a command.
    pub(crate) fn command(&self, request: RequestId, command: Command) {
        self.lanes().commands.push_back((request, command));
        self.changed.notify_one();
    }

    /// Takes a command back that was not sent yet; tells whether it was there.
    pub(crate) fn retract(&self, request: RequestId) -> bool {
        let mut lanes = self.lanes();
        let before = lanes.commands.len();
        lanes.commands.retain(|(held, _)| *held != request);
        lanes.commands.len() < before
    }

    /// The next frame, control first.
    pub(crate) fn pop(&self) -> Option<FromHub> {
        let mut lanes = self.lanes();
        lanes.control.pop_front().or_else(|| {
            let (request, command) = lanes.commands.pop_front()?;
            let command = Box::new(command);
            Some(FromHub::Command { request, command })
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        let lanes = self.lanes();
        lanes.control.is_empty() && lanes.commands.is_empty()
    }

    /// Waits until something was added.
    ///
    /// # Cancel safety
    /// Dropping the future loses no frame.
    pub(crate) async fn changed(&self) {
        while self.is_empty() {
            self.changed.notified().await;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
