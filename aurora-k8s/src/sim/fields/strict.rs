//! What writes other than server-side apply do with fields and values that the schema does not know.

use serde_json::Value;

use super::schema::{ListMerge, Scalar, Shape, Ty};

/// Removes undeclared fields and names them: `spec.strategy.canary.steps[0].setWieght`.
pub(crate) fn prune_unknown(value: &mut Value, ty: Ty) -> Vec<String> {
    let mut out = Vec::new();
    prune(value, ty, "", &mut out);
    out
}

/// Missing fields, wrong types, and list items that stand twice, as (field, problem).
pub(crate) fn mistakes(value: &Value, ty: Ty) -> Vec<(String, String)> {
    let mut out = Vec::new();
    look(value, ty, "", &mut out);
    out
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn prune(value: &mut Value, ty: Ty, path: &str, out: &mut Vec<String>) {
    match (value, ty.shape()) {
        (Value::Object(map), Shape::Map { fields, rest, .. }) => {
            map.retain(|name, _| {
                let known = rest.is_some() || fields.contains_key(name);
                if !known {
                    out.push(joined(path, name));
                }
                known
            });
            for (name, below) in map {
                let below_ty = fields.get(name).copied().or(*rest);
                if let Some(below_ty) = below_ty {
                    prune(below, below_ty, &joined(path, name), out);
                }
            }
        }
        (Value::Array(list), Shape::List { of, .. }) => {
            for (at, item) in list.iter_mut().enumerate() {
                prune(item, *of, &format!("{path}[{at}]"), out);
            }
        }
        _ => {}
    }
}

fn look(value: &Value, ty: Ty, path: &str, out: &mut Vec<(String, String)>) {
    let wrong = |wanted: &str| {
        let shown = if value.is_string() {
            value.to_string()
        } else {
            format!("\"{value}\"")
        };
        let problem = format!("Invalid value: {shown}: {path} in body must be of type {wanted}: {shown}");
        Some((path.to_owned(), problem))
    };
    let found = match (value, ty.shape()) {
        (Value::Null, _) | (_, Shape::Any) => None,
        (
            Value::Object(map),
            Shape::Map {
                fields,
                rest,
                required,
                ..
            },
        ) => {
            let missing = required
                .iter()
                .filter(|name| map.get(*name).is_none_or(Value::is_null));
            out.extend(missing.map(|name| (joined(path, name), "Required value".to_owned())));
            for (name, below) in map {
                if let Some(below_ty) = fields.get(name).copied().or(*rest) {
                    look(below, below_ty, &joined(path, name), out);
                }
            }
            None
        }
        (Value::Array(list), Shape::List { of, merge }) => {
            for (at, item) in list.iter().enumerate() {
                let place = format!("{path}[{at}]");
                if let Some(problem) = duplicate(&list[..at], item, merge) {
                    out.push((place.clone(), problem));
                }
                // Items of lists are values: the API server never takes a null there.
                if item.is_null() && !matches!(of.shape(), Shape::Any) {
                    let problem =
                        format!("Invalid value: \"null\": {place} in body must be of type object: \"null\"");
                    out.push((place.clone(), problem));
                }
                look(item, *of, &place, out);
            }
            None
        }
        (_, Shape::Map { .. }) => wrong("object"),
        (_, Shape::List { .. }) => wrong("array"),
        (_, Shape::Scalar(Scalar::Boolean)) if !value.is_boolean() => wrong("boolean"),
        (_, Shape::Scalar(Scalar::Numeric)) if !value.is_i64() && !value.is_u64() => wrong("integer"),
        (_, Shape::Scalar(Scalar::String)) if !value.is_string() => wrong("string"),
        _ => None,
    };
    out.extend(found);
}

fn duplicate(before: &[Value], item: &Value, merge: &ListMerge) -> Option<String> {
    let ListMerge::Keys(keys) = merge else {
        return None;
    };
    let key = |item: &Value| -> Vec<Value> {
        keys.iter()
            .map(|(name, default)| item.get(name).cloned().or(default.clone()).unwrap_or_default())
            .collect()
    };
    let own = key(item);
    before.iter().any(|other| key(other) == own).then(|| {
        let shown: Vec<String> = keys
            .iter()
            .zip(&own)
            .map(|((name, _), value)| format!("\"{name}\":{value}"))
            .collect();
        format!("Duplicate value: {{{}}}", shown.join(","))
    })
}
