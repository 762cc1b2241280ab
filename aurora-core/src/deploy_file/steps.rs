//! Strategies, steps and pauses of the deploy file.

use crate::strategy::{Approval, Canary, Pause, Span, Step, Strategy};

use super::suggest::nearest;
use super::tree::Kind;
use super::walk::{At, Walk};

const UNITS: [(&str, u64); 3] = [("seconds", 1), ("minutes", 60), ("hours", 3600)];

/// A strategy: exactly one of `canary`, `blueGreen` and `rolling`.
pub(crate) fn strategy(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Strategy> {
    let mut entries = walk.map(at)?;
    let (canary, blue_green, rolling) = (
        entries.take("canary"),
        entries.take("blueGreen"),
        entries.take("rolling"),
    );
    entries.finish(walk);
    for (part, what) in [
        (&blue_green, "a blueGreen strategy"),
        (&rolling, "a rolling strategy"),
    ] {
        if let Some(part) = part {
            walk.not_yet(part, what);
        }
    }
    match (canary, blue_green.or(rolling)) {
        (Some(canary), None) => canary_steps(walk, &canary).map(|steps| Strategy::Canary(Canary { steps })),
        (Some(_), Some(other)) => {
            walk.error(
                &other,
                "exclusive",
                "a strategy has exactly one of `canary`, `blueGreen` and `rolling`",
                "",
            );
            None
        }
        (None, Some(_)) => None,
        (None, None) => {
            walk.error(
                at,
                "missing",
                "the strategy is empty",
                "give it `canary: {steps: […]}`",
            );
            None
        }
    }
}

fn canary_steps(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Vec<Step>> {
    let mut entries = walk.map(at)?;
    let steps = entries.take("steps");
    if steps.is_none() {
        entries.missing(
            walk,
            "steps",
            "for example `steps: [{setWeight: {weight: 25}}, {pause: {untilApproved: true}}]`",
        );
    }
    entries.finish(walk);
    let steps = steps?;
    let mut read = Vec::new();
    let mut weight = 0;
    for item in walk.list(&steps)? {
        let Some(step) = canary_step(walk, &item) else {
            continue;
        };
        if let Step::SetWeight(next) = step {
            if next < weight {
                let message = format!("the weight falls from {weight} to {next}");
                walk.warn(&item, "fallingWeight", message, "weights usually rise");
            }
            weight = next;
        }
        read.push(step);
    }
    Some(read)
}

fn canary_step(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Step> {
    let (name, value) = single_key(
        walk,
        at,
        &["setWeight", "pause", "runWebhook", "analysis", "exposeServices"],
    )?;
    match name {
        "setWeight" => set_weight(walk, &value).map(Step::SetWeight),
        "pause" => pause(walk, &value).map(Step::Pause),
        _ => {
            walk.not_yet(&value, &format!("a `{name}` step"));
            None
        }
    }
}

fn set_weight(walk: &mut Walk<'_>, at: &At<'_>) -> Option<u8> {
    let weight = if matches!(at.node.kind, Kind::Number(_)) {
        walk.warn(
            at,
            "alias",
            "`setWeight: N` is a short form",
            "write `setWeight: {weight: N}`",
        );
        walk.whole(at, 0..=100)?
    } else {
        let mut entries = walk.map(at)?;
        let weight = entries.take("weight");
        if weight.is_none() {
            entries.missing(walk, "weight", "a whole number from 0 to 100");
        }
        entries.finish(walk);
        walk.whole(&weight?, 0..=100)?
    };
    u8::try_from(weight).ok()
}

/// Pauses of `beforeDeployment` or `afterDeployment`.
pub(crate) fn constraint(walk: &mut Walk<'_>, at: &At<'_>) -> Vec<Pause> {
    let items = walk.list(at).unwrap_or_default();
    let read = |item: &At<'_>| {
        let (name, value) = single_key(walk, item, &["pause", "runWebhook", "analysis"])?;
        if name == "pause" {
            return pause(walk, &value);
        }
        walk.not_yet(&value, &format!("a `{name}` constraint"));
        None
    };
    items.iter().filter_map(read).collect()
}

/// A pause: timed or until approved, not both.
fn pause(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Pause> {
    let mut entries = walk.map(at)?;
    let until_approved = entries.take("untilApproved");
    let roles = entries.take("requiresRoles");
    let expiration = entries.take("approvalExpiration").or_else(|| {
        let alias = entries.take("approvalDuration")?;
        walk.warn(
            &alias,
            "alias",
            "`approvalDuration` is an old spelling",
            "write `approvalExpiration`",
        );
        Some(alias)
    });
    let duration = entries.take("duration");
    let unit = entries.take("unit").or_else(|| {
        let alias = entries.take("units")?;
        walk.warn(
            &alias,
            "alias",
            "`units` is another step's spelling",
            "write `unit`",
        );
        Some(alias)
    });
    let all_known = entries.finish(walk);

    let approval = until_approved
        .as_ref()
        .and_then(|at| walk.boolean(at))
        .unwrap_or(false);
    if approval {
        if let Some(timed) = duration.as_ref().or(unit.as_ref()) {
            walk.error(
                timed,
                "exclusive",
                "a pause is either timed or `untilApproved`, not both",
                "take one out",
            );
            return None;
        }
        let roles = roles.map(|at| walk.names(&at)).unwrap_or_default();
        let expires_after = expiration.and_then(|at| span(walk, &at));
        return Some(Pause::Approval(Approval {
            roles: roles.into_iter().map(|(role, _)| role).collect(),
            expires_after,
        }));
    }
    for (part, key) in [(&roles, "requiresRoles"), (&expiration, "approvalExpiration")] {
        if let Some(part) = part {
            walk.error(
                part,
                "needs",
                format!("`{key}` only goes with `untilApproved: true`"),
                "",
            );
        }
    }
    match (duration, unit) {
        (Some(duration), Some(unit)) => timed(walk, &duration, &unit).map(Pause::Timed),
        (Some(duration), None) => {
            walk.error(
                &duration,
                "needs",
                "`duration` needs a `unit`",
                "seconds, minutes or hours",
            );
            None
        }
        (None, Some(unit)) => {
            walk.error(&unit, "needs", "`unit` needs a `duration`", "");
            None
        }
        // A mistyped key was told already, and is most likely what was meant.
        (None, None) if !all_known => None,
        (None, None) => {
            walk.error(
                at,
                "missing",
                "the pause waits for nothing",
                "give it `duration` and `unit`, or `untilApproved: true`",
            );
            None
        }
    }
}

/// `{duration, unit}`.
pub(crate) fn span(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Span> {
    let mut entries = walk.map(at)?;
    let (duration, unit) = (entries.take("duration"), entries.take("unit"));
    for (part, key) in [(&duration, "duration"), (&unit, "unit")] {
        if part.is_none() {
            entries.missing(walk, key, "for example `{duration: 10, unit: minutes}`");
        }
    }
    entries.finish(walk);
    timed(walk, &duration?, &unit?)
}

fn timed(walk: &mut Walk<'_>, duration: &At<'_>, unit: &At<'_>) -> Option<Span> {
    // A hundred years in seconds: what is longer was not meant, and times stay far from overflow.
    let count = walk.whole(duration, 1..=3_153_600_000);
    let text = walk.text(unit)?;
    let lower = text.to_lowercase();
    let Some((_, seconds)) = UNITS.iter().find(|(name, _)| *name == lower) else {
        let hint = nearest(&lower, UNITS.map(|(name, _)| name)).map_or_else(
            || "seconds, minutes or hours".to_owned(),
            |word| format!("did you mean `{word}`?"),
        );
        let shown: String = text.chars().take(40).collect();
        walk.error(unit, "unknownUnit", format!("`{shown}` is not a unit"), &hint);
        return None;
    };
    if text != lower {
        walk.warn(unit, "alias", "units are written in lower case", "");
    }
    let seconds = count?.saturating_mul(*seconds);
    if seconds > 3_153_600_000 {
        walk.error(duration, "tooLong", "this is more than a hundred years", "");
        return None;
    }
    Some(Span::from_secs(seconds))
}

/// The only key of a map and its value, if it is one of those known here.
fn single_key<'n>(
    walk: &mut Walk<'_>,
    at: &At<'n>,
    known: &[&'static str],
) -> Option<(&'static str, At<'n>)> {
    let mut entries = walk.map(at)?;
    let taken: Vec<_> = known
        .iter()
        .filter_map(|key| Some((*key, entries.take(key)?)))
        .collect();
    entries.finish(walk);
    let mut taken = taken.into_iter();
    let first = taken.next();
    if let Some((name, value)) = taken.next() {
        walk.error(
            &value,
            "exclusive",
            format!("`{name}` needs a list entry of its own"),
            "one step per entry",
        );
        return None;
    }
    if first.is_none() && !walk.has_errors() {
        walk.error(
            at,
            "missing",
            "the step is empty",
            &format!("one of {}", known.join(", ")),
        );
    }
    first
}
