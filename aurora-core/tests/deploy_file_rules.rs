//! The rules of the deploy file, each with a file that breaks it, and the page that lists fields and rules.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use aurora_core::deploy_file::{
    Fate, FieldInfo, Later, Problem, fields, parse, parse_submit, read_manifests,
};
use aurora_core::strategy::{BlueGreen, Pause, Portion, Rolling, ServicePair, Span, Strategy};

const COMPLETE: &str = include_str!("deploy_files/complete.yaml");

/// A rule, what it says, and pieces of the complete file with what breaks the rule in their place.
struct Broken {
    rule: &'static str,
    says: &'static str,
    changes: &'static [(&'static str, &'static str)],
    code: &'static str,
    words: &'static str,
}

const fn broken(
    rule: &'static str,
    says: &'static str,
    changes: &'static [(&'static str, &'static str)],
    code: &'static str,
    words: &'static str,
) -> Broken {
    Broken {
        rule,
        says,
        changes,
        code,
        words,
    }
}

const RULES: [Broken; 41] = [
    broken(
        "V1",
        "an unknown key is an error",
        &[("description:", "descripton:")],
        "unknownKey",
        "did you mean `description`?",
    ),
    broken(
        "V1",
        "an unknown key is an error, at every depth",
        &[("retryCount: 2", "retries: 2")],
        "unknownKey",
        "known here: name, method",
    ),
    broken(
        "V2",
        "there is at least one target",
        &[("targets:\n  dev:", "targets: {}\nx:\n  dev:")],
        "empty",
        "the map is empty",
    ),
    broken(
        "V2",
        "there is at least one manifest",
        &[(
            "manifests:\n  - path: manifests/base",
            "manifests: []\nx:\n  - path: manifests/base",
        )],
        "empty",
        "the list is empty",
    ),
    broken(
        "V2",
        "lists that say whom something is for are not empty",
        &[(
            "targets: [isles]\n  - targets: [dev]",
            "targets: []\n  - targets: [dev]",
        )],
        "empty",
        "leave the key out",
    ),
    broken(
        "V3",
        "a target's strategy is defined",
        &[("strategy: steady", "strategy: stedy")],
        "unknownName",
        "did you mean `steady`?",
    ),
    broken(
        "V4",
        "`dependsOn` names targets",
        &[("dependsOn: [north, south]", "dependsOn: [norht, south]")],
        "unknownName",
        "did you mean `north`?",
    ),
    broken(
        "V4",
        "`manifests[].targets` names targets",
        &[("- targets: [dev]\n    inline", "- targets: [prod]\n    inline")],
        "unknownName",
        "there is no target `prod`",
    ),
    broken(
        "V4",
        "`trafficManagement[].targets` names targets",
        &[("- targets: [south]", "- targets: [souht]")],
        "unknownName",
        "did you mean `south`?",
    ),
    broken(
        "V4",
        "`targetFilters` names targets",
        &[("includeTarget: north", "includeTarget: nort")],
        "unknownName",
        "did you mean `north`?",
    ),
    broken(
        "V4",
        "targets do not wait for each other",
        &[(
            "      dependsOn: [dev]\n      beforeDeployment:\n        - pause:\n",
            "      dependsOn: [isles]\n      beforeDeployment:\n        - pause:\n",
        )],
        "cycle",
        "isles → north → isles",
    ),
    broken(
        "V5",
        "a pause is timed or for a person, not both",
        &[(
            "- pause: {untilApproved: true}\n",
            "- pause: {untilApproved: true, duration: 1, unit: hours}\n",
        )],
        "exclusive",
        "not both",
    ),
    broken(
        "V5",
        "`unit` and `duration` go together",
        &[(
            "- pause: {duration: 90, unit: seconds}",
            "- pause: {duration: 90}",
        )],
        "needs",
        "needs a `unit`",
    ),
    broken(
        "V5",
        "a unit is seconds, minutes or hours as a whole word",
        &[(
            "- pause: {duration: 90, unit: seconds}",
            "- pause: {duration: 90, unit: none of the hours}",
        )],
        "unknownUnit",
        "seconds, minutes, hours",
    ),
    broken(
        "V6",
        "`requiresRoles` is not empty",
        &[("[release manager, on-call]", "[]")],
        "empty",
        "at least one entry",
    ),
    broken(
        "V7",
        "every query that a step asks is defined",
        &[("queries: [errors, latency]", "queries: [error, latency]")],
        "unknownName",
        "did you mean `errors`?",
    ),
    broken(
        "V7",
        "steps that ask queries need `analysis`",
        &[(
            "analysis:\n  defaultMetricProviderName: prometheus\n  queries:",
            "x-analysis:\n  defaultMetricProviderName: prometheus\n  queries:",
        )],
        "needsDefinition",
        "the file has no `analysis`",
    ),
    broken(
        "V7",
        "somebody answers every query",
        &[
            ("  defaultMetricProviderName: prometheus\n", ""),
            (
                "            metricProviderName: prometheus-north\n            context",
                "            context",
            ),
        ],
        "undefinedProvider",
        "which metric provider answers `errors`",
    ),
    broken(
        "V9",
        "the timeout is at least a minute",
        &[(
            "timeout: {duration: 20, unit: minutes}",
            "timeout: {duration: 59, unit: seconds}",
        )],
        "tooShort",
        "at least one minute",
    ),
    broken(
        "V9",
        "a preview address works for a minute to 24 hours",
        &[(
            "ttl: {duration: 45, unit: minutes}",
            "ttl: {duration: 25, unit: hours}",
        )],
        "outOfRange",
        "one minute to 24 hours",
    ),
    broken(
        "V10",
        "a query has at least one limit",
        &[("      upperLimit: 0.02\n", "")],
        "missing",
        "at least one of `upperLimit` and `lowerLimit`",
    ),
    broken(
        "V10",
        "its limits leave values between them",
        &[("lowerLimit: 0\n", "lowerLimit: 1\n")],
        "emptyRange",
        "no value is above 1 and below 0.4",
    ),
    broken(
        "V11",
        "`agentIdentifier` only goes with `remoteNetworkAgent`",
        &[("networkMode: remoteNetworkAgent", "networkMode: direct")],
        "needs",
        "only goes with `networkMode: remoteNetworkAgent`",
    ),
    broken(
        "V12",
        "an SMI split names its root Service",
        &[("rootServiceName: lanterns, ", "")],
        "missing",
        "`rootServiceName` is missing",
    ),
    broken(
        "V13",
        "a webhook step names a defined webhook",
        &[("runWebhook: {name: load,", "runWebhook: {name: laod,")],
        "unknownName",
        "did you mean `load`?",
    ),
    broken(
        "V13",
        "webhooks have different names",
        &[("- name: load\n    method", "- name: smoke\n    method")],
        "sameName",
        "two webhooks named `smoke`",
    ),
    broken(
        "V15",
        "a weight is a whole number from 0 to 100",
        &[("setWeight: {weight: 40}", "setWeight: {weight: 101}")],
        "wrongType",
        "from 0 to 100",
    ),
    broken(
        "form",
        "each place has its own steps",
        &[(
            "      beforeDeployment:\n        - pause: {duration: 15",
            "      beforeDeployment:\n        - setWeight: {weight: 1}\n        - pause: {duration: 15",
        )],
        "unknownKey",
        "known here: pause, runWebhook, analysis",
    ),
    broken(
        "form",
        "one list entry is one step",
        &[(
            "- setWeight: {weight: 5}\n        - exposeServices",
            "- setWeight: {weight: 5}\n          exposeServices",
        )],
        "exclusive",
        "exactly one of",
    ),
    broken(
        "form",
        "a strategy is exactly one",
        &[(
            "rolling: {maxSurge: 25%, maxUnavailable: 1}",
            "rolling: {}\n    blueGreen: {}",
        )],
        "exclusive",
        "exactly one of `canary`, `blueGreen` and `rolling`",
    ),
    broken(
        "form",
        "a rolling update has room",
        &[(
            "{maxSurge: 25%, maxUnavailable: 1}",
            "{maxSurge: 0%, maxUnavailable: 0}",
        )],
        "noRoom",
        "no pod can ever be replaced",
    ),
    broken(
        "form",
        "active and preview Service differ",
        &[("previewService: lanterns-preview", "previewService: lanterns")],
        "sameService",
        "active and preview Service at once",
    ),
    broken(
        "form",
        "two targets go to different places",
        &[("account: stores-agent", "account: isles-agent")],
        "sameTarget",
        "same account and namespace",
    ),
    broken(
        "form",
        "a text is not silently made of a number",
        &[("rate: \"200\"", "rate: 200")],
        "wrongType",
        "put it in quotes",
    ),
    broken(
        "variables",
        "`armory` variables are known",
        &[("{{armory.applicationName}} of", "{{armory.aplicationName}} of")],
        "unknownVariable",
        "did you mean `armory.applicationName`?",
    ),
    broken(
        "variables",
        "a variable has a value where it stands",
        &[("[{{armory.promQlStepInterval}}]", "[{{armory.callbackUri}}]")],
        "unknownVariable",
        "only in webhooks",
    ),
    broken(
        "variables",
        "there are three kinds of variables",
        &[("{{secrets.chat_url}}", "{{secret.chat_url}}")],
        "unknownVariable",
        "did you mean `secrets`?",
    ),
    broken(
        "variables",
        "templates hold variables and nothing else",
        &[("{{secrets.chat_url}}", "{{#secrets}}")],
        "badTemplate",
        "only variables stand in templates",
    ),
    broken(
        "variables",
        "a variable ends",
        &[("Basic {{secrets.ci}}", "Basic {{secrets.ci}")],
        "badTemplate",
        "does not end",
    ),
    broken(
        "not ours",
        "AWS Lambda is refused by name",
        &[("kind: kubernetes", "kind: lambda")],
        "unsupported",
        "does not deploy Lambda",
    ),
    broken(
        "not ours",
        "so is what belongs to it",
        &[("  stores:\n", "  stores:\n    region: eu-west-1\n")],
        "unsupported",
        "`region` belongs to AWS Lambda",
    ),
];

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(COMPLETE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in the complete file");
        text.replacen(from, to, 1)
    })
}

fn told(rule: &Broken) -> Problem {
    let problems = match parse_submit(&changed(rule.changes), "deploy.yaml") {
        Ok(_) => panic!("{}: {} is not checked", rule.rule, rule.says),
        Err(problems) => problems,
    };
    let found = problems.iter().find(|problem| {
        problem.is_error() && problem.code == rule.code && problem.to_string().contains(rule.words)
    });
    found
        .unwrap_or_else(|| {
            panic!(
                "{}: {}: no `{}` with {:?} in {problems:#?}",
                rule.rule, rule.says, rule.code, rule.words
            )
        })
        .clone()
}

#[test]
fn every_rule_is_told_with_its_place_and_what_to_do() {
    for rule in &RULES {
        let told = told(rule);
        assert!(told.line > 1 && told.column > 0, "{}: {told}", rule.says);
        assert!(told.pointer.starts_with('/'), "{}: {}", rule.says, told.pointer);
    }
}

#[test]
fn what_is_only_odd_is_a_warning() {
    let table = [
        (
            "- setWeight: {weight: 40}",
            "- setWeight: {weight: 4}",
            "fallingWeight",
            "falls from 5 to 4",
        ),
        ("version: v1", "version: v9", "unknownVersion", "read as v1"),
        (
            "{{context.team}}",
            "{{context.taem}}",
            "unknownVariable",
            "did you mean `context.team`?",
        ),
        (
            "{{armory.preview.lanterns}}",
            "{{armory.preview.lantern}}",
            "unknownVariable",
            "armory.preview.lanterns",
        ),
        (
            "{{armory.replicaSetName}}",
            "${replicaSetName}",
            "alias",
            "older form",
        ),
        (
            "  - name: chat\n    method: POST\n",
            "  - name: chat\n",
            "noMethod",
            "called by POST",
        ),
        (
            "rollBackMode: automatic",
            "rollBackMode: AUTOMATIC",
            "alias",
            "read as `automatic`",
        ),
        (
            "interval: 5\n            units",
            "interval: 5\n            unit",
            "alias",
            "write `units`",
        ),
        (
            "shutDownOldVersionAfter",
            "shutdownOldVersionAfter",
            "alias",
            "write `shutDownOldVersionAfter`",
        ),
        (
            "context: {route: /basket}",
            "context: [{route: /basket}]",
            "alias",
            "write it as a map",
        ),
        (
            "    blueGreen:\n",
            "    blueGreen:\n      activeService: lanterns\n      previewService: lanterns-preview\n",
            "alias",
            "trafficManagement",
        ),
    ];
    for (from, to, code, words) in table {
        let parsed = parse_submit(&changed(&[(from, to)]), "deploy.yaml");
        let warnings = parsed
            .unwrap_or_else(|problems| panic!("{to}: {problems:#?}"))
            .warnings;
        let found = warnings
            .iter()
            .any(|told| told.code == code && told.to_string().contains(words) && told.line > 1);
        assert!(
            found && warnings.iter().all(|told| !told.is_error()),
            "{to}: {warnings:#?}"
        );
    }
}

#[test]
fn a_manifest_that_is_no_object_is_told() {
    assert_eq!(
        read_manifests("- 1\n", "m.yaml").unwrap_err()[0].code,
        "notAnObject"
    );
}

#[test]
fn the_complete_file_means_what_it_says() {
    let deploy = parse_submit(COMPLETE, "deploy.yaml").unwrap().deploy;
    assert_eq!(
        deploy.strategies["switch"],
        Strategy::BlueGreen(BlueGreen {
            redirect_after: vec![Pause::Approval(aurora_core::strategy::Approval {
                roles: Vec::new(),
                expires_after: Some(Span::from_secs(3600)),
            })],
            shut_down_after: vec![Pause::Timed(Span::from_secs(3600))],
        })
    );
    assert_eq!(
        deploy.strategies["steady"],
        Strategy::Rolling(Rolling {
            max_surge: Some(Portion::Percent(25)),
            max_unavailable: Some(Portion::Count(1)),
        })
    );
    let pair = ServicePair {
        active: "lanterns".into(),
        preview: Some("lanterns-preview".into()),
    };
    assert_eq!(deploy.targets["south"].services, [pair]);
    assert!(deploy.targets["north"].services.is_empty());
    assert_eq!(
        deploy.only,
        Some(BTreeSet::from(["dev".to_owned(), "north".to_owned()]))
    );
    let analysis = deploy.later.iter().find_map(|step| match &step.step {
        Later::Analysis(step) if step.context.contains_key("route") => Some(step),
        _ => None,
    });
    let analysis = analysis.unwrap();
    assert_eq!((analysis.interval, analysis.runs), (Span::from_secs(30), 4));
    assert_eq!(
        deploy
            .analysis
            .as_ref()
            .unwrap()
            .query("latency")
            .unwrap()
            .lower_limit,
        Some(0.0)
    );
    // It is stored and read back.
    let stored = serde_json::to_value(&deploy).unwrap();
    assert_eq!(
        serde_json::from_value::<aurora_core::deploy_file::DeployFile>(stored).unwrap(),
        deploy
    );
}

/// What a run of the complete file is refused for, with other targets filtered.
fn refused(only: &str) -> Vec<String> {
    let text = changed(&[(
        "  - includeTarget: dev\n  - includeTarget: north\n",
        &format!("  - includeTarget: {only}\n"),
    )])
    .replace("keepDeploymentObject: true", "keepDeploymentObject: false");
    let parsed = parse_submit(&text, "deploy.yaml").unwrap();
    let problems = parsed
        .deploy
        .not_yet()
        .into_iter()
        .map(|problem| parsed.document.locate(problem));
    problems
        .map(|problem| {
            assert!(problem.code == "notYet" && problem.line > 1, "{problem}");
            format!("{}: {}", problem.pointer, problem.message)
        })
        .collect()
}

#[test]
fn what_cannot_run_yet_is_refused_by_name_where_a_running_target_uses_it() {
    let has = |only: &str, pointer: &str| {
        refused(only)
            .iter()
            .any(|told| told.starts_with(&format!("{pointer}: ")))
    };
    assert!(has(
        "dev",
        "/targets/dev/constraints/afterDeployment/0/runWebhook"
    ));
    assert!(has(
        "north",
        "/targets/north/constraints/beforeDeployment/2/analysis"
    ));
    assert!(has("north", "/strategies/careful/canary/steps/1/exposeServices"));
    assert!(has("north", "/trafficManagement/0/smi"));
    assert!(has("isles", "/trafficManagement/2/istio"));
    assert!(has(
        "south",
        "/strategies/switch/blueGreen/redirectTrafficAfter/1/runWebhook"
    ));
    assert!(
        !has("south", "/trafficManagement/0/smi")
            && !has("south", "/strategies/careful/canary/steps/1/exposeServices")
    );
    // Webhooks, queries and strategies that only stand in the file hinder nobody.
    assert_eq!(refused("stores"), Vec::<String>::new());
    let whole = parse(COMPLETE, "deploy.yaml").unwrap().deploy.not_yet();
    assert!(
        whole
            .iter()
            .any(|problem| problem.pointer == "/deploymentConfig/keepDeploymentObject")
    );
}

/// The page is an account of the table; whether a field marked `later` is refused, its own file shows.
#[test]
fn every_field_is_in_the_complete_file_or_refused_by_name() {
    let file = parse_submit(COMPLETE, "deploy.yaml").unwrap();
    let file = file.document.to_json(&file.files);
    let mut there = BTreeSet::new();
    paths(&file, "", &mut there);
    let refused_by_name = [
        "<step>.analysis",
        "<step>.exposeServices",
        "<step>.runWebhook",
        "analysis",
        "webhooks",
        "deploymentConfig.keepDeploymentObject",
        "trafficManagement[].istio",
        "trafficManagement[].smi",
    ];
    // The older place of Services, which would only warn; the warnings' test has it.
    let older_place =
        ["activeService", "previewService"].map(|key| format!("strategies.<name>.blueGreen.{key}"));
    for field in fields()
        .into_iter()
        .filter(|field| !older_place.contains(&field.path))
    {
        let names = field.path.trim_start_matches("<step>");
        let steps = field.path.starts_with("<step>");
        assert!(
            there.iter().any(|path| if steps {
                path.ends_with(names)
            } else {
                path == names
            }) || field.fate == Fate::NotOurs,
            "{} is in no test: add it to the complete file",
            field.path
        );
        // Each of these is seen to be refused by the test above; what is below one of them comes with it.
        let known = refused_by_name.iter().any(|known| {
            let rest = field.path.strip_prefix(known);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        assert!(known || field.fate != Fate::Later, "{}", field.path);
    }
}

/// Paths as the table writes them: `[]` for items, `<name>` for the keys of maps with free keys.
fn paths(value: &serde_json::Value, at: &str, found: &mut BTreeSet<String>) {
    let free = ["targets", "strategies", "files"].contains(&at);
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                let key = if free { "<name>" } else { key };
                let path = if at.is_empty() {
                    key.to_owned()
                } else {
                    format!("{at}.{key}")
                };
                found.insert(path.clone());
                paths(value, &path, found);
            }
        }
        serde_json::Value::Array(list) => list
            .iter()
            .for_each(|value| paths(value, &format!("{at}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_page_of_fields_is_up_to_date() {
    let page = page();
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy-file.md");
    let held = fs::read_to_string(&committed).unwrap_or_default();
    if held != page {
        let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-file.md");
        fs::write(&made, page).unwrap();
        panic!(
            "docs/deploy-file.md is out of date; copy it from {}",
            made.display()
        );
    }
}

fn page() -> String {
    let mut page = String::from(
        "# The deploy file, field by field\n\n\
         Written by a test from the table that the parser checks files against; `aurora schema` prints the same as a JSON\n\
         Schema. Every field is parsed, and everything that its *value* does not allow is an error with line and column.\n\
         The last column says what this version does with it:\n\n\
         - **runs**: it does something;\n\
         - **shown**: it is kept and shown, and changes nothing;\n\
         - **refused where used**: it is checked like everything else; a run that uses it is refused by name at submit, and\n\
           `aurora validate` says so. A definition that no target of the run uses hinders nothing;\n\
         - **refused**: any file that has it is refused by name.\n\n\
         `<step>` is a step of any list of steps; the list says which steps may stand in it. `{duration, unit}` is a\n\
         whole number of seconds, minutes or hours.\n\n\
         | field | value | must be there | older spelling | what happens |\n|---|---|---|---|---|\n",
    );
    for field in fields() {
        row(&mut page, &field);
    }
    page.push_str(
        "\n## Rules between fields\n\n\
         Each was broken in a complete file to write this table; the last column is what was told.\n\n\
         | rule | what holds | what is told otherwise |\n|---|---|---|\n",
    );
    for rule in &RULES {
        let told = told(rule).to_string();
        let told = told.split_once(": ").map_or(told.as_str(), |(_, told)| told);
        writeln!(page, "| {} | {} | {} |", rule.rule, cell(rule.says), cell(told)).unwrap();
    }
    page.push_str(
        "| V8 | a Deployment needs a strategy, or the annotation that opts it out | by the renderer, at the manifest's line |\n\
         | V14 | each manifest document is a Kubernetes object | at the document's line |\n\
         | V16 | an agent of the account's name was seen | 422 at submit; roles are not known yet |\n",
    );
    page
}

fn row(page: &mut String, field: &FieldInfo) {
    let fate = match field.fate {
        Fate::Runs => "runs",
        Fate::Shown => "shown",
        Fate::Later => "refused where used",
        Fate::NotOurs => "refused",
    };
    let required = if field.required { "yes" } else { "" };
    let older = field.older.map(|older| format!("`{older}`")).unwrap_or_default();
    writeln!(
        page,
        "| `{}` | {} | {required} | {older} | {fate} |",
        field.path,
        cell(&field.value)
    )
    .unwrap();
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
