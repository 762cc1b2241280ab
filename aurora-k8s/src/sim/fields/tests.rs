//! Server-side apply in tables.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::managed::{Manager, Managers};
use super::schema::Ty;
use super::set::FieldSet;
use super::{ApplyError, apply, nulls, record_update};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn later() -> Timestamp {
    Timestamp::from_second(60).unwrap()
}

/// A cluster of one object, for tables.
pub(super) struct One {
    pub(super) ty: Ty,
    api_version: &'static str,
    pub(super) live: Option<Value>,
}

impl One {
    pub(super) fn deployment() -> Self {
        Self {
            ty: Ty::of_kind("apps", "Deployment"),
            api_version: "apps/v1",
            live: None,
        }
    }

    fn service() -> Self {
        Self {
            ty: Ty::of_kind("", "Service"),
            api_version: "v1",
            live: None,
        }
    }

    fn rollout() -> Self {
        Self {
            ty: Ty::of_kind("argoproj.io", "Rollout"),
            api_version: "argoproj.io/v1alpha1",
            live: None,
        }
    }

    pub(super) fn apply(&mut self, manager: &str, force: bool, config: Value) -> Result<Value, ApplyError> {
        let manager = Manager::applier(manager, self.api_version, "");
        let object = apply(
            self.live.as_ref(),
            &with_name(config),
            self.ty,
            &manager,
            true,
            force,
            NOW,
        )?;
        self.live = Some(object.clone());
        Ok(object)
    }

    fn update(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut next = self.live.clone().unwrap_or_else(|| with_name(json!({})));
        change(&mut next);
        let manager = Manager::updater(manager, self.api_version, subresource);
        record_update(self.live.as_ref(), &mut next, self.ty, &manager, true, later());
        self.live = Some(next.clone());
        next
    }

    pub(super) fn fields(&self, manager: &str) -> Option<Value> {
        let live = self.live.as_ref()?;
        live["metadata"]["managedFields"]
            .as_array()?
            .iter()
            .find(|entry| entry["manager"] == manager)
            .map(|entry| entry["fieldsV1"].clone())
    }
}

fn with_name(mut config: Value) -> Value {
    config["metadata"]["name"] = "web".into();
    config
}

fn containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

fn conflicts(result: Result<Value, ApplyError>) -> Vec<(String, String)> {
    match result {
        Err(ApplyError::Conflicts(conflicts)) => {
            conflicts.into_iter().map(|it| (it.manager, it.field)).collect()
        }
        other => panic!("expected conflicts, got {other:?}"),
    }
}

fn untyped(result: Result<Value, ApplyError>) -> String {
    match result {
        Err(ApplyError::Untyped(problem)) => problem,
        other => panic!("expected a typing problem, got {other:?}"),
    }
}

#[test]
fn what_is_applied_is_owned_and_named_as_fields_v1() {
    let mut one = One::deployment();
    one.apply(
        "aurora-agent",
        true,
        json!({
            "metadata": {"labels": {"app": "web"}, "finalizers": ["a/b"]},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"containers": [
                    {"name": "web", "image": "web:1", "args": ["a"], "resources": {},
                     "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]},
                ]}},
            },
        }),
    )
    .unwrap();
    assert_eq!(
        one.fields("aurora-agent").unwrap(),
        json!({
            "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {"v:\"a/b\"": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:selector": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {},
                    "f:name": {}, "f:image": {}, "f:args": {}, "f:resources": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                }}}},
            },
        })
    );
    let entry = &one.live.as_ref().unwrap()["metadata"]["managedFields"][0];
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["apiVersion"], "apps/v1");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(entry["time"], "1970-01-01T00:00:00Z");
}

#[test]
fn the_same_apply_changes_nothing_not_even_the_time() {
    let mut one = One::deployment();
    let config = json!({"spec": {"replicas": 2}});
    let first = one.apply("a", false, config.clone()).unwrap();
    let manager = Manager::applier("a", "apps/v1", "");
    let again = apply(
        Some(&first),
        &with_name(config),
        one.ty,
        &manager,
        true,
        false,
        later(),
    )
    .unwrap();
    assert_eq!(first, again);
}

#[test]
fn a_field_that_is_left_out_goes_unless_somebody_else_owns_it() {
    let mut one = One::deployment();
    one.apply(
        "a",
        false,
        json!({"metadata": {"labels": {"x": "1", "y": "2"}}, "spec": {"replicas": 2, "paused": true}}),
    )
    .unwrap();
    one.apply("b", false, json!({"spec": {"replicas": 2}})).unwrap();
    let live = one
        .apply("a", false, json!({"metadata": {"labels": {"y": "2"}}}))
        .unwrap();
    assert_eq!(live["metadata"]["labels"], json!({"y": "2"}));
    assert_eq!(
        live["spec"],
        json!({"replicas": 2}),
        "co-owned replicas stay, paused goes"
    );
}

#[test]
fn a_value_of_another_manager_conflicts_and_force_takes_it() {
    let mut one = One::deployment();
    one.apply("a", false, json!({"spec": {"replicas": 2}})).unwrap();
    let refused = conflicts(one.apply("b", false, json!({"spec": {"replicas": 3}})));
    assert_eq!(refused, [("\"a\"".to_owned(), ".spec.replicas".to_owned())]);
    let live = one.apply("b", true, json!({"spec": {"replicas": 3}})).unwrap();
    assert_eq!(live["spec"]["replicas"], 3);
    assert_eq!(one.fields("a"), None, "a manager without fields is dropped");
}

#[test]
fn an_update_takes_what_it_changes_and_conflicts_name_the_version() {
    let mut one = One::deployment();
    one.apply("a", false, json!({"spec": {"replicas": 2, "paused": true}}))
        .unwrap();
    one.update("kube-controller-manager", "scale", |live| {
        live["spec"]["replicas"] = 5.into()
    });
    assert_eq!(one.fields("a").unwrap(), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(
        one.fields("kube-controller-manager").unwrap(),
        json!({"f:spec": {"f:replicas": {}}})
    );
    let refused = conflicts(one.apply("a", false, json!({"spec": {"replicas": 2, "paused": true}})));
    assert_eq!(
        refused,
        [(
            "\"kube-controller-manager\" with subresource \"scale\" using apps/v1".to_owned(),
            ".spec.replicas".to_owned()
        )]
    );
    let live = one.apply("a", false, json!({"spec": {"paused": true}})).unwrap();
    assert_eq!(
        live["spec"]["replicas"], 5,
        "leaving the field out leaves it to the scaler"
    );
}

#[test]
fn an_update_that_changes_nothing_owns_nothing() {
    let mut one = One::deployment();
    one.apply("a", false, json!({"spec": {"replicas": 2}})).unwrap();
    let before = one.live.clone();
    one.update("b", "", |_| {});
    assert_eq!(one.live, before);
}

#[test]
fn status_writes_own_status_alone_and_the_main_resource_ignores_it() {
    let mut one = One::rollout();
    let live = one
        .apply(
            "a",
            true,
            json!({"spec": {"replicas": 1}, "status": {"phase": "Lie"}}),
        )
        .unwrap();
    assert_eq!(live.get("status"), None);
    one.update("rollouts-controller", "status", |live| {
        live["status"] = json!({"phase": "Healthy"});
        live["spec"]["replicas"] = 9.into();
    });
    let entries = one.live.as_ref().unwrap()["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .clone();
    let status = entries
        .iter()
        .find(|entry| entry["subresource"] == "status")
        .unwrap();
    assert_eq!(status["fieldsV1"], json!({"f:status": {".": {}, "f:phase": {}}}));
    assert_eq!(one.fields("a").unwrap(), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn a_forced_apply_of_a_service_wipes_the_injected_selector_key() {
    let mut one = One::service();
    let config = json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    one.apply("aurora-agent", true, config.clone()).unwrap();
    one.update("rollouts-controller", "", |live| {
        live["spec"]["selector"]["rollouts-pod-template-hash"] = "abc".into();
    });
    let refused = conflicts(one.apply("aurora-agent", false, config.clone()));
    assert_eq!(refused[0].1, ".spec.selector");
    let mut carrying = config.clone();
    carrying["spec"]["selector"]["rollouts-pod-template-hash"] = "abc".into();
    assert!(one.apply("aurora-agent", false, carrying).is_ok());
    let live = one.apply("aurora-agent", true, config).unwrap();
    assert_eq!(live["spec"]["selector"], json!({"app": "web"}));
}

#[test]
fn a_selector_that_is_left_out_stays_with_the_controller() {
    let mut one = One::service();
    one.apply(
        "a",
        true,
        json!({"spec": {"selector": {"app": "web"}, "type": "ClusterIP"}}),
    )
    .unwrap();
    one.update("rollouts-controller", "", |live| {
        live["spec"]["selector"]["hash"] = "abc".into()
    });
    let live = one
        .apply("a", true, json!({"spec": {"type": "ClusterIP"}}))
        .unwrap();
    assert_eq!(live["spec"]["selector"], json!({"app": "web", "hash": "abc"}));
}

#[test]
fn lists_merge_by_their_keys_and_keep_their_order() {
    let mut one = One::deployment();
    one.apply(
        "a",
        false,
        containers(json!([{"name": "web", "image": "web:1", "env": [{"name": "A"}]}, {"name": "log"}])),
    )
    .unwrap();
    one.apply(
        "b",
        false,
        containers(json!([{"name": "mesh", "image": "mesh:1"}, {"name": "web", "env": [{"name": "B"}]}])),
    )
    .unwrap();
    let live = one
        .apply("a", false, containers(json!([{"name": "web", "image": "web:2"}])))
        .unwrap();
    assert_eq!(
        live["spec"]["template"]["spec"]["containers"],
        json!([{"name": "mesh", "image": "mesh:1"}, {"name": "web", "image": "web:2", "env": [{"name": "B"}]}])
    );
}

#[test]
fn one_port_under_two_protocols_is_two_entries() {
    let mut one = One::service();
    let live = one
        .apply("a", false, json!({"spec": {"ports": [{"port": 53, "name": "t"}, {"port": 53, "protocol": "UDP", "name": "u"}]}}))
        .unwrap();
    assert_eq!(live["spec"]["ports"].as_array().unwrap().len(), 2);
    let live = one
        .apply(
            "a",
            false,
            json!({"spec": {"ports": [{"port": 53, "protocol": "UDP", "name": "u"}]}}),
        )
        .unwrap();
    assert_eq!(
        live["spec"]["ports"],
        json!([{"port": 53, "protocol": "UDP", "name": "u"}])
    );
}

#[test]
fn owners_are_told_apart_by_uid_and_finalizers_by_value() {
    let mut one = One::deployment();
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": uid});
    one.apply(
        "a",
        false,
        json!({"metadata": {"ownerReferences": [owner("1")], "finalizers": ["a/x"]}}),
    )
    .unwrap();
    let live = one
        .apply(
            "b",
            false,
            json!({"metadata": {"ownerReferences": [owner("2")], "finalizers": ["b/y"]}}),
        )
        .unwrap();
    assert_eq!(
        live["metadata"]["ownerReferences"],
        json!([owner("1"), owner("2")])
    );
    assert_eq!(live["metadata"]["finalizers"], json!(["a/x", "b/y"]));
    let live = one
        .apply("a", false, json!({"metadata": {"labels": {"a": "1"}}}))
        .unwrap();
    assert_eq!(live["metadata"]["ownerReferences"], json!([owner("2")]));
    assert_eq!(live["metadata"]["finalizers"], json!(["b/y"]));
}

#[test]
fn rollout_steps_and_tolerations_are_replaced_as_a_whole() {
    let mut one = One::rollout();
    let config = |steps: Value, tolerations: Value| {
        json!({"spec": {
            "strategy": {"canary": {"steps": steps}},
            "template": {"spec": {"tolerations": tolerations}},
        }})
    };
    one.apply(
        "a",
        false,
        config(json!([{"setWeight": 20}, {"pause": {}}]), json!([{"key": "a"}])),
    )
    .unwrap();
    let live = one
        .apply(
            "b",
            true,
            config(json!([{"setWeight": 50}]), json!([{"key": "b"}])),
        )
        .unwrap();
    assert_eq!(
        live["spec"]["strategy"]["canary"]["steps"],
        json!([{"setWeight": 50}])
    );
    assert_eq!(
        live["spec"]["template"]["spec"]["tolerations"],
        json!([{"key": "b"}])
    );
}

#[test]
fn volumes_of_a_rollout_conflict_as_a_whole_and_those_of_a_deployment_by_name() {
    let config = |limit: &str| json!({"spec": {"template": {"spec": {"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": limit}}]}}}});
    let normalise = |live: &mut Value| {
        live["spec"]["template"]["spec"]["volumes"][0]["emptyDir"]["sizeLimit"] = "1Gi".into();
    };
    let mut one = One::rollout();
    one.apply("a", true, config("1024Mi")).unwrap();
    one.update("rollouts-controller", "", normalise);
    assert_eq!(
        conflicts(one.apply("a", false, config("1024Mi")))[0].1,
        ".spec.template.spec.volumes"
    );
    let mut one = One::deployment();
    one.apply("a", true, config("1024Mi")).unwrap();
    one.update("someone", "", normalise);
    assert_eq!(
        conflicts(one.apply("a", false, config("1024Mi")))[0].1,
        ".spec.template.spec.volumes[name=\"tmp\"].emptyDir.sizeLimit"
    );
}

#[test]
fn removing_init_containers_fails_while_the_controller_owns_a_normalised_field_of_one() {
    let with = |cpu: &str| {
        json!({"spec": {"template": {"spec": {
            "containers": [{"name": "web"}],
            "initContainers": [{"name": "init", "resources": {"requests": {"cpu": cpu}}}],
        }}}})
    };
    let without = containers(json!([{"name": "web"}]));
    let mut one = One::rollout();
    one.apply("a", true, with("1000m")).unwrap();
    one.update("rollouts-controller", "", |live| {
        live["spec"]["template"]["spec"]["initContainers"][0]["resources"]["requests"]["cpu"] = "1".into();
    });
    let kept = one.live.clone();
    let live = one.apply("a", true, without.clone()).unwrap();
    assert_eq!(
        nulls(&live, one.ty),
        [("spec.template.spec.initContainers".to_owned(), "array")]
    );
    // The way out: own the field again, then leave the list out.
    one.live = kept;
    one.apply("a", true, with("1000m")).unwrap();
    let live = one.apply("a", true, without).unwrap();
    assert_eq!(nulls(&live, one.ty), []);
    assert_eq!(live["spec"]["template"]["spec"].get("initContainers"), None);
}

#[test]
fn bodies_that_do_not_fit_the_schema_are_refused_with_the_path() {
    let rollout = |config: Value| untyped(One::rollout().apply("a", true, config));
    let step = |step: Value| json!({"spec": {"strategy": {"canary": {"steps": [step]}}}});
    assert_eq!(
        rollout(step(json!({"setWieght": 10}))),
        ".spec.strategy.canary.steps[0].setWieght: field not declared in schema"
    );
    assert_eq!(
        rollout(step(json!({"setWeight": "10"}))),
        ".spec.strategy.canary.steps[0].setWeight: expected numeric (int or float), got string"
    );
    assert_eq!(
        rollout(step(
            json!({"replicaProgressThreshold": {"type": "Percent", "value": 50}})
        )),
        ".spec.strategy.canary.steps[0].replicaProgressThreshold: field not declared in schema"
    );
    assert_eq!(
        rollout(json!({"spec": {"template": {"metadata": {"creationTimestamp": null}}}})),
        ".spec.template.metadata.creationTimestamp: field not declared in schema"
    );
    let env = json!([{"name": "web", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}]);
    assert_eq!(
        rollout(containers(env)),
        ".spec.template.spec.containers[name=\"web\"].env: duplicate entries for key [name=\"A\"]"
    );
    let ports =
        json!([{"name": "web", "ports": [{"containerPort": 80}, {"containerPort": 80, "protocol": "TCP"}]}]);
    assert_eq!(
        rollout(containers(ports)),
        ".spec.template.spec.containers[name=\"web\"].ports: duplicate entries for key \
         [containerPort=80,protocol=\"TCP\"]"
    );
    assert_eq!(
        rollout(json!({"spec": {"a": 1, "b": 2}})),
        "errors:\n  .spec.a: field not declared in schema\n  .spec.b: field not declared in schema"
    );
    let service = untyped(One::service().apply("a", true, json!({"spec": {"ports": [{"name": "x"}]}})));
    assert!(service.contains("omits key field \"port\""), "{service}");
    let map = untyped(One::service().apply("a", true, json!({"spec": {"selector": "x"}})));
    assert_eq!(map, ".spec.selector: expected map, got string");
}

#[test]
fn an_object_that_nobody_tracked_conflicts_with_its_first_apply() {
    let mut one = One::service();
    one.live = Some(with_name(
        json!({"spec": {"type": "ClusterIP", "selector": {"app": "old"}}}),
    ));
    let refused = conflicts(one.apply("a", false, json!({"spec": {"selector": {"app": "new"}}})));
    assert_eq!(
        refused,
        [(
            "\"before-first-apply\" using v1".to_owned(),
            ".spec.selector".to_owned()
        )]
    );
}

#[test]
fn empty_managed_fields_reset_the_owners_and_missing_ones_do_not() {
    let mut one = One::service();
    one.apply("a", true, json!({"spec": {"type": "ClusterIP"}}))
        .unwrap();
    let mut without = one.live.clone().unwrap();
    without["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    one.update("b", "", |live| *live = without);
    assert!(one.fields("a").is_some());
    one.update("b", "", |live| live["metadata"]["managedFields"] = json!([{}]));
    assert_eq!(one.live.as_ref().unwrap()["metadata"].get("managedFields"), None);
}

#[test]
fn fields_v1_reads_back_as_it_was_written() {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"x\"": {}}},
        "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:list": {"i:0": {}}}});
    assert_eq!(FieldSet::decode(&fields).encode(), fields);
    let object = json!({"metadata": {"managedFields": [
        {"manager": "a", "operation": "Apply", "apiVersion": "v1", "time": "1970-01-01T00:00:00Z",
         "fieldsType": "FieldsV1", "fieldsV1": fields},
    ]}});
    let mut again = json!({"metadata": {}});
    Managers::of(&object).write_to(&mut again);
    assert_eq!(again, object);
}
