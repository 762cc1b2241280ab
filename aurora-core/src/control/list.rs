//! Lists of pipelines: filters, counts and pages over summaries that are kept in memory and fed by the feed.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::feed::{Cursor, InvalidCursor, read_row};
use super::journal;
use super::queries::AsOf;
use super::{ControlError, ControlPlane, Inner, PerTenant};
use crate::authz::{Grant, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{ArmoryStatus, State, Summary};
use crate::port::store::{Scan, Scope};

/// Summaries kept per tenant, the newest ones: about 0.5 kB each.
const KEPT: usize = 50_000;

/// Summaries and events read at once.
const PAGE: usize = 1000;

/// The most rows of one page.
const MAX_LIMIT: usize = 200;

/// Rows of a page where nothing is said.
const DEFAULT_LIMIT: usize = 50;

/// Which pipelines, and which part of the list.
#[derive(Clone, Debug, Default)]
pub struct PipelineQuery {
    /// Of this application.
    pub application: Option<String>,
    /// With this target.
    pub target: Option<String>,
    /// On this account.
    pub account: Option<String>,
    /// In any of these states, in Armory's words; empty: in all.
    pub statuses: Vec<ArmoryStatus>,
    /// In any of these states, in ours; empty: in all.
    pub states: Vec<State>,
    /// For this reason.
    pub reason: Option<String>,
    /// Submitted by somebody whose id or name is this.
    pub actor: Option<String>,
    /// `approval`: only those that wait for a person.
    pub needs: Option<String>,
    /// Submitted at or after.
    pub since: Option<Timestamp>,
    /// Submitted before.
    pub until: Option<Timestamp>,
    /// In the application, the description, a target, the actor, or at the start of the id; case aside.
    pub text: Option<String>,
    /// At most so many rows: 50 unless said, 200 at most.
    pub limit: Option<usize>,
    /// The page to show, from an earlier answer.
    pub page: Option<String>,
    /// What to count over everything that the filters let through.
    pub counts: Vec<Facet>,
}

/// What can be counted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Facet {
    /// By application.
    Application,
    /// By what they need.
    Needs,
    /// By state, in Armory's words.
    Status,
    /// By target.
    Target,
}

/// One page of a list, the newest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPage {
    /// As of when.
    pub as_of: AsOf,
    /// The rows.
    pub rows: Vec<Summary>,
    /// The page of older ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The page of newer ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// How many of each, per facet that was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Facet, BTreeMap<String, usize>>,
    /// Whether lists and counts cover everything: older runs than the newest 50,000 are left out.
    pub exact: bool,
}

/// Summaries of all tenants.
pub(super) type Summaries = PerTenant<Mutex<Kept>>;

/// Summaries of one tenant, as of a place in its feed.
#[derive(Debug, Default)]
pub(super) struct Kept {
    rows: BTreeMap<PipelineId, Summary>,
    feed: u64,
    loaded: bool,
    left_out: bool,
}

/// A place in a list: rows older than an id, or newer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Newer(PipelineId),
    Older(PipelineId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(id) => write!(f, "p1.n.{id}"),
            Self::Older(id) => write!(f, "p1.o.{id}"),
        }
    }
}

impl FromStr for Place {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let id = |id: &str| id.parse().map_err(|_| InvalidCursor);
        match (text.strip_prefix("p1.n."), text.strip_prefix("p1.o.")) {
            (Some(newer), _) => Ok(Self::Newer(id(newer)?)),
            (_, Some(older)) => Ok(Self::Older(id(older)?)),
            _ => Err(InvalidCursor),
        }
    }
}

impl ControlPlane {
    /// A page of the tenant's pipelines, the newest first.
    ///
    /// # Errors
    /// [`ControlError`]; `Invalid` for a page that is none.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn list(
        &self,
        grant: &Grant<ReadPipelines>,
        query: &PipelineQuery,
    ) -> Result<ListPage, ControlError> {
        let place: Option<Place> = match &query.page {
            Some(text) => Some(
                text.parse()
                    .map_err(|error: InvalidCursor| ControlError::Invalid {
                        problem: error.to_string(),
                    })?,
            ),
            None => None,
        };
        let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let kept = self.inner.summaries.of(grant.tenant());
        // A tokio lock: refreshing reads the store while it is held, so that readers share one refresh.
        let mut kept = kept.lock().await;
        kept.refresh(&self.inner, &Scope::from(grant.tenant())).await?;
        let matching = |row: &&Summary| query.lets_through(row);
        let (mut rows, more) = kept.page(place, limit, &matching);
        let forward = !matches!(place, Some(Place::Newer(_)));
        if !forward {
            rows.reverse();
        }
        let first = rows.first().map(|row| row.id);
        let last = rows.last().map(|row| row.id);
        let newer = if forward { place.is_some() } else { more };
        let older = if forward { more } else { true };
        Ok(ListPage {
            as_of: AsOf {
                cursor: Cursor::at(kept.feed),
                at: self.inner.clock.now(),
            },
            next: last.filter(|_| older).map(|id| Place::Older(id).to_string()),
            prev: first.filter(|_| newer).map(|id| Place::Newer(id).to_string()),
            rows,
            counts: kept.counts(query),
            exact: !kept.left_out,
        })
    }
}

impl PipelineQuery {
    fn lets_through(&self, row: &Summary) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let any = |wanted: &Option<String>, value: fn(&crate::pipeline::TargetRow) -> &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| row.targets.iter().any(|target| value(target) == wanted))
        };
        is(&self.application, &row.application)
            && any(&self.target, |target| &target.name)
            && any(&self.account, |target| &target.account)
            && (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && (self.states.is_empty() || self.states.contains(&row.state))
            && is(&self.reason, row.reason.as_deref().unwrap_or_default())
            && (is(&self.actor, &row.actor.id) || is(&self.actor, &row.actor.display))
            && is(&self.needs, &row.needs)
            && self.since.is_none_or(|since| row.started_at >= since)
            && self.until.is_none_or(|until| row.started_at < until)
            && self.text.as_deref().is_none_or(|text| mentions(row, text))
    }
}

fn mentions(row: &Summary, text: &str) -> bool {
    let text = text.to_lowercase();
    let has = |field: &str| field.to_lowercase().contains(&text);
    row.id.to_string().starts_with(&text)
        || has(&row.application)
        || has(&row.description)
        || has(&row.actor.display)
        || row
            .targets
            .iter()
            .any(|target| has(&target.name) || has(&target.account))
}

impl Kept {
    async fn refresh(&mut self, inner: &Inner, scope: &Scope) -> Result<(), ControlError> {
        if !self.loaded {
            // The head first: what is written while the records are read is read again from the feed.
            let head = inner.store.feed_head(scope).await?;
            self.load(inner, scope).await?;
            self.feed = head;
            self.loaded = true;
        }
        loop {
            let events = inner.store.read_feed(scope, self.feed, PAGE).await?;
            let Some(last) = events.last().map(|event| event.feed) else {
                return Ok(());
            };
            let changed: std::collections::BTreeSet<PipelineId> = events
                .iter()
                .filter_map(|event| journal::id_of(&event.stream))
                .collect();
            for id in changed {
                if let Some(row) = read_row(inner, scope, id).await? {
                    self.rows.insert(id, row);
                }
            }
            self.feed = last;
            while self.rows.len() > KEPT {
                self.rows.pop_first();
                self.left_out = true;
            }
        }
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
                    self.rows.insert(row.id, row);
                }
            }
            self.left_out |= full && self.rows.len() >= KEPT;
            if !full || self.rows.len() >= KEPT {
                return Ok(());
            }
        }
    }

    /// Rows from a place on in its direction, and whether there are more of them.
    fn page(
        &self,
        place: Option<Place>,
        limit: usize,
        matching: &dyn Fn(&&Summary) -> bool,
    ) -> (Vec<Summary>, bool) {
        let mut rows: Vec<Summary> = match place {
            None => self
                .rows
                .values()
                .rev()
                .filter(matching)
                .take(limit + 1)
                .cloned()
                .collect(),
            Some(Place::Older(id)) => {
                let older = self.rows.range(..id).rev().map(|(_, row)| row);
                older.filter(matching).take(limit + 1).cloned().collect()
            }
            Some(Place::Newer(id)) => {
                let after = (std::ops::Bound::Excluded(id), std::ops::Bound::Unbounded);
                let newer = self.rows.range(after).map(|(_, row)| row);
                newer.filter(matching).take(limit + 1).cloned().collect()
            }
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more)
    }

    fn counts(&self, query: &PipelineQuery) -> BTreeMap<Facet, BTreeMap<String, usize>> {
        let mut counts: BTreeMap<Facet, BTreeMap<String, usize>> = query
            .counts
            .iter()
            .map(|facet| (*facet, BTreeMap::new()))
            .collect();
        if counts.is_empty() {
            return counts;
        }
        for row in self.rows.values().filter(|row| query.lets_through(row)) {
            for (facet, values) in &mut counts {
                let found: Vec<String> = match facet {
                    Facet::Application => vec![row.application.clone()],
                    Facet::Needs => vec![row.needs.clone()],
                    Facet::Status => vec![status_text(row.status)],
                    Facet::Target => row.targets.iter().map(|target| target.name.clone()).collect(),
                };
                for value in found {
                    *values.entry(value).or_insert(0) += 1;
                }
            }
        }
        counts
    }
}

fn status_text(status: ArmoryStatus) -> String {
    serde_json::to_value(status)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
