//! Event streams: server-sent events that go on from a cursor without gap or repeat.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aurora_core::authz::{Grant, ReadPipelines};
use aurora_core::control::{ControlError, Cursor, FeedItem, FeedItems};
use aurora_core::error::{ErrorChain, ErrorKind};
use aurora_core::id::PipelineId;
use aurora_core::tenant::Tenant;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Api;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::request::{Params, bad_parameter, pipeline_id};
use super::wire::{Beat, Bye, Hello, PipelineChanged, Resync, StreamEvent, TimelineAppended};

/// A beat comes so often: a client that hears nothing for three of them knows that the line is dead.
const BEAT: Duration = Duration::from_secs(10);
/// How long a stream of a pipeline that is over looks for what is still to be told.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// Streams of one principal: a few tabs and programs.
const STREAMS_OF_ONE: usize = 16;
/// Streams of all together.
const STREAMS: usize = 2048;
/// Clients come back within so long after a drain, spread out.
const RETRY_SPREAD: Duration = Duration::from_secs(3);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PIPELINES: &str = "pipelines";
const TIMELINE: &str = "timeline";
/// Topics that are planned and not there yet.
const LATER: [&str; 3] = ["agents", "approvals", "windows"];

/// `GET /events`
pub(super) async fn tenant_events(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    stream(api, grant, &headers, params, None).await
}

/// `GET /pipelines/{id}/events`
pub(super) async fn pipeline_events(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Refusal> {
    let id = pipeline_id(&id)?;
    // What is not there is said before the stream begins.
    api.inner.plane.pipeline(&grant, id).await?;
    stream(api, grant, &headers, params, Some(id)).await
}

async fn stream(
    api: Api,
    grant: Grant<ReadPipelines>,
    headers: &HeaderMap,
    mut params: Params,
    only: Option<PipelineId>,
) -> Result<Response, Refusal> {
    let topics = topics(&mut params)?;
    let from = params.one("cursor")?;
    params.finish()?;
    // What a browser sends by itself after a break is newer than what stands in the address.
    let last = headers
        .get(&LAST_EVENT_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .map(str::to_owned);
    let place = match last.or(from) {
        Some(text) => Place::read(&text)?,
        None => Place::after(api.inner.plane.feed_head(&grant).await?),
    };
    let slot = Slot::take(&api, &grant)?;
    let viewer = Viewer::begin(api, grant, place, topics, only, slot).await?;
    let frames = futures::stream::unfold(viewer, Viewer::next);
    let headers = [
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A proxy that gathers small answers would hold frames back.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Sse::new(frames)).into_response())
}

fn topics(params: &mut Params) -> Result<Vec<String>, Refusal> {
    let topics = params.many("topic");
    if topics.is_empty() {
        return Ok(vec![PIPELINES.to_owned(), TIMELINE.to_owned()]);
    }
    match topics
        .iter()
        .find(|topic| *topic != PIPELINES && *topic != TIMELINE)
    {
        None => Ok(topics),
        Some(later) if LATER.contains(&later.as_str()) => {
            Err(Refusal::not_yet(&format!("the topic `{later}`")))
        }
        Some(_) => Err(bad_parameter("topic", "is not pipelines or timeline")),
    }
}

/// A place between two frames: after an item of the feed, and some frames of the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    after: Cursor,
    frames: usize,
}

impl Place {
    const fn after(after: Cursor) -> Self {
        Self { after, frames: 0 }
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let (cursor, frames) = text.split_once('~').unwrap_or((text, "0"));
        match (cursor.parse(), frames.parse()) {
            (Ok(after), Ok(frames)) => Ok(Self { after, frames }),
            _ => Err(Refusal::invalid(
                "cursor.invalid",
                "",
                "this is not a cursor; take it as it came from an earlier answer",
            )),
        }
    }

    fn text(self) -> String {
        match self.frames {
            0 => self.after.to_string(),
            frames => format!("{}~{frames}", self.after),
        }
    }
}

/// One stream and what it still has to say.
struct Viewer {
    api: Api,
    grant: Grant<ReadPipelines>,
    only: Option<PipelineId>,
    topics: Vec<String>,
    place: Place,
    items: FeedItems,
    frames: VecDeque<(Option<Place>, StreamEvent)>,
    beat: Interval,
    expires: Instant,
    over: bool,
    /// Set while the pipeline is over and all has perhaps been told.
    last_look: Option<Instant>,
    _slot: Slot,
}

impl Viewer {
    async fn begin(
        api: Api,
        grant: Grant<ReadPipelines>,
        place: Place,
        topics: Vec<String>,
        only: Option<PipelineId>,
        slot: Slot,
    ) -> Result<Self, Refusal> {
        let now = api.inner.clock.now();
        let token_expires_at = grant.principal().expires_at;
        let left = Duration::try_from(token_expires_at.duration_since(now)).unwrap_or_default();
        let mut frames = VecDeque::new();
        let hello = Hello {
            now,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            topics: topics.clone(),
            token_expires_at,
            beat_seconds: BEAT.as_secs(),
        };
        frames.push_back((Some(place), StreamEvent::Hello(hello)));
        let (place, items) = match open(&api, &grant, only, place.after).await {
            Ok(items) => (place, items),
            // A cursor from before a store was restored: the client reads anew and goes on from now.
            Err(ControlError::Invalid { .. }) => {
                let place = Place::after(api.inner.plane.feed_head(&grant).await?);
                let reason = "cursorUnknown".to_owned();
                frames.push_back((Some(place), StreamEvent::Resync(Resync { reason })));
                (place, open(&api, &grant, only, place.after).await?)
            }
            Err(error) => return Err(error.into()),
        };
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut viewer = Self {
            expires: Instant::now() + left.min(Duration::from_secs(86_400)),
            api,
            grant,
            only,
            topics,
            place,
            items,
            frames,
            beat,
            over: false,
            last_look: None,
            _slot: slot,
        };
        viewer.look_for_the_end().await;
        Ok(viewer)
    }

    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            if let Some((place, frame)) = self.frames.pop_front() {
                let mut event = Event::default().event(frame.name()).data(frame.data());
                if let Some(place) = place {
                    event = event.id(place.text());
                }
                return Some((Ok(event), self));
            }
            if self.over {
                return None;
            }
            self.wait().await;
        }
    }

    /// Waits for the next thing to say.
    async fn wait(&mut self) {
        let stop = self.api.inner.stop.clone();
        let last_look = self.last_look;
        tokio::select! {
            biased;
            () = stop.cancelled() => self.say_bye("drain", self.spread()),
            () = tokio::time::sleep_until(self.expires) => self.say_bye("expired", Duration::ZERO),
            item = self.items.next() => self.take(item),
            () = until(last_look) => self.say_bye("ended", Duration::ZERO),
            _ = self.beat.tick() => {
                let now = self.api.inner.clock.now();
                let cursor = self.place.after;
                self.frames.push_back((None, StreamEvent::Beat(Beat { now, cursor })));
                self.look_for_the_end().await;
            }
        }
    }

    fn take(&mut self, item: Option<Result<FeedItem, ControlError>>) {
        match item {
            Some(Ok(item)) => {
                if self.last_look.is_some() {
                    self.last_look = Some(Instant::now() + LAST_LOOK);
                }
                self.tell(item);
            }
            Some(Err(error)) => {
                tracing::warn!(error = %ErrorChain(&error), "event stream broken off");
                self.say_bye("broken", self.spread());
            }
            None => self.say_bye("ended", Duration::ZERO),
        }
    }

    /// An item is two frames; each names the place after it, so that a break between them loses nothing.
    fn tell(&mut self, item: FeedItem) {
        let FeedItem {
            cursor,
            subject,
            version,
            at,
            entry,
            row,
        } = item;
        let seen = self.place.frames;
        let between = Place {
            after: self.place.after,
            frames: 1,
        };
        if let Some(entry) = entry.filter(|_| seen == 0 && self.wants(TIMELINE)) {
            let line = TimelineAppended {
                subject,
                version,
                at,
                entry,
            };
            self.frames
                .push_back((Some(between), StreamEvent::TimelineAppended(Box::new(line))));
        }
        let after = Place::after(cursor);
        if let Some(row) = row.filter(|_| self.wants(PIPELINES)) {
            let changed = PipelineChanged {
                subject,
                version,
                at,
                row,
            };
            self.frames
                .push_back((Some(after), StreamEvent::PipelineChanged(Box::new(changed))));
        } else if let Some((place, _)) = self.frames.back_mut() {
            // The line was the item's last frame.
            *place = Some(after);
        }
        self.place = after;
    }

    fn wants(&self, topic: &str) -> bool {
        self.topics.iter().any(|wanted| wanted == topic)
    }

    fn say_bye(&mut self, reason: &str, retry_after: Duration) {
        let bye = Bye {
            reason: reason.to_owned(),
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        };
        self.frames.push_back((None, StreamEvent::Bye(bye)));
        self.over = true;
    }

    /// The stream of a pipeline that was over before it began has no last event to wait for.
    async fn look_for_the_end(&mut self) {
        let (Some(id), None) = (self.only, self.last_look) else {
            return;
        };
        if let Ok(document) = self.api.inner.plane.pipeline(&self.grant, id).await
            && document.body.is_final()
        {
            self.last_look = Some(Instant::now() + LAST_LOOK);
        }
    }

    /// Different for each stream, so that not all come back at once.
    fn spread(&self) -> Duration {
        let share = uuid::Uuid::new_v4().as_u128() as u32;
        RETRY_SPREAD.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

async fn open(
    api: &Api,
    grant: &Grant<ReadPipelines>,
    only: Option<PipelineId>,
    after: Cursor,
) -> Result<FeedItems, ControlError> {
    match only {
        Some(id) => api.inner.plane.pipeline_events(grant, id, after).await,
        None => api.inner.plane.events(grant, after).await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How many streams each principal has open.
pub(super) type OpenStreams = Arc<Mutex<BTreeMap<(Option<Tenant>, String), usize>>>;

/// The right to one stream; given back when it is dropped.
struct Slot {
    api: Api,
    holder: (Option<Tenant>, String),
}

impl Slot {
    fn take(api: &Api, grant: &Grant<ReadPipelines>) -> Result<Self, Refusal> {
        let holder = (Some(grant.tenant().clone()), grant.principal().id.clone());
        let mut open = api.inner.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&holder).copied().unwrap_or(0);
        if own >= STREAMS_OF_ONE || all >= STREAMS {
            let detail = format!("{own} event streams are open for you; close one, or try again later");
            return Err(Refusal::new(ErrorKind::Exhausted, "streams.exhausted", detail));
        }
        open.insert(holder.clone(), own + 1);
        super::metrics::streams(all + 1);
        Ok(Self {
            api: api.clone(),
            holder,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self
            .api
            .inner
            .streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.holder);
            }
        }
        super::metrics::streams(open.values().sum());
    }
}
