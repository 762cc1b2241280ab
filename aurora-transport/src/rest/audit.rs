//! Who did what, and who was not let.

use aurora_core::authz::ReadAudit;
use aurora_core::control::AuditQuery;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::bodies::AuditAnswer;
use super::problem::Refusal;
use super::request::{Params, bad_parameter};
use super::wire::{Page, ReadAt};

/// The most lines of a page.
pub(super) const MAX_ROWS: usize = 200;

/// `GET /audit`
pub(super) async fn audit(
    State(api): State<Api>,
    Granted(grant): Granted<ReadAudit>,
    mut params: Params,
) -> Result<Response, Refusal> {
    const TIME: &str = "a time as in 2026-11-24T08:00:00Z";
    let query = AuditQuery {
        actor: params.one("actor")?,
        actions: params.many("action")?,
        object: params.one("object")?,
        result: match params.one("result")? {
            Some(result) if !matches!(result.as_str(), "denied" | "done" | "refused") => {
                return Err(bad_parameter("result", "is not denied, done or refused"));
            }
            result => result,
        },
        since: params.parsed("since", TIME)?,
        until: params.parsed("until", TIME)?,
        limit: params.within("limit", 1, MAX_ROWS)?,
        page: params.one("cursor")?,
    };
    params.finish()?;
    let page = api.inner.plane.audit(&grant, &query).await?;
    let now = api.inner.clock.now();
    let answer = AuditAnswer {
        now,
        as_of: ReadAt { at: now },
        entries: page.entries,
        page: Page {
            next: page.next,
            prev: page.prev,
        },
    };
    Ok(json(StatusCode::OK, &answer))
}
