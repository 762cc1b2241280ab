//! What a deploy file can ask for and the renderer is never asked: refused by name before it.
//!
//! Golden files show what is rendered; each row here says what is not yet, or what a file has no words for.
#![cfg(feature = "render")]

use aurora_core::deploy_file::{Problem, parse};

/// A canary and a blue/green target; the row adds to it.
fn file(canary_step: &str, redirect_after: &str, traffic: &str) -> String {
    let traffic = if traffic.is_empty() {
        String::new()
    } else {
        format!("trafficManagement: [{{targets: [one, two], {traffic}}}]\n")
    };
    format!(
        "version: v1
kind: kubernetes
application: shop
targets:
  one: {{account: dev, namespace: one, strategy: steps}}
  two: {{account: dev, namespace: two, strategy: sides}}
strategies:
  steps: {{canary: {{steps: [{{setWeight: {{weight: 20}}}}{canary_step}]}}}}
  sides: {{blueGreen: {{redirectTrafficAfter: [{redirect_after}]}}}}
manifests: [{{path: shop.yaml}}]
webhooks: [{{name: check, method: POST, uriTemplate: \"https://check.example/run\", networkMode: direct}}]
analysis:
  defaultMetricProviderName: metrics
  queries: [{{name: errors, upperLimit: 1, queryTemplate: \"errors\"}}]
{traffic}"
    )
}

/// Every problem that keeps a file from being submitted.
fn refused(text: &str) -> Vec<Problem> {
    match parse(text, "deploy.yml") {
        Ok(parsed) => parsed.deploy.not_yet(),
        Err(problems) => problems.into_iter().filter(Problem::is_error).collect(),
    }
}

#[test]
fn the_file_without_any_of_it_is_accepted() {
    assert_eq!(refused(&file("", "", "")), []);
    let kubernetes = "kubernetes: [{activeService: web, previewService: web-next}]";
    assert_eq!(refused(&file("", "", kubernetes)), []);
}

#[test]
fn routers_and_steps_that_nothing_runs_yet_are_refused_by_name() {
    let analysis = "{analysis: {interval: 30, units: seconds, numberOfJudgmentRuns: 2, queries: [errors]}}";
    let webhook = "{runWebhook: {name: check}}";
    let expose = "{exposeServices: {services: [web], ttl: {duration: 5, unit: minutes}}}";
    let istio = "istio: [{virtualService: {name: web, httpRouteName: main}, destinationRule: {name: web}}]";
    let smi = "smi: [{rootServiceName: web}]";
    let (in_canary, in_blue_green) = (
        "/strategies/steps/canary/steps/1",
        "/strategies/sides/blueGreen/redirectTrafficAfter/0",
    );
    let rows = [
        (
            "canary with analysis",
            file(&format!(", {analysis}"), "", ""),
            "analysis",
            in_canary,
        ),
        (
            "canary with a webhook",
            file(&format!(", {webhook}"), "", ""),
            "runWebhook",
            in_canary,
        ),
        (
            "canary with exposed Services",
            file(&format!(", {expose}"), "", ""),
            "exposeServices",
            in_canary,
        ),
        (
            "blue/green with analysis",
            file("", analysis, ""),
            "analysis",
            in_blue_green,
        ),
        (
            "blue/green with a webhook",
            file("", webhook, ""),
            "runWebhook",
            in_blue_green,
        ),
        (
            "blue/green with exposed Services",
            file("", expose, ""),
            "exposeServices",
            in_blue_green,
        ),
        (
            "canary and blue/green with Istio",
            file("", "", istio),
            "istio",
            "/trafficManagement/0/istio",
        ),
        (
            "canary and blue/green with SMI",
            file("", "", smi),
            "smi",
            "/trafficManagement/0/smi",
        ),
    ];
    for (row, text, name, pointer) in rows {
        let problems = refused(&text);
        let [problem] = problems.as_slice() else {
            panic!("{row}: one problem, not {problems:#?}");
        };
        assert_eq!(problem.code, "notYet", "{row}: {problem}");
        assert!(problem.message.contains(&format!("`{name}`")), "{row}: {problem}");
        assert!(problem.pointer.starts_with(pointer), "{row}: {}", problem.pointer);
    }
}

#[test]
fn routers_that_a_deploy_file_has_no_words_for_are_unknown_keys() {
    for router in ["alb", "nginx", "gatewayApi", "traefik"] {
        let problems = refused(&file("", "", &format!("{router}: [{{ingress: web}}]")));
        assert!(
            problems
                .iter()
                .any(|problem| problem.code == "unknownKey" && problem.message.contains(router)),
            "{router}: {problems:#?}"
        );
    }
}
