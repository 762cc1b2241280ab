//! Which Services a blue/green Rollout moves: named by the deploy file, or found by their selectors.

use std::collections::{BTreeMap, BTreeSet};

use aurora_core::plan::STRATEGY_ANNOTATION;
use aurora_core::port::renderer::RenderRequest;
use aurora_core::strategy::ServicePair;

use super::draft::Draft;
use super::report::Report;
use super::selection::{Pods, Selection};

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
        selection: Selection::of(drafts, moving),
        found: BTreeMap::new(),
        parts: BTreeMap::new(),
    };
    if moving.is_empty() {
        return search.found;
    }
    let mut unclear = BTreeSet::new();
    for pair in &request.services {
        match search.join(pair, report) {
            Joined::Well => {}
            Joined::To(names) => unclear.extend(names),
            Joined::ToNothing => unclear.extend(moving.iter().cloned()),
        }
    }
    for pods in search.selection.moving() {
        if !search.found.contains_key(pods.name) && !unclear.contains(pods.name) {
            search.look_for(pods, report);
        }
    }
    for deployment in search.sharing(report) {
        search.found.remove(&deployment);
    }
    search.found
}

/// Services and pods of a target, and who took which Service.
#[derive(Debug)]
struct Search<'a> {
    request: &'a RenderRequest,
    selection: Selection<'a>,
    found: BTreeMap<String, ServicePair>,
    /// What the Services are that the file names, for messages.
    parts: BTreeMap<String, String>,
}

/// What came of a pair that the file names.
#[derive(Debug)]
enum Joined {
    /// It is what it should be.
    Well,
    /// It is wrong, and about these Deployments.
    To(Vec<String>),
    /// It is wrong, and any Deployment may be meant.
    ToNothing,
}

impl<'a> Search<'a> {
    /// Joins a named pair to the Deployment whose pods it selects.
    fn join(&mut self, pair: &ServicePair, report: &mut Report) -> Joined {
        if !self.selection.has(&pair.active) {
            self.refuse(report, "noService", self.absent("active", &pair.active));
            return Joined::ToNothing;
        }
        let owners = self.owners(&pair.active);
        let named = self.named("active", &pair.active);
        let name = match owners.as_slice() {
            [name] => name.clone(),
            [] if self.selection.is_of_own_rollout(&pair.active) => return Joined::Well,
            [] => {
                let message = format!("{named} selects the pods of no Deployment that moves by blue/green");
                self.refuse(report, "selectorMismatch", message);
                return Joined::ToNothing;
            }
            several => {
                let (count, names) = (several.len(), several.join(", "));
                let message = format!("{named} selects the pods of {count} Deployments: {names}");
                self.refuse(report, "sharedService", message);
                return Joined::To(owners);
            }
        };
        if !self.is_good(pair, &name, report) {
            self.found.remove(&name);
            return Joined::To(vec![name]);
        }
        let role = |role: &str| format!("the {role} Service of {name}");
        self.parts.insert(pair.active.clone(), role("active"));
        if let Some(preview) = &pair.preview {
            self.parts.insert(preview.clone(), role("preview"));
        }
        self.found.insert(name, pair.clone());
        Joined::Well
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
            self.check_preview(preview, pair, deployment, report);
        }
        report.count() == before
    }

    fn check_preview(&self, preview: &str, pair: &ServicePair, deployment: &str, report: &mut Report) {
        let named = self.named("preview", preview);
        if *preview == pair.active {
            self.refuse(report, "sameService", format!("{named} is also the active one"));
        } else if let Some(part) = self.parts.get(preview) {
            self.refuse(report, "sharedService", format!("{named} is also {part}"));
        } else if !self.selection.has(preview) {
            self.refuse(report, "noService", self.absent("preview", preview));
        } else {
            let owners = self.owners(preview);
            if owners != [deployment] {
                let selected = if owners.is_empty() {
                    "no Deployment".to_owned()
                } else {
                    owners.join(", ")
                };
                let message = format!(
                    "{named} selects the pods of {selected} instead of those of the Deployment {deployment}"
                );
                self.refuse(report, "selectorMismatch", message);
            }
        }
    }

    /// Finds the one Service that selects the pods of a Deployment, those aside that the file names.
    fn look_for(&mut self, pods: Pods<'a>, report: &mut Report) {
        let mut candidates = self.selection.services_of(pods.index);
        candidates.retain(|(name, _)| !self.parts.contains_key(*name));
        match candidates.as_slice() {
            [(name, _)] => {
                let pair = ServicePair {
                    active: (*name).to_owned(),
                    preview: None,
                };
                let what = format!("its active Service is `{name}`, which selects its pods");
                report.note(&pods.draft.place, &what);
                self.found.insert(pods.name.to_owned(), pair);
            }
            [] => {
                let what = "moves by blue/green, but no Service of the target selects its pods";
                let hint = format!(
                    "add the Service that is to be redirected, or annotate the Deployment with \
                     {STRATEGY_ANNOTATION}: none"
                );
                report.error(&pods.draft.place, "noService", "", what, &hint);
            }
            several => {
                let places: Vec<String> = several
                    .iter()
                    .map(|(name, service)| format!("`{name}` ({})", service.origin()))
                    .collect();
                let what = format!(
                    "moves by blue/green, and {} Services select its pods: {}",
                    several.len(),
                    places.join(", ")
                );
                let hint = "under `trafficManagement`, name one as activeService, and one as previewService if \
                            the new version is to be reached before the redirect";
                report.error(&pods.draft.place, "ambiguousService", "", &what, hint);
            }
        }
    }

    /// The Deployments whose Services other pods need, too: once redirected, a Service selects one
    /// version of one Rollout and nothing else.
    fn sharing(&self, report: &mut Report) -> Vec<String> {
        let mut sharing = Vec::new();
        for (deployment, pair) in &self.found {
            for name in std::iter::once(&pair.active).chain(&pair.preview) {
                let Some(service) = self.selection.service(name) else {
                    continue;
                };
                let selected = self.selection.pods_of(name);
                for other in selected.filter(|pods| !(pods.moves && pods.name == deployment)) {
                    let what = format!(
                        "also selects the pods of {} ({}), which get no traffic from it once it is pointed at \
                         one version of {deployment}",
                        other.draft.place.named,
                        other.draft.origin()
                    );
                    let hint = "give it a selector that only the pods of one Deployment match";
                    report.error(&service.place, "sharedService", "/spec/selector", &what, hint);
                    sharing.push(deployment.clone());
                }
            }
        }
        sharing
    }

    /// The moving Deployments whose pods a Service selects.
    fn owners(&self, service: &str) -> Vec<String> {
        let selected = self.selection.pods_of(service);
        selected
            .filter(|pods| pods.moves)
            .map(|pods| pods.name.to_owned())
            .collect()
    }

    fn named(&self, role: &str, service: &str) -> String {
        format!("target `{}`: the {role} Service `{service}`", self.request.target)
    }

    fn absent(&self, role: &str, service: &str) -> String {
        /// Nobody reads more.
        const MOST: usize = 12;
        let all = self.selection.names();
        let mut names: Vec<String> = all.iter().take(MOST).map(|name| format!("`{name}`")).collect();
        if all.len() > MOST {
            names.push(format!("{} more", all.len() - MOST));
        }
        let there = match names.as_slice() {
            [] => "no Service".to_owned(),
            names => names.join(", "),
        };
        let named = self.named(role, service);
        format!("{named} is not among the target's manifests, which hold {there}")
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
