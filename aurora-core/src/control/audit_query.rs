//! Reading the audit log: the newest first, filtered, in pages.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::feed::InvalidCursor;
use super::{ControlError, ControlPlane, audit};
use crate::authz::{Grant, ReadAudit};
use crate::pipeline::Subject;
use crate::port::store::{Record, Scan, Scope};
use crate::principal::Actor;

/// Lines read at once.
const PAGE: usize = 500;

/// Lines looked at for one answer: a rare filter over a long log is answered in parts.
const LOOKED_AT: usize = 10_000;

/// The most lines of one answer.
const MAX_LIMIT: usize = 200;

/// Lines of an answer where nothing is said.
const DEFAULT_LIMIT: usize = 50;

/// Which lines of the audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// By somebody whose id or name is this.
    pub actor: Option<String>,
    /// Any of these actions; empty: all.
    pub actions: Vec<String>,
    /// About this object: `pipeline/ID`.
    pub object: Option<String>,
    /// `done`, `denied` (by a missing right) or `refused` (by the state of things).
    pub result: Option<String>,
    /// At or after.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// At most so many: 50 unless said, 200 at most.
    pub limit: Option<usize>,
    /// The page to show, from an earlier answer.
    pub page: Option<String>,
}

/// One line of the audit log.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What they did, or wanted.
    pub action: String,
    /// What it is about: `pipeline/ID`.
    pub object: String,
    /// `done`, `denied` (by a missing right) or `refused` (by the state of things).
    pub result: String,
    /// Which part of it.
    #[serde(default)]
    pub subject: Subject,
    /// The version of the event that recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// In words.
    pub text: String,
}

/// One page of the audit log, the newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditPage {
    /// The lines.
    pub entries: Vec<AuditEntry>,
    /// The page of older ones; there may be none of them.
    pub next: Option<String>,
    /// The page of newer ones.
    pub prev: Option<String>,
}

/// A place in the log: lines older than one, or newer. Ids are of digits, slashes and UUIDs.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Newer(String),
    Older(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (way, id) = match self {
            Self::Newer(id) => ("n", id),
            Self::Older(id) => ("o", id),
        };
        write!(f, "a1.{way}.{}", id.replace('/', "_"))
    }
}

impl FromStr for Place {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let id = |id: &str| {
            let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
            let digits = id.bytes().take_while(u8::is_ascii_digit).count();
            let rest = id.get(20..).unwrap_or_default();
            let ours = digits == 20
                && (rest.is_empty() || rest.starts_with('_'))
                && rest.len() <= 101
                && rest.chars().all(known);
            ours.then(|| id.replace('_', "/")).ok_or(InvalidCursor)
        };
        match (text.strip_prefix("a1.n."), text.strip_prefix("a1.o.")) {
            (Some(newer), _) => Ok(Self::Newer(id(newer)?)),
            (_, Some(older)) => Ok(Self::Older(id(older)?)),
            _ => Err(InvalidCursor),
        }
    }
}

impl ControlPlane {
    /// Lines of the tenant's audit log, the newest first.
    ///
    /// # Errors
    /// [`ControlError`]; `Invalid` for a page that is none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn audit(
        &self,
        grant: &Grant<ReadAudit>,
        query: &AuditQuery,
    ) -> Result<AuditPage, ControlError> {
        self.audit_lines(&Scope::from(grant.tenant()), query).await
    }

    /// The same for those who may see only part of it, which `query` must say.
    pub(super) async fn audit_lines(
        &self,
        scope: &Scope,
        query: &AuditQuery,
    ) -> Result<AuditPage, ControlError> {
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
        let reverse = !matches!(place, Some(Place::Newer(_)));
        let mut scan = Scan {
            kind: audit::KIND.to_owned(),
            prefix: String::new(),
            after: match &place {
                Some(Place::Newer(id) | Place::Older(id)) => Some(id.clone()),
                // Ids begin with the time.
                None => query.until.map(audit::time_id),
            },
            reverse,
            limit: PAGE,
        };
        let (mut found, mut looked_at, mut more) = (Vec::new(), 0, false);
        'reading: loop {
            let page = self.inner.store.scan(scope, scan.clone()).await?;
            let full = page.len() == PAGE;
            for record in page {
                scan.after = Some(record.key.id.clone());
                looked_at += 1;
                match query.look(&record) {
                    Look::Past => break 'reading,
                    Look::No => {}
                    Look::Yes(entry) => {
                        if found.len() == limit {
                            more = true;
                            break 'reading;
                        }
                        found.push((record.key.id, *entry));
                    }
                }
            }
            if !full {
                break;
            }
            if looked_at >= LOOKED_AT {
                more = true;
                break;
            }
        }
        let reached = scan.after.filter(|_| more && found.len() < limit);
        if !reverse {
            found.reverse();
        }
        let (first, last) = (found.first(), found.last());
        let first = first.map(|(id, _)| id.clone());
        let last = last.map(|(id, _)| id.clone());
        let (next, prev) = if reverse {
            (
                reached.or(last).filter(|_| more),
                first.filter(|_| place.is_some()),
            )
        } else {
            (last, reached.or(first).filter(|_| more))
        };
        Ok(AuditPage {
            entries: found.into_iter().map(|(_, entry)| entry).collect(),
            next: next.map(|id| Place::Older(id).to_string()),
            prev: prev.map(|id| Place::Newer(id).to_string()),
        })
    }
}

enum Look {
    /// Nothing that is wanted comes after it.
    Past,
    No,
    Yes(Box<AuditEntry>),
}

impl AuditQuery {
    fn look(&self, record: &Record) -> Look {
        // A line of a newer program that this one cannot read is left out.
        let Ok(entry) = serde_json::from_slice::<AuditEntry>(&record.value) else {
            return Look::No;
        };
        if self.since.is_some_and(|since| entry.at < since) {
            return match &self.page {
                Some(page) if page.starts_with("a1.n.") => Look::No,
                _ => Look::Past,
            };
        }
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let wanted = self.until.is_none_or(|until| entry.at < until)
            && (is(&self.actor, &entry.actor.id) || is(&self.actor, &entry.actor.display))
            && (self.actions.is_empty() || self.actions.contains(&entry.action))
            && is(&self.object, &entry.object)
            && is(&self.result, &entry.result);
        if wanted {
            Look::Yes(Box::new(entry))
        } else {
            Look::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_nothing_else_is_one() {
        let id = "00001795478400000000/01900000-0000-7000-8000-000000000000/denied-00ff";
        for place in [Place::Newer(id.to_owned()), Place::Older(id.to_owned())] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in [
            "",
            "a1.o.",
            "a1.o.5",
            "a1.x.00001795478400000000_a",
            "a1.o.0000179547840000000A_a",
        ] {
            assert_eq!(text.parse::<Place>(), Err(InvalidCursor), "{text}");
        }
    }
}
