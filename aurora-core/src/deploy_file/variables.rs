//! Variables in templates: `{{armory.…}}`, `{{context.…}}` and `{{secrets.…}}`.

use std::collections::BTreeSet;
use std::ops::Range;

use super::suggest::nearest;
use super::walk::{At, Walk};

/// Where a template stands: not every variable has a value everywhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stand {
    Query,
    Webhook,
}

/// What a template may name.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub(super) stand: Stand,
    /// Keys of the run's context, and of those of the steps that use it.
    pub(super) contexts: [&'a BTreeSet<&'a str>; 2],
    /// Services that some step exposes.
    pub(super) exposed: &'a BTreeSet<String>,
}

const EVERYWHERE: [&str; 6] = [
    "accountName",
    "applicationName",
    "deploymentId",
    "environmentName",
    "namespace",
    "replicaSetName",
];
const IN_WEBHOOKS: [&str; 1] = ["callbackUri"];
const IN_QUERIES: [&str; 9] = [
    "endTimeEpochMillis",
    "endTimeEpochSeconds",
    "endTimeIso8601",
    "intervalMillis",
    "intervalSeconds",
    "promQlStepInterval",
    "startTimeEpochMillis",
    "startTimeEpochSeconds",
    "startTimeIso8601",
];
const ROOTS: [&str; 3] = ["armory", "context", "secrets"];

/// Notes what is wrong with the variables of a template; its text is as written.
pub(super) fn check(walk: &mut Walk<'_>, at: &At<'_>, known: &Known<'_>) {
    let Some(written) = at.node.text().filter(|_| !walk.is_full()) else {
        return;
    };
    let text = modern(written);
    if text != written {
        let hint = "write `{{armory.…}}`, `{{context.…}}` and `{{secrets.…}}`";
        walk.warn(at, "alias", "variables written as `${…}` are an older form", hint);
    }
    let mut rest = text.as_str();
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let Some(end) = inside.find("}}") else {
            walk.error(
                at,
                "badTemplate",
                "a variable begins with `{{` and does not end",
                "end it with `}}`",
            );
            return;
        };
        // JSON may well put a brace right before a variable: the tag begins at the last two braces.
        let braces = inside.bytes().take_while(|b| *b == b'{').count().min(end);
        let name = inside[braces..end].trim();
        if known_tag(walk, at, name) {
            variable(walk, at, name, known);
        }
        rest = &inside[end + 2..];
    }
}

/// Whether a tag names a variable, not one of the things that larger template languages have.
fn known_tag(walk: &mut Walk<'_>, at: &At<'_>, name: &str) -> bool {
    if let Some(kind @ ('#' | '^' | '/' | '>' | '!' | '&' | '=')) = name.chars().next() {
        let message = format!("`{{{{{kind}…}}}}` has no meaning here");
        let hint = "only variables stand in templates, as in `{{armory.applicationName}}`";
        walk.error(at, "badTemplate", message, hint);
        return false;
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || !name.bytes().all(fits) {
        let shown: String = name.chars().take(60).collect();
        let message = format!("`{{{{{shown}}}}}` is not a variable");
        let hint = "names have letters, digits, dots, dashes and underscores";
        walk.error(at, "badTemplate", message, hint);
        return false;
    }
    true
}

fn variable(walk: &mut Walk<'_>, at: &At<'_>, name: &str, known: &Known<'_>) {
    let (root, rest) = name.split_once('.').unwrap_or((name, ""));
    match root {
        _ if rest.is_empty() => unknown(walk, at, name, ROOTS.iter().copied(), root),
        "armory" => armory(walk, at, rest, known),
        // Which secrets there are is known only where the run is made.
        "secrets" => {}
        "context" if known.contexts.iter().any(|keys| keys.contains(rest)) || walk.is_full_of_warnings() => {}
        "context" => {
            let hint = match nearest(rest, known.contexts.into_iter().flatten().copied()) {
                Some(word) => format!("did you mean `context.{word}`?"),
                None => "put it into `context`, or give it with the submit".to_owned(),
            };
            let message = format!("no context of this file has `{}`", cut(rest));
            walk.warn(at, "unknownVariable", message, &hint);
        }
        _ => unknown(walk, at, name, ROOTS.iter().copied(), root),
    }
}

fn armory(walk: &mut Walk<'_>, at: &At<'_>, rest: &str, known: &Known<'_>) {
    if let Some(service) = rest.strip_prefix("preview.") {
        if !known.exposed.contains(service) && !walk.is_full_of_warnings() {
            let hint = match nearest(service, known.exposed.iter().map(String::as_str)) {
                Some(word) => format!("did you mean `armory.preview.{word}`?"),
                None => "add an `exposeServices` step before it".to_owned(),
            };
            let message = format!("no step of this file exposes the Service `{}`", cut(service));
            walk.warn(at, "unknownVariable", message, &hint);
        }
        return;
    }
    let (own, other, place): (&[&str], &[&str], _) = match known.stand {
        Stand::Query => (&IN_QUERIES, &IN_WEBHOOKS, "webhooks"),
        Stand::Webhook => (&IN_WEBHOOKS, &IN_QUERIES, "queries"),
    };
    if EVERYWHERE.contains(&rest) || own.contains(&rest) {
        return;
    }
    if other.contains(&rest) {
        let message = format!("`armory.{rest}` has a value only in {place}");
        walk.error(at, "unknownVariable", message, "take it out");
        return;
    }
    let all = EVERYWHERE.iter().chain(own).copied();
    unknown(walk, at, &format!("armory.{rest}"), all, rest);
}

fn unknown<'k>(
    walk: &mut Walk<'_>,
    at: &At<'_>,
    name: &str,
    all: impl Iterator<Item = &'k str> + Clone,
    typed: &str,
) {
    let prefix = if ROOTS.iter().any(|root| name.starts_with(&format!("{root}."))) {
        "armory."
    } else {
        ""
    };
    let hint = match nearest(typed, all.clone()) {
        Some(word) => format!("did you mean `{prefix}{word}`?"),
        None => format!("known here: {}", all.collect::<Vec<_>>().join(", ")),
    };
    walk.error(
        at,
        "unknownVariable",
        format!("there is no variable `{}`", cut(name)),
        &hint,
    );
}

fn cut(name: &str) -> String {
    name.chars().take(80).collect()
}

/// The text with variables of the older form, `${armory.…}`, in the present one; other `${…}` stay as they are.
pub(super) fn modern(text: &str) -> String {
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = older(rest) {
        new.push_str(before);
        let dotted =
            if EVERYWHERE.contains(&name) || IN_WEBHOOKS.contains(&name) || IN_QUERIES.contains(&name) {
                format!("armory.{name}")
            } else {
                name.to_owned()
            };
        new.push_str("{{");
        new.push_str(&dotted);
        new.push_str("}}");
        rest = after;
    }
    new.push_str(rest);
    new
}

/// What stands before the next variable of the older form, its name, and what stands after it.
fn older(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text[from..].find("${") {
        let Range { start, end } = from + found..from + found + 2;
        let name_ends = text[end..].find('}')?;
        let name = &text[end..end + name_ends];
        let rooted = name
            .split_once('.')
            .is_some_and(|(root, rest)| ROOTS.contains(&root) && !rest.is_empty());
        let plain = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let bare = EVERYWHERE.contains(&name) || IN_WEBHOOKS.contains(&name) || IN_QUERIES.contains(&name);
        if (rooted || bare) && plain {
            return Some((&text[..start], name, &text[end + name_ends + 1..]));
        }
        from = end;
    }
    None
}
