//! Following a pipeline to its end over the API's event stream.

use std::time::Duration;

use anyhow::Result;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{PipelineView, State};
use aurora_transport::rest::StreamEvent;
use aurora_transport::rest::client::{Client, ClientError};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::history::History;
use super::lines::Lines;
use super::tree::{live, tree};
use crate::cli::Output;
use crate::print;
use aurora_bin::exit::Exit;

/// While nothing is heard, the pipeline is looked at this often, so that times move on and a lost stream does no harm.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Shows a pipeline while it changes.
#[derive(Debug)]
pub(crate) struct Screen {
    output: Output,
    number: usize,
    bar: Option<ProgressBar>,
    lines: Lines,
    last: Option<u64>,
    history: History,
}

impl Screen {
    /// A screen for the `number`-th pipeline of this command.
    pub(crate) fn new(output: Output, number: usize) -> Self {
        let bar = (output == Output::Text && print::is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Self {
            output,
            number,
            bar,
            lines: Lines::default(),
            last: None,
            history: History::default(),
        }
    }

    /// Shows what a view says, if it is news.
    pub(crate) fn show(&mut self, view: &PipelineView) -> Result<()> {
        self.history.add(view);
        let news = self.last != Some(view.version);
        self.last = Some(view.version);
        match (&self.bar, self.output) {
            (Some(bar), _) => bar.set_message(live(view, print::width())),
            (None, Output::Text) if news => {
                for line in self.lines.news(view) {
                    print::write(&(line + "\n"))?;
                }
            }
            (None, Output::Text) => {}
            _ if news => print::event(
                self.output,
                &serde_json::json!({
                    "type": "view", "pipeline": self.number, "view": view,
                }),
            )?,
            _ => {}
        }
        Ok(())
    }

    /// Leaves the last picture on the screen and gives what was seen.
    pub(crate) fn end(self, view: &PipelineView) -> Result<History> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
            print::write(&tree(view))?;
        }
        Ok(self.history)
    }
}

/// How a watch ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The pipeline is over.
    Ended(Box<PipelineView>, History),
    /// The time to watch ran out; the pipeline goes on.
    TimedOut(Box<PipelineView>),
}

/// Follows a pipeline until it is over, or the time runs out; `act` may decide about each view.
pub(crate) async fn follow<F>(
    client: &Client,
    id: PipelineId,
    mut screen: Screen,
    timeout: Option<Duration>,
    mut act: impl FnMut(PipelineView) -> F,
) -> Result<Followed, ClientError>
where
    F: Future<Output = ()>,
{
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let document = client.view(id).await?;
    let mut events = client.watch(id, Some(document.as_of.cursor));
    let mut view = document.body;
    loop {
        // A closed pipe is the reader's choice, not a reason to stop following.
        let _ = screen.show(&view);
        if view.ended_at.is_some() {
            let history = screen.end(&view).unwrap_or_default();
            return Ok(Followed::Ended(Box::new(view), history));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let _ = screen.end(&view);
            return Ok(Followed::TimedOut(Box::new(view)));
        }
        act(view.clone()).await;
        let heard = tokio::time::timeout(LOOK_AGAIN, next_change(&mut events)).await;
        match client.view(id).await {
            Ok(document) => view = document.body,
            // The API may be restarting: what was heard is kept, and the next look tells.
            Err(error) if error.kind().is_transient() => {
                if heard.is_ok() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for something that changes the view.
async fn next_change(events: &mut aurora_transport::rest::client::Events) {
    while let Some(event) = events.next().await {
        if matches!(
            event,
            Ok(StreamEvent::PipelineChanged(_) | StreamEvent::Resync(_) | StreamEvent::Bye(_)) | Err(_)
        ) {
            return;
        }
    }
    // The stream is over: only looking again helps.
    std::future::pending().await
}

/// The exit code of a pipeline's end.
pub(crate) fn exit_of(view: &PipelineView) -> Exit {
    match view.state {
        State::Succeeded => Exit::Succeeded,
        State::Cancelled => Exit::Cancelled,
        _ => Exit::Failed,
    }
}
