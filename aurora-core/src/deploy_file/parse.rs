//! Reading a deploy file: text to a [`DeployFile`] that passed every check, or all its problems.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::strategy::{Span, Strategy};

use super::steps::{span, strategy};
use super::targets::{known, targets};
use super::tree::{Kind, Node};
use super::walk::{At, Entries, Walk};
use super::{DeployFile, FileText, Files, InProgress, ManifestFrom, ManifestSource, Problem};

/// The largest deploy file that is read, in bytes.
pub const MAX_DEPLOY_FILE_BYTES: usize = 1024 * 1024;

/// The largest submit that is read, in bytes: the deploy file and all manifests that come with it.
pub const MAX_SUBMIT_BYTES: usize = 16 * 1024 * 1024;

const DEFAULT_TIMEOUT: Span = Span::from_secs(30 * 60);
const SHORTEST_TIMEOUT: Span = Span::from_secs(60);

/// A deploy file and what came with it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The file.
    pub deploy: DeployFile,
    /// Manifest texts that came in the same document.
    pub files: Files,
    /// What the client said of the source; kept as it is.
    pub source_control: Option<Value>,
    /// Warnings, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Reads a deploy file from YAML or JSON; `name` stands in the problems.
///
/// # Errors
/// Every problem found, warnings too, in the order of the file.
///
/// ```
/// use aurora_core::deploy_file::parse;
/// let problems = parse("application: web\ntarget: {}\n", "deploy.yaml").unwrap_err();
/// assert!(problems[0].to_string().starts_with("deploy.yaml:1:1: "));
/// assert!(problems.iter().any(|p| p.hint.contains("did you mean `targets`?")));
/// ```
pub fn parse(text: &str, name: &str) -> Result<Parsed, Vec<Problem>> {
    if text.len() > MAX_DEPLOY_FILE_BYTES {
        return Err(too_large(text.len(), MAX_DEPLOY_FILE_BYTES, name));
    }
    parse_within(text, name)
}

/// Reads a submit: a deploy file that may carry its manifests in `files`.
///
/// # Errors
/// As for [`parse`]; the limit is [`MAX_SUBMIT_BYTES`].
pub fn parse_submit(text: &str, name: &str) -> Result<Parsed, Vec<Problem>> {
    if text.len() > MAX_SUBMIT_BYTES {
        return Err(too_large(text.len(), MAX_SUBMIT_BYTES, name));
    }
    parse_within(text, name)
}

fn too_large(bytes: usize, limit: usize, name: &str) -> Vec<Problem> {
    let message = format!("the file has {bytes} bytes; at most {limit} are read");
    vec![
        Problem::error("tooLarge", "", message)
            .with_hint("put manifests into files of their own")
            .at(name, 0, 0),
    ]
}

fn parse_within(text: &str, name: &str) -> Result<Parsed, Vec<Problem>> {
    let documents = Node::documents(text, 16).map_err(|problem| {
        let (line, column) = (problem.line, problem.column);
        vec![problem.at(name, line, column)]
    })?;
    let root = match documents.as_slice() {
        [root] => root,
        [] => {
            return Err(vec![
                Problem::error("empty", "", "the deploy file is empty").at(name, 1, 1),
            ]);
        }
        [_, second, ..] => {
            let message = "a deploy file is one document; another one begins here";
            return Err(vec![Problem::error("documents", "", message).at(
                name,
                second.place.line,
                second.place.column,
            )]);
        }
    };
    let mut walk = Walk::new(name);
    let parsed = document(&mut walk, &At::root(root));
    let problems = walk.into_problems();
    match parsed {
        Some((deploy, files, source_control)) if !problems.iter().any(Problem::is_error) => Ok(Parsed {
            deploy,
            files,
            source_control,
            warnings: problems,
        }),
        _ => Err(problems),
    }
}

fn document(walk: &mut Walk<'_>, root: &At<'_>) -> Option<(DeployFile, Files, Option<Value>)> {
    let mut entries = walk.map(root)?;
    if let Some(version) = entries.take("version")
        && let Some(text) = walk.text(&version)
        && text != "v1"
    {
        let message = format!(
            "`{}` is not a known version of deploy files",
            text.chars().take(40).collect::<String>()
        );
        walk.warn(&version, "unknownVersion", message, "it is read as v1");
    }
    if let Some(kind) = entries.take("kind")
        && let Some(text) = walk.text(&kind)
    {
        match text.as_str() {
            "kubernetes" => {}
            "lambda" => walk.error(
                &kind,
                "unsupported",
                "Aurora does not deploy Lambda functions",
                "",
            ),
            _ => walk.error(
                &kind,
                "unknownValue",
                format!("`{text}` is not a kind of deploy file"),
                "write `kubernetes`",
            ),
        }
    }
    let application = entries.take("application").and_then(|at| {
        let name = walk.name(&at)?;
        check_application(walk, &at, &name);
        Some(name)
    });
    let description = entries
        .take("description")
        .and_then(|at| walk.text(&at))
        .unwrap_or_default();
    let context = context(walk, &mut entries);
    let strategies_at = entries.take("strategies");
    let strategies = strategies_at
        .as_ref()
        .map(|at| strategies(walk, at))
        .unwrap_or_default();
    let targets_at = entries.take("targets");
    let targets = targets_at
        .as_ref()
        .map(|at| targets(walk, at, &strategies))
        .unwrap_or_default();
    let names: BTreeSet<&str> = targets.keys().map(String::as_str).collect();
    let manifests_at = entries.take("manifests");
    let manifests = manifests_at
        .as_ref()
        .map(|at| manifests(walk, at, &names))
        .unwrap_or_default();
    let timeout = entries
        .take("deploymentConfig")
        .and_then(|at| deployment_config(walk, &at));
    let files = entries
        .take("files")
        .map(|at| files(walk, &at))
        .unwrap_or_default();
    let source_control = entries.take("sourceControl").map(|at| at.node.to_json());
    let later = [
        "analysis",
        "webhooks",
        "trafficManagement",
        "targetFilters",
        "artifacts",
        "providerOptions",
    ];
    for key in later {
        if let Some(at) = entries.take(key)
            // Clients of the older product send some of these as null where they are not used.
            && !matches!(at.node.kind, Kind::Null)
        {
            walk.not_yet(&at, &format!("`{key}`"));
        }
    }
    if application.is_none() {
        entries.missing(
            walk,
            "application",
            "the name under which runs of this application are kept apart",
        );
    }
    if targets_at.is_none() {
        entries.missing(
            walk,
            "targets",
            "for example `targets: {staging: {account: my-agent, namespace: web, strategy: canary}}`",
        );
    }
    if manifests_at.is_none() {
        entries.missing(
            walk,
            "manifests",
            "for example `manifests: [{path: manifests/web.yaml}]`",
        );
    }
    entries.finish(walk);
    let deploy = DeployFile {
        application: application?,
        description,
        context,
        targets,
        strategies: strategies
            .into_iter()
            .filter_map(|(name, read)| Some((name, read?)))
            .collect(),
        manifests,
        timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
        in_progress: InProgress::Reject,
        only: None,
    };
    Some((deploy, files, source_control))
}

/// The application's name ends up in object names and labels.
fn check_application(walk: &mut Walk<'_>, at: &At<'_>, name: &str) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b' ');
    let edges = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let good = name.len() <= 63
        && name.bytes().all(fits)
        && edges(name.bytes().next())
        && edges(name.bytes().last());
    if !good {
        let message =
            "an application's name has 1 to 63 letters, digits, dashes, dots, underscores and spaces";
        walk.error(
            at,
            "badName",
            message,
            "it begins and ends with a letter or digit",
        );
    }
}

fn context(walk: &mut Walk<'_>, entries: &mut Entries<'_>) -> BTreeMap<String, String> {
    let at = entries.take("context").or_else(|| {
        let alias = entries.take("contextOverrides")?;
        walk.warn(
            &alias,
            "alias",
            "`contextOverrides` is an old spelling",
            "write `context`",
        );
        Some(alias)
    });
    let Some(at) = at else { return BTreeMap::new() };
    let maps = match &at.node.kind {
        Kind::List(_) => {
            walk.warn(
                &at,
                "alias",
                "`context` as a list is an old form",
                "write it as a map",
            );
            walk.list(&at).unwrap_or_default()
        }
        _ => vec![at],
    };
    let mut context = BTreeMap::new();
    for map in maps {
        let Some(mut entries) = walk.map(&map) else {
            continue;
        };
        for (key, value) in entries.take_all() {
            if let Some(text) = walk.text(&value) {
                context.insert(key.text.clone(), text);
            }
        }
    }
    context
}

fn strategies(walk: &mut Walk<'_>, at: &At<'_>) -> BTreeMap<String, Option<Strategy>> {
    let Some(mut entries) = walk.map(at) else {
        return BTreeMap::new();
    };
    entries
        .take_all()
        .into_iter()
        .map(|(key, value)| (key.text.clone(), strategy(walk, &value)))
        .collect()
}

fn manifests(walk: &mut Walk<'_>, at: &At<'_>, names: &BTreeSet<&str>) -> Vec<ManifestSource> {
    let items = walk.list(at).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| manifest(walk, item, names))
        .collect()
}

fn manifest(walk: &mut Walk<'_>, at: &At<'_>, names: &BTreeSet<&str>) -> Option<ManifestSource> {
    let mut entries = walk.map(at)?;
    let (path, inline, for_targets) = (
        entries.take("path"),
        entries.take("inline"),
        entries.take("targets"),
    );
    entries.finish(walk);
    let targets = for_targets.map(|at| {
        let mut read = Vec::new();
        for item in walk.list(&at).unwrap_or_default() {
            let Some(text) = walk.name(&item) else { continue };
            if known(walk, &item, "target", &text, names.iter().copied()) {
                read.push(text);
            }
        }
        read
    });
    let from = match (path, inline) {
        (Some(path), None) => {
            let text = walk.name(&path)?;
            if text.starts_with("http://") || text.starts_with("https://") {
                walk.not_yet(&path, "a manifest by URL");
                return None;
            }
            ManifestFrom::Path(text)
        }
        (None, Some(inline)) => {
            // Inline manifests may also be written as YAML itself instead of as a text.
            let text = match &inline.node.kind {
                Kind::Map(_) => inline.node.to_json().to_string(),
                _ => walk.name(&inline)?,
            };
            return Some(ManifestSource {
                from: ManifestFrom::Inline(text),
                targets,
                line: inline.node.place.line,
            });
        }
        _ => {
            walk.error(
                at,
                "exclusive",
                "a manifest has exactly one of `path` and `inline`",
                "",
            );
            return None;
        }
    };
    Some(ManifestSource {
        from,
        targets,
        line: at.node.place.line,
    })
}

fn deployment_config(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Span> {
    let mut entries = walk.map(at)?;
    let timeout = entries.take("timeout").and_then(|at| {
        let timeout = span(walk, &at)?;
        if timeout < SHORTEST_TIMEOUT {
            walk.error(
                &at,
                "tooShort",
                format!("the timeout of {timeout} is too short"),
                "at least one minute",
            );
        }
        Some(timeout)
    });
    if let Some(keep) = entries.take("keepDeploymentObject")
        && walk.boolean(&keep) == Some(true)
    {
        walk.not_yet(&keep, "`keepDeploymentObject: true`");
    }
    if let Some(in_progress) = entries.take("ifDeploymentInProgress")
        && let Some(mut parts) = walk.map(&in_progress)
    {
        if let Some(strategy) = parts.take("strategy")
            && let Some(text) = walk.text(&strategy)
        {
            match text.as_str() {
                "reject" => {}
                "enqueueOne" => walk.not_yet(&strategy, "`ifDeploymentInProgress.strategy: enqueueOne`"),
                _ => walk.error(
                    &strategy,
                    "unknownValue",
                    format!("`{text}` is not a strategy for this"),
                    "write `reject`",
                ),
            }
        }
        parts.finish(walk);
    }
    entries.finish(walk);
    timeout
}

fn files(walk: &mut Walk<'_>, at: &At<'_>) -> Files {
    let Some(mut entries) = walk.map(at) else {
        return Files::default();
    };
    let mut files = Files::default();
    for (key, value) in entries.take_all() {
        // So do clients of the older product list an inline manifest.
        if matches!(value.node.kind, Kind::Null) {
            continue;
        }
        let items = walk.list(&value).unwrap_or_default();
        let single = items.len() == 1;
        let texts = items.iter().enumerate().filter_map(|(index, item)| {
            if let Kind::Map(_) = item.node.kind {
                let mut parts = walk.map(item)?;
                let (name, text) = (parts.take("name"), parts.take("text"));
                parts.finish(walk);
                return Some(FileText {
                    name: walk.name(&name?)?,
                    text: walk.text(&text?)?,
                });
            }
            let name = if single {
                key.text.clone()
            } else {
                format!("{}[{index}]", key.text)
            };
            Some(FileText {
                name,
                text: walk.text(item)?,
            })
        });
        let texts = texts.collect();
        files.0.insert(key.text.clone(), texts);
    }
    files
}
