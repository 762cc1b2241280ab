//! Pod templates: whether two are the same, and which fields differ.

use serde_json::{Map, Value};

use aurora_core::plan::TEMPLATE_DIGEST_ANNOTATION;

/// The digest that a pod template carries.
pub fn digest_of(template: &Value) -> Option<&str> {
    template["metadata"]["annotations"][TEMPLATE_DIGEST_ANNOTATION].as_str()
}

/// The first place where a live template is not what was rendered; none when they are the same.
///
/// Values that the controller drops, and the defaults that the CRD adds, make no difference.
pub fn difference(rendered: &Value, live: &Value) -> Option<String> {
    first_difference(&bare(rendered), &bare(live), "spec.template")
}

fn first_difference(rendered: &Value, live: &Value, at: &str) -> Option<String> {
    match (rendered, live) {
        (Value::Object(rendered), Value::Object(live)) => {
            let keys = rendered
                .keys()
                .chain(live.keys().filter(|key| !rendered.contains_key(*key)));
            keys.into_iter().find_map(|key| {
                let at = format!("{at}.{key}");
                match (rendered.get(key), live.get(key)) {
                    (Some(rendered), Some(live)) => first_difference(rendered, live, &at),
                    _ => Some(at),
                }
            })
        }
        (Value::Array(rendered), Value::Array(live)) if rendered.len() == live.len() => {
            let pairs = rendered.iter().zip(live).enumerate();
            pairs.into_iter().find_map(|(index, (rendered, live))| {
                first_difference(rendered, live, &format!("{at}[{index}]"))
            })
        }
        _ => (rendered != live).then(|| at.to_owned()),
    }
}

/// The value without what means nothing: nulls, zeros, empty texts and lists, default protocols.
fn bare(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(bare).collect(),
        Value::Object(fields) => {
            let is_port = fields.contains_key("containerPort");
            let kept = fields.iter().filter(|(key, field)| {
                let is_default = is_port && *key == "protocol" && **field == "TCP";
                !is_default && !means_nothing(field)
            });
            // These are as good as absent when they are empty; an empty emptyDir is not.
            let optional = |key: &str| {
                matches!(
                    key,
                    "annotations" | "labels" | "metadata" | "resources" | "securityContext"
                )
            };
            let kept = kept.map(|(key, field)| (key, bare(field)));
            let kept =
                kept.filter(|(key, field)| !(optional(key) && field.as_object().is_some_and(Map::is_empty)));
            Value::Object(kept.map(|(key, field)| (key.clone(), field)).collect())
        }
        other => other.clone(),
    }
}

fn means_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(true) | Value::Object(_) => false,
    }
}

/// Who last wrote a place in a pod template by other means than our apply, as far as the object tells.
pub fn writer_of_template<'o>(object: &'o Value, ours: &str) -> Option<&'o str> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let foreign = entries
        .iter()
        .filter(|entry| entry["manager"] != ours && entry.pointer("/fieldsV1/f:spec/f:template").is_some());
    foreign.max_by_key(|entry| entry["time"].as_str().unwrap_or_default())?["manager"].as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_controller_drops_and_the_server_adds_is_no_difference() {
        let rendered = json!({"metadata": {"annotations": {}}, "spec": {
            "containers": [{"name": "a", "ports": [{"containerPort": 80}], "env": [{"name": "X", "value": ""}]}],
            "hostNetwork": false, "volumes": [{"name": "v", "emptyDir": {}}],
        }});
        let live = json!({"metadata": {}, "spec": {
            "containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}], "env": [{"name": "X"}]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }});
        assert_eq!(difference(&rendered, &live), None);
    }

    #[test]
    fn another_or_a_foreign_field_is_named() {
        let rendered = json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        let image = json!({"spec": {"containers": [{"name": "a", "image": "a:2"}]}});
        let more =
            json!({"spec": {"containers": [{"name": "a", "image": "a:1"}], "priorityClassName": "high"}});
        assert_eq!(
            difference(&rendered, &image).as_deref(),
            Some("spec.template.spec.containers[0].image")
        );
        assert_eq!(
            difference(&rendered, &more).as_deref(),
            Some("spec.template.spec.priorityClassName")
        );
    }
}
