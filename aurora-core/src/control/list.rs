//! Lists of pipelines: filters, counts and pages over summaries that are kept in memory and fed by the feed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::feed::{Cursor, InvalidCursor};
use super::queries::AsOf;
use super::summaries::Kept;
use super::{ControlError, ControlPlane};
use crate::authz::{Deploy, Grant, Permission as _, ReadPipelines};
use crate::id::PipelineId;
use crate::pipeline::{Approver, ArmoryStatus, State, Summary, TargetRow};
use crate::port::store::Scope;
use crate::principal::Principal;

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
    /// `approval` or `anyone`: only those that wait for a person; `me`: only those that the one who asks may decide;
    /// `none`: only the others.
    pub needs: Option<String>,
    /// Submitted with this program.
    pub source: Option<String>,
    /// Of a commit that begins like this.
    pub commit: Option<String>,
    /// Submitted at or after.
    pub since: Option<Timestamp>,
    /// Submitted before.
    pub until: Option<Timestamp>,
    /// In the application, the description, a target, the actor, or at the start of the id; case aside.
    pub text: Option<String>,
    /// At most so many rows: 50 unless said, 200 at most.
    pub limit: Option<usize>,
    /// In which order.
    pub order: Order,
    /// The page to show, from an earlier answer.
    pub page: Option<String>,
    /// What to count over everything that the filters let through.
    pub counts: Vec<Facet>,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Order {
    /// The newest first.
    #[default]
    NewestFirst,
    /// The oldest first.
    OldestFirst,
}

/// A query's filters as they are for one who asks.
#[derive(Clone, Debug)]
pub struct RowFilter {
    query: PipelineQuery,
    approver: Approver,
    may_deploy: bool,
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

/// One page of a list.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListPage {
    /// As of when.
    pub as_of: AsOf,
    /// The rows.
    pub rows: Vec<Arc<Summary>>,
    /// The page after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The page before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// How many of each, per facet that was asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Facet, BTreeMap<String, usize>>,
    /// Whether lists and counts cover everything: older runs than the newest 50,000 are left out.
    pub exact: bool,
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
        let filter = query.filter(grant.principal());
        let kept = self.inner.summaries.of(grant.tenant());
        // A tokio lock: refreshing reads the store while it is held, so that readers share one refresh.
        let mut kept = kept.lock().await;
        kept.refresh(&self.inner, &Scope::from(grant.tenant())).await?;
        let towards_older = match (place, query.order) {
            (Some(Place::Older(_)), _) | (None, Order::NewestFirst) => true,
            (Some(Place::Newer(_)), _) | (None, Order::OldestFirst) => false,
        };
        let (mut rows, more) = kept.page(place, towards_older, limit, &filter);
        // Whether the page was read in the order in which it is shown.
        let forward = towards_older == (query.order == Order::NewestFirst);
        if !forward {
            rows.reverse();
        }
        let newest_first = query.order == Order::NewestFirst;
        let after = |id| {
            if newest_first {
                Place::Older(id)
            } else {
                Place::Newer(id)
            }
        };
        let before = |id| {
            if newest_first {
                Place::Newer(id)
            } else {
                Place::Older(id)
            }
        };
        let has_next = if forward { more } else { place.is_some() };
        let has_prev = if forward { place.is_some() } else { more };
        Ok(ListPage {
            as_of: AsOf {
                cursor: Cursor::at(kept.feed),
                at: self.inner.clock.now(),
            },
            next: rows
                .last()
                .filter(|_| has_next)
                .map(|row| after(row.id).to_string()),
            prev: rows
                .first()
                .filter(|_| has_prev)
                .map(|row| before(row.id).to_string()),
            rows,
            counts: kept.counts(&query.counts, &filter),
            exact: !kept.left_out,
        })
    }
}

impl PipelineQuery {
    /// Its filters, as they are for a principal.
    pub fn filter(&self, principal: &Principal) -> RowFilter {
        RowFilter {
            query: self.clone(),
            approver: Approver::of(principal),
            may_deploy: Deploy::SCOPES.iter().any(|scope| principal.has_scope(scope)),
        }
    }
}

impl RowFilter {
    /// Lets every row through.
    pub fn everything() -> Self {
        Self {
            query: PipelineQuery::default(),
            approver: Approver::default(),
            may_deploy: false,
        }
    }

    /// Whether a row is one of those that are wanted.
    pub fn lets_through(&self, row: &Summary) -> bool {
        let query = &self.query;
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let any = |wanted: &Option<String>, value: fn(&TargetRow) -> &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| row.targets.iter().any(|target| value(target) == wanted))
        };
        is(&query.application, &row.application)
            && any(&query.target, |target| &target.name)
            && any(&query.account, |target| &target.account)
            && (query.statuses.is_empty() || query.statuses.contains(&row.status))
            && (query.states.is_empty() || query.states.contains(&row.state))
            && is(&query.reason, row.reason.as_deref().unwrap_or_default())
            && (is(&query.actor, &row.actor.id) || is(&query.actor, &row.actor.display))
            && self.needs(row)
            && is(
                &query.source,
                row.source.as_ref().map_or("", |source| &source.product),
            )
            && query.commit.as_deref().is_none_or(|commit| {
                let change = row.change.as_ref().and_then(|change| change.commit.as_deref());
                change.is_some_and(|of| of.starts_with(commit))
            })
            && query.since.is_none_or(|since| row.started_at >= since)
            && query.until.is_none_or(|until| row.started_at < until)
            && query.text.as_deref().is_none_or(|text| mentions(row, text))
    }

    fn needs(&self, row: &Summary) -> bool {
        let mine = |roles: &Vec<String>| {
            let holds = |wanted: &String| {
                let mut held = self.approver.roles.iter();
                held.any(|held| held.eq_ignore_ascii_case(wanted))
            };
            self.may_deploy && (roles.is_empty() || self.approver.full || roles.iter().any(holds))
        };
        match self.query.needs.as_deref() {
            None => true,
            Some("me") => row.needs_roles.iter().any(mine),
            Some("anyone") => row.needs == "approval",
            Some(needs) => row.needs == needs,
        }
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
    /// Rows from a place on in a direction, and whether there are more of them.
    fn page(
        &self,
        place: Option<Place>,
        towards_older: bool,
        limit: usize,
        filter: &RowFilter,
    ) -> (Vec<Arc<Summary>>, bool) {
        let bounds = match place {
            None => (Bound::Unbounded, Bound::Unbounded),
            Some(Place::Older(id)) => (Bound::Unbounded, Bound::Excluded(id)),
            Some(Place::Newer(id)) => (Bound::Excluded(id), Bound::Unbounded),
        };
        let rows = self.rows.range(bounds).map(|(_, row)| row);
        let wanted = |row: &&Arc<Summary>| filter.lets_through(row);
        let mut rows: Vec<Arc<Summary>> = if towards_older {
            rows.rev().filter(wanted).take(limit + 1).cloned().collect()
        } else {
            rows.filter(wanted).take(limit + 1).cloned().collect()
        };
        let more = rows.len() > limit;
        rows.truncate(limit);
        (rows, more)
    }

    fn counts(&self, facets: &[Facet], filter: &RowFilter) -> BTreeMap<Facet, BTreeMap<String, usize>> {
        let mut counts: BTreeMap<Facet, BTreeMap<String, usize>> =
            facets.iter().map(|facet| (*facet, BTreeMap::new())).collect();
        if counts.is_empty() {
            return counts;
        }
        for row in self.rows.values().filter(|row| filter.lets_through(row)) {
            for (facet, values) in &mut counts {
                let mut count = |value: &str| match values.get_mut(value) {
                    Some(count) => *count += 1,
                    None => {
                        values.insert(value.to_owned(), 1);
                    }
                };
                match facet {
                    Facet::Application => count(&row.application),
                    Facet::Needs => count(&row.needs),
                    Facet::Status => count(&status_text(row.status)),
                    Facet::Target => row.targets.iter().for_each(|target| count(&target.name)),
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
