//! Targets of the deploy file: where it goes, in which order, and behind which constraints.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::AccountName;

use super::TargetSpec;
use super::schema::TARGET;
use super::steps::Steps;
use super::walk::At;

/// More targets than this are not one application.
const MAX_TARGETS: usize = 5_000;

/// The file's targets; their form was checked.
pub(super) fn targets(
    steps: &mut Steps<'_, '_>,
    at: &At<'_>,
    strategies: &BTreeSet<&str>,
) -> BTreeMap<String, TargetSpec> {
    let all = at.entries();
    if all.len() > MAX_TARGETS {
        let message = format!(
            "the file has {} targets; at most {MAX_TARGETS} are read",
            all.len()
        );
        steps
            .walk
            .error(at, "tooMany", message, "split it into several applications");
        return BTreeMap::new();
    }
    let names: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
    let mut read = BTreeMap::new();
    let mut places: BTreeMap<(String, Option<String>), String> = BTreeMap::new();
    for (name, value) in &all {
        if name.trim().is_empty() || name.chars().count() > 128 {
            let message = "a target's name has 1 to 128 characters";
            steps.walk.error(value, "badName", message, "");
        }
        let Some(spec) = target(steps, value, name, &names, strategies) else {
            continue;
        };
        let place = (spec.account.to_string(), spec.namespace.clone());
        if let Some(other) = places.insert(place, (*name).to_owned()) {
            let message = format!("targets `{other}` and `{name}` go to the same account and namespace");
            let hint = "two targets of a file go to different places";
            steps.walk.error(value, "sameTarget", message, hint);
        }
        read.insert((*name).to_owned(), spec);
    }
    if let Some(mut cycle) = find_cycle(&read) {
        if cycle.len() > 12 {
            let left_out = cycle.len() - 11;
            cycle.splice(6..6 + left_out, [format!("({left_out} more)")]);
        }
        let message = format!("targets wait for each other: {}", cycle.join(" → "));
        steps.walk.error(at, "cycle", message, "take one `dependsOn` out");
    }
    read
}

fn target(
    steps: &mut Steps<'_, '_>,
    at: &At<'_>,
    name: &str,
    names: &BTreeSet<&str>,
    strategies: &BTreeSet<&str>,
) -> Option<TargetSpec> {
    let strategy = at.get(&TARGET, "strategy").and_then(|at| {
        let text = at.node.text()?.to_owned();
        steps.walk.known(&at, "strategy", &text, strategies);
        Some(text)
    });
    let (mut depends_on, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(constraints) = at.get(&TARGET, "constraints") {
        let list = |key: &str| {
            let found = constraints.entries().into_iter().find(|(found, _)| *found == key);
            found.map(|(_, at)| at.items()).unwrap_or_default()
        };
        for item in list("dependsOn") {
            let Some(text) = item.node.text() else { continue };
            if text == name {
                steps
                    .walk
                    .error(&item, "cycle", "a target cannot wait for itself", "");
            } else if steps.walk.known(&item, "target", text, names)
                && !depends_on.iter().any(|other| other == text)
            {
                depends_on.push(text.to_owned());
            }
        }
        before = steps.constraint(&list("beforeDeployment"), name);
        after = steps.constraint(&list("afterDeployment"), name);
    }
    Some(TargetSpec {
        account: AccountName::new(at.text_of(&TARGET, "account")?).ok()?,
        namespace: at.text_of(&TARGET, "namespace"),
        strategy,
        services: Vec::new(),
        depends_on,
        before,
        after,
    })
}

/// Targets that wait for each other, the first one again at the end.
fn find_cycle(targets: &BTreeMap<String, TargetSpec>) -> Option<Vec<String>> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in targets.keys() {
        // An explicit stack, since a file may chain thousands of targets.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.last_mut() {
            let name = *name;
            let dependency = targets.get(name).and_then(|target| target.depends_on.get(*next));
            *next += 1;
            match dependency {
                None => {
                    done.insert(name);
                    path.pop();
                }
                Some(dependency) if done.contains(dependency.as_str()) => {}
                Some(dependency) => {
                    if let Some(from) = path.iter().position(|(seen, _)| seen == dependency) {
                        let mut cycle: Vec<String> =
                            path[from..].iter().map(|(seen, _)| (*seen).to_owned()).collect();
                        cycle.push(dependency.clone());
                        return Some(cycle);
                    }
                    path.push((dependency, 0));
                }
            }
        }
    }
    None
}
