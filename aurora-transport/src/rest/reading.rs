//! Reading what a submit brings: the deploy file, manifests that came along, and what lies at a URL.

use aurora_core::control::Submission;
use aurora_core::deploy_file::{
    MAX_DEPLOY_FILE_BYTES, MAX_SUBMIT_BYTES, ManifestFrom, ManifestSource, Overrides, Parsed, Problem,
    fetch_deploy_file, fetch_manifests, is_url, manifests, parse_linked, parse_submit,
};
use aurora_core::error::ErrorKind;
use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Api;
use super::problem::Refusal;

/// A submit that was read, and its place among those that are in memory: to be kept until it is stored.
pub(super) type Placed<'a> = (Submission, SemaphorePermit<'a>);

/// Reads what the body of a submit holds; `place` is one of those that bound what is in memory at once.
pub(super) async fn submitted<'a>(
    api: &'a Api,
    place: SemaphorePermit<'a>,
    content: Bytes,
    name: &str,
) -> Result<Placed<'a>, Refusal> {
    let (text, owned) = (content.clone(), name.to_owned());
    let parsed = busy(move || {
        let text = std::str::from_utf8(&text).map_err(|_| {
            let problem = Problem::error("encoding", "", "the deploy file is not UTF-8 text");
            vec![problem.at(&owned, 0, 0)]
        })?;
        parse_submit(text, &owned)
    })
    .await?;
    complete(api, place, parsed, name, None, Some(content)).await
}

/// Reads a deploy file that lies elsewhere, and the manifests that lie beside it.
pub(super) async fn linked<'a>(api: &'a Api, url: &str, overrides: Overrides) -> Result<Placed<'a>, Refusal> {
    let Some(http) = &api.inner.http else {
        let problem = Problem::error("notFetched", "", "this server reads no deploy file by link");
        return Err(vec![problem.with_hint("send the file itself")].into());
    };
    let text = {
        let _fetch = fetching(api)?;
        fetch_deploy_file(http, url)
            .await
            .map_err(|problem| vec![problem])?
    };
    let place = permit(&api.inner.submits).await?;
    let name = url.split(['?', '#']).next().unwrap_or_default().to_owned();
    let owned = name.clone();
    let parsed = busy(move || parse_linked(&text, &owned, &overrides)).await?;
    complete(api, place, parsed, &name, Some(url), None).await
}

/// Brings the manifests together; what is stored afterwards needs nothing else to be submitted again.
async fn complete<'a>(
    api: &'a Api,
    place: SemaphorePermit<'a>,
    mut parsed: Parsed,
    name: &str,
    base: Option<&str>,
    content: Option<Bytes>,
) -> Result<Placed<'a>, Refusal> {
    let of_url = |source: &ManifestSource| {
        matches!(&source.from, ManifestFrom::Path(path)
            if (base.is_some() || is_url(path)) && !parsed.files.0.contains_key(path))
    };
    let (mut place, mut fetched) = (place, false);
    if parsed.deploy.manifests.iter().any(of_url) {
        // A slow address holds up nobody: it has a place of its own, or the submit is refused for now.
        let fetch = fetching(api)?;
        drop(place);
        let http = api.inner.http.as_deref();
        fetched = fetch_manifests(http, &parsed.deploy, &mut parsed.files, name, base).await?;
        place = permit(&api.inner.submits).await?;
        drop(fetch);
    }
    let name = name.to_owned();
    let submission = busy(move || {
        // Written out again it has neither the manifests that came along nor what a client spent on them.
        let own = serde_json::to_vec(&parsed.deploy).map_or(0, |own| own.len());
        if own > MAX_DEPLOY_FILE_BYTES {
            let message = format!(
                "the deploy file without its manifests has {own} bytes; at most {MAX_DEPLOY_FILE_BYTES} are read"
            );
            return Err(vec![Problem::error("tooLarge", "", message).at(&name, 0, 0)]);
        }
        let mut of_targets = manifests(&parsed.deploy, &parsed.files, &name);
        if let Err(problems) = &mut of_targets {
            problems.extend(parsed.warnings.iter().cloned());
        }
        let whole = || serde_json::to_vec(&parsed.document.to_json(&parsed.files)).ok().map(Bytes::from);
        let config = match content {
            Some(content) if !fetched => Some(content),
            _ => whole(),
        };
        if let Some(config) = config.as_ref().filter(|config| config.len() > MAX_SUBMIT_BYTES) {
            let message = format!(
                "with the manifests at URLs the submit has {} bytes; at most {MAX_SUBMIT_BYTES} are taken",
                config.len()
            );
            return Err(vec![Problem::error("tooLarge", "", message).at(&name, 0, 0)]);
        }
        let mut submission = Submission::new(parsed.deploy, of_targets?);
        submission.warnings = parsed.warnings;
        submission.source_control = parsed.source_control;
        submission.config = config;
        submission.document = Some(parsed.document);
        Ok(submission)
    })
    .await?;
    Ok((submission, place))
}

/// A place among those that read from URLs; who waited for one would wait with a submit in memory.
fn fetching(api: &Api) -> Result<SemaphorePermit<'_>, Refusal> {
    api.inner.fetches.try_acquire().map_err(|_| {
        let detail = "many submits read from URLs at this moment; try again";
        Refusal::with_status(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    })
}

/// A place among those that do the same.
pub(super) async fn permit(places: &Semaphore) -> Result<SemaphorePermit<'_>, Refusal> {
    let closed = |error| Refusal::broken(ErrorKind::Internal, &error);
    places.acquire().await.map_err(closed)
}

/// Works on a thread that may be busy for long: 16 MiB of YAML take more than a moment.
async fn busy<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Vec<Problem>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Refusal::from),
        Err(error) => Err(Refusal::broken(ErrorKind::Internal, &error)),
    }
}
