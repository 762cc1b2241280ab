//! Versioned names, seen from the plan.

use serde_json::{Value, json};

use super::VERSION_OF_ANNOTATION;
use crate::render::tests::{body, config, deployment, names, reading, refused, rendered, with};

#[test]
fn configuration_that_pods_name_is_versioned_by_its_content() {
    let name = |data: Value| {
        let plan = rendered(vec![config("settings", data), reading("settings")]);
        let pods = &body(&plan, "Rollout", "web")["spec"]["template"]["spec"];
        let name = pods["containers"][0]["envFrom"][0]["configMapRef"]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        let versioned = body(&plan, "ConfigMap", &name);
        assert_eq!(versioned["immutable"], true);
        assert_eq!(
            versioned["metadata"]["annotations"][VERSION_OF_ANNOTATION],
            "settings"
        );
        assert_eq!(
            plan.objects.len(),
            2,
            "the plain one is not applied: {:?}",
            names(&plan)
        );
        name
    };
    let first = name(json!({"a": "1", "b": "2"}));
    assert_eq!(
        first,
        name(json!({"b": "2", "a": "1"})),
        "the order of keys does not matter"
    );
    assert_ne!(first, name(json!({"a": "1", "b": "3"})));
    assert_eq!(first.len(), "settings-".len() + 8);
}

#[test]
fn configuration_that_is_opted_out_or_not_named_keeps_its_name() {
    let mut fixed = config("fixed", json!({}));
    fixed["metadata"]["annotations"] = json!({"aurora.dev/versioned": "false"});
    let plan = rendered(vec![fixed, config("other", json!({})), reading("fixed")]);
    for name in ["fixed", "other"] {
        assert!(
            body(&plan, "ConfigMap", name).get("immutable").is_none(),
            "{name}"
        );
    }
}

#[test]
fn what_something_else_names_is_applied_under_both_names() {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "c", "tls.key": "k"},
    });
    let volumes = json!([{"name": "tls", "secret": {"secretName": "tls"}}]);
    let web = with(deployment("web"), "/spec/template/spec/volumes", volumes);
    let others = [
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
            "spec": {"tls": [{"hosts": ["shop.example"], "secretName": "tls"}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"},
            "imagePullSecrets": [{"name": "tls"}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "web"},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["tls"], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "web"},
            "spec": {"servers": [{"tls": {"credentialName": "tls"}}]},
        }),
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"},
            "spec": {"template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "once", "image": "once:1", "envFrom": [{"secretRef": {"name": "tls"}}]}],
            }}},
        }),
    ];
    for other in others {
        let plan = rendered(vec![secret.clone(), web.clone(), other.clone()]);
        let plain = body(&plan, "Secret", "tls");
        assert_eq!(plain["data"]["tls.crt"], "Yw==", "stringData is folded into data");
        assert!(plain.get("immutable").is_none());
        assert_eq!(plan.objects.len(), 4, "{}: {:?}", other["kind"], names(&plan));
    }
    let alone = rendered(vec![secret, web]);
    assert_eq!(alone.objects.len(), 2, "{:?}", names(&alone));
}

#[test]
fn every_kind_of_reference_is_rewritten() {
    let mut web = deployment("web");
    let pods = &mut web["spec"]["template"]["spec"];
    pods["volumes"] = json!([
        {"name": "a", "configMap": {"name": "settings"}},
        {"name": "b", "secret": {"secretName": "keys"}},
        {"name": "c", "projected": {"sources": [
            {"configMap": {"name": "settings"}}, {"secret": {"name": "keys"}},
        ]}},
    ]);
    pods["imagePullSecrets"] = json!([{"name": "keys"}]);
    pods["initContainers"] = json!([{
        "name": "init", "image": "init:1", "envFrom": [{"secretRef": {"name": "keys"}}],
    }]);
    pods["containers"][0]["env"] = json!([
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "b"}}},
    ]);
    pods["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    let keys = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"b": "Yg=="},
    });
    let plan = rendered(vec![config("settings", json!({"a": "1"})), keys, web]);
    let text = body(&plan, "Rollout", "web")["spec"].to_string();
    assert_eq!(text.matches("\"settings-").count(), 4, "{text}");
    assert_eq!(text.matches("\"keys-").count(), 5, "{text}");
    assert!(
        !text.contains("\"settings\"") && !text.contains("\"keys\""),
        "{text}"
    );
}

#[test]
fn a_versioned_name_that_would_be_too_long_is_refused() {
    let longest = "a".repeat(244);
    assert_eq!(
        rendered(vec![config(&longest, json!({})), reading(&longest)])
            .objects
            .len(),
        2
    );
    let longer = "a".repeat(245);
    let error = refused(vec![config(&longer, json!({})), reading(&longer)]);
    assert_eq!(error.problems[0].code, "longName");
}

#[test]
fn configuration_of_more_than_a_mebibyte_is_refused() {
    let largest = "x".repeat(1024 * 1024);
    assert_eq!(
        rendered(vec![config("a", json!({"a": largest}))]).objects.len(),
        1
    );
    let error = refused(vec![config("a", json!({"a": largest + "x"}))]);
    assert_eq!(error.problems[0].code, "tooLarge");
}

#[test]
fn what_pods_need_and_the_plan_lacks_is_said() {
    let plan = rendered(vec![reading("elsewhere")]);
    let note =
        "Deployment web: its pods need the ConfigMap elsewhere, which is not in the plan and must be there";
    assert_eq!(plan.notes, [note]);
}

#[test]
fn an_object_that_already_has_the_versioned_name_is_refused() {
    let plan = rendered(vec![config("settings", json!({"a": "1"})), reading("settings")]);
    let version = names(&plan)
        .into_iter()
        .find_map(|name| Some(name.strip_prefix("ConfigMap shop/")?.to_owned()))
        .unwrap();
    let other = config(&version, json!({"b": "2"}));
    let error = refused(vec![
        config("settings", json!({"a": "1"})),
        other,
        reading("settings"),
    ]);
    assert_eq!(error.problems[0].code, "nameTaken");
    // The version itself, from a plan that was rendered, stands for both.
    let same = body(&plan, "ConfigMap", &version).clone();
    let again = rendered(vec![
        config("settings", json!({"a": "1"})),
        same,
        reading("settings"),
    ]);
    assert_eq!(names(&again), names(&plan));
}

#[test]
fn storage_and_annotations_of_an_ingress_name_configuration_too() {
    let others = [
        json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "files"},
            "spec": {"csi": {"driver": "files.example", "volumeHandle": "x", "nodeStageSecretRef": {"name": "keys"}}},
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "files"},
            "provisioner": "files.example",
            "parameters": {"csi.storage.k8s.io/provisioner-secret-name": "keys"},
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "annotations": {"nginx.ingress.kubernetes.io/auth-secret": "keys"}},
            "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
        }),
    ];
    let keys =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "data": {"b": "Yg=="}});
    let env_from = json!([{"secretRef": {"name": "keys"}}]);
    let web = with(
        deployment("web"),
        "/spec/template/spec/containers/0/envFrom",
        env_from,
    );
    for other in others {
        let plan = rendered(vec![keys.clone(), web.clone(), other.clone()]);
        assert_eq!(plan.objects.len(), 4, "{}: {:?}", other["kind"], names(&plan));
        assert!(body(&plan, "Secret", "keys").get("immutable").is_none());
    }
}
