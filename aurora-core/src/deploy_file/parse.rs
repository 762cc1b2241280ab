//! Reading a deploy file: text to a [`DeployFile`] that passed every check, or all its problems.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::strategy::{ServicePair, Span};

use super::analysis::{Query, analysis};
use super::document::{Document, Overrides};
use super::later::{Later, LaterStep};
use super::schema::{ANALYSIS, MANIFEST, QUERY, ROOT, Shape, WEBHOOK};
use super::steps::{ReadStrategy, Steps, span};
use super::targets::targets;
use super::traffic::{Traffic, traffic};
use super::tree::{Kind, Node};
use super::variables::{self, Stand};
use super::walk::{At, Walk};
use super::webhooks::{context, webhooks};
use super::{DeployFile, FileText, Files, InProgress, ManifestFrom, ManifestSource, Problem, TargetSpec};

/// The largest deploy file that is read, in bytes.
pub const MAX_DEPLOY_FILE_BYTES: usize = 1024 * 1024;

/// The largest submit that is read, in bytes: the deploy file and all manifests that come with it.
pub const MAX_SUBMIT_BYTES: usize = 16 * 1024 * 1024;

const DEFAULT_TIMEOUT: Span = Span::from_secs(30 * 60);
const SHORTEST_TIMEOUT: Span = Span::from_secs(60);

/// Services that a file names, counted for each target: what is named for all targets is kept for each of them.
const MAX_SERVICES: usize = 100_000;

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
    /// The file as it was written.
    pub document: Document,
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
    parse_within(text, name, &Overrides::default())
}

/// Reads a deploy file that lies elsewhere, with what the submit says beside it.
///
/// # Errors
/// As for [`parse`].
pub fn parse_linked(text: &str, name: &str, overrides: &Overrides) -> Result<Parsed, Vec<Problem>> {
    if text.len() > MAX_DEPLOY_FILE_BYTES {
        return Err(too_large(text.len(), MAX_DEPLOY_FILE_BYTES, name));
    }
    parse_within(text, name, overrides)
}

/// Reads a submit: a deploy file that may carry its manifests in `files`.
///
/// # Errors
/// As for [`parse`]; the limit is [`MAX_SUBMIT_BYTES`].
pub fn parse_submit(text: &str, name: &str) -> Result<Parsed, Vec<Problem>> {
    if text.len() > MAX_SUBMIT_BYTES {
        return Err(too_large(text.len(), MAX_SUBMIT_BYTES, name));
    }
    parse_within(text, name, &Overrides::default())
}

fn too_large(bytes: usize, limit: usize, name: &str) -> Vec<Problem> {
    let message = format!("the file has {bytes} bytes; at most {limit} are read");
    vec![
        Problem::error("tooLarge", "", message)
            .with_hint("put manifests into files of their own")
            .at(name, 0, 0),
    ]
}

fn parse_within(text: &str, name: &str, overrides: &Overrides) -> Result<Parsed, Vec<Problem>> {
    let mut documents = Node::documents(text, 16).map_err(|problem| {
        let (line, column) = (problem.line, problem.column);
        vec![problem.at(name, line, column)]
    })?;
    if let Some(second) = documents.get(1) {
        let message = "a deploy file is one document; another one begins here";
        let (line, column) = (second.place.line, second.place.column);
        return Err(vec![
            Problem::error("documents", "", message).at(name, line, column),
        ]);
    }
    let Some(mut root) = documents.pop() else {
        return Err(vec![
            Problem::error("empty", "", "the deploy file is empty").at(name, 1, 1),
        ]);
    };
    // Manifest texts aside, a submit is no larger than a deploy file may be.
    if root.size_without(Some("files")) > MAX_DEPLOY_FILE_BYTES {
        let message =
            format!("the deploy file without its manifests has more than {MAX_DEPLOY_FILE_BYTES} bytes");
        let problem =
            Problem::error("tooLarge", "", message).with_hint("put manifests into files of their own");
        return Err(vec![problem.at(name, 0, 0)]);
    }
    overrides.apply(&mut root);
    let mut walk = Walk::new(name);
    let parsed = document(&mut walk, &At::root(&root));
    let problems = walk.into_problems();
    match parsed {
        Some((deploy, files, source_control)) if !problems.iter().any(Problem::is_error) => Ok(Parsed {
            deploy,
            files,
            source_control,
            warnings: problems,
            document: Document::new(name, root),
        }),
        _ => Err(problems),
    }
}

/// First the form of everything, by the table; then what it means.
fn document(walk: &mut Walk<'_>, root: &At<'_>) -> Option<(DeployFile, Files, Option<Value>)> {
    static FILE: Shape = Shape::Object(&ROOT);
    walk.check(root, &FILE);
    let get = |key: &str| root.get(&ROOT, key);
    if let Some(version) = get("version")
        && let Some(text) = version.node.text()
        && text != "v1"
    {
        let shown: String = text.chars().take(40).collect();
        let message = format!("`{shown}` is not a known version of deploy files");
        walk.warn(&version, "unknownVersion", message, "it is read as v1");
    }
    let webhooks = get("webhooks").map(|at| webhooks(walk, &at)).unwrap_or_default();
    let analysis = get("analysis").map(|at| analysis(walk, &at));
    let queries = analysis.iter().flat_map(|analysis| &analysis.queries);
    let queries: BTreeMap<&str, &Query> = queries.map(|query| (query.name.as_str(), query)).collect();
    let mut steps = Steps {
        walk,
        webhooks: &webhooks.iter().map(|webhook| webhook.name.as_str()).collect(),
        analysis: analysis.as_ref(),
        query_names: &queries.keys().copied().collect(),
        queries: &queries,
        later: Vec::new(),
    };
    let strategies_at = get("strategies").map(|at| at.entries()).unwrap_or_default();
    let mut strategies: BTreeMap<String, ReadStrategy> = BTreeMap::new();
    for (name, at) in &strategies_at {
        if let Some(read) = steps.strategy(at, name) {
            strategies.insert((*name).to_owned(), read);
        }
    }
    let names = strategies_at.iter().map(|(name, _)| *name).collect();
    let mut targets = get("targets")
        .map(|at| targets(&mut steps, &at, &names))
        .unwrap_or_default();
    let later = steps.later;
    // What a target's own entry has wrong is told there, not again wherever it is named.
    let targets_at = get("targets").map(|at| at.entries()).unwrap_or_default();
    let names: BTreeSet<&str> = targets_at.iter().map(|(name, _)| *name).collect();
    let traffic = get("trafficManagement")
        .map(|at| traffic(walk, &at, &names))
        .unwrap_or_default();
    let traffic_at = get("trafficManagement").unwrap_or_else(|| root.clone());
    give_services(walk, &mut targets, &strategies, &traffic, &traffic_at);
    let manifests = get("manifests").map(|at| at.items()).unwrap_or_default();
    let manifests = manifests
        .iter()
        .filter_map(|item| manifest(walk, item, &names))
        .collect();
    let only = get("targetFilters").map(|at| {
        let read = at.items().into_iter().filter_map(|item| {
            let (_, name) = item
                .entries()
                .into_iter()
                .find(|(key, _)| *key == "includeTarget")?;
            let text = name.node.text()?;
            walk.known(&name, "target", text, &names);
            Some(text.to_owned())
        });
        read.collect()
    });
    let context = context(root, &ROOT);
    check_templates(walk, root, &context, &later);
    let run = deployment_config(walk, root);
    let deploy = DeployFile {
        application: root.text_of(&ROOT, "application")?,
        description: root.text_of(&ROOT, "description").unwrap_or_default(),
        context,
        targets,
        strategies: strategies
            .into_iter()
            .map(|(name, read)| (name, read.strategy))
            .collect(),
        manifests,
        timeout: run.timeout.unwrap_or(DEFAULT_TIMEOUT),
        in_progress: run.in_progress,
        only,
        webhooks,
        analysis,
        traffic,
        later,
        keep_deployment: run.keep_deployment,
    };
    let files = get("files").map(|at| files(&at)).unwrap_or_default();
    Some((deploy, files, get("sourceControl").map(|at| at.node.to_json())))
}

/// Gives each target the Services that the file names for it, in either place.
fn give_services(
    walk: &mut Walk<'_>,
    targets: &mut BTreeMap<String, TargetSpec>,
    strategies: &BTreeMap<String, ReadStrategy>,
    traffic: &[Traffic],
    at: &At<'_>,
) {
    let mut room = MAX_SERVICES;
    let (mut of_all, mut of_target) = (Vec::new(), BTreeMap::<&str, Vec<&ServicePair>>::new());
    for entry in traffic {
        match &entry.targets {
            None => of_all.extend(&entry.kubernetes),
            Some(names) => {
                for name in names {
                    of_target.entry(name).or_default().extend(&entry.kubernetes);
                }
            }
        }
    }
    for (name, target) in targets {
        let strategy = target.strategy.as_ref().and_then(|name| strategies.get(name));
        let of_strategy = strategy.and_then(|read| read.services.as_ref());
        let own = of_target.get(name.as_str()).into_iter().flatten();
        let all = of_all.iter().chain(own).copied().chain(of_strategy);
        let mut services: BTreeMap<&str, &ServicePair> = BTreeMap::new();
        for pair in all {
            let Some(left) = room.checked_sub(1) else {
                let message =
                    format!("the file names more than {MAX_SERVICES} Services, counted for each target");
                walk.error(
                    at,
                    "tooMany",
                    message,
                    "name them only for targets that have them",
                );
                return;
            };
            room = left;
            let other = services.insert(&pair.active, pair);
            if other.is_some_and(|other| other != pair) {
                let message = format!(
                    "the file names the Service `{}` twice for target `{name}`, with different previews",
                    pair.active
                );
                walk.error(at, "sameService", message, "name each active Service once");
            }
        }
        target.services = services.into_values().cloned().collect();
    }
}

fn manifest(walk: &mut Walk<'_>, at: &At<'_>, names: &BTreeSet<&str>) -> Option<ManifestSource> {
    let targets = at.get(&MANIFEST, "targets").map(|_| {
        let read = at.texts_of(&MANIFEST, "targets");
        for (name, item) in &read {
            walk.known(item, "target", name, names);
        }
        read.into_iter().map(|(name, _)| name).collect()
    });
    if let Some(inline) = at.get(&MANIFEST, "inline") {
        // Inline manifests may also be written as YAML itself instead of as a text.
        let text = match &inline.node.kind {
            Kind::Map(_) => inline.node.to_json().to_string(),
            _ => inline.node.text()?.to_owned(),
        };
        return Some(ManifestSource {
            from: ManifestFrom::Inline(text),
            targets,
            line: inline.node.place.line,
        });
    }
    let path = at.get(&MANIFEST, "path")?;
    Some(ManifestSource {
        from: ManifestFrom::Path(path.node.text()?.to_owned()),
        targets,
        line: at.node.place.line,
    })
}

/// Checks the variables of every webhook and query against the contexts that reach them.
fn check_templates(
    walk: &mut Walk<'_>,
    root: &At<'_>,
    context: &BTreeMap<String, String>,
    later: &[LaterStep],
) {
    let exposed = DeployFile::exposed(later);
    let of_run: BTreeSet<&str> = context.keys().map(String::as_str).collect();
    let (mut of_webhook, mut of_query) = (Contexts::new(), Contexts::new());
    let mut room = MAX_CONTEXT_KEYS;
    for step in later {
        match &step.step {
            Later::RunWebhook(step) => {
                let keys = step.context.keys().map(String::as_str);
                of_webhook.entry(&step.name).or_default().extend(keys);
            }
            Later::Analysis(step) => {
                for name in step.queries.iter().collect::<BTreeSet<_>>() {
                    let Some(left) = room.checked_sub(step.context.len()) else {
                        let message = "the contexts of the steps are too large for the queries they reach";
                        walk.error(
                            root,
                            "tooMany",
                            message,
                            "put what all of them share into the file's `context`",
                        );
                        return;
                    };
                    room = left;
                    let keys = step.context.keys().map(String::as_str);
                    of_query.entry(name).or_default().extend(keys);
                }
            }
            Later::ExposeServices(_) => {}
        }
    }
    let none = BTreeSet::new();
    for item in root
        .get(&ROOT, "webhooks")
        .map(|at| at.items())
        .unwrap_or_default()
    {
        let name = item.text_of(&WEBHOOK, "name").unwrap_or_default();
        let known = variables::Known {
            stand: Stand::Webhook,
            contexts: [&of_run, of_webhook.get(name.as_str()).unwrap_or(&none)],
            exposed: &exposed,
        };
        let mut templates: Vec<At<'_>> = item.get(&WEBHOOK, "uriTemplate").into_iter().collect();
        for header in item
            .get(&WEBHOOK, "headers")
            .map(|at| at.items())
            .unwrap_or_default()
        {
            let value = header.entries().into_iter().filter(|(key, _)| *key == "value");
            templates.extend(value.map(|(_, at)| at));
        }
        let body = item.get(&WEBHOOK, "bodyTemplate").map(|at| at.entries());
        templates.extend(body.unwrap_or_default().into_iter().map(|(_, at)| at));
        for template in templates {
            variables::check(walk, &template, &known);
        }
    }
    let queries = root
        .get(&ROOT, "analysis")
        .and_then(|at| at.get(&ANALYSIS, "queries"));
    for item in queries.map(|at| at.items()).unwrap_or_default() {
        let name = item.text_of(&QUERY, "name").unwrap_or_default();
        let known = variables::Known {
            stand: Stand::Query,
            contexts: [&of_run, of_query.get(name.as_str()).unwrap_or(&none)],
            exposed: &exposed,
        };
        if let Some(template) = item.get(&QUERY, "queryTemplate") {
            variables::check(walk, &template, &known);
        }
    }
}

/// Keys of the contexts of all analysis steps, counted for each query that they reach.
const MAX_CONTEXT_KEYS: usize = 500_000;

/// Keys of contexts by the name of what they reach.
type Contexts<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

#[derive(Default)]
struct Run {
    timeout: Option<Span>,
    in_progress: InProgress,
    keep_deployment: bool,
}

fn deployment_config(walk: &mut Walk<'_>, root: &At<'_>) -> Run {
    let mut run = Run::default();
    for (key, at) in root
        .get(&ROOT, "deploymentConfig")
        .map(|at| at.entries())
        .unwrap_or_default()
    {
        match key {
            "timeout" => {
                run.timeout = span(walk, &at);
                if let Some(timeout) = run.timeout.filter(|timeout| *timeout < SHORTEST_TIMEOUT) {
                    let message = format!("the timeout of {timeout} is too short");
                    walk.error(&at, "tooShort", message, "at least one minute");
                }
            }
            "keepDeploymentObject" => run.keep_deployment = at.node.boolean().unwrap_or(false),
            "ifDeploymentInProgress" => {
                let strategy = at.entries().into_iter().find(|(key, _)| *key == "strategy");
                if strategy.is_some_and(|(_, at)| at.node.text() == Some("enqueueOne")) {
                    run.in_progress = InProgress::EnqueueOne;
                }
            }
            _ => {}
        }
    }
    run
}

fn files(at: &At<'_>) -> Files {
    let mut files = Files::default();
    for (path, value) in at.entries() {
        // Clients of the older product list an inline manifest as null.
        if matches!(value.node.kind, Kind::Null) {
            continue;
        }
        let items = value.items();
        let single = items.len() == 1;
        let texts = items.iter().enumerate().filter_map(|(index, item)| {
            if let Kind::Text(text) = &item.node.kind {
                let name = if single {
                    path.to_owned()
                } else {
                    format!("{path}[{index}]")
                };
                return Some(FileText {
                    name,
                    text: text.clone(),
                });
            }
            let below = |key: &str| {
                let found = item.entries().into_iter().find(|(found, _)| *found == key);
                found?.1.node.text().map(str::to_owned)
            };
            Some(FileText {
                name: below("name")?,
                text: below("text")?,
            })
        });
        files.0.insert(path.to_owned(), texts.collect());
    }
    files
}
