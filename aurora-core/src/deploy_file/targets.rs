//! Targets of the deploy file: where it goes, in which order, and behind which constraints.

use std::collections::{BTreeMap, BTreeSet};

use crate::account::AccountName;
use crate::strategy::Strategy;

use super::TargetSpec;
use super::steps::constraint;
use super::suggest::nearest;
use super::walk::{At, Walk};

pub(super) fn targets(
    walk: &mut Walk<'_>,
    at: &At<'_>,
    strategies: &BTreeMap<String, Option<Strategy>>,
) -> BTreeMap<String, TargetSpec> {
    let Some(mut entries) = walk.map(at) else {
        return BTreeMap::new();
    };
    let all = entries.take_all();
    if all.is_empty() {
        walk.error(
            at,
            "empty",
            "there is no target",
            "name at least one place to deploy to",
        );
    }
    let names: BTreeSet<String> = all.iter().map(|(key, _)| key.text.clone()).collect();
    let mut read = BTreeMap::new();
    let mut places: BTreeMap<(String, Option<String>), String> = BTreeMap::new();
    for (key, value) in &all {
        if key.text.trim().is_empty() || key.text.len() > 128 {
            walk.error(value, "badName", "a target's name has 1 to 128 characters", "");
        }
        let Some(spec) = target(walk, value, &key.text, &names, strategies) else {
            continue;
        };
        let place = (spec.account.to_string(), spec.namespace.clone());
        if let Some(other) = places.insert(place, key.text.clone()) {
            let message = format!(
                "targets `{other}` and `{}` go to the same account and namespace",
                key.text
            );
            walk.error(
                value,
                "sameTarget",
                message,
                "two targets of a file go to different places",
            );
        }
        read.insert(key.text.clone(), spec);
    }
    if let Some(mut cycle) = find_cycle(&read) {
        if cycle.len() > 12 {
            let left_out = cycle.len() - 11;
            cycle.splice(6..6 + left_out, [format!("({left_out} more)")]);
        }
        walk.error(
            at,
            "cycle",
            format!("targets wait for each other: {}", cycle.join(" → ")),
            "take one `dependsOn` out",
        );
    }
    read
}

fn target(
    walk: &mut Walk<'_>,
    at: &At<'_>,
    name: &str,
    names: &BTreeSet<String>,
    strategies: &BTreeMap<String, Option<Strategy>>,
) -> Option<TargetSpec> {
    let mut entries = walk.map(at)?;
    let account_at = entries.take("account");
    if account_at.is_none() {
        entries.missing(walk, "account", "the name of the agent that serves the cluster");
    }
    let namespace = entries.take("namespace").and_then(|at| {
        let text = walk.name(&at)?;
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if text.len() > 63 || !text.bytes().all(fits) || text.starts_with('-') || text.ends_with('-') {
            walk.error(
                &at,
                "badName",
                format!("`{text}` is not a namespace"),
                "1 to 63 lower-case letters, digits and dashes",
            );
        }
        Some(text)
    });
    let strategy = entries.take("strategy").and_then(|at| {
        let text = walk.name(&at)?;
        known(
            walk,
            &at,
            "strategy",
            &text,
            strategies.keys().map(String::as_str),
        );
        Some(text)
    });
    for (key, what) in [("region", "`region`"), ("deployAsIamRole", "`deployAsIamRole`")] {
        if let Some(at) = entries.take(key) {
            walk.error(
                &at,
                "unsupported",
                format!("{what} belongs to Lambda targets, which Aurora does not deploy"),
                "",
            );
        }
    }
    let (mut depends_on, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
    if let Some(constraints) = entries.take("constraints")
        && let Some(mut parts) = walk.map(&constraints)
    {
        if let Some(at) = parts.take("dependsOn") {
            for item in walk.list(&at).unwrap_or_default() {
                let Some(text) = walk.name(&item) else { continue };
                if text == name {
                    walk.error(&item, "cycle", "a target cannot wait for itself", "");
                } else if known(walk, &item, "target", &text, names.iter().map(String::as_str))
                    && !depends_on.contains(&text)
                {
                    depends_on.push(text);
                }
            }
        }
        before = parts
            .take("beforeDeployment")
            .map(|at| constraint(walk, &at))
            .unwrap_or_default();
        after = parts
            .take("afterDeployment")
            .map(|at| constraint(walk, &at))
            .unwrap_or_default();
        parts.finish(walk);
    }
    entries.finish(walk);
    let account_at = account_at?;
    let text = walk.name(&account_at)?;
    match AccountName::new(text) {
        Ok(account) => Some(TargetSpec {
            account,
            namespace,
            strategy,
            services: Vec::new(),
            depends_on,
            before,
            after,
        }),
        Err(error) => {
            walk.error(&account_at, "badName", error.to_string(), "");
            None
        }
    }
}

/// Whether a name is one of those the file defines; else a problem that suggests the nearest.
pub(super) fn known<'k>(
    walk: &mut Walk<'_>,
    at: &At<'_>,
    what: &str,
    name: &str,
    all: impl Iterator<Item = &'k str>,
) -> bool {
    let all: Vec<&str> = all.collect();
    if all.contains(&name) {
        return true;
    }
    let hint = match nearest(name, all.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None if all.is_empty() => format!("the file has no {what}"),
        None => format!("the file has {}", all.join(", ")),
    };
    let shown: String = name.chars().take(80).collect();
    walk.error(at, "unknownName", format!("there is no {what} `{shown}`"), &hint);
    false
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
