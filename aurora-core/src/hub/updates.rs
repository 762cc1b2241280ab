//! The stream of one command's updates; dropping it before the outcome cancels the command.

use std::sync::Arc;

use crate::command::Update;
use crate::hub::mailbox::Mailbox;
use crate::hub::session::Session;
use crate::id::RequestId;
use crate::port::router::Updates;

/// Levels in one update weigh at most so much, so that it fits a frame on its way on.
const MAX_UPDATE: u64 = 128 * 1024;

/// Updates of a command in flight.
pub(super) fn of_call(session: Arc<Session>, request: RequestId, mailbox: Arc<Mailbox>) -> Updates {
    let reader = Reader {
        session,
        request,
        mailbox,
        ended: false,
    };
    Box::pin(futures::stream::unfold(reader, Reader::next))
}

/// The stored outcome of a command that was done.
pub(super) fn of_stored(mailbox: Arc<Mailbox>) -> Updates {
    Box::pin(futures::stream::unfold(mailbox, |mailbox| async {
        let update = mailbox.next(MAX_UPDATE).await?;
        Some((update, mailbox))
    }))
}

struct Reader {
    session: Arc<Session>,
    request: RequestId,
    mailbox: Arc<Mailbox>,
    ended: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(Update, Self)> {
        // Being asked for more means that what was given has been read.
        self.session.credit(self.request, self.mailbox.settle());
        let update = self.mailbox.next(MAX_UPDATE).await;
        self.ended = !matches!(update, Some(ref update) if !matches!(update, Update::Finished(_)));
        Some((update?, self))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.ended {
            self.session.leave(self.request, &self.mailbox);
        }
    }
}
