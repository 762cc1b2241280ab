//! JSON patches (RFC 6902) and strategic merge patches.

use serde_json::{Map, Value};

use crate::sim::fields::{Element, ListMerge, Ty, list_merge};

/// Carries out a JSON patch. None: an operation is malformed, or cannot be done, or its test fails.
pub(crate) fn json_patch(target: &Value, operations: &Value) -> Option<Value> {
    let mut out = target.clone();
    for operation in operations.as_array()? {
        let path = operation["path"].as_str()?;
        match operation["op"].as_str()? {
            "add" => add(&mut out, path, operation.get("value")?.clone())?,
            "remove" => drop(take(&mut out, path)?),
            "replace" => {
                *out.pointer_mut(path)? = operation.get("value")?.clone();
            }
            "move" => {
                let value = take(&mut out, operation["from"].as_str()?)?;
                add(&mut out, path, value)?;
            }
            "copy" => {
                let value = out.pointer(operation["from"].as_str()?)?.clone();
                add(&mut out, path, value)?;
            }
            "test" => {
                let wanted = operation.get("value")?;
                // A test for null also holds where nothing is.
                let held = out.pointer(path).unwrap_or(&Value::Null);
                if held != wanted {
                    return None;
                }
            }
            _ => return None,
        }
    }
    Some(out)
}

fn split(path: &str) -> Option<(&str, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn add(target: &mut Value, path: &str, value: Value) -> Option<()> {
    if path.is_empty() {
        *target = value;
        return Some(());
    }
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(list) if last == "-" => list.push(value),
        Value::Array(list) => {
            let at: usize = last.parse().ok().filter(|at| *at <= list.len())?;
            list.insert(at, value);
        }
        _ => return None,
    }
    Some(())
}

fn take(target: &mut Value, path: &str) -> Option<Value> {
    let (parent, last) = split(path)?;
    match target.pointer_mut(parent)? {
        Value::Object(map) => map.remove(&last),
        Value::Array(list) => {
            let at: usize = last.parse().ok().filter(|at| *at < list.len())?;
            Some(list.remove(at))
        }
        _ => None,
    }
}

/// Carries out a strategic merge patch: as a merge patch, but lists whose items have keys merge item by item.
pub(crate) fn strategic(target: &Value, patch: &Value, ty: Ty) -> Value {
    match (target, patch) {
        (_, Value::Object(changes)) => merge_maps(target.as_object(), changes, ty),
        (Value::Array(held), Value::Array(changes)) => match list_merge(ty) {
            Some(ListMerge::Keys(keys)) => merge_lists(held, changes, keys, ty),
            Some(ListMerge::Set) => {
                let new = changes.iter().filter(|item| !held.contains(item));
                held.iter().chain(new).cloned().collect()
            }
            Some(ListMerge::Atomic) | None => patch.clone(),
        },
        _ => patch.clone(),
    }
}

const DIRECTIVE: &str = "$patch";

fn merge_maps(held: Option<&Map<String, Value>>, changes: &Map<String, Value>, ty: Ty) -> Value {
    let replace = changes.get(DIRECTIVE).is_some_and(|it| it == "replace");
    let mut out = if replace {
        Map::new()
    } else {
        held.cloned().unwrap_or_default()
    };
    if let Some(Value::Array(kept)) = changes.get("$retainKeys") {
        out.retain(|name, _| kept.iter().any(|it| it == name.as_str()));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (out.get_mut(list), change) {
                items.retain(|item| !gone.contains(item));
            }
        } else if name.starts_with('$') {
            // Element orders and the directives read above.
        } else if change.is_null() {
            out.remove(name);
        } else {
            let below = ty.step(&Element::field(name));
            let merged = strategic(out.get(name).unwrap_or(&Value::Null), change, below);
            out.insert(name.clone(), merged);
        }
    }
    Value::Object(out)
}

fn merge_lists(held: &[Value], changes: &[Value], keys: &[(String, Option<Value>)], ty: Ty) -> Value {
    let item_ty = ty.step(&Element::Index(0));
    let replace = changes
        .iter()
        .any(|it| it[DIRECTIVE] == "replace" && it.as_object().is_some_and(|map| map.len() == 1));
    let mut out = if replace { Vec::new() } else { held.to_vec() };
    for change in changes {
        // A patch may leave out the keys that have a default.
        let same = |item: &Value| {
            let named: Vec<&String> = keys
                .iter()
                .map(|(key, _)| key)
                .filter(|key| !change[key.as_str()].is_null())
                .collect();
            !named.is_empty() && named.iter().all(|key| item[key.as_str()] == change[key.as_str()])
        };
        let at = out.iter().position(same);
        match (at, change[DIRECTIVE].as_str()) {
            (Some(at), Some("delete")) => drop(out.remove(at)),
            (None, Some("delete")) => {}
            (_, Some("replace")) if change.as_object().is_some_and(|map| map.len() == 1) => {}
            (Some(at), _) => out[at] = strategic(&out[at], change, item_ty),
            (None, _) => out.push(strategic(&Value::Null, change, item_ty)),
        }
    }
    Value::Array(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_patches_change_lists_and_maps() {
        let target = json!({"a": {"b/c": 1}, "list": [1, 2]});
        for (operations, wanted) in [
            (
                json!([{"op": "add", "path": "/list/-", "value": 3}]),
                Some(json!({"a": {"b/c": 1}, "list": [1, 2, 3]})),
            ),
            (
                json!([{"op": "add", "path": "/list/0", "value": 0}]),
                Some(json!({"a": {"b/c": 1}, "list": [0, 1, 2]})),
            ),
            (
                json!([{"op": "remove", "path": "/a/b~1c"}]),
                Some(json!({"a": {}, "list": [1, 2]})),
            ),
            (
                json!([{"op": "replace", "path": "/list/1", "value": 9}]),
                Some(json!({"a": {"b/c": 1}, "list": [1, 9]})),
            ),
            (
                json!([{"op": "move", "from": "/a", "path": "/d"}]),
                Some(json!({"d": {"b/c": 1}, "list": [1, 2]})),
            ),
            (
                json!([{"op": "copy", "from": "/list/0", "path": "/d"}]),
                Some(json!({"a": {"b/c": 1}, "list": [1, 2], "d": 1})),
            ),
            (
                json!([{"op": "test", "path": "/list/0", "value": 1}]),
                Some(target.clone()),
            ),
            (json!([{"op": "test", "path": "/list/0", "value": 2}]), None),
            (
                json!([{"op": "test", "path": "/gone", "value": null}]),
                Some(target.clone()),
            ),
            (json!([{"op": "remove", "path": "/gone"}]), None),
            (json!([{"op": "replace", "path": "/gone", "value": 1}]), None),
            (json!([{"op": "add", "path": "/list/7", "value": 1}]), None),
            (json!([{"op": "shout", "path": "/list"}]), None),
            (json!({"op": "add"}), None),
        ] {
            assert_eq!(json_patch(&target, &operations), wanted, "{operations}");
        }
    }

    #[test]
    fn strategic_patches_merge_containers_by_name_and_ports_by_number() {
        let ty = Ty::of_kind("apps", "Deployment");
        let target = json!({"spec": {"replicas": 2, "template": {"spec": {
            "tolerations": [{"key": "a"}],
            "containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                           {"name": "log", "image": "log:1"}],
        }}}});
        let patch = json!({"spec": {"replicas": null, "template": {"spec": {
            "$setElementOrder/containers": [{"name": "web"}],
            "tolerations": [{"key": "b"}],
            "containers": [{"name": "web", "image": "web:2", "ports": [{"containerPort": 80, "name": "http"}]},
                           {"name": "log", "$patch": "delete"}, {"name": "new", "image": "new:1"}],
        }}}});
        let merged = strategic(&target, &patch, ty);
        assert_eq!(
            merged,
            json!({"spec": {"template": {"spec": {
                "tolerations": [{"key": "b"}],
                "containers": [
                    {"name": "web", "image": "web:2", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
                    {"name": "new", "image": "new:1"},
                ],
            }}}})
        );
    }

    #[test]
    fn strategic_directives_replace_maps_and_remove_from_primitive_lists() {
        let ty = Ty::of_kind("apps", "Deployment");
        let target = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "finalizers": ["b", "c"],
            "labels": {"$patch": "replace", "y": "2"},
        }});
        assert_eq!(
            strategic(&target, &patch, ty),
            json!({"metadata": {"finalizers": ["b", "c"], "labels": {"y": "2"}}})
        );
    }
}
