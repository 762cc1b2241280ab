//! Rules for the steps of a canary.

use serde_json::Value;

use super::{Lint, analysis, fields, routing};
use crate::argo::{self, IntOrPercent};
use crate::render::node::Node;

/// Kinds of steps of which one entry may hold only one.
const EXCLUSIVE: [&str; 5] = ["analysis", "experiment", "pause", "plugin", "setWeight"];

/// Checks every step of a canary.
pub(super) fn check(canary: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    let list = canary.field("steps");
    if !list.value.is_null() && !list.value.is_array() {
        lint.error("badType", &list, "is not a list", "");
    }
    let routers = routing::routers(canary);
    if routers.is_empty() {
        say_where_no_pod_is_exchanged(canary, spec, lint);
    }
    let mut weighted = false;
    for step in list.items() {
        check_kind(&step, lint);
        if let Some(weight) = step.get("setWeight") {
            check_weight(canary, &routers, &weight, lint);
            weighted = true;
        }
        if let Some(pause) = step.get("pause") {
            check_pause(&pause, lint);
        }
        if let Some(scale) = step.get("setCanaryScale") {
            check_scale(&scale, routers.is_empty(), weighted, lint);
        }
        if let Some(route) = step.get("setHeaderRoute") {
            check_header_route(canary, &routers, &route, lint);
        }
        if let Some(route) = step.get("setMirrorRoute") {
            check_mirror_route(canary, &routers, &route, lint);
        }
        if let Some(node) = step.get("analysis") {
            analysis::check_use(&node, lint);
        }
        if let Some(experiment) = step.get("experiment") {
            check_experiment(&experiment, &routers, lint);
        }
        if let Some(plugin) = step.get("plugin")
            && plugin.name("name").is_none()
        {
            lint.error(
                "missing",
                &plugin.field("name"),
                "is missing",
                "the plugin as the controller knows it",
            );
        }
    }
}

/// Without surge some weights come out as no new pod at all, or as nothing but new pods.
fn say_where_no_pod_is_exchanged(canary: &Node<'_>, spec: &Node<'_>, lint: &mut Lint<'_>) {
    let surge = canary
        .get("maxSurge")
        .and_then(|node| IntOrPercent::read(node.value));
    let Some(replicas) = spec.int("replicas").filter(|replicas| *replicas > 0) else {
        return;
    };
    if surge.is_none_or(|surge| surge.number() != 0) {
        return;
    }
    for step in canary.field("steps").items() {
        let Some(weight) = step.int("setWeight").filter(|weight| (1..100).contains(weight)) else {
            continue;
        };
        // Half a pod short of all: no count of pods is near enough.
        let half_short = replicas.saturating_mul(100 - weight) == 50;
        if replicas == 1 || half_short {
            let new = if replicas == 1 && weight >= 50 {
                "every pod is"
            } else {
                "no pod is"
            };
            let what = format!(
                "at weight {weight} {new} of the new version: maxSurge is 0 and there are {replicas} replicas"
            );
            lint.report.note(lint.place, &what);
        }
    }
}

fn check_kind(step: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(step, fields::STEP, lint);
    let kinds: Vec<&str> = step.entries().into_iter().map(|(key, _)| key).collect();
    if kinds.is_empty() {
        let hint = format!("one of {}", fields::STEP.join(", "));
        lint.error("emptyStep", step, "does nothing", &hint);
    }
    let exclusive: Vec<&str> = kinds
        .into_iter()
        .filter(|kind| EXCLUSIVE.contains(kind))
        .collect();
    if exclusive.len() > 1 {
        let what = format!("does several things: {}", exclusive.join(", "));
        lint.error(
            "twoSteps",
            step,
            what,
            "write one entry for each, in the order you want",
        );
    }
}

fn check_weight(canary: &Node<'_>, routers: &[&str], weight: &Node<'_>, lint: &mut Lint<'_>) {
    let wide = routers
        .iter()
        .any(|router| matches!(*router, "nginx" | "plugins"));
    let most = canary
        .field("trafficRouting")
        .int("maxTrafficWeight")
        .filter(|_| wide)
        .unwrap_or(100);
    match weight.value.as_i64() {
        None => {
            let what = format!("is {}, not a whole number", weight.value);
            lint.error("badType", weight, what, "for example 25");
        }
        Some(number) if !(0..=most).contains(&number) => {
            lint.error(
                "outOfRange",
                weight,
                format!("is {number}, not between 0 and {most}"),
                "",
            );
        }
        Some(_) => {}
    }
}

fn check_pause(pause: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(pause, fields::PAUSE, lint);
    let Some(duration) = pause.get("duration") else {
        return;
    };
    let seconds = match duration.value {
        Value::Number(number) => number.as_i64().map(|seconds| seconds as f64),
        Value::String(text) => match text.parse::<i32>() {
            Ok(seconds) => Some(f64::from(seconds)),
            Err(_) => argo::duration(text),
        },
        _ => None,
    };
    let hint =
        "seconds, or a text like \"30s\", \"5m\" or \"1h30m\"; without a duration it waits for a promote";
    match seconds {
        None => lint.error("badDuration", &duration, format!("is {}", duration.value), hint),
        Some(seconds) if seconds < 0.0 => {
            lint.error(
                "badDuration",
                &duration,
                format!("is {}, less than 0", duration.value),
                hint,
            );
        }
        Some(seconds) if seconds < 1.0 => {
            let what = "its pauses of less than a second do not stop at all";
            lint.report.note(lint.place, what);
        }
        Some(_) => {}
    }
}

fn check_scale(scale: &Node<'_>, unrouted: bool, weighted: bool, lint: &mut Lint<'_>) {
    fields::check(scale, fields::CANARY_SCALE, lint);
    lint.whole(scale, "replicas", 0);
    if lint.whole(scale, "weight", 0).is_some_and(|weight| weight > 100) {
        lint.error("outOfRange", &scale.field("weight"), "is more than 100", "");
    }
    if unrouted {
        let what = "needs trafficRouting: without it the weight decides how many pods there are";
        lint.error("needsRouting", scale, what, "take the step out");
    } else if scale.is_set("matchTrafficWeight") && !weighted {
        let what = "comes before any setWeight and would take all canary pods away";
        lint.error(
            "tooEarly",
            &scale.field("matchTrafficWeight"),
            what,
            "put a setWeight before it",
        );
    }
}

fn check_header_route(canary: &Node<'_>, routers: &[&str], route: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(route, fields::HEADER_ROUTE, lint);
    let able = |router: &&str| matches!(*router, "alb" | "apisix" | "istio" | "plugins");
    if !routers.iter().any(able) {
        let hint = "ALB, APISIX, Istio and plugins can do it";
        lint.error(
            "needsRouting",
            route,
            "needs a router that can match headers",
            hint,
        );
    }
    check_managed(canary, route, lint);
    for header in route.field("match").items() {
        if header.name("headerName").is_none() {
            lint.error("missing", &header.field("headerName"), "is missing", "");
        }
        let value = header.field("headerValue");
        check_match(&value, lint);
        if routers.contains(&"alb") && (value.has("prefix") || value.has("regex")) {
            lint.error(
                "notSupported",
                &value,
                "is not `exact`",
                "ALB compares only whole values",
            );
        }
    }
}

fn check_mirror_route(canary: &Node<'_>, routers: &[&str], route: &Node<'_>, lint: &mut Lint<'_>) {
    fields::check(route, fields::MIRROR_ROUTE, lint);
    if !routers
        .iter()
        .any(|router| matches!(*router, "istio" | "plugins"))
    {
        let what = "needs a router that can mirror traffic";
        lint.error("needsRouting", route, what, "Istio and plugins can do it");
    }
    check_managed(canary, route, lint);
    if lint
        .whole(route, "percentage", 0)
        .is_some_and(|share| share > 100)
    {
        lint.error("outOfRange", &route.field("percentage"), "is more than 100", "");
    }
    for rule in route.field("match").items() {
        let headers = rule
            .field("headers")
            .entries()
            .into_iter()
            .map(|(_, value)| value);
        let texts = rule.get("method").into_iter().chain(rule.get("path"));
        for value in texts.chain(headers) {
            check_match(&value, lint);
        }
    }
}

fn check_managed(canary: &Node<'_>, route: &Node<'_>, lint: &mut Lint<'_>) {
    let managed = canary.path(&["trafficRouting", "managedRoutes"]);
    let name = route.name("name");
    if managed.items().is_empty() {
        let what = "is missing: a step makes a route";
        lint.error(
            "missing",
            &managed,
            what,
            "list the routes that steps make, by name",
        );
    } else if !managed.items().iter().any(|known| known.name("name") == name) {
        let what = format!(
            "is `{}`, which is not one of the managedRoutes",
            name.unwrap_or_default()
        );
        lint.error(
            "unknownRoute",
            &route.field("name"),
            what,
            "add it to trafficRouting.managedRoutes",
        );
    }
}

fn check_match(value: &Node<'_>, lint: &mut Lint<'_>) {
    let ways = ["exact", "prefix", "regex"]
        .iter()
        .filter(|way| value.name(way).is_some())
        .count();
    if ways != 1 {
        lint.error(
            "notOne",
            value,
            "needs exactly one of exact, prefix and regex",
            "",
        );
    }
}

fn check_experiment(experiment: &Node<'_>, routers: &[&str], lint: &mut Lint<'_>) {
    fields::check(experiment, fields::EXPERIMENT, lint);
    if let Some(duration) = experiment.get("duration") {
        let seconds = duration.value.as_str().and_then(argo::duration);
        if seconds.is_none_or(|seconds| seconds < 0.0) {
            let what = format!("is {}: the step would never end", duration.value);
            lint.error(
                "badDuration",
                &duration,
                what,
                "a text like \"30s\", \"5m\" or \"1h\"",
            );
        }
    }
    let templates = experiment.field("templates").items();
    if templates.is_empty() {
        lint.error(
            "missing",
            &experiment.field("templates"),
            "is missing",
            "name what to run",
        );
    }
    for template in templates {
        fields::check(&template, fields::EXPERIMENT_TEMPLATE, lint);
        if template.name("name").is_none() {
            lint.error("missing", &template.field("name"), "is missing", "");
        }
        if !matches!(template.text("specRef"), Some("canary" | "stable")) {
            let what = "is not known: the step would never end";
            lint.error("badValue", &template.field("specRef"), what, "canary or stable");
        }
        lint.whole(&template, "replicas", 0);
        let able = |router: &&str| matches!(*router, "alb" | "istio" | "plugins" | "smi");
        if template.has("weight") && !routers.iter().any(able) {
            let what = "needs a router that can split traffic to it";
            lint.error(
                "needsRouting",
                &template.field("weight"),
                what,
                "ALB, Istio, SMI and plugins can do it",
            );
        }
    }
    for analysis in experiment.field("analyses").items() {
        for key in ["name", "templateName"] {
            if analysis.name(key).is_none() {
                lint.error("missing", &analysis.field(key), "is missing", "");
            }
        }
        analysis::check_arguments(&analysis, lint);
    }
}
