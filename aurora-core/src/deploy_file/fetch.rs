//! Manifests and deploy files that lie at a URL: read through the HTTP port, within limits of size, time and number.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt as _};

use crate::error::ErrorChain;
use crate::port::http::{HttpCall, HttpCaller, HttpError};

use super::{
    DeployFile, FileText, Files, MAX_DEPLOY_FILE_BYTES, MAX_MANIFEST_BYTES, MAX_SUBMIT_BYTES, ManifestFrom,
    Problem,
};

/// The longest that reading all the manifests of one submit may take: less than a request to the API may.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(16);
/// The longest that one answer may take.
const ONE_TIMEOUT: Duration = Duration::from_secs(8);
/// How many redirects one address may have.
const MAX_REDIRECTS: u32 = 3;
/// How many addresses one file may name.
const MAX_URLS: usize = 64;
/// How many are read at once; each holds at most one manifest file in memory.
const AT_ONCE: usize = 4;

/// Whether a manifest's path is a URL, which whoever takes the submit reads.
pub fn is_url(path: &str) -> bool {
    path.starts_with("https://") || path.starts_with("http://")
}

/// Reads the manifests that a deploy file names by URL and that did not come along; tells whether there were any.
///
/// `base` is the URL of the deploy file itself, where it came by link: its relative paths are read from there.
/// Without a caller no URL is read.
///
/// # Errors
/// A problem with the place of the manifest for each that cannot be read: refused by the caller's rules, not there,
/// too large, too late.
///
/// # Cancel safety
/// `files` is as it was; calls may or may not have reached the other side.
pub async fn fetch_manifests(
    http: Option<&dyn HttpCaller>,
    deploy: &DeployFile,
    files: &mut Files,
    name: &str,
    base: Option<&str>,
) -> Result<bool, Vec<Problem>> {
    let mut wanted: Vec<(usize, &str, String)> = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, source) in deploy.manifests.iter().enumerate() {
        let ManifestFrom::Path(path) = &source.from else {
            continue;
        };
        if files.0.contains_key(path) || !seen.insert(path) {
            continue;
        }
        match base {
            _ if is_url(path) => wanted.push((index, path, path.clone())),
            Some(base) => wanted.push((index, path, join(base, path))),
            None => {}
        }
    }
    if wanted.is_empty() {
        return Ok(false);
    }
    let place = |index: usize, problem: Problem| {
        let line = deploy.manifests.get(index).map_or(0, |source| source.line);
        let pointer = format!("/manifests/{index}/path");
        Problem { pointer, ..problem }.at(name, line, 1)
    };
    let Some(http) = http else {
        let refused = wanted.iter().map(|(index, path, _)| {
            let message = format!("`{}` is a URL, and this server reads none", shown(path));
            let hint = "name a file beside the deploy file; clients send it along";
            place(*index, Problem::error("notFetched", "", message).with_hint(hint))
        });
        return Err(refused.collect());
    };
    if let Some((index, ..)) = wanted.get(MAX_URLS) {
        let message = format!("the file names more than {MAX_URLS} URLs");
        return Err(vec![place(*index, Problem::error("tooMany", "", message))]);
    }
    let mut room = MAX_SUBMIT_BYTES;
    let mut found: Vec<(&str, FileText)> = Vec::new();
    let mut problems = Vec::new();
    let reading = async {
        let mut calls: Vec<BoxFuture<'_, _>> = Vec::new();
        for (index, path, url) in &wanted {
            let call = async move { (*index, *path, url, get(http, url, MAX_MANIFEST_BYTES).await) };
            calls.push(call.boxed());
        }
        let mut answers = futures::stream::iter(calls).buffered(AT_ONCE);
        while let Some((index, path, url, answer)) = answers.next().await {
            match answer {
                Ok(text) if text.len() <= room => {
                    room -= text.len();
                    let name = shown(url).to_owned();
                    found.push((path, FileText { name, text }));
                }
                Ok(_) => {
                    let message = format!("the manifests have more than {MAX_SUBMIT_BYTES} bytes");
                    problems.push(place(index, Problem::error("tooLarge", "", message)));
                    break;
                }
                Err(problem) => problems.push(place(index, problem)),
            }
        }
    };
    if tokio::time::timeout(FETCH_TIMEOUT, reading).await.is_err() {
        let waiting = wanted
            .iter()
            .find(|(_, path, _)| !found.iter().any(|(read, _)| read == path));
        let message = format!(
            "the manifests could not be read within {} s",
            FETCH_TIMEOUT.as_secs()
        );
        let problem = Problem::error("notFetched", "", message).with_hint("try again, or send them along");
        problems.push(place(waiting.map_or(0, |(index, ..)| *index), problem));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    for (path, text) in found {
        files.0.insert(path.to_owned(), vec![text]);
    }
    Ok(true)
}

/// Reads a deploy file that lies at a URL.
///
/// # Errors
/// A problem that says why it cannot be read.
///
/// # Cancel safety
/// The call may or may not have reached the other side.
pub async fn fetch_deploy_file(http: &dyn HttpCaller, url: &str) -> Result<String, Problem> {
    get(http, url, MAX_DEPLOY_FILE_BYTES)
        .await
        .map_err(|problem| problem.at(shown(url), 0, 0))
}

async fn get(http: &dyn HttpCaller, url: &str, limit: usize) -> Result<String, Problem> {
    let url_shown = shown(url);
    let failed = |message: String, hint: &str| Problem::error("notFetched", "", message).with_hint(hint);
    let call = HttpCall {
        timeout: ONE_TIMEOUT,
        max_answer: limit,
        max_redirects: MAX_REDIRECTS,
        ..HttpCall::fetch(url)
    };
    let answer = http.call(call).await.map_err(|error| match &error {
        HttpError::TooLarge { limit } => Problem::error(
            "tooLarge",
            "",
            format!("`{url_shown}` has more than {limit} bytes"),
        ),
        HttpError::Forbidden { .. } => failed(
            format!("`{url_shown}` cannot be read: {}", ErrorChain(&error)),
            "the server's rules say which networks it may reach; private ones only where they are allowed",
        ),
        _ => failed(
            format!("`{url_shown}` cannot be read: {}", ErrorChain(&error)),
            "",
        ),
    })?;
    match answer.status {
        200 => {}
        300..=399 => {
            let message = format!("`{url_shown}` is moved on more than {MAX_REDIRECTS} times, or to nowhere");
            return Err(failed(message, "name the address where it ends"));
        }
        status => {
            let message = format!("`{url_shown}` cannot be read: the answer has the status {status}");
            return Err(failed(
                message,
                "the server reads it as it is, without credentials",
            ));
        }
    }
    String::from_utf8(answer.body.into())
        .map_err(|_| Problem::error("encoding", "", format!("`{url_shown}` is not UTF-8 text")))
}

/// A URL without its query, which may hold what is not for everyone to see.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// A path relative to the file at a URL.
fn join(base: &str, path: &str) -> String {
    let base = shown(base);
    let authority = base.find("://").map_or(0, |scheme| scheme + 3);
    let host_end = base[authority..]
        .find('/')
        .map_or(base.len(), |slash| authority + slash);
    let (origin, folder) = base.split_at(host_end);
    let folder = if path.starts_with('/') {
        ""
    } else {
        folder.rsplit_once('/').map_or("", |(folder, _)| folder)
    };
    let mut steps: Vec<&str> = Vec::new();
    for step in folder.split('/').chain(path.split('/')) {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    format!("{origin}/{}", steps.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy_file::{parse, parse_linked};
    use crate::port::http::memory::{Reply, ScriptedHttp};

    const FILE: &str = "application: x\ntargets: {t: {account: a, strategy: s}}\nstrategies: {s: {rolling: {}}}\nmanifests:\n- path: https://files.example/web.yaml?token=hunter2\n- path: m/config.yaml\n";
    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";

    fn deploy() -> DeployFile {
        parse(FILE, "deploy.yaml").unwrap().deploy
    }

    async fn fetched(http: &ScriptedHttp, base: Option<&str>) -> Result<Files, Vec<Problem>> {
        let mut files = Files::default();
        fetch_manifests(Some(http), &deploy(), &mut files, "deploy.yaml", base).await?;
        Ok(files)
    }

    #[tokio::test(start_paused = true)]
    async fn a_manifest_is_read_from_its_url_and_shown_without_its_query() {
        let http = ScriptedHttp::new();
        http.on(
            "https://files.example/web.yaml?token=hunter2",
            Reply::status(200, SERVICE),
        );
        let files = fetched(&http, None).await.unwrap();
        let text = &files.0["https://files.example/web.yaml?token=hunter2"][0];
        assert_eq!(
            (text.name.as_str(), text.text.as_str()),
            ("https://files.example/web.yaml", SERVICE)
        );
        // What came along is not read again.
        let mut files = files;
        let again = fetch_manifests(None, &deploy(), &mut files, "deploy.yaml", None).await;
        assert_eq!(again, Ok(false));
        assert_eq!(http.calls().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn every_failure_is_told_at_the_manifests_place() {
        let url = "https://files.example/web.yaml?token=hunter2";
        let endless = Reply::redirect(302, url);
        let table = [
            (Reply::status(404, "no"), "status 404"),
            (Reply::Unreachable, "cannot be reached"),
            (Reply::Silence, "no answer within 8s"),
            (
                Reply::status(200, vec![b'a'; MAX_MANIFEST_BYTES + 1]),
                "more than 4194304 bytes",
            ),
            (Reply::status(200, vec![0xff, 0xfe]), "not UTF-8"),
            (endless, "moved on"),
        ];
        for (reply, words) in table {
            let http = ScriptedHttp::new();
            http.on(url, reply);
            let problems = fetched(&http, None).await.unwrap_err();
            let told = problems[0].to_string();
            assert!(
                told.starts_with("deploy.yaml:5:1: ") && told.contains(words),
                "{words}: {told}"
            );
            assert!(!told.contains("hunter2"), "{told}");
            assert_eq!(problems[0].pointer, "/manifests/0/path");
        }
        let http = ScriptedHttp::new();
        http.forbid("files.example");
        let told = fetched(&http, None).await.unwrap_err()[0].to_string();
        assert!(told.contains("not allowed") && told.contains("private"), "{told}");
        let refused = fetch_manifests(None, &deploy(), &mut Files::default(), "deploy.yaml", None).await;
        assert!(refused.unwrap_err()[0].message.contains("this server reads none"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_end_within_the_time_limit() {
        let paths: String = (0..20)
            .map(|i| format!("- path: https://slow.example/{i}\n"))
            .collect();
        let file = FILE.split("- path").next().unwrap().to_owned() + &paths;
        let deploy = parse(&file, "deploy.yaml").unwrap().deploy;
        let http = ScriptedHttp::new();
        for i in 0..20 {
            http.on(format!("https://slow.example/{i}"), Reply::Silence);
        }
        let started = tokio::time::Instant::now();
        let problems =
            fetch_manifests(Some(&http), &deploy, &mut Files::default(), "deploy.yaml", None).await;
        assert_eq!(started.elapsed(), FETCH_TIMEOUT);
        let problems = problems.unwrap_err();
        assert!(
            problems
                .iter()
                .any(|problem| problem.message.contains("within 16 s")),
            "{problems:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_by_link_has_its_paths_beside_it() {
        let http = ScriptedHttp::new();
        http.on(
            "https://files.example/web.yaml?token=hunter2",
            Reply::status(200, SERVICE),
        );
        http.on(
            "https://git.example/shop/m/config.yaml",
            Reply::status(200, SERVICE),
        );
        let files = fetched(&http, Some("https://git.example/shop/deploy.yaml?ref=main"))
            .await
            .unwrap();
        assert_eq!(files.0.len(), 2);
        let overrides = crate::deploy_file::Overrides {
            account: Some("other".into()),
            only: Some(vec!["t".into()]),
        };
        let file = parse_linked(&FILE.replace("account: a, ", ""), "deploy.yaml", &overrides)
            .unwrap()
            .deploy;
        assert_eq!(file.targets["t"].account.as_str(), "other");
        assert!(file.runs("t") && !file.runs("u"));
        let unknown = crate::deploy_file::Overrides {
            account: None,
            only: Some(vec!["u".into()]),
        };
        let problems = parse_linked(FILE, "deploy.yaml", &unknown).unwrap_err();
        assert_eq!(problems[0].code, "unknownName");
    }

    #[test]
    fn paths_are_joined_within_the_host() {
        for (base, path, url) in [
            (
                "https://a.example/x/deploy.yaml",
                "m/web.yaml",
                "https://a.example/x/m/web.yaml",
            ),
            (
                "https://a.example/x/deploy.yaml",
                "../web.yaml",
                "https://a.example/web.yaml",
            ),
            (
                "https://a.example/x/deploy.yaml",
                "../../../../web.yaml",
                "https://a.example/web.yaml",
            ),
            (
                "https://a.example/x/deploy.yaml?a=/b",
                "/web.yaml",
                "https://a.example/web.yaml",
            ),
            ("https://a.example", "./web.yaml", "https://a.example/web.yaml"),
        ] {
            assert_eq!(join(base, path), url);
        }
    }
}
