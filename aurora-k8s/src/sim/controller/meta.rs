//! Reading what all objects have in common: names, owners, labels, conditions.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::sim::{
    objects::{WatchEvent, seconds},
    resource::Resource,
};

use super::queue::ObjectKey;

pub(super) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

pub(super) fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

pub(super) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub(super) fn key(object: &Value) -> ObjectKey {
    (namespace(object).to_owned(), name(object).to_owned())
}

pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn label<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"]["labels"][name].as_str().unwrap_or_default()
}

pub(super) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// A whole number at a JSON pointer.
pub(super) fn int(object: &Value, place: &str) -> Option<i64> {
    object.pointer(place).and_then(Value::as_i64)
}

/// Sets a member deep in an object; what stands in the way and is no object gives way.
pub(super) fn put(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    let mut place = object;
    for name in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*name];
    }
    *place = value.into();
}

/// `spec.replicas`, within what a count may be; 1 where it is not given.
pub(super) fn replicas(object: &Value) -> i64 {
    count(int(object, "/spec/replicas").unwrap_or(1))
}

/// A number within what a count may be, so that sums of a few do not overflow.
pub(super) fn count(number: i64) -> i64 {
    number.clamp(0, i64::from(i32::MAX))
}

/// A time as Kubernetes writes it.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}

/// The owner that controls an object: kind and name.
pub(super) fn controller_of(object: &Value) -> Option<(&str, &str)> {
    let owner = controller_reference(object)?;
    Some((owner["kind"].as_str()?, owner["name"].as_str()?))
}

/// Whether this very owner (by UID) controls the object.
pub(super) fn is_controlled_by(object: &Value, owner: &Value) -> bool {
    controller_reference(object).is_some_and(|reference| reference["uid"] == owner["metadata"]["uid"])
}

fn controller_reference(object: &Value) -> Option<&Value> {
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    owners
        .iter()
        .find(|owner| owner["controller"].as_bool() == Some(true))
}

pub(super) fn owner_reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// Keys of the objects of `resource` that a write concerns: the object itself, or the one that controls it.
pub(super) fn own_or_controller(event: &WatchEvent, resource: &Resource) -> Vec<ObjectKey> {
    if *event.resource == *resource {
        return vec![key(&event.object)];
    }
    match controller_of(&event.object) {
        Some((kind, owner)) if kind == resource.kind => {
            vec![(namespace(&event.object).to_owned(), owner.to_owned())]
        }
        _ => Vec::new(),
    }
}

/// Whether a LabelSelector selects these labels. An empty or missing selector selects nothing, as for
/// workloads.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    let expressions = selector["matchExpressions"].as_array();
    if wanted.is_none_or(|it| it.is_empty()) && expressions.is_none_or(Vec::is_empty) {
        return false;
    }
    wanted
        .into_iter()
        .flatten()
        .all(|(name, value)| labels.get(name) == Some(value))
        && expressions
            .into_iter()
            .flatten()
            .all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let label = expression["key"].as_str().and_then(|name| labels.get(name));
    let listed = || {
        let values = expression["values"].as_array();
        values.is_some_and(|values| label.is_some_and(|label| values.contains(label)))
    };
    match expression["operator"].as_str() {
        Some("In") => listed(),
        Some("NotIn") => !listed(),
        Some("Exists") => label.is_some(),
        Some("DoesNotExist") => label.is_none(),
        _ => false,
    }
}

/// A condition of a list, by type.
pub(super) fn condition<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    conditions
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// Sets a condition unless its status, reason and message are already so; keeps the time of transition while
/// the status stays.
pub(super) fn set_condition(
    conditions: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let held = condition(conditions, kind).cloned();
    let same = held.as_ref().is_some_and(|held| {
        held["status"] == status && held["reason"] == reason && held["message"] == message
    });
    if same {
        return;
    }
    let since = held
        .filter(|held| held["status"] == status)
        .map(|held| held["lastTransitionTime"].clone());
    let next = json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": seconds(now),
        "lastTransitionTime": since.unwrap_or_else(|| seconds(now).into()),
    });
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|condition| condition["type"] == kind) {
            Some(place) => *place = next,
            None => list.push(next),
        }
    }
}

/// An int-or-percent of a whole; `None` for what is neither.
pub(super) fn share(value: &Value, whole: i64, round_up: bool) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(bounded(number));
    }
    let percent: i64 = value.as_str()?.strip_suffix('%')?.parse().ok()?;
    let product = percent.checked_mul(whole)?;
    let rounded = if round_up {
        product.saturating_add(99)
    } else {
        product
    };
    Some(bounded(rounded.div_euclid(100)))
}

fn bounded(number: i64) -> i64 {
    number.clamp(-i64::from(i32::MAX), i64::from(i32::MAX))
}
