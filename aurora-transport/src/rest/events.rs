//! Event streams: server-sent events that go on from a cursor without gap or repeat.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::authz::{Grant, ReadPipelines};
use aurora_core::control::{ControlError, Cursor, FeedItem, FeedItems, RowFilter};
use aurora_core::error::ErrorChain;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::Summary;
use axum::extract::{Path, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Api;
use super::authenticate::{Granted, visibility};
use super::frames::{
    Beat, Before, Bye, Hello, HistoryAppended, Match, PipelineChanged, Resync, StreamEvent, TimelineAppended,
};
use super::list;
use super::problem::Refusal;
use super::request::{Params, bad_parameter, pipeline_id};
use super::slots::Slot;

/// A beat comes so often: a client that hears nothing for three of them knows that the line is dead.
const BEAT: Duration = Duration::from_secs(10);
/// How long a stream of a pipeline that is over looks for what is still to be told.
const LAST_LOOK: Duration = Duration::from_secs(2);
/// Clients come back within so long after a drain, spread out.
const RETRY_SPREAD: Duration = Duration::from_secs(3);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PIPELINES: &str = "pipelines";
const TIMELINE: &str = "timeline";
const HISTORY: &str = "history";
/// What a stream can tell of.
pub(super) const TOPICS: [&str; 3] = [HISTORY, PIPELINES, TIMELINE];
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
    let filter = match only {
        None => list::filters(&mut params)?.filter(grant.principal()),
        Some(_) => RowFilter::everything(),
    };
    let follow = params.flag("follow")?.unwrap_or(true);
    params.finish()?;
    // What a browser sends by itself after a break is newer than what stands in the address.
    let last = headers
        .get(&LAST_EVENT_ID)
        .filter(|value| !value.is_empty())
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let place = match last.or(from) {
        Some(text) => Place::read(&text)?,
        None => Place::after(api.inner.plane.feed_head(&grant).await?),
    };
    let slot = Slot::take(&api, &grant)?;
    let wanted = Wanted {
        follow,
        only,
        topics,
        filter,
    };
    let viewer = Viewer::begin(api, grant, place, wanted, slot).await?;
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
    let topics = params.many("topic")?;
    if topics.is_empty() {
        return Ok(vec![PIPELINES.to_owned(), TIMELINE.to_owned()]);
    }
    match topics.iter().find(|topic| !TOPICS.contains(&topic.as_str())) {
        None => Ok(topics),
        Some(later) if LATER.contains(&later.as_str()) => {
            Err(Refusal::not_yet(&format!("the topic `{later}`")))
        }
        Some(_) => Err(bad_parameter("topic", "is not pipelines, timeline or history")),
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
        let (cursor, frames) = match text.strip_suffix("~1") {
            Some(cursor) => (cursor, 1),
            None => (text, 0),
        };
        match cursor.parse() {
            Ok(after) => Ok(Self { after, frames }),
            Err(_) => Err(Refusal::invalid(
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

/// What a stream tells of.
struct Wanted {
    /// Whether it goes on after what there is.
    follow: bool,
    only: Option<PipelineId>,
    topics: Vec<String>,
    filter: RowFilter,
}

/// One stream and what it still has to say.
struct Viewer {
    api: Api,
    grant: Grant<ReadPipelines>,
    wanted: Wanted,
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
        wanted: Wanted,
        slot: Slot,
    ) -> Result<Self, Refusal> {
        let now = api.inner.clock.now();
        let token_expires_at = grant.principal().expires_at;
        let left = Duration::try_from(token_expires_at.duration_since(now)).unwrap_or_default();
        let mut frames = VecDeque::new();
        let hello = Hello {
            now,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            topics: wanted.topics.clone(),
            token_expires_at,
            beat_seconds: BEAT.as_secs(),
            visibility: visibility(grant.principal()),
        };
        frames.push_back((Some(place), StreamEvent::Hello(hello)));
        let (place, items) = match open(&api, &grant, &wanted, place.after).await {
            Ok(items) => (place, items),
            // A cursor from before a store was restored: the client reads anew and goes on from now.
            Err(ControlError::Invalid { .. }) => {
                let place = Place::after(api.inner.plane.feed_head(&grant).await?);
                let reason = "cursorUnknown".to_owned();
                frames.push_back((Some(place), StreamEvent::Resync(Resync { reason })));
                (place, open(&api, &grant, &wanted, place.after).await?)
            }
            Err(error) => return Err(error.into()),
        };
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut viewer = Self {
            expires: Instant::now() + left.min(Duration::from_secs(86_400)),
            api,
            grant,
            wanted,
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

    fn take(&mut self, item: Option<Result<Arc<FeedItem>, ControlError>>) {
        match item {
            Some(Ok(item)) => {
                if self.last_look.is_some() {
                    self.last_look = Some(Instant::now() + LAST_LOOK);
                }
                self.tell(&item);
            }
            Some(Err(error)) => {
                tracing::warn!(error = %ErrorChain(&error), "event stream broken off");
                self.say_bye("broken", self.spread());
            }
            None => {
                if !self.wanted.follow {
                    // From here a later request goes on.
                    let now = self.api.inner.clock.now();
                    let cursor = self.place.after;
                    self.frames
                        .push_back((None, StreamEvent::Beat(Beat { now, cursor })));
                }
                self.say_bye("ended", Duration::ZERO);
            }
        }
    }

    /// An item is up to two frames; each names the place after it, so that a break between them loses nothing.
    fn tell(&mut self, item: &FeedItem) {
        let after = Place::after(item.cursor);
        let between = Place {
            after: self.place.after,
            frames: 1,
        };
        let seen = self.place.frames;
        self.place = after;
        let (subject, version, at) = (item.subject, item.version, item.at);
        if let Some((target, point)) = &item.point {
            if self.wants(HISTORY) {
                let point = HistoryAppended {
                    subject,
                    target: target.clone(),
                    version,
                    at,
                    point: point.clone(),
                };
                self.frames
                    .push_back((Some(after), StreamEvent::HistoryPoint(Box::new(point))));
            }
            return;
        }
        let Some(matched) = self.matched(item) else {
            return;
        };
        let row = item.row.as_ref().filter(|_| self.wants(PIPELINES));
        if let Some(entry) = item.entry.as_ref().filter(|_| seen == 0 && self.wants(TIMELINE)) {
            let line = TimelineAppended {
                subject,
                version,
                at,
                entry: entry.clone(),
            };
            // Without a row, the line is the item's last frame.
            let place = if row.is_some() { between } else { after };
            self.frames
                .push_back((Some(place), StreamEvent::TimelineAppended(Box::new(line))));
        }
        if let Some(row) = row {
            let before = |row: &Arc<Summary>| Before {
                status: row.status,
                state: row.state,
                needs: row.needs.clone(),
            };
            let changed = PipelineChanged {
                subject,
                version,
                at,
                matched,
                before: item.before.as_ref().map(before),
                row: Arc::clone(row),
            };
            self.frames
                .push_back((Some(after), StreamEvent::PipelineChanged(Box::new(changed))));
        }
    }

    /// What an item is to the filter; `None` where it never was let through and is not.
    fn matched(&self, item: &FeedItem) -> Option<Match> {
        let passes = |row: &Option<Arc<Summary>>| {
            let row = row.as_ref();
            row.is_some_and(|row| self.wanted.filter.lets_through(row))
        };
        match (passes(&item.before), passes(&item.row)) {
            (false, false) => None,
            (false, true) => Some(Match::Entered),
            (true, false) => Some(Match::Left),
            (true, true) => Some(Match::Changed),
        }
    }

    fn wants(&self, topic: &str) -> bool {
        self.wanted.topics.iter().any(|wanted| wanted == topic)
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
        let (Some(id), None) = (self.wanted.only, self.last_look) else {
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
    wanted: &Wanted,
    after: Cursor,
) -> Result<FeedItems, ControlError> {
    match wanted.only {
        only if !wanted.follow => api.inner.plane.events_so_far(grant, only, after).await,
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
