//! Server-side apply as a pure function, and what other writes do to field ownership.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::managed::{Manager, Managers};
use super::schema::{ListMerge, Scalar, Shape, Ty};
use super::set::{Element, FieldSet, path_text};
use super::typed::{Comparison, compare, field_set, merge, problems, remove};

/// A field that somebody else owns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Conflict {
    /// The owner, as the API server names it.
    pub(crate) manager: String,
    pub(crate) field: String,
}

/// Why an apply is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ApplyError {
    /// Others own these fields with other values.
    Conflicts(Vec<Conflict>),
    /// The body does not fit the schema.
    Untyped(String),
}

/// Which part of an object a request may write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Main,
    Status,
    /// Kinds without subresources are written as a whole.
    Whole,
}

/// Applies `config` over `live` (none: it is created) for `manager`; answers the merged object with its
/// `managedFields`.
///
/// `split` tells that the kind has a status subresource, so that the main resource ignores `status` and
/// `/status` ignores everything else.
///
/// # Errors
/// [`ApplyError::Untyped`] for bodies that do not fit the schema; [`ApplyError::Conflicts`] unless `force`.
pub(crate) fn apply(
    live: Option<&Value>,
    config: &Value,
    ty: Ty,
    manager: &Manager,
    split: bool,
    force: bool,
    now: Timestamp,
) -> Result<Value, ApplyError> {
    let found = problems(config, ty);
    if !found.is_empty() {
        return Err(ApplyError::Untyped(match found.as_slice() {
            [one] => one.clone(),
            many => format!("errors:\n  {}", many.join("\n  ")),
        }));
    }
    let part = part(manager, split);
    let sent = without_reset(config, part);
    let config = stripped_for_merge(&sent);
    let before = live.map_or_else(|| empty(&config), stripped);
    let mut managers = live.map(Managers::of).unwrap_or_default();
    if let Some(live) = live
        && managers.is_empty()
    {
        // What nobody tracked belongs to somebody, or the first apply could not conflict with it.
        let all = ignored(&field_set(&stripped(live), ty), part);
        managers.set(
            Manager::updater("before-first-apply", &manager.api_version, ""),
            all,
            now,
        );
    }
    let merged = merge(&before, &config, ty);
    let last = managers.owned_by(manager).map(|(_, owned)| owned.fields.clone());
    let claimed = ignored(&field_set(&config, ty), part);
    managers.set(manager.clone(), claimed, now);
    let pruned = prune(merged, &managers, last.as_ref(), ty);
    let changes = kept(compare(&before, &pruned, ty), part);
    let touched = changes.modified.union(&changes.added);
    if !force {
        let conflicts = conflicts(&managers, manager, &touched);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
    }
    yield_fields(&mut managers, manager, &touched, &changes.removed);
    let mut object = with_identity(pruned, live, &sent);
    managers.write_to(&mut object);
    Ok(object)
}

/// Records in `next` that `manager` changed what differs from `live` (none: it was created).
///
/// A client that resets `managedFields` to an empty entry is obeyed; one that sends none keeps the old ones.
pub(crate) fn record_update(
    live: Option<&Value>,
    next: &mut Value,
    ty: Ty,
    manager: &Manager,
    split: bool,
    now: Timestamp,
) {
    let part = part(manager, split);
    let sent = next["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let reset = matches!(sent.as_slice(), [one] if one.as_object().is_some_and(Map::is_empty));
    let own = Managers::of(next);
    let mut managers = match live {
        _ if reset => Managers::default(),
        Some(live) if own.is_empty() || !manager.subresource.is_empty() => Managers::of(live),
        _ => own,
    };
    if !reset {
        let after = stripped(next);
        let before = live.map_or_else(|| empty(&after), stripped);
        let changes = kept(compare(&before, &after, ty), part);
        let touched = changes.modified.union(&changes.added);
        yield_fields(&mut managers, manager, &touched, &changes.removed);
        let held = managers.owned_by(manager).map(|(_, owned)| owned.fields.clone());
        let fields = held
            .unwrap_or_default()
            .difference(&changes.removed)
            .union(&touched);
        managers.set(manager.clone(), fields, now);
    }
    managers.write_to(next);
}

/// Places outside `metadata` where a null stands and the schema wants a value, as (path, wanted type).
pub(crate) fn nulls(object: &Value, ty: Ty) -> Vec<(String, &'static str)> {
    fn walk(value: &Value, ty: Ty, path: &mut Vec<Element>, out: &mut Vec<(String, &'static str)>) {
        match (value, ty.shape()) {
            (_, Shape::Any) => {}
            (Value::Null, shape) => {
                let wanted = match shape {
                    Shape::List { .. } => "array",
                    Shape::Map { .. } => "object",
                    Shape::Scalar(Scalar::Boolean) => "boolean",
                    Shape::Scalar(Scalar::Numeric) => "integer",
                    Shape::Scalar(_) | Shape::Any => "string",
                };
                out.push((path_text(path).trim_start_matches('.').to_owned(), wanted));
            }
            (Value::Object(map), _) => {
                for (name, below) in map {
                    let element = Element::field(name);
                    let below_ty = ty.step(&element);
                    path.push(element);
                    walk(below, below_ty, path, out);
                    path.pop();
                }
            }
            (Value::Array(list), Shape::List { of, .. }) => {
                for (at, below) in list.iter().enumerate() {
                    path.push(Element::Index(at));
                    walk(below, *of, path, out);
                    path.pop();
                }
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    for (name, below) in object.as_object().into_iter().flatten() {
        if name != "metadata" {
            let element = Element::field(name);
            walk(below, ty.step(&element), &mut vec![element], &mut out);
        }
    }
    out
}

fn part(manager: &Manager, split: bool) -> Part {
    match (split, manager.subresource.as_str()) {
        (false, _) => Part::Whole,
        (true, "status") => Part::Status,
        (true, _) => Part::Main,
    }
}

/// Drops what lies outside the part that the request writes.
fn without_reset(config: &Value, part: Part) -> Value {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        match part {
            Part::Main => {
                map.remove("status");
            }
            Part::Status => map.retain(|name, _| is_identity(name) || name == "status"),
            Part::Whole => {}
        }
    }
    config
}

fn is_identity(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// What the object looks like to field ownership before it exists.
fn empty(config: &Value) -> Value {
    let mut out = Map::new();
    for name in ["apiVersion", "kind"] {
        if let Some(value) = config.get(name) {
            out.insert(name.to_owned(), value.clone());
        }
    }
    out.insert("metadata".to_owned(), Value::Object(Map::new()));
    Value::Object(out)
}

const ASSIGNED: [&str; 9] = [
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "uid",
];

/// The object without what nobody can own.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| name != "selfLink" && !ASSIGNED.contains(&name.as_str()));
    }
    object
}

fn stripped_for_merge(config: &Value) -> Value {
    let mut config = stripped(config);
    if config.get("metadata").is_none_or(Value::is_null) {
        config["metadata"] = Value::Object(Map::new());
    }
    config
}

/// Without the paths that nobody owns, and those of the part that the request does not write.
fn ignored(fields: &FieldSet, part: Part) -> FieldSet {
    let mut out = FieldSet::default();
    let unowned = ["apiVersion", "kind"];
    for path in fields.paths() {
        let Some(Element::Field(first)) = path.first() else {
            continue;
        };
        let other_part = match part {
            Part::Main => first == "status",
            Part::Status => first != "status",
            Part::Whole => false,
        };
        let whole_metadata = first == "metadata" && path.len() == 1;
        if !unowned.contains(&first.as_str()) && !other_part && !whole_metadata {
            out.insert(&path);
        }
    }
    out
}

fn kept(changes: Comparison, part: Part) -> Comparison {
    Comparison {
        added: ignored(&changes.added, part),
        modified: ignored(&changes.modified, part),
        removed: ignored(&changes.removed, part),
    }
}

/// Removes what the applier had applied before, does not apply now, and nobody else owns.
fn prune(merged: Value, managers: &Managers, last: Option<&FieldSet>, ty: Ty) -> Value {
    let Some(last) = last.filter(|last| !last.is_empty()) else {
        return merged;
    };
    let last = last.with_named_fields(ty);
    let all = |value: &Value| field_set(value, ty).with_named_fields(ty);
    let owned = managers
        .owners()
        .fold(FieldSet::default(), |sum, (_, owned)| sum.union(&owned.fields))
        .with_named_fields(ty);
    let pruned = remove(&merged, &last, ty);
    let merged_fields = all(&merged);
    // What the first cut took too much of is added back: what anybody owns ...
    let gone = merged_fields.difference(&all(&pruned).union(&owned));
    let pruned = remove(&merged, &gone, ty);
    // ... and what the applier never had.
    let gone = merged_fields.difference(&all(&pruned)).intersection(&last);
    remove(&merged, &gone, ty)
}

fn conflicts(managers: &Managers, manager: &Manager, touched: &FieldSet) -> Vec<Conflict> {
    let mut out = Vec::new();
    let mine = managers.owned_by(manager).map(|(held, _)| held.clone());
    for (other, owned) in managers.owners() {
        if Some(other) == mine.as_ref() {
            continue;
        }
        for path in owned.fields.intersection(touched).paths() {
            out.push(Conflict {
                manager: other.to_string(),
                field: path_text(&path),
            });
        }
    }
    out
}

fn yield_fields(managers: &mut Managers, manager: &Manager, touched: &FieldSet, removed: &FieldSet) {
    managers.change_others(manager, |fields| {
        fields.difference(touched).recursive_difference(removed)
    });
}

/// Puts back what only the server assigns; of a new object, how it is called.
fn with_identity(mut object: Value, live: Option<&Value>, sent: &Value) -> Value {
    if !object["metadata"].is_object() {
        object["metadata"] = Value::Object(Map::new());
    }
    let (from, fields) = match live {
        Some(live) => (live, ASSIGNED.as_slice()),
        None => (sent, ["name", "namespace"].as_slice()),
    };
    for field in fields {
        if let Some(value) = from["metadata"].get(field) {
            object["metadata"][*field] = value.clone();
        }
    }
    object
}

/// How lists of this type merge; none for other types.
pub(crate) fn list_merge(ty: Ty) -> Option<&'static ListMerge> {
    match ty.shape() {
        Shape::List { merge, .. } => Some(merge),
        _ => None,
    }
}
