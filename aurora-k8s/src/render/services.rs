//! Which Services a blue/green Rollout moves: named by the deploy file, or found by their selectors.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::plan::STRATEGY_ANNOTATION;
use aurora_core::port::renderer::RenderRequest;
use aurora_core::strategy::ServicePair;
use serde_json::{Map, Value};

use super::draft::Draft;
use super::kinds;
use super::report::Report;
use crate::argo;

/// The objects that matter, and who took which Service.
#[derive(Debug)]
struct Search<'a> {
    request: &'a RenderRequest,
    drafts: &'a [Draft],
    /// Deployments that become Rollouts.
    moving: &'a BTreeSet<String>,
    found: BTreeMap<String, ServicePair>,
    /// What each Service that has a part is, for messages.
    parts: BTreeMap<String, String>,
}

/// The Services of each Deployment that becomes a blue/green Rollout; none where they are not clear,
/// which is then reported.
///
/// The controller adds the hash of one version to the selector of these Services. So each belongs to
/// one Rollout alone: whatever else it selects would lose its traffic.
pub(super) fn of_blue_green(
    request: &RenderRequest,
    drafts: &[Draft],
    moving: &BTreeSet<String>,
    report: &mut Report,
) -> BTreeMap<String, ServicePair> {
    let mut search = Search {
        request,
        drafts,
        moving,
        found: BTreeMap::new(),
        parts: BTreeMap::new(),
    };
    if moving.is_empty() {
        return search.found;
    }
    let mut failed = BTreeSet::new();
    for pair in &request.services {
        failed.extend(search.join(pair, report));
    }
    for draft in drafts {
        let object = draft.object();
        let is_moving = kinds::is_deployment(&object) && moving.contains(&object.name);
        if is_moving && !search.found.contains_key(&object.name) && !failed.contains(&object.name) {
            search.look_for(draft, report);
        }
    }
    for deployment in search.sharing(report) {
        search.found.remove(&deployment);
    }
    search.found
}

impl<'a> Search<'a> {
    /// Joins a named pair to the Deployment whose pods it selects; else the Deployments it may be about.
    fn join(&mut self, pair: &ServicePair, report: &mut Report) -> Vec<String> {
        let Some(active) = self.service(&pair.active) else {
            self.refuse(report, "noService", self.absent("active", &pair.active));
            return self.moving.iter().cloned().collect();
        };
        let owners = self.owners(active);
        let name = match owners.as_slice() {
            [name] => (*name).to_owned(),
            [] if self.is_of_own_rollout(&pair.active) => return Vec::new(),
            [] => {
                let message = format!(
                    "{} selects the pods of no Deployment that moves by blue/green",
                    self.named("active", &pair.active)
                );
                self.refuse(report, "selectorMismatch", message);
                return self.moving.iter().cloned().collect();
            }
            several => {
                let message = format!(
                    "{} selects the pods of {} Deployments: {}",
                    self.named("active", &pair.active),
                    several.len(),
                    several.join(", ")
                );
                self.refuse(report, "sharedService", message);
                return owners.into_iter().map(str::to_owned).collect();
            }
        };
        if self.is_good(pair, &name, report) {
            let role = |role: &str| format!("the {role} Service of {name}");
            self.parts.insert(pair.active.clone(), role("active"));
            if let Some(preview) = &pair.preview {
                self.parts.insert(preview.clone(), role("preview"));
            }
            self.found.insert(name, pair.clone());
            Vec::new()
        } else {
            self.found.remove(&name);
            vec![name]
        }
    }

    /// Whether a pair can be that of a Deployment.
    fn is_good(&self, pair: &ServicePair, deployment: &str, report: &mut Report) -> bool {
        let before = report.count();
        if let Some(other) = self.found.get(deployment) {
            let message = format!(
                "the Deployment {deployment} has two active Services: `{}` and `{}`",
                other.active, pair.active
            );
            self.refuse(report, "twoServices", message);
        }
        if let Some(part) = self.parts.get(&pair.active) {
            let message = format!("{} is also {part}", self.named("active", &pair.active));
            self.refuse(report, "sharedService", message);
        }
        if let Some(preview) = &pair.preview {
            let named = self.named("preview", preview);
            let selected = self.service(preview).map(|service| self.owners(service));
            if *preview == pair.active {
                self.refuse(report, "sameService", format!("{named} is also the active one"));
            } else if let Some(part) = self.parts.get(preview) {
                self.refuse(report, "sharedService", format!("{named} is also {part}"));
            } else {
                match selected {
                    None => self.refuse(report, "noService", self.absent("preview", preview)),
                    Some(owners) if owners != [deployment] => {
                        let message = format!(
                            "{named} selects the pods of {} instead of those of the Deployment {deployment}",
                            if owners.is_empty() {
                                "no Deployment".to_owned()
                            } else {
                                owners.join(", ")
                            }
                        );
                        self.refuse(report, "selectorMismatch", message);
                    }
                    Some(_) => {}
                }
            }
        }
        report.count() == before
    }

    /// Finds the one Service that selects the pods of a Deployment, those aside that the file names.
    fn look_for(&mut self, deployment: &Draft, report: &mut Report) {
        let labels = pod_labels(deployment);
        let fits = |draft: &&'a Draft| {
            is_service(draft)
                && !self.parts.contains_key(&draft.object().name)
                && selector(draft).is_some_and(|selector| selects(selector, labels))
        };
        let candidates: Vec<&Draft> = self.drafts.iter().filter(fits).collect();
        match candidates.as_slice() {
            [service] => {
                let pair = ServicePair {
                    active: service.object().name,
                    preview: None,
                };
                let what = format!("its active Service is `{}`, which selects its pods", pair.active);
                report.note(&deployment.place, &what);
                self.found.insert(deployment.object().name, pair);
            }
            [] => {
                let what = "moves by blue/green, but no Service of the target selects its pods";
                let hint = format!(
                    "add the Service that is to be redirected, or annotate the Deployment with \
                     {STRATEGY_ANNOTATION}: none"
                );
                report.error(&deployment.place, "noService", "", what, &hint);
            }
            several => {
                let places: Vec<String> = several
                    .iter()
                    .map(|service| format!("`{}` ({})", service.object().name, service.origin()))
                    .collect();
                let what = format!(
                    "moves by blue/green, and {} Services select its pods: {}",
                    several.len(),
                    places.join(", ")
                );
                let hint = "under `trafficManagement`, name one as activeService, and one as previewService if \
                            the new version is to be reached before the redirect";
                report.error(&deployment.place, "ambiguousService", "", &what, hint);
            }
        }
    }

    /// The Deployments whose Services other pods need, too: once redirected, a Service selects one
    /// version of one Rollout and nothing else.
    fn sharing(&self, report: &mut Report) -> Vec<String> {
        let mut sharing = Vec::new();
        for (deployment, pair) in &self.found {
            let services = std::iter::once(&pair.active).chain(&pair.preview);
            for service in services.filter_map(|name| self.service(name)) {
                let Some(wanted) = selector(service) else {
                    continue;
                };
                let others = self.drafts.iter().filter(|draft| {
                    let object = draft.object();
                    let is_itself = kinds::is_deployment(&object) && object.name == *deployment;
                    kinds::runs_for_ever(&object) && !is_itself && selects(wanted, pod_labels(draft))
                });
                for other in others {
                    let what = format!(
                        "also selects the pods of {} ({}), which get no traffic from it once it is pointed at \
                         one version of {deployment}",
                        other.place.named,
                        other.origin()
                    );
                    let hint = "give it a selector that only the pods of one Deployment match";
                    report.error(&service.place, "sharedService", "/spec/selector", &what, hint);
                    sharing.push(deployment.clone());
                }
            }
        }
        sharing
    }

    fn service(&self, name: &str) -> Option<&'a Draft> {
        let is_it = |draft: &&Draft| is_service(draft) && draft.object().name == name;
        self.drafts.iter().find(is_it)
    }

    /// The moving Deployments whose pods a Service selects.
    fn owners(&self, service: &Draft) -> Vec<&'a str> {
        let Some(selector) = selector(service) else {
            return Vec::new();
        };
        let deployments = self.drafts.iter().filter(|draft| {
            let object = draft.object();
            kinds::is_deployment(&object) && self.moving.contains(&object.name)
        });
        deployments
            .filter(|draft| selects(selector, pod_labels(draft)))
            .filter_map(|draft| draft.body.pointer("/metadata/name")?.as_str())
            .collect()
    }

    /// A user's own Rollout names it: the pair says what is so already.
    fn is_of_own_rollout(&self, active: &str) -> bool {
        self.drafts.iter().any(|draft| {
            let named = draft.body.pointer("/spec/strategy/blueGreen/activeService");
            kinds::is_rollout(&draft.object()) && named.and_then(Value::as_str) == Some(active)
        })
    }

    fn named(&self, role: &str, service: &str) -> String {
        format!("target `{}`: the {role} Service `{service}`", self.request.target)
    }

    fn absent(&self, role: &str, service: &str) -> String {
        let services = self.drafts.iter().filter(|draft| is_service(draft));
        let names: Vec<String> = services
            .map(|draft| format!("`{}`", draft.object().name))
            .collect();
        let there = if names.is_empty() {
            "which hold no Service".to_owned()
        } else {
            format!("which hold {}", names.join(", "))
        };
        format!(
            "{} is not among the target's manifests, {there}",
            self.named(role, service)
        )
    }

    /// A problem of the deploy file, which names these Services for the target.
    fn refuse(&self, report: &mut Report, code: &str, message: String) {
        let target = self.request.target.replace('~', "~0").replace('/', "~1");
        let hint = match code {
            "noService" => "add it to the manifests, or name one of them",
            "sameService" => "name another as previewService, or none",
            "selectorMismatch" => "name a Service whose selector only the pods of one Deployment match",
            "sharedService" => "each Deployment needs Services of its own",
            _ => "keep one of them",
        };
        report.error_in_file(code, format!("/targets/{target}"), message, hint);
    }
}

fn is_service(draft: &Draft) -> bool {
    let object = draft.object();
    object.group.is_empty() && object.kind == "Service"
}

/// The selector of a Service that has one.
fn selector(service: &Draft) -> Option<&Map<String, Value>> {
    let selector = service.body.pointer("/spec/selector")?.as_object()?;
    selector.keys().any(|key| is_of_users(key)).then_some(selector)
}

/// The controller's own label is added to whatever users select by.
fn is_of_users(key: &str) -> bool {
    key != argo::POD_TEMPLATE_HASH
}

fn pod_labels(draft: &Draft) -> &Value {
    draft
        .body
        .pointer("/spec/template/metadata/labels")
        .unwrap_or(&Value::Null)
}

fn selects(selector: &Map<String, Value>, labels: &Value) -> bool {
    selector
        .iter()
        .filter(|(key, _)| is_of_users(key))
        .all(|(key, wanted)| labels.get(key) == Some(wanted))
}
