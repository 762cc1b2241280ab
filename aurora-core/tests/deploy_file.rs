//! The deploy file as a user writes it: what is read, and what each mistake is told.

use std::time::{Duration, Instant};

use aurora_core::deploy_file::{
    FileText, Files, MAX_DEPLOY_FILE_BYTES, ManifestFrom, Problem, manifests, parse, parse_submit,
    read_manifests,
};
use aurora_core::strategy::{Approval, Canary, Pause, Span, Step, Strategy};
use proptest::prelude::*;

const GOOD: &str = r#"
version: v1
kind: kubernetes
application: shop
description: The shop
targets:
  staging:
    account: staging-agent
    namespace: shop
    strategy: canary
  prod:
    account: prod-agent
    namespace: shop
    strategy: canary
    constraints:
      dependsOn: [staging]
      beforeDeployment:
        - pause: {untilApproved: true, requiresRoles: [release manager], approvalExpiration: {duration: 2, unit: hours}}
      afterDeployment:
        - pause: {duration: 90, unit: seconds}
manifests:
  - path: manifests
  - inline: |
      apiVersion: v1
      kind: ConfigMap
      metadata: {name: extra}
    targets: [prod]
strategies:
  canary:
    canary:
      steps:
        - setWeight: {weight: 25}
        - pause: {untilApproved: true}
        - setWeight: {weight: 50}
        - pause: {duration: 5, unit: minutes}
deploymentConfig:
  timeout: {duration: 10, unit: minutes}
"#;

/// What a submit is told: what is wrong, what was noticed, and what cannot run yet.
fn problems(text: &str) -> Vec<Problem> {
    match parse(text, "deploy.yaml") {
        Ok(parsed) => {
            let not_yet = parsed.deploy.not_yet().into_iter();
            let not_yet = not_yet.map(|problem| parsed.document.locate(problem));
            parsed.warnings.iter().cloned().chain(not_yet).collect()
        }
        Err(problems) => problems,
    }
}

/// `GOOD` with one piece replaced.
fn with(piece: &str, other: &str) -> String {
    assert!(GOOD.contains(piece), "{piece:?} is not in the file");
    GOOD.replacen(piece, other, 1)
}

#[test]
fn a_whole_file_is_read() {
    let parsed = parse(GOOD, "deploy.yaml").unwrap();
    assert!(parsed.warnings.is_empty(), "{:?}", parsed.warnings);
    let deploy = parsed.deploy;
    assert_eq!(deploy.application, "shop");
    assert_eq!(deploy.timeout, Span::from_secs(600));
    assert_eq!(deploy.targets["prod"].depends_on, ["staging"]);
    assert_eq!(
        deploy.targets["prod"].before,
        [Pause::Approval(Approval {
            roles: vec!["release manager".into()],
            expires_after: Some(Span::from_secs(7200))
        })]
    );
    assert_eq!(deploy.targets["prod"].after, [Pause::Timed(Span::from_secs(90))]);
    assert_eq!(
        deploy.strategies["canary"],
        Strategy::Canary(Canary {
            steps: vec![
                Step::SetWeight(25),
                Step::Pause(Pause::Approval(Approval::default())),
                Step::SetWeight(50),
                Step::Pause(Pause::Timed(Span::from_secs(300))),
            ]
        })
    );
    assert_eq!(deploy.manifests[0].from, ManifestFrom::Path("manifests".into()));
}

#[test]
fn every_mistake_is_told_with_its_place_and_what_to_do() {
    // what is wrong, the text, the code, part of the message or hint
    let table = [
        (
            "a mistyped key",
            with("targets:\n  staging", "target:\n  staging"),
            "unknownKey",
            "did you mean `targets`?",
        ),
        (
            "a mistyped strategy",
            with("strategy: canary", "strategy: canarry"),
            "unknownName",
            "did you mean `canary`?",
        ),
        (
            "an unknown dependency",
            with("dependsOn: [staging]", "dependsOn: [stage]"),
            "unknownName",
            "no target `stage`",
        ),
        (
            "a target after itself",
            with("dependsOn: [staging]", "dependsOn: [prod]"),
            "cycle",
            "wait for itself",
        ),
        (
            "a mixed pause",
            with(
                "pause: {untilApproved: true}",
                "pause: {untilApproved: true, duration: 1, unit: hours}",
            ),
            "exclusive",
            "not both",
        ),
        (
            "a duration alone",
            with("{duration: 90, unit: seconds}", "{duration: 90}"),
            "needs",
            "needs a `unit`",
        ),
        (
            "a unit alone",
            with("{duration: 90, unit: seconds}", "{unit: seconds}"),
            "needs",
            "needs a `duration`",
        ),
        (
            "a mistyped unit",
            with("{duration: 5, unit: minutes}", "{duration: 5, unit: minute}"),
            "unknownUnit",
            "did you mean `minutes`?",
        ),
        (
            "roles on a timer",
            with(
                "{duration: 5, unit: minutes}",
                "{duration: 5, unit: minutes, requiresRoles: [x]}",
            ),
            "needs",
            "untilApproved",
        ),
        (
            "no roles",
            with("requiresRoles: [release manager]", "requiresRoles: []"),
            "empty",
            "empty",
        ),
        (
            "a weight of 101",
            with("{weight: 25}", "{weight: 101}"),
            "wrongType",
            "from 0 to 100",
        ),
        (
            "a weight in words",
            with("{weight: 25}", "{weight: half}"),
            "wrongType",
            "whole number",
        ),
        (
            "a short timeout",
            with(
                "timeout: {duration: 10, unit: minutes}",
                "timeout: {duration: 59, unit: seconds}",
            ),
            "tooShort",
            "one minute",
        ),
        (
            "no application",
            with("application: shop\n", ""),
            "missing",
            "`application`",
        ),
        (
            "no account",
            with("    account: prod-agent\n", ""),
            "missing",
            "`account`",
        ),
        (
            "two targets in one place",
            with("account: prod-agent", "account: staging-agent"),
            "sameTarget",
            "same account",
        ),
        (
            "a number as a name",
            with("application: shop", "application: 12"),
            "wrongType",
            "quotes",
        ),
        (
            "a path and a text",
            with("- path: manifests", "- {path: manifests, inline: x}"),
            "exclusive",
            "exactly one",
        ),
        (
            "two steps in one entry",
            with(
                "- setWeight: {weight: 25}",
                "- {setWeight: {weight: 25}, pause: {untilApproved: true}}",
            ),
            "exclusive",
            "of its own",
        ),
        (
            "two strategies in one",
            with(
                "    canary:\n      steps:",
                "    blueGreen: {}\n    canary:\n      steps:",
            ),
            "exclusive",
            "exactly one of `canary`, `blueGreen` and `rolling`",
        ),
        (
            "a webhook step",
            with(
                "- pause: {untilApproved: true}\n",
                "- runWebhook: {name: x}\n",
            )
            .replace(
                "strategies:",
                "webhooks: [{name: x, method: POST, uriTemplate: 'https://a.example'}]\nstrategies:",
            ),
            "notYet",
            "a `runWebhook` step",
        ),
        (
            "an analysis step",
            with(
                "- pause: {untilApproved: true}\n",
                "- analysis: {queries: [x], interval: 1, units: minutes, numberOfJudgmentRuns: 1}\n",
            )
            .replace(
                "strategies:",
                "analysis: {defaultMetricProviderName: p, queries: [{name: x, upperLimit: 1, queryTemplate: q}]}\nstrategies:",
            ),
            "notYet",
            "an `analysis` step",
        ),
        (
            "an exposed service",
            with(
                "- pause: {untilApproved: true}\n",
                "- exposeServices: {services: [x]}\n",
            ),
            "notYet",
            "an `exposeServices` step",
        ),
        (
            "a mesh",
            with(
                "strategies:",
                "trafficManagement: [{smi: [{rootServiceName: web}]}]\nstrategies:",
            ),
            "notYet",
            "`smi`",
        ),
        (
            "Istio",
            with(
                "strategies:",
                "trafficManagement: [{targets: [prod], istio: [{virtualService: {name: web}}]}]\nstrategies:",
            ),
            "notYet",
            "`istio` is part of the deploy file, but this version of Aurora cannot run it yet (target `prod`",
        ),
        (
            "a kept Deployment",
            with(
                "deploymentConfig:",
                "deploymentConfig:\n  keepDeploymentObject: true",
            ),
            "notYet",
            "keepDeploymentObject",
        ),
        (
            "a lambda",
            with("kind: kubernetes", "kind: lambda"),
            "unsupported",
            "Lambda",
        ),
        (
            "a duplicate key",
            with("application: shop", "application: shop\napplication: shop"),
            "syntax",
            "application",
        ),
        (
            "two documents",
            format!("{GOOD}\n---\nmore: 1\n"),
            "documents",
            "one document",
        ),
        ("nothing", String::new(), "empty", "empty"),
        ("a list", "[]".to_owned(), "wrongType", "expected a map"),
    ];
    for (what, text, code, words) in table {
        let found = problems(&text);
        let told = found
            .iter()
            .find(|problem| problem.code == code && problem.to_string().contains(words));
        let told = told.unwrap_or_else(|| panic!("{what}: no `{code}` with {words:?} in {found:#?}"));
        assert!(told.is_error(), "{what}: {told:?}");
        assert!(
            told.line > 0 || text.is_empty() || code == "tooLarge",
            "{what} has no place: {told:?}"
        );
    }
}

#[test]
fn old_spellings_are_read_with_a_warning() {
    let table = [
        (with("setWeight: {weight: 25}", "setWeight: 25"), "short form"),
        (
            with("{duration: 5, unit: minutes}", "{duration: 5, unit: Minutes}"),
            "is read as `minutes`",
        ),
        (
            with("{duration: 5, unit: minutes}", "{duration: 5, units: minutes}"),
            "`unit`",
        ),
        (
            with("approvalExpiration", "approvalDuration"),
            "approvalExpiration",
        ),
        (
            with("description: The shop", "contextOverrides: {a: b}"),
            "`context`",
        ),
        (with("description: The shop", "context: [{a: b}]"), "as a map"),
        (with("{weight: 50}", "{weight: 10}"), "falls from 25 to 10"),
    ];
    for (text, words) in table {
        let parsed = parse(&text, "deploy.yaml").unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert!(
            parsed
                .warnings
                .iter()
                .any(|warning| warning.to_string().contains(words)),
            "{words}: {:?}",
            parsed.warnings
        );
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = with("account: staging-agent", "acount: staging-agent")
        .replace("{weight: 50}", "{weight: 500}")
        .replace("[staging]", "[nowhere]");
    let found = problems(&text);
    let lines: Vec<usize> = found.iter().map(|problem| problem.line).collect();
    assert!(found.len() >= 3 && lines.is_sorted(), "{found:#?}");
    let weight = found
        .iter()
        .find(|problem| problem.message.contains("from 0 to 100"))
        .unwrap();
    assert_eq!(
        weight.pointer,
        "/strategies/canary/canary/steps/2/setWeight/weight"
    );
    assert!(weight.to_string().starts_with("deploy.yaml:34:"), "{weight}");
}

#[test]
fn targets_that_wait_for_each_other_are_named() {
    let text = with(
        "strategy: canary\n  prod:",
        "strategy: canary\n    constraints: {dependsOn: [prod]}\n  prod:",
    );
    let found = problems(&text);
    assert!(
        found
            .iter()
            .any(|problem| problem.message.contains("prod → staging → prod")),
        "{found:?}"
    );
}

#[test]
fn hostile_files_end_in_an_error_within_a_second() {
    let chain = |n: usize| {
        let targets: String = (0..n)
            .map(|i| {
                format!(
                    "  t{i}: {{account: a{i}, strategy: s, constraints: {{dependsOn: [t{}]}}}}\n",
                    (i + 1) % n
                )
            })
            .collect();
        format!(
            "application: x\nmanifests: [{{inline: x}}]\nstrategies: {{s: {{canary: {{steps: [{{setWeight: {{weight: 1}}}}]}}}}}}\ntargets:\n{targets}"
        )
    };
    let head = "application: x\nmanifests: [{inline: x}]\nstrategies: {s: {blueGreen: {}}}\n";
    let services = |n: usize| {
        let targets: String = (0..n)
            .map(|i| format!("  t{i}: {{account: a{i}, strategy: s}}\n"))
            .collect();
        let pairs = (0..n)
            .map(|i| format!("{{activeService: s{i}}}"))
            .collect::<Vec<_>>()
            .join(", ");
        format!("{head}targets:\n{targets}trafficManagement: [{{kubernetes: [{pairs}]}}]\n")
    };
    let contexts = |n: usize| {
        let context = (0..n).map(|i| format!("k{i}: v")).collect::<Vec<_>>().join(", ");
        let names = (0..n).map(|i| format!("q{i}")).collect::<Vec<_>>().join(", ");
        let queries: String = (0..n)
            .map(|i| format!("  - {{name: q{i}, upperLimit: 1, queryTemplate: '{{{{context.x{i}}}}}'}}\n"))
            .collect();
        let step = format!(
            "{{analysis: {{interval: 1, units: hours, numberOfJudgmentRuns: 1, context: {{{context}}}, queries: [{names}]}}}}"
        );
        format!(
            "{head}targets: {{t: {{account: a, strategy: s, constraints: {{beforeDeployment: [{step}]}}}}}}\nanalysis:\n  defaultMetricProviderName: p\n  queries:\n{queries}"
        )
    };
    let webhooks = |n: usize| {
        let all = "  - {name: w, method: GET, uriTemplate: 'https://a.example/{{context.x}}'}\n".repeat(n);
        format!("{head}targets: {{t: {{account: a, strategy: s}}}}\nwebhooks:\n{all}")
    };
    let odd = |n: usize| {
        let steps = "{setWeight: 10}, ".repeat(n);
        format!(
            "application: x\nmanifests: [{{inline: x}}]\nstrategies: {{s: {{canary: {{steps: [{steps}]}}}}}}\ntargets: {{t: {{account: a, strategy: z}}}}\n"
        )
    };
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            format!("*a{}, ", level - 1).repeat(9)
        ));
    }
    let table = [
        ("deep flow", "[".repeat(100_000)),
        ("deep maps", "{a: ".repeat(100_000)),
        ("deep lists", "- ".repeat(100_000)),
        ("an alias bomb", bomb),
        ("too large", "#".repeat(MAX_DEPLOY_FILE_BYTES + 1)),
        ("many keys", (0..60_000).map(|i| format!("k{i}: 1\n")).collect()),
        ("a long cycle", chain(5_000)),
        ("many targets", chain(20_000)),
        ("many Services for many targets", services(4_000)),
        ("many contexts for many queries", contexts(12_000)),
        ("many webhooks of one name", webhooks(12_000)),
        ("many odd things, then a wrong one", odd(1_000)),
        ("a long key", format!("{}: 1", "k".repeat(900_000))),
    ];
    for (what, text) in table {
        let started = Instant::now();
        let found = parse(&text, "deploy.yaml").expect_err(what);
        let took = started.elapsed();
        assert!(
            !found.is_empty() && found.len() <= 201 && found.iter().any(Problem::is_error),
            "{what}: {} problems",
            found.len()
        );
        assert!(
            found.iter().all(|problem| problem.to_string().len() < 2_000),
            "{what}: an overlong problem"
        );
        // Debug builds on a loaded computer: far from a hang, not a measurement.
        assert!(took < Duration::from_secs(20), "{what} took {took:?}");
    }
}

#[test]
fn manifests_come_from_files_and_inline_text_with_their_places() {
    let deploy = parse(GOOD, "deploy.yaml").unwrap().deploy;
    let text = "# a comment\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}}\n";
    let mut files = Files::default();
    files.0.insert(
        "manifests".into(),
        vec![FileText {
            name: "manifests/web.yaml".into(),
            text: text.into(),
        }],
    );
    let read = manifests(&deploy, &files, "deploy.yaml").unwrap();
    let names = |target: &str| {
        read[target]
            .iter()
            .map(|manifest| (manifest.object().to_string(), manifest.origin.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("staging"),
        [
            ("Service web".into(), "manifests/web.yaml:2".into()),
            ("Secret s".into(), "manifests/web.yaml:10".into())
        ]
    );
    assert_eq!(
        names("prod")[2],
        ("ConfigMap extra".into(), "deploy.yaml:24".into())
    );
}

#[test]
fn large_manifests_for_many_targets_are_refused_before_they_are_copied() {
    let targets: String = (0..2_000)
        .map(|i| format!("  t{i}: {{account: a{i}}}\n"))
        .collect();
    let text = format!("application: x\nmanifests: [{{path: m}}]\ntargets:\n{targets}");
    let deploy = parse(&text, "deploy.yaml").unwrap().deploy;
    let mut files = Files::default();
    let text = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: {}}}\n",
        "x".repeat(100_000)
    );
    let text = FileText {
        name: "m".into(),
        text,
    };
    files.0.insert("m".into(), vec![text]);
    let found = manifests(&deploy, &files, "deploy.yaml").unwrap_err();
    assert_eq!((found[0].code.as_str(), found[0].line), ("tooLarge", 2));
}

#[test]
fn a_path_without_its_text_and_a_text_that_is_no_object_are_told() {
    let deploy = parse(GOOD, "deploy.yaml").unwrap().deploy;
    let found = manifests(&deploy, &Files::default(), "deploy.yaml").unwrap_err();
    assert!(found[0].message.contains("`manifests` did not come"), "{found:?}");
    let found = read_manifests(
        "kind: Service\n---\n- 1\n---\napiVersion: v1\nkind: Pod\n",
        "m.yaml",
    )
    .unwrap_err();
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("m.yaml:1:1: `apiVersion` is missing"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("m.yaml:1:1: `metadata.name` is missing"),
        "{told:?}"
    );
    assert!(
        told[2].starts_with("m.yaml:3:1: expected a Kubernetes object, found a list"),
        "{told:?}"
    );
    assert!(told[3].contains("m.yaml:5:1"), "{told:?}");
}

#[test]
fn a_submit_carries_its_files() {
    let body = serde_json::json!({
        "application": "x",
        "targets": {"t": {"account": "a", "namespace": "n", "strategy": "s"}},
        "strategies": {"s": {"canary": {"steps": [{"setWeight": {"weight": 10}}]}}},
        "manifests": [{"path": "m.yaml"}],
        "files": {"m.yaml": ["apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"]},
        "sourceControl": {"type": "git"},
    });
    let parsed = parse_submit(&body.to_string(), "request").unwrap();
    assert_eq!(parsed.source_control, Some(serde_json::json!({"type": "git"})));
    assert_eq!(
        manifests(&parsed.deploy, &parsed.files, "request").unwrap()["t"].len(),
        1
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[ -~\n\t]{0,300}") {
        let _ = parse(&text, "f");
        let _ = read_manifests(&text, "f");
    }

    #[test]
    fn a_file_cut_anywhere_is_read_or_refused(cut in 0..GOOD.len()) {
        let text = &GOOD[..cut];
        if let Err(found) = parse(text, "f") {
            prop_assert!(!found.is_empty());
        }
    }
}
