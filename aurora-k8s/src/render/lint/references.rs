//! What objects of a plan say about each other: Rollouts, their Services, routes and analyses.

use std::collections::BTreeMap;

use super::{Lint, istio, templates};
use crate::argo;
use crate::render::draft::Draft;
use crate::render::kinds;
use crate::render::node::Node;
use crate::render::report::{Place, Report};

/// The objects of a plan by group, kind and name.
#[derive(Debug)]
pub(super) struct Index<'a>(BTreeMap<(String, String, String), &'a Draft>);

impl<'a> Index<'a> {
    fn of(drafts: &'a [Draft]) -> Self {
        let key = |draft: &'a Draft| {
            let object = draft.object();
            ((object.group, object.kind, object.name), draft)
        };
        Self(drafts.iter().map(key).collect())
    }

    pub(super) fn find(&self, group: &str, kind: &str, name: &str) -> Option<&'a Draft> {
        let key = (group.to_owned(), kind.to_owned(), name.to_owned());
        self.0.get(&key).copied()
    }
}

/// Checks the references of every Rollout to objects of the plan; others are named in notes.
pub(super) fn check(drafts: &[Draft], report: &mut Report) {
    let index = Index::of(drafts);
    for draft in drafts {
        check_pods(draft, &index, report);
    }
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
            check_service(&spec, &service, &index, &mut lint);
        }
        check_ingresses(&spec, &index, &mut lint);
        istio::check(&spec, &index, &mut lint);
        check_mappings(&spec, &index, &mut lint);
        templates::check(&spec, &index, &mut lint);
    }
}

/// Pods without their service account are not made, without their claim they do not start.
fn check_pods(draft: &Draft, index: &Index<'_>, report: &mut Report) {
    let template = kinds::pod_template(&draft.object());
    let Some(spec) = template.and_then(|template| draft.at(template)?.get("spec")) else {
        return;
    };
    let mut lint = Lint {
        place: &draft.place,
        report,
    };
    let spec = Node::root(spec);
    let account = spec.name("serviceAccountName").filter(|name| *name != "default");
    if let Some(name) = account.filter(|name| index.find("", "ServiceAccount", name).is_none()) {
        must_exist("ServiceAccount", name, &mut lint);
    }
    for volume in spec.field("volumes").items() {
        let claim = volume.field("persistentVolumeClaim").name("claimName");
        if let Some(name) = claim.filter(|name| index.find("", "PersistentVolumeClaim", name).is_none()) {
            must_exist("PersistentVolumeClaim", name, &mut lint);
        }
    }
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

fn check_service(spec: &Node<'_>, service: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
    let name = service.value.as_str().unwrap_or_default();
    let Some(draft) = index.find("", "Service", name) else {
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

/// Says that an object which is not in the plan must be in the cluster.
pub(super) fn must_exist(kind: &str, name: &str, lint: &mut Lint<'_>) {
    let what = format!("it needs the {kind} {name}, which is not in the plan and must be there");
    lint.report.note(lint.place, &what);
}

fn check_ingresses(spec: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
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
        match index.find("networking.k8s.io", "Ingress", name) {
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

fn check_mappings(spec: &Node<'_>, index: &Index<'_>, lint: &mut Lint<'_>) {
    let mappings = spec.path(&["strategy", "canary", "trafficRouting", "ambassador", "mappings"]);
    for node in mappings.items() {
        let name = node.value.as_str().unwrap_or_default();
        let mapping = index.find("getambassador.io", "Mapping", name);
        if mapping.is_some_and(|draft| draft.at("/spec/weight").is_some()) {
            let what = format!("names the Mapping `{name}`, which has a weight of its own");
            lint.error("excludes", &node, what, "take spec.weight out of the Mapping");
        }
    }
}
