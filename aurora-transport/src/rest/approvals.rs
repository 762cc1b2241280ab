//! The inbox: what waits for a person, and what people decided.

use aurora_core::authz::ReadPipelines;
use aurora_core::control::AsOf;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::bodies::ApprovalsAnswer;
use super::problem::Refusal;
use super::reading;
use super::request::{Params, bad_parameter};
use super::wire::Page;

/// The most runs, or decisions, of a page.
pub(super) const MAX_ROWS: usize = 50;

/// `GET /approvals`
pub(super) async fn approvals(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let mine = match params.one("needs")?.as_deref() {
        None | Some("all") => false,
        Some("me") => true,
        Some(_) => return Err(bad_parameter("needs", "is not me or all")),
    };
    let decided = match params.one("state")?.as_deref() {
        None | Some("pending") => false,
        Some("decided") => true,
        Some(_) => return Err(bad_parameter("state", "is not pending or decided")),
    };
    let limit = params.within("limit", 1, MAX_ROWS)?;
    let cursor = params.one("cursor")?;
    params.finish()?;
    let plane = &api.inner.plane;
    let now = api.inner.clock.now();
    let answer = if decided {
        // The cursor first: what is decided meanwhile is told by the stream, and never missed.
        let head = plane.feed_head(&grant).await?;
        let page = plane.decided(&grant, mine, limit, cursor).await?;
        ApprovalsAnswer {
            now,
            as_of: AsOf {
                cursor: head,
                at: now,
            },
            pending: Vec::new(),
            decided: page.decided,
            page: Page {
                next: page.next,
                prev: page.prev,
            },
        }
    } else {
        let _place = reading::permit(&api.inner.plans).await?;
        let page = plane.approvals(&grant, mine, limit, cursor).await?;
        ApprovalsAnswer {
            now,
            as_of: page.as_of,
            pending: page.pending,
            decided: Vec::new(),
            page: Page {
                next: page.next,
                prev: page.prev,
            },
        }
    };
    Ok(json(StatusCode::OK, &answer))
}
