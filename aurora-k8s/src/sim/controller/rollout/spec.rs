//! A Rollout's spec as the controller reads it.

use serde_json::Value;

use super::{
    super::{hash, meta},
    blue_green::BlueGreen,
};

/// What a canary step asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Waits for a person, or for some seconds.
    Pause(Option<i64>),
    /// Moves to a weight.
    SetWeight(i64),
}

/// The parts of a valid Rollout that decide what happens.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Present when it moves by blue/green; what is said of steps, bounds and Services is of canaries then.
    pub(super) blue_green: Option<BlueGreen>,
    pub(super) replicas: i64,
    pub(super) paused: bool,
    pub(super) min_ready_seconds: i64,
    pub(super) progress_deadline_seconds: i64,
    pub(super) progress_deadline_abort: bool,
    pub(super) revision_history_limit: usize,
    pub(super) restart_at: Option<String>,
    pub(super) steps: Vec<Step>,
    pub(super) step_names: Vec<String>,
    pub(super) stable_service: Option<String>,
    pub(super) canary_service: Option<String>,
    pub(super) max_surge: i64,
    pub(super) max_unavailable: i64,
    pub(super) template_hash: String,
    pub(super) step_hash: String,
}

impl Spec {
    /// Reads a Rollout that passed validation.
    pub(super) fn of(rollout: &Value) -> Self {
        let spec = &rollout["spec"];
        let canary = &spec["strategy"]["canary"];
        let int = |field: &str, default: i64| spec[field].as_i64().unwrap_or(default);
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let replicas = meta::replicas(rollout);
        let listed = canary["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (max_surge, max_unavailable) = bounds(canary, replicas);
        let blue_green = BlueGreen::by(&spec["strategy"]["blueGreen"]);
        Self {
            replicas,
            paused: spec["paused"].as_bool() == Some(true),
            min_ready_seconds: int("minReadySeconds", 0),
            progress_deadline_seconds: int("progressDeadlineSeconds", 600),
            progress_deadline_abort: spec["progressDeadlineAbort"].as_bool() == Some(true),
            revision_history_limit: usize::try_from(int("revisionHistoryLimit", 10)).unwrap_or(10),
            restart_at: text(&spec["restartAt"]),
            steps: listed.iter().map(step).collect(),
            step_names: listed.iter().map(step_name).collect(),
            stable_service: text(&canary["stableService"]),
            canary_service: text(&canary["canaryService"]),
            max_surge,
            max_unavailable,
            template_hash: hash::of_template(&spec["template"]),
            step_hash: if blue_green.is_some() {
                String::new()
            } else {
                hash::of(&Value::from(listed.to_vec()))
            },
            blue_green,
        }
    }

    /// The step at an index; `None` once all steps are done.
    pub(super) fn step(&self, index: i64) -> Option<Step> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.steps.get(index))
            .copied()
    }

    /// How many steps there are; `None` without steps, where no index is kept.
    pub(super) fn step_count(&self) -> Option<i64> {
        if self.steps.is_empty() {
            None
        } else {
            i64::try_from(self.steps.len()).ok()
        }
    }
}

/// How many pods more and fewer than wanted there may be.
fn bounds(canary: &Value, replicas: i64) -> (i64, i64) {
    let resolve = |field: &str, round_up: bool| match &canary[field] {
        Value::Null => meta::share(&Value::from("25%"), replicas, round_up),
        given => meta::share(given, replicas, round_up),
    };
    let surge = resolve("maxSurge", true).unwrap_or(0);
    let unavailable = resolve("maxUnavailable", false).unwrap_or(0);
    let unavailable = if surge == 0 && unavailable == 0 {
        1
    } else {
        unavailable
    };
    (surge, unavailable.min(replicas))
}

fn step(step: &Value) -> Step {
    match step["setWeight"].as_i64() {
        Some(weight) => Step::SetWeight(weight.clamp(0, 100)),
        None => Step::Pause(match &step["pause"]["duration"] {
            Value::Null => None,
            given => Some(duration_seconds(given).unwrap_or(-1)),
        }),
    }
}

fn step_name(step: &Value) -> String {
    if let Some(weight) = step["setWeight"].as_i64() {
        return format!("setWeight: {weight}");
    }
    match &step["pause"]["duration"] {
        Value::Null => "pause".to_owned(),
        Value::String(text) => format!("pause: {text}"),
        other => format!("pause: {other}s"),
    }
}

/// Whole seconds of a pause: a number, a number in a string, or Go's form of durations.
pub(super) fn duration_seconds(value: &Value) -> Option<i64> {
    if let Some(seconds) = value.as_i64() {
        return Some(seconds);
    }
    let text = value.as_str()?;
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let number: f64 = rest.get(..end)?.parse().ok()?;
        rest = rest.get(end..)?;
        let unit_end = rest
            .find(|it: char| it.is_ascii_digit() || it == '.')
            .unwrap_or(rest.len());
        let factor = match rest.get(..unit_end)? {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "µs" => 0.000_001,
            "ns" => 0.000_000_001,
            _ => return None,
        };
        seconds += number * factor;
        rest = rest.get(unit_end..)?;
    }
    // Pauses are years at most, so the whole seconds fit.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float is cut to its whole seconds on purpose"
    )]
    let whole = seconds as i64;
    Some(if negative { -whole } else { whole })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{bounds, duration_seconds};

    #[test]
    fn durations_are_read_as_the_controller_reads_them() {
        let cases = [
            (json!(60), Some(60)),
            (json!("10"), Some(10)),
            (json!("3s"), Some(3)),
            (json!("1h30m"), Some(5400)),
            (json!("1.5h"), Some(5400)),
            (json!("100ms"), Some(0)),
            (json!("5d"), None),
            (json!("abc"), None),
            (json!(""), None),
            (json!("-5s"), Some(-5)),
        ];
        for (given, seconds) in cases {
            assert_eq!(duration_seconds(&given), seconds, "{given}");
        }
    }

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        assert_eq!(bounds(&json!({}), 5), (2, 1));
        assert_eq!(bounds(&json!({}), 3), (1, 0));
        assert_eq!(bounds(&json!({"maxSurge": 0, "maxUnavailable": 0}), 3), (0, 1));
        assert_eq!(bounds(&json!({"maxSurge": "abc"}), 4), (0, 1));
        assert_eq!(bounds(&json!({"maxUnavailable": "150%"}), 4), (1, 4));
    }
}
