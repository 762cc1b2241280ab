//! Rules for the Istio objects of a plan that a canary names.

use super::Lint;
use super::references::{Index, must_exist};
use crate::render::node::Node;

/// A route must go to the stable and the canary side, and to nothing else.
pub(super) fn check(spec: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
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
        let Some(draft) = index.find("networking.istio.io", "VirtualService", name) else {
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
    check_subsets(&istio.field("destinationRule"), index, lint);
}

/// Both subsets must be declared by the rule.
fn check_subsets(reference: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
    let Some(name) = reference.name("name") else {
        return;
    };
    let Some(draft) = index.find("networking.istio.io", "DestinationRule", name) else {
        must_exist("DestinationRule", name, lint);
        return;
    };
    let subsets = Node::root(&draft.body).path(&["spec", "subsets"]).items();
    for key in ["canarySubsetName", "stableSubsetName"] {
        let Some(subset) = reference.name(key) else {
            continue;
        };
        if !subsets.iter().any(|known| known.text("name") == Some(subset)) {
            let what = format!("is `{subset}`, which the DestinationRule `{name}` does not have");
            lint.error(
                "unknownSubset",
                &reference.field(key),
                what,
                "add it to spec.subsets",
            );
        }
    }
}

fn check_http_routes(canary: &Node<'_>, reference: &Node<'_>, body: &Node<'_>, lint: &mut Lint<'_>) {
    let routes = body.field("http").items();
    let wanted = reference.field("routes").items();
    if routes.is_empty() {
        // Routes of other protocols are found by port and host.
        return;
    }
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
