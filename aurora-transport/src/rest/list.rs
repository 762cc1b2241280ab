//! Lists of pipelines, and their filters, which event streams take too.

use aurora_core::authz::ReadPipelines;
use aurora_core::control::{Facet, Order, PipelineQuery};
use aurora_core::pipeline::{ArmoryStatus, State as PipelineState};
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Api;
use super::answer::json;
use super::authenticate::Granted;
use super::problem::Refusal;
use super::request::{Params, bad_parameter};
use super::wire::{ListAnswer, Page};

/// The most rows of a page.
pub(super) const MAX_ROWS: usize = 200;
/// Parameters of the list that are planned and not there yet.
const LATER: [&str; 1] = ["fields"];

/// `GET /pipelines`
pub(super) async fn list(
    State(api): State<Api>,
    Granted(grant): Granted<ReadPipelines>,
    mut params: Params,
) -> Result<Response, Refusal> {
    let mut query = filters(&mut params)?;
    query.limit = params.within("limit", 1, MAX_ROWS)?;
    query.page = params.one("cursor")?;
    query.counts = words::<Facet>(&mut params, "counts")?;
    query.order = match params.one("sort")?.as_deref() {
        None | Some("-startedAt") => Order::NewestFirst,
        Some("startedAt") => Order::OldestFirst,
        Some(_) => return Err(bad_parameter("sort", "is not startedAt or -startedAt")),
    };
    params.not_yet(&LATER)?;
    params.finish()?;
    let page = api.inner.plane.list(&grant, &query).await?;
    let answer = ListAnswer {
        now: api.inner.clock.now(),
        as_of: page.as_of,
        rows: page.rows,
        page: Page {
            next: page.next,
            prev: page.prev,
        },
        counts: page.counts,
        exact: page.exact,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// The filters of a list, a live list and counts.
pub(super) fn filters(params: &mut Params) -> Result<PipelineQuery, Refusal> {
    const TIME: &str = "a time as in 2026-11-24T08:00:00Z";
    Ok(PipelineQuery {
        application: params.one("application")?,
        target: params.one("target")?,
        account: params.one("account")?,
        statuses: words::<ArmoryStatus>(params, "status")?,
        states: words::<PipelineState>(params, "state")?,
        reason: params.one("reason")?,
        actor: params.one("actor")?,
        needs: needs(params)?,
        source: params.one("source")?,
        commit: params.one("commit")?,
        since: params.parsed("since", TIME)?,
        until: params.parsed("until", TIME)?,
        text: params.one("q")?,
        ..PipelineQuery::default()
    })
}

fn needs(params: &mut Params) -> Result<Option<String>, Refusal> {
    match params.one("needs")?.as_deref() {
        None => Ok(None),
        Some(needs @ ("approval" | "anyone" | "me" | "none")) => Ok(Some(needs.to_owned())),
        Some(_) => Err(bad_parameter("needs", "is not me, anyone, approval or none")),
    }
}

/// Values of an enum as they are written in bodies.
pub(super) fn words<T: DeserializeOwned>(params: &mut Params, name: &'static str) -> Result<Vec<T>, Refusal> {
    params
        .many(name)?
        .into_iter()
        .map(|word| {
            let word: String = word.chars().take(64).collect();
            serde_json::from_value(Value::String(word.clone()))
                .map_err(|error| bad_parameter(name, &format!("holds `{word}`: {error}")))
        })
        .collect()
}
