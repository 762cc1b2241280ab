//! What objects of a plan say about each other: Rollouts, their Services, routes and analyses.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Lint, analysis};
use crate::argo;
use crate::render::draft::Draft;
use crate::render::kinds;
use crate::render::node::Node;
use crate::render::report::{Place, Report};

/// Checks the references of every Rollout to objects of the plan; others are named in notes.
pub(super) fn check(drafts: &[Draft], report: &mut Report) {
    let mut managed: BTreeMap<String, &Place> = BTreeMap::new();
    for draft in drafts.iter().filter(|draft| kinds::is_rollout(&draft.object())) {
        let spec = Node::root(&draft.body).field("spec");
        let mut lint = Lint {
            place: &draft.place,
            report,
        };
        for service in services(&spec) {
            let name = service.value.as_str().unwrap_or_default().to_owned();
            if let Some(other) = managed
                .get(&name)
                .filter(|other| other.named != draft.place.named)
            {
                let what = format!("names the Service `{name}`, which {} manages", other.named);
                lint.error(
                    "sharedService",
                    &service,
                    what,
                    "give each Rollout Services of its own",
                );
            }
            managed.insert(name, &draft.place);
            check_service(&spec, &service, drafts, &mut lint);
        }
        check_ingresses(&spec, drafts, &mut lint);
        check_virtual_services(&spec, drafts, &mut lint);
        check_mappings(&spec, drafts, &mut lint);
        for (analysis, bounded) in analyses(&spec) {
            check_analysis(&analysis, bounded, drafts, &mut lint);
        }
    }
}

fn find<'a>(drafts: &'a [Draft], group: &str, kind: &str, name: &str) -> Option<&'a Draft> {
    drafts.iter().find(|draft| {
        let object = draft.object();
        object.group == group && object.kind == kind && object.name == name
    })
}

/// Every Service that a Rollout names.
fn services<'a>(spec: &Node<'a>) -> Vec<Node<'a>> {
    let strategy = spec.field("strategy");
    let canary = strategy.field("canary");
    let holders = [
        (canary.clone(), ["canaryService", "stableService"]),
        (canary.field("pingPong"), ["pingService", "pongService"]),
        (strategy.field("blueGreen"), ["activeService", "previewService"]),
    ];
    holders
        .iter()
        .flat_map(|(holder, keys)| keys.iter().filter_map(|key| holder.get(key)))
        .filter(|node| node.value.as_str().is_some_and(|name| !name.is_empty()))
        .collect()
}

fn check_service(spec: &Node<'_>, service: &Node<'_>, drafts: &[Draft], lint: &mut Lint<'_>) {
    let name = service.value.as_str().unwrap_or_default();
    let Some(draft) = find(drafts, "", "Service", name) else {
        must_exist("Service", name, lint);
        return;
    };
    let pods = spec.path(&["template", "metadata", "labels"]);
    if pods.value.is_null() {
        return;
    }
    let given = |key: &str| {
        let strategy = spec.field("strategy");
        let metadata = [("canary", "canaryMetadata"), ("canary", "stableMetadata")]
            .into_iter()
            .chain([("blueGreen", "activeMetadata"), ("blueGreen", "previewMetadata")]);
        metadata
            .into_iter()
            .any(|(kind, field)| strategy.path(&[kind, field, "labels"]).has(key))
    };
    for (key, wanted) in Node::root(&draft.body).path(&["spec", "selector"]).entries() {
        if key != argo::POD_TEMPLATE_HASH && pods.value.get(key) != Some(wanted.value) && !given(key) {
            let what = format!(
                "names the Service `{name}`, which selects {key}={}: the pods do not carry that",
                wanted.value.as_str().unwrap_or_default()
            );
            lint.error(
                "selectorMismatch",
                service,
                what,
                "make selector and pod labels agree",
            );
        }
    }
}

fn must_exist(kind: &str, name: &str, lint: &mut Lint<'_>) {
    let what = format!("it needs the {kind} {name}, which is not in the plan and must be there");
    lint.report.note(lint.place, &what);
}

fn check_ingresses(spec: &Node<'_>, drafts: &[Draft], lint: &mut Lint<'_>) {
    let canary = spec.path(&["strategy", "canary"]);
    let stable = canary.name("stableService").map(str::to_owned);
    let (nginx, alb) = (
        canary.path(&["trafficRouting", "nginx"]),
        canary.path(&["trafficRouting", "alb"]),
    );
    let root = alb
        .name("rootService")
        .map(str::to_owned)
        .or_else(|| stable.clone());
    let of_nginx = nginx
        .get("stableIngress")
        .into_iter()
        .chain(nginx.field("stableIngresses").items());
    let of_alb = alb
        .get("ingress")
        .into_iter()
        .chain(alb.field("ingresses").items());
    let named = of_nginx
        .map(|node| (node, &stable))
        .chain(of_alb.map(|node| (node, &root)));
    for (node, backend) in named {
        let (Some(name), Some(backend)) = (node.value.as_str(), backend) else {
            continue;
        };
        match find(drafts, "networking.k8s.io", "Ingress", name) {
            None => must_exist("Ingress", name, lint),
            Some(draft) if !has_backend(Node::root(&draft.body).field("spec"), backend) => {
                let what =
                    format!("names the Ingress `{name}`, which has no rule for the Service `{backend}`");
                lint.error(
                    "noBackend",
                    &node,
                    what,
                    "add a rule whose backend is that Service",
                );
            }
            Some(_) => {}
        }
    }
}

fn has_backend(spec: Node<'_>, service: &str) -> bool {
    let rules = spec.field("rules").items();
    let paths = rules
        .iter()
        .flat_map(|rule| rule.path(&["http", "paths"]).items());
    paths
        .map(|path| path.field("backend"))
        .chain(spec.get("defaultBackend"))
        .any(|backend| backend.field("service").text("name") == Some(service))
}

/// A route must go to the stable and the canary side, and to nothing else.
fn check_virtual_services(spec: &Node<'_>, drafts: &[Draft], lint: &mut Lint<'_>) {
    let canary = spec.path(&["strategy", "canary"]);
    let istio = canary.path(&["trafficRouting", "istio"]);
    let named = istio
        .get("virtualService")
        .into_iter()
        .chain(istio.field("virtualServices").items());
    for reference in named {
        let Some(name) = reference.name("name") else {
            continue;
        };
        // The name may hold a namespace of its own: then it is not one of ours.
        let Some(draft) = find(drafts, "networking.istio.io", "VirtualService", name) else {
            must_exist("VirtualService", name, lint);
            continue;
        };
        let body = Node::root(&draft.body).field("spec");
        let routed = ["http", "tcp", "tls"]
            .iter()
            .any(|kind| !body.field(kind).items().is_empty());
        if !routed {
            let what = format!("names the VirtualService `{name}`, which has no routes");
            lint.error("noRoutes", &reference, what, "add an http, tcp or tls route");
        }
        check_http_routes(&canary, &reference, &body, lint);
    }
}

fn check_http_routes(canary: &Node<'_>, reference: &Node<'_>, body: &Node<'_>, lint: &mut Lint<'_>) {
    let routes = body.field("http").items();
    let wanted = reference.field("routes").items();
    for name in &wanted {
        if !routes
            .iter()
            .any(|route| route.text("name") == name.value.as_str())
        {
            let what = format!(
                "names the route {}, which the VirtualService does not have",
                name.value
            );
            lint.error("unknownRoute", name, what, "name one of its http routes");
        }
    }
    if wanted.is_empty() && routes.len() > 1 {
        let what = "is missing: the VirtualService has several http routes";
        lint.error(
            "missing",
            &reference.field("routes"),
            what,
            "name the routes to edit",
        );
        return;
    }
    let subsets = canary.path(&["trafficRouting", "istio", "destinationRule"]);
    let (key, sides) = if subsets.value.is_object() {
        (
            "subset",
            [subsets.name("canarySubsetName"), subsets.name("stableSubsetName")],
        )
    } else {
        (
            "host",
            [canary.name("canaryService"), canary.name("stableService")],
        )
    };
    let is_edited = |route: &&Node<'_>| {
        let name = route.value.get("name");
        wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.value) == name)
    };
    for route in routes.iter().filter(is_edited) {
        let destinations = route.field("route").items();
        let goes_to = |side: Option<&str>| {
            let side = side?;
            destinations.iter().find(|destination| {
                let text = destination.field("destination").text(key).unwrap_or_default();
                // Hosts may be written with their namespace and domain.
                text == side || key == "host" && text.split('.').next() == Some(side)
            })
        };
        if sides
            .iter()
            .any(|side| side.is_some() && goes_to(*side).is_none())
        {
            let what = "names a VirtualService with a route that lacks the canary or the stable side";
            let hint = "list both as destinations of each route, with weights 0 and 100";
            lint.error("badRoute", reference, what, hint);
        }
    }
}

fn check_mappings(spec: &Node<'_>, drafts: &[Draft], lint: &mut Lint<'_>) {
    let mappings = spec.path(&["strategy", "canary", "trafficRouting", "ambassador", "mappings"]);
    for node in mappings.items() {
        let name = node.value.as_str().unwrap_or_default();
        let mapping = drafts.iter().find(|draft| {
            let object = draft.object();
            object.group == "getambassador.io" && object.kind == "Mapping" && object.name == name
        });
        if mapping.is_some_and(|draft| draft.body.pointer("/spec/weight").is_some()) {
            let what = format!("names the Mapping `{name}`, which has a weight of its own");
            lint.error("excludes", &node, what, "take spec.weight out of the Mapping");
        }
    }
}

/// Every use of templates, and whether its metrics must come to an end.
fn analyses<'a>(spec: &Node<'a>) -> Vec<(Node<'a>, bool)> {
    let strategy = spec.field("strategy");
    let canary = strategy.field("canary");
    let mut found: Vec<(Node<'a>, bool)> = canary
        .get("analysis")
        .map(|node| (node, false))
        .into_iter()
        .collect();
    for step in canary.field("steps").items() {
        found.extend(step.get("analysis").map(|node| (node, true)));
    }
    for key in ["prePromotionAnalysis", "postPromotionAnalysis"] {
        found.extend(strategy.field("blueGreen").get(key).map(|node| (node, true)));
    }
    found
}

fn check_analysis(analysis: &Node<'_>, bounded: bool, drafts: &[Draft], lint: &mut Lint<'_>) {
    let (mut complete, mut templates) = (true, Vec::new());
    for reference in analysis.field("templates").items() {
        complete &= collect(&reference, drafts, &mut templates, lint);
    }
    for template in &templates {
        let spec = Node::root(&template.body).field("spec");
        for metric in spec.field("metrics").items() {
            if bounded && analysis::is_endless(&metric) {
                let what = format!(
                    "uses {}, whose metric `{}` measures without end",
                    template.place.named,
                    metric.name("name").unwrap_or_default()
                );
                lint.error("endless", analysis, what, "give the metric a `count`");
            }
        }
        for argument in spec.field("args").items() {
            let name = argument.name("name").unwrap_or_default();
            let has = |node: &Node<'_>| node.has("value") || node.has("valueFrom");
            let given = analysis.field("args").items();
            let given = given
                .iter()
                .any(|argument| argument.name("name") == Some(name) && has(argument));
            if complete && !has(&argument) && !given {
                let what = format!(
                    "gives no value for `{name}`, which {} needs",
                    template.place.named
                );
                lint.error(
                    "missingArgument",
                    &analysis.field("args"),
                    what,
                    "add it to the arguments",
                );
            }
        }
    }
}

/// Finds a template and those that it names itself; false when one is not in the plan.
fn collect<'a>(
    reference: &Node<'_>,
    drafts: &'a [Draft],
    found: &mut Vec<&'a Draft>,
    lint: &mut Lint<'_>,
) -> bool {
    let Some(name) = reference.name("templateName") else {
        return false;
    };
    let kind = match reference.value.get("clusterScope").and_then(Value::as_bool) {
        Some(true) => argo::CLUSTER_ANALYSIS_TEMPLATE,
        _ => argo::ANALYSIS_TEMPLATE,
    };
    let Some(draft) = find(drafts, argo::GROUP, kind, name) else {
        must_exist(kind, name, lint);
        return false;
    };
    if found.iter().any(|known| known.object() == draft.object()) {
        return true;
    }
    found.push(draft);
    let nested = Node::root(&draft.body).path(&["spec", "templates"]).items();
    nested.iter().fold(true, |complete, reference| {
        collect(reference, drafts, found, lint) && complete
    })
}
