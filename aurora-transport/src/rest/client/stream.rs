//! Following an event stream across breaks of its connection.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aurora_core::backoff::Backoff;
use aurora_core::control::Cursor;
use aurora_core::entropy::Entropy;
use bytes::BytesMut;
use futures::Stream;
use futures::stream::BoxStream;
use reqwest::{Method, Response};

use super::super::frames::{Resync, StreamEvent};
use super::{Client, ClientError, checked};

/// A stream that says nothing for so long is dead: three beats.
const SILENCE: Duration = Duration::from_secs(30);
/// How long opening a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(40);
/// The largest frame; the API's are far smaller.
const MAX_FRAME: usize = 1024 * 1024;

/// Frames of a stream, across breaks; it ends after a goodbye for good, or with an error.
///
/// What it gives are `Hello` of the first connection, changes and lines, `Beat`, `Resync`, and at last
/// `Bye`. Once it was open it comes back after every break; that it cannot be opened at all is an error.
pub struct Events {
    frames: BoxStream<'static, Result<StreamEvent, ClientError>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Stream for Events {
    type Item = Result<StreamEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames.as_mut().poll_next(context)
    }
}

impl Events {
    pub(super) fn begin(client: Client, path: Vec<String>, from: Option<Cursor>) -> Self {
        let follower = Follower {
            client,
            path,
            last: from.map(|cursor| cursor.to_string()),
            line: None,
            frames: Frames::default(),
            backoff: Backoff::new(Duration::from_millis(250), Duration::from_secs(15)),
            entropy: Entropy::from_system(),
            greeted: false,
            over: false,
        };
        Self {
            frames: Box::pin(futures::stream::unfold(follower, Follower::next)),
        }
    }
}

struct Follower {
    client: Client,
    path: Vec<String>,
    /// The id of the last frame that was given out: from there it goes on.
    last: Option<String>,
    line: Option<Response>,
    frames: Frames,
    backoff: Backoff,
    entropy: Entropy,
    greeted: bool,
    over: bool,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<StreamEvent, ClientError>, Self)> {
        loop {
            if self.over {
                return None;
            }
            if let Some(frame) = self.frames.pop() {
                match self.heard(frame).await {
                    Some(event) => return Some((Ok(event), self)),
                    None => continue,
                }
            }
            if let Err(error) = self.advance().await {
                if self.greeted && error.kind().is_transient() {
                    self.wait().await;
                    continue;
                }
                self.over = true;
                return Some((Err(error), self));
            }
        }
    }

    /// What is given on of a frame.
    async fn heard(&mut self, frame: Frame) -> Option<StreamEvent> {
        let event = match StreamEvent::read(&frame.event, &frame.data) {
            // A newer server tells of more; its frames still move the cursor.
            None => {
                self.last = frame.id.or(self.last.take());
                return None;
            }
            Some(Err(error)) => {
                tracing::warn!(%error, frame.event, "frame cannot be read");
                self.last = frame.id.or(self.last.take());
                let reason = "unreadable".to_owned();
                return Some(StreamEvent::Resync(Resync { reason }));
            }
            Some(Ok(event)) => event,
        };
        self.last = frame.id.or(self.last.take());
        match &event {
            StreamEvent::Hello(_) => {
                self.backoff.reset();
                let first = !std::mem::replace(&mut self.greeted, true);
                first.then_some(event)
            }
            StreamEvent::Bye(bye) if bye.reason != "ended" => {
                self.hang_up();
                tokio::time::sleep(Duration::from_millis(bye.retry_after_ms)).await;
                None
            }
            StreamEvent::Bye(_) => {
                self.over = true;
                Some(event)
            }
            _ => Some(event),
        }
    }

    /// Opens the line if it is not, and reads what comes next.
    async fn advance(&mut self) -> Result<(), ClientError> {
        let dead = |why: &str| ClientError::Unreachable {
            source: why.to_owned().into(),
        };
        if self.line.is_none() {
            let opened = tokio::time::timeout(OPEN_TIMEOUT, self.open()).await;
            self.line = Some(opened.map_err(|_| dead("the stream did not open"))??);
            return Ok(());
        }
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        let chunk = tokio::time::timeout(SILENCE, line.chunk()).await;
        let read = match chunk {
            Ok(Ok(Some(chunk))) => self.frames.push(&chunk),
            Ok(Ok(None)) => Err(dead("the stream was cut")),
            Ok(Err(error)) => Err(ClientError::unreachable(error)),
            Err(_) => Err(dead("the stream fell silent")),
        };
        if read.is_err() {
            self.hang_up();
        }
        read
    }

    async fn open(&self) -> Result<Response, ClientError> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let mut request = self
            .client
            .authorized(Method::GET, self.client.url(&path))
            .await?;
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        checked(request.header("accept", "text/event-stream").send().await).await
    }

    fn hang_up(&mut self) {
        self.line = None;
        // Half a frame is told again from its beginning.
        self.frames = Frames::default();
    }

    async fn wait(&mut self) {
        let wait = self.backoff.next(self.entropy.next_u64());
        tokio::time::sleep(wait).await;
    }
}

/// One frame as it came.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Frame {
    event: String,
    data: String,
    id: Option<String>,
}

/// Bytes of a stream, cut into frames.
#[derive(Debug, Default)]
struct Frames {
    bytes: BytesMut,
    open: Frame,
    whole: VecDeque<Frame>,
}

impl Frames {
    fn pop(&mut self) -> Option<Frame> {
        self.whole.pop_front()
    }

    fn push(&mut self, chunk: &[u8]) -> Result<(), ClientError> {
        self.bytes.extend_from_slice(chunk);
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line = self.bytes.split_to(end + 1);
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.line(&String::from_utf8_lossy(line));
        }
        if self.bytes.len() + self.open.data.len() > MAX_FRAME {
            return Err(ClientError::Unreadable {
                source: "a frame of the event stream is too large".into(),
            });
        }
        Ok(())
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            let frame = std::mem::take(&mut self.open);
            if !frame.event.is_empty() || !frame.data.is_empty() {
                self.whole.push_back(frame);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.open.event = value.to_owned(),
            "id" => self.open.id = Some(value.to_owned()),
            "data" => {
                if !self.open.data.is_empty() {
                    self.open.data.push('\n');
                }
                self.open.data.push_str(value);
            }
            // Comments, and what later versions of the format may add.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = ": a comment\r\nid: t1.1\r\nevent: beat\ndata: {\ndata: }\n\nevent: bye\ndata: ä\n\n";

    fn cut(text: &[u8], at: &[usize]) -> Vec<Frame> {
        let mut frames = Frames::default();
        let mut from = 0;
        for end in at.iter().copied().chain([text.len()]) {
            frames.push(&text[from..end]).unwrap();
            from = end;
        }
        frames.whole.into()
    }

    #[test]
    fn frames_are_read_as_the_format_says() {
        let frames = cut(TEXT.as_bytes(), &[]);
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].id.as_deref(), Some("t1.1"));
        assert_eq!(
            (frames[0].event.as_str(), frames[0].data.as_str()),
            ("beat", "{\n}")
        );
        assert_eq!((frames[1].data.as_str(), &frames[1].id), ("ä", &None));
    }

    proptest! {
        #[test]
        fn where_a_stream_is_cut_makes_no_difference(mut at in proptest::collection::vec(0..TEXT.len(), 0..6)) {
            at.sort_unstable();
            prop_assert_eq!(cut(TEXT.as_bytes(), &at), cut(TEXT.as_bytes(), &[]));
        }
    }
}
