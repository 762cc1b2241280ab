//! Which Services of a target select which pods.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::draft::Draft;
use super::kinds;

/// A workload whose pods run until somebody ends them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pods<'a> {
    /// Its number in the selection.
    pub(super) index: usize,
    pub(super) draft: &'a Draft,
    pub(super) name: &'a str,
    /// It is a Deployment that becomes a Rollout.
    pub(super) moves: bool,
}

/// Services by name, pods, and which of them belong together.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    services: BTreeMap<&'a str, &'a Draft>,
    pods: Vec<Pods<'a>>,
    selected: BTreeMap<&'a str, Vec<usize>>,
    selecting: Vec<Vec<&'a str>>,
    /// Services that users' own Rollouts name as active.
    own: BTreeSet<&'a str>,
}

impl<'a> Selection<'a> {
    /// Finds out which Services select which pods; `moving` are the Deployments that become Rollouts.
    pub(super) fn of(drafts: &'a [Draft], moving: &BTreeSet<String>) -> Self {
        let mut selection = Self {
            services: BTreeMap::new(),
            pods: Vec::new(),
            selected: BTreeMap::new(),
            selecting: Vec::new(),
            own: BTreeSet::new(),
        };
        for draft in drafts {
            let object = draft.object();
            let Some(name) = draft.at("/metadata/name").and_then(Value::as_str) else {
                continue;
            };
            if object.group.is_empty() && object.kind == "Service" {
                selection.services.insert(name, draft);
            } else if kinds::runs_for_ever(&object) {
                let moves = kinds::is_deployment(&object) && moving.contains(name);
                let index = selection.pods.len();
                selection.pods.push(Pods {
                    index,
                    draft,
                    name,
                    moves,
                });
                let active = draft.at("/spec/strategy/blueGreen/activeService");
                let active = active.filter(|_| kinds::is_rollout(&object));
                selection.own.extend(active.and_then(Value::as_str));
            }
        }
        selection.join();
        selection
    }

    /// Looks at each Service beside the pods that carry its rarest label only.
    fn join(&mut self) {
        let mut carrying: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for pods in &self.pods {
            for (key, value) in labels(pods.draft).into_iter().flatten() {
                if let Some(value) = value.as_str() {
                    carrying.entry((key, value)).or_default().push(pods.index);
                }
            }
        }
        self.selecting = vec![Vec::new(); self.pods.len()];
        for (&name, &service) in &self.services {
            let wanted: Vec<(&str, &str)> = selector(service)
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
                .collect();
            let with_each = wanted
                .iter()
                .map(|label| carrying.get(label).map_or(&[][..], Vec::as_slice));
            let Some(fewest) = with_each.min_by_key(|pods| pods.len()) else {
                continue;
            };
            let carries_all = |index: &&usize| {
                let labels = labels(self.pods[**index].draft);
                let carried = |key: &str| labels.and_then(|labels| labels.get(key)?.as_str());
                wanted.iter().all(|(key, value)| carried(key) == Some(value))
            };
            let selected: Vec<usize> = fewest.iter().filter(carries_all).copied().collect();
            for index in &selected {
                self.selecting[*index].push(name);
            }
            self.selected.insert(name, selected);
        }
    }

    /// The Deployments that become Rollouts.
    pub(super) fn moving(&self) -> Vec<Pods<'a>> {
        self.pods.iter().filter(|pods| pods.moves).copied().collect()
    }

    /// Whether there is a Service of that name.
    pub(super) fn has(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// A Service.
    pub(super) fn service(&self, name: &str) -> Option<&'a Draft> {
        self.services.get(name).copied()
    }

    /// The names of all Services.
    pub(super) fn names(&self) -> Vec<&'a str> {
        self.services.keys().copied().collect()
    }

    /// The pods that a Service selects.
    pub(super) fn pods_of(&self, service: &str) -> impl Iterator<Item = Pods<'a>> {
        let selected = self.selected.get(service).into_iter().flatten();
        selected.map(|index| self.pods[*index])
    }

    /// The Services that select some pods.
    pub(super) fn services_of(&self, pods: usize) -> Vec<(&'a str, &'a Draft)> {
        let names = self.selecting.get(pods).into_iter().flatten();
        names
            .filter_map(|name| Some((*name, self.service(name)?)))
            .collect()
    }

    /// Whether a user's own Rollout names it as active.
    pub(super) fn is_of_own_rollout(&self, service: &str) -> bool {
        self.own.contains(service)
    }
}

fn selector(service: &Draft) -> Option<&Map<String, Value>> {
    service.at("/spec/selector")?.as_object()
}

fn labels(workload: &Draft) -> Option<&Map<String, Value>> {
    workload.at("/spec/template/metadata/labels")?.as_object()
}
