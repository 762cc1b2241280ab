//! Rules for traffic routers of a canary.

use super::{Lint, fields};
use crate::render::node::Node;

/// The routers that a canary names.
pub(super) fn routers(canary: &Node<'_>) -> Vec<&'static str> {
    let routing = canary.field("trafficRouting");
    let is_used = |router: &&&str| match **router {
        "plugins" => !routing.field("plugins").entries().is_empty(),
        router => routing.has(router),
    };
    fields::ROUTERS.iter().filter(is_used).copied().collect()
}

/// Checks the routing of a canary and what needs it.
pub(super) fn check(canary: &Node<'_>, lint: &mut Lint<'_>) {
    let routers = routers(canary);
    check_what_needs_routing(canary, routers.is_empty(), lint);
    check_services(canary, &routers, lint);
    check_ping_pong(canary, &routers, lint);
    let routing = canary.field("trafficRouting");
    let known: Vec<&str> = [fields::ROUTERS, &["managedRoutes", "maxTrafficWeight"]].concat();
    fields::check(&routing, &known, lint);
    if routing.has("maxTrafficWeight") {
        lint.whole(&routing, "maxTrafficWeight", 1);
        if !routers
            .iter()
            .any(|router| matches!(*router, "nginx" | "plugins"))
        {
            let what = "is understood only by nginx and plugins";
            lint.error(
                "notSupported",
                &routing.field("maxTrafficWeight"),
                what,
                "take it out: 100 is meant",
            );
        }
    }
    for route in routing.field("managedRoutes").items() {
        if route.name("name").is_none() {
            lint.error(
                "missing",
                &route.field("name"),
                "is missing",
                "steps name routes by it",
            );
        }
    }
    check_istio(&routing.field("istio"), lint);
    check_pair(&routing.field("nginx"), "stableIngress", "stableIngresses", lint);
    check_pair(&routing.field("alb"), "ingress", "ingresses", lint);
    if let Some(alb) = routing.get("alb")
        && !alb.has("servicePort")
    {
        lint.error(
            "missing",
            &alb.field("servicePort"),
            "is missing",
            "the port of the root Service",
        );
    }
}

fn check_what_needs_routing(canary: &Node<'_>, unrouted: bool, lint: &mut Lint<'_>) {
    let dynamic = canary.is_set("dynamicStableScale");
    let delayed = canary.has("scaleDownDelaySeconds");
    let hint = "it needs trafficRouting: take it out";
    if unrouted && delayed {
        lint.error(
            "needsRouting",
            &canary.field("scaleDownDelaySeconds"),
            "has no meaning here",
            hint,
        );
    }
    if unrouted && dynamic {
        lint.error(
            "needsRouting",
            &canary.field("dynamicStableScale"),
            "has no meaning here",
            hint,
        );
    }
    if dynamic && delayed {
        let what = "cannot be used with scaleDownDelaySeconds";
        lint.error(
            "excludes",
            &canary.field("dynamicStableScale"),
            what,
            "keep one of them",
        );
    }
    if dynamic && canary.has("minPodsPerReplicaSet") {
        let what = "cannot be used with minPodsPerReplicaSet: an abort would never reach weight 0";
        lint.error(
            "excludes",
            &canary.field("dynamicStableScale"),
            what,
            "keep one of them",
        );
    }
}

fn check_services(canary: &Node<'_>, routers: &[&str], lint: &mut Lint<'_>) {
    let pings = canary.has("pingPong");
    let subsets = canary.path(&["trafficRouting", "istio"]).has("destinationRule");
    for router in routers {
        let spared = match *router {
            "istio" => subsets || pings,
            "alb" | "plugins" => pings,
            _ => false,
        };
        if spared {
            continue;
        }
        for key in ["canaryService", "stableService"] {
            if canary.name(key).is_none() {
                let what = format!("is missing: {router} shifts traffic between two Services");
                lint.error(
                    "missing",
                    &canary.field(key),
                    what,
                    "name a Service of its own for each side",
                );
            }
        }
    }
}

fn check_ping_pong(canary: &Node<'_>, routers: &[&str], lint: &mut Lint<'_>) {
    let Some(pair) = canary.get("pingPong") else {
        return;
    };
    fields::check(&pair, &["pingService", "pongService"], lint);
    for key in ["pingService", "pongService"] {
        if lint.text(&pair, key).is_none() {
            lint.error(
                "missing",
                &pair.field(key),
                "is missing",
                "both Services are needed",
            );
        }
    }
    let (ping, pong) = (pair.name("pingService"), pair.name("pongService"));
    if ping.is_some() && ping == pong {
        let what = "is the same Service as pingService";
        lint.error(
            "sameService",
            &pair.field("pongService"),
            what,
            "two different Services are needed",
        );
    }
    if let Some(router) = routers
        .iter()
        .find(|router| !matches!(**router, "alb" | "istio" | "plugins"))
    {
        let what = format!("does not work with {router}");
        lint.error("notSupported", &pair, what, "ALB, Istio and plugins can do it");
    }
    let alb = canary.path(&["trafficRouting", "alb"]);
    if alb.value.is_object() && alb.name("rootService").is_none() {
        lint.error(
            "missing",
            &alb.field("rootService"),
            "is missing",
            "pingPong with ALB needs it",
        );
    }
}

fn check_istio(istio: &Node<'_>, lint: &mut Lint<'_>) {
    if istio.value.is_null() {
        return;
    }
    let known = ["destinationRule", "virtualService", "virtualServices"];
    fields::check(istio, &known, lint);
    let many = istio.field("virtualServices");
    if istio.has("virtualService") != many.items().is_empty() {
        let what = "needs exactly one of virtualService and virtualServices";
        lint.error("notOne", istio, what, "name the VirtualService to edit");
    }
    for service in istio.get("virtualService").into_iter().chain(many.items()) {
        if service.name("name").is_none() {
            lint.error(
                "missing",
                &service.field("name"),
                "is missing",
                "name the VirtualService",
            );
        }
    }
    if let Some(rule) = istio.get("destinationRule") {
        for key in ["name", "canarySubsetName", "stableSubsetName"] {
            if rule.name(key).is_none() {
                lint.error(
                    "missing",
                    &rule.field(key),
                    "is missing",
                    "the rule and its two subsets",
                );
            }
        }
    }
}

fn check_pair(router: &Node<'_>, one: &str, many: &str, lint: &mut Lint<'_>) {
    if router.value.is_null() {
        return;
    }
    let single = router.name(one).is_some();
    if single != router.field(many).items().is_empty() {
        lint.error(
            "notOne",
            router,
            format!("needs exactly one of {one} and {many}"),
            "keep one of them",
        );
    }
}
