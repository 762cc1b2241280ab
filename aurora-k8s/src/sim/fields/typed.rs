//! Objects read against their schema: checking, collecting paths, merging, comparing, removing.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::schema::{ListMerge, Scalar, Shape, Ty};
use super::set::{Element, FieldSet, path_text};

/// What one version of an object has and the other does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) removed: FieldSet,
}

/// A value as the schema sees it: lists and maps that merge, or one leaf.
enum Seen<'a> {
    Leaf,
    Map(Option<&'a Map<String, Value>>),
    List(Option<&'a Vec<Value>>, &'static ListMerge),
}

/// Lists everything in `value` that its type does not allow, as the API server words it.
pub(crate) fn problems(value: &Value, ty: Ty) -> Vec<String> {
    let mut out = Vec::new();
    check(value, ty, &mut Vec::new(), &mut out);
    out
}

/// The paths that somebody who applies `value` claims.
pub(crate) fn field_set(value: &Value, ty: Ty) -> FieldSet {
    let mut out = FieldSet::default();
    collect(value, ty, &mut Vec::new(), &mut out);
    out
}

/// `newer` laid over `older`.
pub(crate) fn merge(older: &Value, newer: &Value, ty: Ty) -> Value {
    match (see(older, ty), see(newer, ty)) {
        (Seen::Map(Some(old)), Seen::Map(Some(new))) => {
            let mut out = old.clone();
            for (name, value) in new {
                let below = ty.step(&Element::field(name));
                let merged = match old.get(name) {
                    Some(held) => merge(held, value, below),
                    None => value.clone(),
                };
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Seen::List(Some(old), by), Seen::List(Some(new), _)) => merge_lists(old, new, by, ty),
        // A null in place of a struct or list that has content says nothing.
        (Seen::Map(Some(old)), Seen::Map(None)) if !old.is_empty() => older.clone(),
        (Seen::List(Some(old), _), Seen::List(None, _)) if !old.is_empty() => older.clone(),
        _ => newer.clone(),
    }
}

/// What changed from `older` to `newer`.
pub(crate) fn compare(older: &Value, newer: &Value, ty: Ty) -> Comparison {
    let mut out = Comparison::default();
    compare_at(Some(older), Some(newer), ty, &mut Vec::new(), &mut out);
    out
}

/// `value` without the paths in `gone`; what is emptied by that becomes null.
pub(crate) fn remove(value: &Value, gone: &FieldSet, ty: Ty) -> Value {
    match see(value, ty) {
        Seen::Map(Some(map)) if !map.is_empty() => {
            let mut out = Map::new();
            for (name, held) in map {
                let element = Element::field(name);
                if gone.has(&element) {
                    continue;
                }
                let held = match gone.below(&element) {
                    Some(below) => remove(held, below, ty.step(&element)),
                    None => held.clone(),
                };
                out.insert(name.clone(), held);
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Object(out)
            }
        }
        Seen::List(Some(list), by) if !list.is_empty() => {
            let mut out = Vec::new();
            for (at, held) in list.iter().enumerate() {
                let element = item_element(held, at, by);
                if gone.has(&element) {
                    continue;
                }
                out.push(match gone.below(&element) {
                    Some(below) => remove(held, below, ty.step(&element)),
                    None => held.clone(),
                });
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Array(out)
            }
        }
        _ => value.clone(),
    }
}

fn see(value: &Value, ty: Ty) -> Seen<'_> {
    match (ty.shape(), value) {
        (Shape::Map { atomic: false, .. }, Value::Object(map)) => Seen::Map(Some(map)),
        (Shape::Map { atomic: false, .. }, Value::Null) => Seen::Map(None),
        (Shape::Any, Value::Object(map)) => Seen::Map(Some(map)),
        (
            Shape::List {
                merge: ListMerge::Atomic,
                ..
            },
            _,
        ) => Seen::Leaf,
        (Shape::List { merge, .. }, Value::Array(list)) => Seen::List(Some(list), merge),
        (Shape::List { merge, .. }, Value::Null) => Seen::List(None, merge),
        _ => Seen::Leaf,
    }
}

fn item_element(item: &Value, at: usize, by: &ListMerge) -> Element {
    match by {
        ListMerge::Atomic => Element::Index(at),
        ListMerge::Set => Element::Item(item.to_string()),
        ListMerge::Keys(keys) => {
            let named: BTreeMap<String, String> = keys
                .iter()
                .filter_map(|(name, default)| {
                    let value = item.get(name).filter(|it| !it.is_null()).or(default.as_ref())?;
                    Some((name.clone(), value.to_string()))
                })
                .collect();
            // Only objects written past the API can lack a key; they stay where they are.
            if named.is_empty() {
                Element::Index(at)
            } else {
                Element::Key(named)
            }
        }
    }
}

fn check(value: &Value, ty: Ty, path: &mut Vec<Element>, out: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut complain = |path: &[Element], text: &str| {
        let place = path_text(path);
        out.push(if place.is_empty() {
            text.to_owned()
        } else {
            format!("{place}: {text}")
        });
    };
    match (ty.shape(), value) {
        (Shape::Any, _) => {}
        (Shape::Scalar(scalar), _) => {
            if let Some(wanted) = wrong_scalar(*scalar, value) {
                complain(path, &format!("expected {wanted}, got {}", kind_of(value)));
            }
        }
        (Shape::Map { fields, rest, .. }, Value::Object(map)) => {
            for (name, below) in map {
                path.push(Element::field(name));
                if fields.contains_key(name) || rest.is_some() {
                    check(below, ty.step(&Element::field(name)), path, out);
                } else {
                    out.push(format!("{}: field not declared in schema", path_text(path)));
                }
                path.pop();
            }
        }
        (Shape::Map { .. }, _) => complain(path, &format!("expected map, got {}", kind_of(value))),
        (Shape::List { merge, of }, Value::Array(list)) => {
            let mut seen = FieldSet::default();
            for (at, item) in list.iter().enumerate() {
                if let Some(problem) = wrong_item(item, at, merge) {
                    out.push(format!("{}: {problem}", path_text(path)));
                    continue;
                }
                let element = item_element(item, at, merge);
                if seen.has(&element) {
                    out.push(format!(
                        "{}: duplicate entries for key {element}",
                        path_text(path)
                    ));
                }
                path.push(element.clone());
                check(item, *of, path, out);
                path.pop();
                seen.insert(&[element]);
            }
        }
        (Shape::List { .. }, _) => complain(path, &format!("expected list, got {}", kind_of(value))),
    }
}

fn wrong_scalar(wanted: Scalar, value: &Value) -> Option<&'static str> {
    match wanted {
        Scalar::Boolean if !value.is_boolean() => Some("boolean"),
        Scalar::Numeric if !value.is_number() => Some("numeric (int or float)"),
        Scalar::String if !value.is_string() => Some("string"),
        Scalar::Untyped if value.is_object() || value.is_array() => Some("scalar"),
        _ => None,
    }
}

fn wrong_item(item: &Value, at: usize, merge: &ListMerge) -> Option<String> {
    match merge {
        ListMerge::Atomic => None,
        ListMerge::Set if item.is_object() || item.is_array() => Some(format!(
            "element {at}: associative list without keys has an element that's a {}",
            kind_of(item)
        )),
        ListMerge::Set => None,
        ListMerge::Keys(_) if !item.is_object() => Some(format!(
            "element {at}: associative list with keys may not have non-map elements"
        )),
        ListMerge::Keys(keys) => keys
            .iter()
            .find(|(name, default)| default.is_none() && item.get(name).is_none_or(|value| value.is_null()))
            .map(|(name, _)| {
                format!(
                    "element {at}: associative list with keys has an element that omits key field \"{name}\" \
                     (and doesn't have default value)"
                )
            }),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn collect(value: &Value, ty: Ty, path: &mut Vec<Element>, out: &mut FieldSet) {
    match see(value, ty) {
        Seen::Leaf => out.insert(path),
        Seen::Map(map) => {
            for (name, below) in map.into_iter().flatten() {
                let declared = matches!(ty.shape(), Shape::Map { fields, .. } if fields.contains_key(name));
                let empty = below.is_null() || below.as_object().is_some_and(Map::is_empty);
                let element = Element::field(name);
                let below_ty = ty.step(&element);
                path.push(element);
                collect(below, below_ty, path, out);
                if empty || !declared {
                    out.insert(path);
                }
                path.pop();
            }
        }
        Seen::List(list, by) => {
            for (at, item) in list.into_iter().flatten().enumerate() {
                let element = item_element(item, at, by);
                let below_ty = ty.step(&element);
                path.push(element);
                collect(item, below_ty, path, out);
                out.insert(path);
                path.pop();
            }
        }
    }
}

/// Items of `new` keep their order; items that only `old` has keep their place among the old ones.
fn merge_lists(old: &[Value], new: &[Value], by: &ListMerge, ty: Ty) -> Value {
    let elements = |list: &[Value]| -> Vec<Element> {
        list.iter()
            .enumerate()
            .map(|(at, item)| item_element(item, at, by))
            .collect()
    };
    let (old_at, new_at) = (elements(old), elements(new));
    let merged = |right: usize| match old_at.iter().position(|element| *element == new_at[right]) {
        Some(held) => merge(&old[held], &new[right], ty.step(&new_at[right])),
        None => new[right].clone(),
    };
    // What both lists have, in the order in which it will come.
    let mut shared = new_at
        .iter()
        .filter(|element| old_at.contains(element))
        .peekable();
    let mut out = Vec::new();
    let (mut left, mut right) = (0, 0);
    while left < old.len() || right < new.len() {
        if let Some(element) = old_at.get(left) {
            let same = new_at.get(right) == Some(element);
            if !new_at.contains(element) {
                out.push(old[left].clone());
                left += 1;
                continue;
            }
            let moved = shared.peek().is_some_and(|next| *next != element);
            if !same && right < new.len() && moved {
                left += 1;
                continue;
            }
            if same || new_at[..right].contains(element) {
                left += 1;
            }
        }
        if right < new.len() {
            out.push(merged(right));
            shared.next_if(|next| **next == new_at[right]);
            right += 1;
        }
    }
    Value::Array(out)
}

fn compare_at(
    older: Option<&Value>,
    newer: Option<&Value>,
    ty: Ty,
    path: &mut Vec<Element>,
    out: &mut Comparison,
) {
    let Some(shown) = newer.or(older) else {
        return;
    };
    let old_seen = see(older.unwrap_or(shown), ty);
    let new_seen = see(shown, ty);
    let (old, new) = match (old_seen, new_seen) {
        (Seen::Map(old), Seen::Map(new)) => {
            let old = old.filter(|map| older.is_some() && !map.is_empty());
            let new = new.filter(|map| newer.is_some() && !map.is_empty());
            (children_of_map(old), children_of_map(new))
        }
        (Seen::List(old, by), Seen::List(new, _)) => {
            let old = old.filter(|list| older.is_some() && !list.is_empty());
            let new = new.filter(|list| newer.is_some() && !list.is_empty());
            (children_of_list(old, by), children_of_list(new, by))
        }
        _ => (BTreeMap::new(), BTreeMap::new()),
    };
    let leaf = old.is_empty() && new.is_empty();
    for (element, value) in &new {
        path.push(element.clone());
        compare_at(
            old.get(element).copied(),
            Some(value),
            ty.step(element),
            path,
            out,
        );
        path.pop();
    }
    for (element, value) in &old {
        if !new.contains_key(element) {
            path.push(element.clone());
            compare_at(Some(value), None, ty.step(element), path, out);
            path.pop();
        }
    }
    match (older, newer) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        (Some(older), Some(newer)) if leaf && older != newer => out.modified.insert(path),
        _ => {}
    }
}

fn children_of_map(map: Option<&Map<String, Value>>) -> BTreeMap<Element, &Value> {
    map.into_iter()
        .flatten()
        .map(|(name, value)| (Element::field(name), value))
        .collect()
}

fn children_of_list<'a>(list: Option<&'a Vec<Value>>, by: &ListMerge) -> BTreeMap<Element, &'a Value> {
    list.into_iter()
        .flatten()
        .enumerate()
        .map(|(at, item)| (item_element(item, at, by), item))
        .collect()
}
