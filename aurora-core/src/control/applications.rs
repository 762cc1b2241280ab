//! What runs where: each application's cells, which are its places on accounts.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::diff::images;
use super::feed::{Cursor, InvalidCursor};
use super::queries::AsOf;
use super::{ControlError, ControlPlane, journal};
use crate::authz::{Grant, ReadPipelines};
use crate::digest::Digest;
use crate::id::PipelineId;
use crate::manifest::ObjectRef;
use crate::pipeline::{ArmoryStatus, LastGood, Summary};
use crate::port::store::limits::MAX_NAME_BYTES;
use crate::port::store::{Scan, Scope};

/// Records read at once.
const PAGE: usize = 500;

/// The most applications of one page.
const MAX_LIMIT: usize = 200;

/// Applications of a page where nothing is said.
const DEFAULT_LIMIT: usize = 50;

/// One application and where it runs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApplicationView {
    /// Its name.
    pub application: String,
    /// Where it goes, or went.
    pub cells: Vec<CellView>,
    /// The run that holds it: no other begins meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<PipelineId>,
    /// Runs that wait for it, in order.
    pub queue: Vec<PipelineId>,
}

/// One place of an application.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CellView {
    /// The account.
    pub account: String,
    /// The namespace.
    pub namespace: String,
    /// What the last run called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The last run that goes there; absent where it is longer ago than lists reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CellRun>,
    /// The last run that succeeded there, to which a rollback goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGoodRun>,
    /// What its last good plan runs; only where one application is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<RunningImage>,
}

/// A run at one place.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CellRun {
    /// The run.
    pub run: PipelineId,
    /// Where it stands there, in Armory's words.
    pub status: ArmoryStatus,
    /// When it was submitted.
    pub since: Timestamp,
    /// Steps behind.
    pub step: usize,
    /// Steps in all.
    pub total: usize,
}

/// A run that succeeded at one place.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LastGoodRun {
    /// The run.
    pub run: PipelineId,
    /// Its plan there.
    pub digest: Digest,
    /// When the run ended, where lists reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// An image of a container of an object.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunningImage {
    /// The object.
    pub object: ObjectRef,
    /// The container.
    pub container: String,
    /// The image.
    pub image: String,
}

/// A page of applications, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplicationPage {
    /// As of when.
    pub as_of: AsOf,
    /// The applications.
    pub applications: Vec<ApplicationView>,
    /// The page after it.
    pub next: Option<String>,
    /// The page before it.
    pub prev: Option<String>,
}

type Cells = BTreeMap<(String, String), CellView>;

impl ControlPlane {
    /// A page of the tenant's applications, by name.
    ///
    /// # Errors
    /// [`ControlError`]; `Invalid` for a page that is none.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn applications(
        &self,
        grant: &Grant<ReadPipelines>,
        limit: Option<usize>,
        page: Option<&str>,
    ) -> Result<ApplicationPage, ControlError> {
        let invalid = |error: InvalidCursor| ControlError::Invalid {
            problem: error.to_string(),
        };
        let place = page.map(read_place).transpose().map_err(invalid)?;
        let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        let (as_of, all) = self.all_applications(grant, None).await?;
        let all: Vec<ApplicationView> = all.into_values().collect();
        let from = match &place {
            None => 0,
            Some((true, name)) => all.partition_point(|of| of.application <= *name),
            Some((false, name)) => {
                let end = all.partition_point(|of| of.application < *name);
                end.saturating_sub(limit)
            }
        };
        let to = match &place {
            Some((false, name)) => all.partition_point(|of| of.application < *name),
            _ => (from + limit).min(all.len()),
        };
        let has_next = to < all.len();
        let applications: Vec<ApplicationView> =
            all.into_iter().skip(from).take(to.saturating_sub(from)).collect();
        let name = |of: Option<&ApplicationView>| of.map(|of| of.application.clone());
        let (first, last) = (name(applications.first()), name(applications.last()));
        Ok(ApplicationPage {
            as_of,
            next: last.filter(|_| has_next).map(|name| write_place(true, &name)),
            prev: first.filter(|_| from > 0).map(|name| write_place(false, &name)),
            applications,
        })
    }

    /// One application, with the images that it runs.
    ///
    /// # Errors
    /// [`ControlError`]; `NotFound` where nothing of that name was ever submitted.
    ///
    /// # Cancel safety
    /// Reading leaves nothing behind.
    pub async fn application(
        &self,
        grant: &Grant<ReadPipelines>,
        name: &str,
    ) -> Result<(AsOf, ApplicationView), ControlError> {
        let unknown = || {
            let name: String = name.chars().take(64).collect();
            ControlError::NotFound {
                what: format!("application `{name}`"),
            }
        };
        // What no store takes as a name was never stored.
        if name.is_empty() || name.len() >= MAX_NAME_BYTES {
            return Err(unknown());
        }
        let (as_of, mut all) = self.all_applications(grant, Some(name)).await?;
        let mut view = all.remove(name).ok_or_else(unknown)?;
        let scope = Scope::from(grant.tenant());
        for cell in &mut view.cells {
            let Some(good) = &cell.last_good else {
                continue;
            };
            let plan = self.stored_plan(&scope, good.digest).await?;
            for planned in &plan.objects {
                for (container, image) in images(Some(&planned.body)) {
                    cell.images.push(RunningImage {
                        object: planned.object(),
                        container,
                        image,
                    });
                }
            }
        }
        Ok((as_of, view))
    }

    /// The last plan that succeeded at a place.
    pub(super) async fn last_good(
        &self,
        scope: &Scope,
        application: &str,
        account: &str,
        namespace: &str,
    ) -> Result<Option<LastGood>, ControlError> {
        let store = self.inner.store.as_ref();
        Ok(journal::read_last_good(store, scope, application, account, namespace).await?)
    }

    async fn all_applications(
        &self,
        grant: &Grant<ReadPipelines>,
        only: Option<&str>,
    ) -> Result<(AsOf, BTreeMap<String, ApplicationView>), ControlError> {
        let scope = Scope::from(grant.tenant());
        let good = self.last_good_runs(&scope, only).await?;
        let locks = self.locks(&scope, only).await?;
        let kept = self.inner.summaries.of(grant.tenant());
        let mut kept = kept.lock().await;
        kept.refresh(&self.inner, &scope).await?;
        let mut cells: BTreeMap<String, Cells> = BTreeMap::new();
        let mut queues: BTreeMap<String, Vec<PipelineId>> = BTreeMap::new();
        // The newest first: the first run seen at a place is its last.
        for row in kept.rows.values().rev() {
            if only.is_some_and(|only| only != row.application) {
                continue;
            }
            let of = cells.entry(row.application.clone()).or_default();
            note_row(of, row);
            if row.blocked_by.is_some() {
                queues.entry(row.application.clone()).or_default().push(row.id);
            }
        }
        for (application, account, namespace, mut run) in good {
            run.since = kept.rows.get(&run.run).and_then(|row| row.ended_at);
            let of = cells.entry(application).or_default();
            let cell = of
                .entry((account.clone(), namespace.clone()))
                .or_insert_with(|| empty_cell(account, namespace));
            cell.last_good = Some(run);
        }
        let as_of = AsOf {
            cursor: Cursor::at(kept.feed),
            at: self.inner.clock.now(),
        };
        let views = cells.into_iter().map(|(application, cells)| {
            let mut queue = queues.remove(&application).unwrap_or_default();
            queue.reverse();
            let view = ApplicationView {
                lock: locks.get(&application).copied(),
                cells: cells.into_values().collect(),
                queue,
                application: application.clone(),
            };
            (application, view)
        });
        Ok((as_of, views.collect()))
    }

    async fn last_good_runs(
        &self,
        scope: &Scope,
        only: Option<&str>,
    ) -> Result<Vec<(String, String, String, LastGoodRun)>, ControlError> {
        let prefix = only.map(|only| format!("{only}/")).unwrap_or_default();
        let mut runs = Vec::new();
        for (id, value) in self.all_records(scope, journal::LAST_GOOD, prefix).await? {
            // Neither an account nor a namespace has a slash; an application might.
            let mut parts = id.rsplitn(3, '/');
            let (Some(namespace), Some(account), Some(application)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if only.is_some_and(|only| only != application) {
                continue;
            }
            if let Some((run, digest)) = journal::last_good_of(&value) {
                runs.push((
                    application.to_owned(),
                    account.to_owned(),
                    namespace.to_owned(),
                    LastGoodRun {
                        run,
                        digest,
                        since: None,
                    },
                ));
            }
        }
        Ok(runs)
    }

    async fn locks(
        &self,
        scope: &Scope,
        only: Option<&str>,
    ) -> Result<BTreeMap<String, PipelineId>, ControlError> {
        let prefix = only.unwrap_or_default().to_owned();
        let records = self.all_records(scope, journal::LOCK, prefix).await?;
        let held = records.into_iter().filter_map(|(application, value)| {
            let lock: journal::Lock = serde_json::from_slice(&value).ok()?;
            Some((application, lock.pipeline))
        });
        Ok(held.collect())
    }

    async fn all_records(
        &self,
        scope: &Scope,
        kind: &str,
        prefix: String,
    ) -> Result<Vec<(String, bytes::Bytes)>, ControlError> {
        let mut scan = Scan {
            kind: kind.to_owned(),
            prefix,
            after: None,
            reverse: false,
            limit: PAGE,
        };
        let mut all = Vec::new();
        loop {
            let page = self.inner.store.scan(scope, scan.clone()).await?;
            let full = page.len() == PAGE;
            scan.after = page.last().map(|record| record.key.id.clone());
            all.extend(page.into_iter().map(|record| (record.key.id, record.value)));
            if !full {
                return Ok(all);
            }
        }
    }
}

fn note_row(cells: &mut Cells, row: &Arc<Summary>) {
    for target in &row.targets {
        let (account, namespace) = (target.account.clone(), target.namespace.clone());
        let cell = cells
            .entry((account.clone(), namespace.clone()))
            .or_insert_with(|| empty_cell(account, namespace));
        if cell.current.is_none() {
            cell.target = Some(target.name.clone());
            cell.current = Some(CellRun {
                run: row.id,
                status: target.status,
                since: row.started_at,
                step: target.step,
                total: target.total,
            });
        }
    }
}

const fn empty_cell(account: String, namespace: String) -> CellView {
    CellView {
        account,
        namespace,
        target: None,
        current: None,
        last_good: None,
        images: Vec::new(),
    }
}

/// A place in the list: after a name, or before it; the name in hexadecimal digits.
fn write_place(after: bool, name: &str) -> String {
    let mut text = if after { "n1.a." } else { "n1.b." }.to_owned();
    for byte in name.bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn read_place(text: &str) -> Result<(bool, String), InvalidCursor> {
    let (after, digits) = match (text.strip_prefix("n1.a."), text.strip_prefix("n1.b.")) {
        (Some(digits), _) => (true, digits),
        (_, Some(digits)) => (false, digits),
        _ => return Err(InvalidCursor),
    };
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() % 2 != 0 || !digits.bytes().all(|byte| digit(&byte)) {
        return Err(InvalidCursor);
    }
    let bytes: Result<Vec<u8>, _> = (0..digits.len() / 2)
        .map(|index| u8::from_str_radix(&digits[2 * index..2 * index + 2], 16))
        .collect();
    // Only a place: names that sort about there will do.
    let name = String::from_utf8_lossy(&bytes.map_err(|_| InvalidCursor)?).into_owned();
    Ok((after, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_whatever_the_name() {
        for name in ["", "shop", "a/b", "läden"] {
            for after in [true, false] {
                assert_eq!(
                    read_place(&write_place(after, name)),
                    Ok((after, name.to_owned()))
                );
            }
        }
        for text in ["", "n1.", "n1.a.0", "n1.a.+0", "n1.a.0G"] {
            assert_eq!(read_place(text), Err(InvalidCursor), "{text}");
        }
    }
}
