//! Rows of a tenant's pipelines and the end of its feed, kept in memory once for all readers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::feed::FeedItem;
use super::folded::Folded;
use super::{ControlError, Inner, PerTenant, journal};
use crate::id::PipelineId;
use crate::pipeline::Summary;
use crate::port::store::{Scan, Scope};

/// Summaries kept per tenant, the newest ones: about 0.5 kB each.
const KEPT: usize = 50_000;

/// Items of the feed kept per tenant: readers that are behind by more read the store themselves.
const TAIL: usize = 1024;

/// Summaries and events read at once.
const PAGE: usize = 1000;

/// How often it looks at the store though nothing was written here: other processes write there too.
const POLL: Duration = Duration::from_secs(1);

/// Summaries of all tenants.
pub(super) type Summaries = PerTenant<Mutex<Kept>>;

/// Summaries of one tenant, as of a place in its feed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) rows: BTreeMap<PipelineId, Arc<Summary>>,
    pub(super) feed: u64,
    pub(super) left_out: bool,
    loaded: bool,
    folded: Folded,
    /// What was last taken from the feed: everything after `tail_from`.
    tail: VecDeque<Arc<FeedItem>>,
    tail_from: u64,
    /// How far writers of this process were, and when, at the last look.
    looked: Option<(u64, Instant)>,
}

impl Kept {
    /// Takes what was written since.
    pub(super) async fn refresh(&mut self, inner: &Inner, scope: &Scope) -> Result<(), ControlError> {
        let written = *inner.store.written().borrow();
        let now = Instant::now();
        if self
            .looked
            .is_some_and(|(at, when)| at == written && now < when + POLL)
        {
            return Ok(());
        }
        if !self.loaded {
            // The head first: what is written while the records are read is read again from the feed.
            let head = inner.store.feed_head(scope).await?;
            self.load(inner, scope).await?;
            self.feed = head;
            self.tail_from = head;
            self.loaded = true;
        }
        loop {
            let events = inner.store.read_feed(scope, self.feed, PAGE).await?;
            if events.is_empty() {
                self.looked = Some((written, now));
                return Ok(());
            }
            for event in events {
                let item = self.folded.take(inner, scope, &event).await?;
                // From here on it is taken whole, however this future ends.
                self.feed = event.feed;
                self.keep(item);
            }
        }
    }

    fn keep(&mut self, item: Option<FeedItem>) {
        let Some(item) = item else {
            return;
        };
        if let Some(row) = &item.row {
            // Records that were read after the head may be ahead of the feed for a moment.
            let older = self
                .rows
                .get(&row.id)
                .is_none_or(|kept| kept.version <= row.version);
            if older {
                self.rows.insert(row.id, Arc::clone(row));
            }
        }
        self.tail.push_back(Arc::new(item));
        while self.tail.len() > TAIL {
            if let Some(gone) = self.tail.pop_front() {
                self.tail_from = gone.cursor.feed();
            }
        }
        while self.rows.len() > KEPT {
            self.rows.pop_first();
            self.left_out = true;
        }
    }

    /// Items after a place, at most `limit`, and the place after them; `None` where that is longer ago.
    pub(super) fn since(&self, after: u64, limit: usize) -> Option<(Vec<Arc<FeedItem>>, u64)> {
        if after < self.tail_from {
            return None;
        }
        let from = self.tail.partition_point(|item| item.cursor.feed() <= after);
        let items: Vec<Arc<FeedItem>> = self.tail.iter().skip(from).take(limit).cloned().collect();
        let reached = if items.len() < limit {
            self.feed.max(after)
        } else {
            items.last().map_or(after, |item| item.cursor.feed())
        };
        Some((items, reached))
    }

    async fn load(&mut self, inner: &Inner, scope: &Scope) -> Result<(), ControlError> {
        let mut scan = Scan {
            kind: journal::SUMMARY.to_owned(),
            prefix: String::new(),
            after: None,
            reverse: true,
            limit: PAGE,
        };
        loop {
            let page = inner.store.scan(scope, scan.clone()).await?;
            let full = page.len() == PAGE;
            scan.after = page.last().map(|record| record.key.id.clone());
            for record in page {
                if let Ok(row) = serde_json::from_slice::<Summary>(&record.value) {
                    self.rows.insert(row.id, Arc::new(row));
                }
            }
            self.left_out |= full && self.rows.len() >= KEPT;
            if !full || self.rows.len() >= KEPT {
                return Ok(());
            }
        }
    }
}
