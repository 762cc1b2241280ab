//! Properties of server-side apply over random objects.

use proptest::prelude::*;

use serde_json::{Value, json};

use super::set::FieldSet;
use super::tests::One;
use super::typed::{compare, field_set, merge};

fn config() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let env = proptest::collection::btree_map("[A-C]", "[0-2]", 0..3);
    let names = proptest::collection::btree_set("(web|log|mesh)", 0..3);
    let replicas = proptest::option::of(0..4_i32);
    (labels, env, names, replicas).prop_map(|(labels, env, names, replicas)| {
        let env: Vec<Value> = env
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let containers: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "env": env}))
            .collect();
        let mut config = json!({"metadata": {"labels": labels},
            "spec": {"template": {"spec": {"containers": containers}}}});
        if let Some(replicas) = replicas {
            config["spec"]["replicas"] = replicas.into();
        }
        // An emptied list becomes null, as in the real server: that is a test of its own.
        strip(&config)
    })
}

proptest! {
    #[test]
    fn after_a_forced_apply_the_object_holds_all_of_the_config(
        steps in proptest::collection::vec((any::<bool>(), config()), 1..6),
    ) {
        let mut one = One::deployment();
        for (first, config) in steps {
            let manager = if first { "a" } else { "b" };
            let live = one.apply(manager, true, config.clone()).unwrap();
            let claimed = field_set(&config, one.ty);
            let changes = compare(&live, &merge(&live, &config, one.ty), one.ty);
            prop_assert!(changes.added.is_empty() && changes.modified.is_empty());
            for path in claimed.paths() {
                let held = FieldSet::decode(&one.fields(manager).unwrap_or_default());
                let unowned = path.len() == 1;
                prop_assert!(unowned || held.contains(&path), "{path:?}");
            }
            let again = one.apply(manager, true, config).unwrap();
            prop_assert_eq!(again, live);
        }
    }

    #[test]
    fn applying_nothing_leaves_only_what_the_other_manager_owns(first in config(), second in config()) {
        let mut alone = One::deployment();
        alone.apply("b", true, second.clone()).unwrap();
        let mut both = One::deployment();
        both.apply("b", true, second.clone()).unwrap();
        both.apply("a", true, first).unwrap();
        both.apply("b", true, second).unwrap();
        let live = both.apply("a", true, json!({})).unwrap();
        let fields = |object: &Value| field_set(&strip(object), alone.ty);
        prop_assert_eq!(fields(&live), fields(alone.live.as_ref().unwrap()));
    }
}

fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    // What is emptied is null for a custom resource and absent for a built-in one.
    fn walk(value: &mut Value) {
        if let Value::Object(map) = value {
            map.values_mut().for_each(walk);
            map.retain(|_, value| {
                !matches!(value, Value::Null) && *value != json!({}) && *value != json!([])
            });
        } else if let Value::Array(list) = value {
            list.iter_mut().for_each(walk);
        }
    }
    walk(&mut object);
    object
}
