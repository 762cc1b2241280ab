//! What the renderer makes of manifests, beyond the golden files.

use aurora_core::manifest::{Manifest, Origin};
use aurora_core::plan::{Plan, TEMPLATE_DIGEST_ANNOTATION};
use aurora_core::port::renderer::RenderError;
use aurora_core::strategy::{Approval, Canary, Pause, Step, Strategy};
use aurora_core::tenant::Tenant;

use super::*;

mod hostile;
mod strategies;

mod port_laws {
    aurora_core::renderer_laws!(crate::render::ArgoRenderer);
}

/// A request for application `shop`, target `staging`, namespace `shop`.
pub(super) fn request(bodies: Vec<Value>) -> RenderRequest {
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(Pause::Approval(Approval::default())),
    ];
    let manifests = bodies.into_iter().enumerate().map(|(index, body)| {
        let origin = Origin {
            file: "shop.yaml".to_owned(),
            document: index,
            line: index * 10 + 1,
        };
        Manifest::new(body, origin)
    });
    RenderRequest {
        services: Vec::new(),
        tenant: Tenant::new("acme", "dev").unwrap(),
        application: "shop".to_owned(),
        target: "staging".to_owned(),
        namespace: Some("shop".to_owned()),
        strategy: Some(Strategy::Canary(Canary { steps })),
        manifests: manifests.collect(),
    }
}

pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": "registry.example/web:1"}]},
            },
        },
    })
}

pub(super) fn rendered(bodies: Vec<Value>) -> Plan {
    match ArgoRenderer.render(&request(bodies)) {
        Ok(plan) => plan,
        Err(error) => panic!("{:#?}", error.problems),
    }
}

pub(super) fn refused(bodies: Vec<Value>) -> RenderError {
    ArgoRenderer
        .render(&request(bodies))
        .expect_err("it must be refused")
}

pub(super) fn body<'a>(plan: &'a Plan, kind: &str, name: &str) -> &'a Value {
    let found = plan.objects.iter().find(|planned| {
        let object = planned.object();
        object.kind == kind && object.name == name
    });
    &found
        .unwrap_or_else(|| panic!("no {kind} {name} in {:?}", names(plan)))
        .body
}

pub(super) fn names(plan: &Plan) -> Vec<String> {
    plan.objects
        .iter()
        .map(|planned| planned.object().to_string())
        .collect()
}

pub(super) fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[key] = value;
    body
}

pub(super) fn config(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub(super) fn reading(config: &str) -> Value {
    let env_from = json!([{"configMapRef": {"name": config}}]);
    with(
        deployment("web"),
        "/spec/template/spec/containers/0/envFrom",
        env_from,
    )
}

#[test]
fn a_deployment_becomes_a_rollout_with_explicit_defaults() {
    let plan = rendered(vec![deployment("web")]);
    let spec = &body(&plan, "Rollout", "web")["spec"];
    assert_eq!(spec["replicas"], 1);
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let canary = json!({
        "maxSurge": "25%", "maxUnavailable": "25%", "steps": [{"setWeight": 25}, {"pause": {}}],
    });
    assert_eq!(spec["strategy"], json!({"canary": canary}));
}

#[test]
fn a_deployments_own_values_are_kept() {
    let mut web = deployment("web");
    web["spec"]["replicas"] = json!(0);
    web["spec"]["minReadySeconds"] = json!(700);
    web["spec"]["revisionHistoryLimit"] = json!(3);
    web["spec"]["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}});
    let plan = rendered(vec![web]);
    let spec = &body(&plan, "Rollout", "web")["spec"];
    assert_eq!(spec["replicas"], 0);
    assert_eq!(spec["revisionHistoryLimit"], 3);
    assert_eq!(spec["progressDeadlineSeconds"], 1300, "pods need 700 s to count");
    assert_eq!(spec["strategy"]["canary"]["maxUnavailable"], 0);
    assert_eq!(spec["strategy"]["canary"]["maxSurge"], "25%");
}

#[test]
fn no_steps_are_no_step_list() {
    let mut request = request(vec![deployment("web")]);
    request.strategy = Some(Strategy::Canary(Canary::default()));
    let plan = ArgoRenderer.render(&request).unwrap();
    let canary = &body(&plan, "Rollout", "web")["spec"]["strategy"]["canary"];
    assert_eq!(canary, &json!({"maxSurge": "25%", "maxUnavailable": "25%"}));
    assert_eq!(plan.steps.rollouts["web"], 0);
}

#[test]
fn an_autoscaler_follows_its_deployment_and_owns_the_replicas() {
    let scaler = |name: &str, kind: &str| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
                "minReplicas": 2, "maxReplicas": 4,
            },
        })
    };
    let web = with(deployment("web"), "/spec/replicas", json!(3));
    let plan = rendered(vec![
        scaler("web", "Deployment"),
        web,
        deployment("api"),
        scaler("db", "StatefulSet"),
    ]);
    assert!(body(&plan, "Rollout", "web")["spec"].get("replicas").is_none());
    assert_eq!(body(&plan, "Rollout", "api")["spec"]["replicas"], 1);
    let reference = &body(&plan, "HorizontalPodAutoscaler", "web")["spec"]["scaleTargetRef"];
    assert_eq!(
        reference,
        &json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web"})
    );
    let other = &body(&plan, "HorizontalPodAutoscaler", "db")["spec"]["scaleTargetRef"]["kind"];
    assert_eq!(other, "StatefulSet");
}

#[test]
fn the_template_digest_is_of_the_content_and_of_nothing_else() {
    let digest = |plan: &Plan| {
        let template = body(plan, "Rollout", "web")["spec"]["template"].clone();
        let annotations = template["metadata"]["annotations"].as_object().unwrap().clone();
        assert_eq!(annotations.len(), 1, "one annotation of ours and no other");
        let mut without = template;
        without["metadata"].as_object_mut().unwrap().remove("annotations");
        assert_eq!(
            annotations[TEMPLATE_DIGEST_ANNOTATION],
            Digest::of_json(&without).to_string()
        );
        annotations[TEMPLATE_DIGEST_ANNOTATION].clone()
    };
    let first = digest(&rendered(vec![deployment("web")]));
    let mut elsewhere = request(vec![with(deployment("web"), "/spec/replicas", json!(9))]);
    elsewhere.target = "prod".to_owned();
    assert_eq!(
        first,
        digest(&ArgoRenderer.render(&elsewhere).unwrap()),
        "the same pods"
    );
    let image = "/spec/template/spec/containers/0/image";
    let changed = with(deployment("web"), image, json!("registry.example/web:2"));
    assert_ne!(first, digest(&rendered(vec![changed])), "other pods");
}

#[test]
fn a_rendered_plan_renders_to_itself() {
    let mut opted_out = deployment("database");
    opted_out["metadata"]["annotations"] = json!({"aurora.dev/strategy": "none", "aurora.dev/adopt": "true"});
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 4},
    });
    let once = rendered(vec![
        config("settings", json!({"a": "1"})),
        reading("settings"),
        deployment("api"),
        opted_out,
        scaler,
    ]);
    let bodies = |plan: &Plan| {
        plan.objects
            .iter()
            .map(|planned| planned.body.clone())
            .collect::<Vec<_>>()
    };
    let again = rendered(bodies(&once));
    assert_eq!(bodies(&again), bodies(&once));
    assert_eq!(again.steps.rollouts, once.steps.rollouts);
    assert!(again.objects.iter().any(|planned| planned.adopt));
}

#[test]
fn the_canonical_form_keeps_what_means_something_and_drops_what_vanishes() {
    let mut web = deployment("web");
    let pods = &mut web["spec"]["template"]["spec"];
    pods["hostNetwork"] = json!(false);
    pods["terminationGracePeriodSeconds"] = json!(0);
    pods["automountServiceAccountToken"] = json!(false);
    pods["nodeSelector"] = json!({});
    pods["securityContext"] = json!({});
    pods["tolerations"] = json!([]);
    pods["volumes"] = json!([
        {"name": "tmp", "emptyDir": {"medium": "", "sizeLimit": "1024Mi"}},
        {"name": "scripts", "configMap": {"name": "scripts", "defaultMode": "0755"}},
    ]);
    let container = &mut pods["containers"][0];
    container["command"] = json!([]);
    container["env"] = json!([{"name": "EMPTY", "value": ""}]);
    container["ports"] = json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]);
    container["resources"] =
        json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5}});
    container["livenessProbe"] = json!({"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 0});
    container["readinessProbe"] = json!({"grpc": {"port": 81}, "timeoutSeconds": 0});
    container["securityContext"] = json!({"runAsUser": 0, "privileged": false});
    web["spec"]["minReadySeconds"] = json!(0);
    web["spec"]["paused"] = json!(false);
    web["spec"]["template"]["metadata"]["creationTimestamp"] = json!(null);
    web["spec"]["template"]["metadata"]["name"] = json!("web");
    let plan = rendered(vec![web]);
    let spec = &body(&plan, "Rollout", "web")["spec"];
    assert!(spec.get("minReadySeconds").is_none() && spec.get("paused").is_none());
    let mut template = spec["template"].clone();
    template["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("annotations");
    let expected = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "web",
                "image": "registry.example/web:1",
                "env": [{"name": "EMPTY"}],
                "ports": [
                    {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"},
                ],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                "readinessProbe": {"grpc": {"port": 81, "service": ""}},
                "securityContext": {"runAsUser": 0, "privileged": false},
            }],
            "securityContext": {},
            "terminationGracePeriodSeconds": 0,
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
                {"name": "scripts", "configMap": {"name": "scripts", "defaultMode": 493}},
            ],
        },
    });
    assert_eq!(template, expected);
    let again = rendered(vec![body(&plan, "Rollout", "web").clone()]);
    assert_eq!(
        body(&again, "Rollout", "web"),
        body(&plan, "Rollout", "web"),
        "it is stable"
    );
}

#[test]
fn a_users_own_rollout_keeps_its_meaning() {
    let mut own = deployment("own");
    own["apiVersion"] = json!("argoproj.io/v1alpha1");
    own["kind"] = json!("Rollout");
    own["spec"]["strategy"] = json!({"canary": {"steps": [
        {"setWeight": 0}, {"pause": {"duration": "30s"}}, {"setWeight": 100},
    ]}});
    own["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({});
    let strategy = own["spec"]["strategy"].clone();
    let plan = rendered(vec![own, deployment("web")]);
    let spec = &body(&plan, "Rollout", "own")["spec"];
    assert_eq!(spec["strategy"], strategy);
    assert!(spec.get("replicas").is_none() && spec.get("revisionHistoryLimit").is_none());
    assert_eq!(plan.steps.rollouts["own"], 3);
    assert!(
        plan.steps
            .steps
            .iter()
            .all(|step| !step.index.contains_key("own")),
        "its pauses are its own"
    );
}

#[test]
fn analyses_and_experiments_hold_the_metadata_that_the_controller_writes() {
    let mut own = deployment("own");
    own["apiVersion"] = json!("argoproj.io/v1alpha1");
    own["kind"] = json!("Rollout");
    own["spec"]["strategy"] = json!({"canary": {
        "analysis": {"templates": [{"templateName": "errors"}]},
        "steps": [
            {"analysis": {"templates": [{"templateName": "errors", "clusterScope": false}]}},
            {"experiment": {"templates": [{"name": "try", "specRef": "canary"}], "duration": "5m"}},
        ],
    }});
    let plan = rendered(vec![own]);
    let canary = &body(&plan, "Rollout", "own")["spec"]["strategy"]["canary"];
    let analysis = json!({"analysisRunMetadata": {}, "templates": [{"templateName": "errors"}]});
    assert_eq!(canary["analysis"], analysis);
    assert_eq!(canary["steps"][0]["analysis"], analysis);
    assert_eq!(canary["steps"][1]["experiment"]["analysisRunMetadata"], json!({}));
    assert_eq!(
        canary["steps"][1]["experiment"]["templates"][0]["metadata"],
        json!({})
    );
}

#[test]
fn a_deployment_whose_pods_a_rollout_takes_over_stays_and_does_not_count() {
    let own = json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {"name": "own"},
        "spec": {
            "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scaleDown": "onsuccess"},
            "strategy": {"canary": {}},
        },
    });
    let plan = rendered(vec![own, deployment("web")]);
    assert_eq!(body(&plan, "Deployment", "web")["kind"], "Deployment");
    assert!(plan.steps.workloads.is_empty() && plan.steps.rollouts.len() == 1);
}

#[test]
fn lists_are_flattened_and_problems_point_into_them() {
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": [deployment("web"), config("a", json!({}))]});
    assert_eq!(rendered(vec![list]).objects.len(), 2);
    let image = "/spec/template/spec/containers/0/image";
    let broken = with(deployment("web"), image, json!(7));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [config("a", json!({})), broken]});
    let error = refused(vec![list]);
    let pointers: Vec<&str> = error
        .problems
        .iter()
        .map(|problem| problem.pointer.as_str())
        .collect();
    assert!(
        pointers
            .iter()
            .all(|pointer| pointer.starts_with("/items/1/spec/template")),
        "{pointers:?}"
    );
}

#[test]
fn what_a_server_wrote_is_left_out_and_said() {
    let mut live = config("settings", json!({"a": "1"}));
    live["status"] = json!({"phase": "Active"});
    live["metadata"]["uid"] = json!("1");
    live["metadata"]["resourceVersion"] = json!("2");
    live["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    live["metadata"]["creationTimestamp"] = json!(null);
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let plan = rendered(vec![live, with(deployment("web"), "/status", json!({}))]);
    let metadata = body(&plan, "ConfigMap", "settings")["metadata"]
        .as_object()
        .unwrap();
    assert_eq!(
        metadata.keys().collect::<Vec<_>>(),
        ["labels", "name", "namespace"]
    );
    let said: Vec<&String> = plan
        .notes
        .iter()
        .filter(|note| note.contains("left out"))
        .collect();
    assert_eq!(said.len(), 1, "an empty status says nothing: {said:?}");
    assert!(
        said[0].contains("status") && said[0].contains("metadata.uid"),
        "{said:?}"
    );
}

#[test]
fn cluster_scoped_kinds_get_no_namespace_and_bindings_follow() {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "web", "namespace": "wrong"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [
            {"kind": "ServiceAccount", "name": "web", "namespace": "old"},
            {"kind": "ServiceAccount", "name": "elsewhere", "namespace": "old"},
        ],
    });
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web", "namespace": "old"},
    });
    let plan = rendered(vec![role, account]);
    let binding = body(&plan, "ClusterRoleBinding", "web");
    assert!(binding["metadata"].get("namespace").is_none());
    assert_eq!(binding["subjects"][0]["namespace"], "shop");
    assert_eq!(binding["subjects"][1]["namespace"], "old");
    let note = "the target's namespace `shop` takes the place of `old` in 1 object";
    assert!(plan.notes.iter().any(|said| said == note), "{:?}", plan.notes);
}

#[test]
fn only_the_targets_own_namespace_may_be_declared() {
    let namespace = |name: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let plan = rendered(vec![namespace("shop"), deployment("web")]);
    assert_eq!(plan.objects[0].object().kind, "Namespace", "it comes first");
    let error = refused(vec![namespace("other"), deployment("web")]);
    assert_eq!(error.problems[0].code, "foreignNamespace");
}

#[test]
fn objects_are_ordered_by_what_they_are_wherever_they_stand_in_the_file() {
    let bodies = vec![
        deployment("web"),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": {"name": "web"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "None"}}),
        config("b", json!({})),
        config("a", json!({})),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"}}),
    ];
    let mut reversed = bodies.clone();
    reversed.reverse();
    let expected = [
        "ServiceAccount shop/web",
        "ConfigMap shop/a",
        "ConfigMap shop/b",
        "Service shop/web",
        "Gateway shop/web",
        "Rollout shop/web",
    ];
    assert_eq!(names(&rendered(bodies)), expected);
    assert_eq!(names(&rendered(reversed)), expected);
}

#[test]
fn a_problem_says_object_path_what_and_what_to_do() {
    let replicas = with(
        deployment("web"),
        "/spec/strategy",
        json!({"rollingUpdate": {"maxSurge": "a lot"}}),
    );
    let error = refused(vec![config("a", json!({})), replicas]);
    assert_eq!(error.problems.len(), 1, "{:?}", error.problems);
    let problem = &error.problems[0];
    assert_eq!(
        problem.pointer, "/spec/strategy/rollingUpdate/maxSurge",
        "the place that the user wrote"
    );
    assert_eq!((problem.file.as_str(), problem.line), ("shop.yaml", 11));
    let said = "shop.yaml:11:1: Deployment web: spec.strategy.rollingUpdate.maxSurge is \"a lot\", which the \
                controller takes for 0 (a whole number such as 1 or a share such as \"25%\")";
    assert_eq!(problem.to_string(), said);
}

#[test]
fn a_target_without_manifests_is_refused() {
    assert_eq!(refused(Vec::new()).problems[0].code, "noManifests");
}

#[test]
fn names_that_cannot_be_labels_are_refused() {
    let mut request = request(vec![deployment("web")]);
    request.application = "my shop".to_owned();
    let error = ArgoRenderer.render(&request).unwrap_err();
    assert_eq!(
        (
            error.problems[0].code.as_str(),
            error.problems[0].pointer.as_str()
        ),
        ("badName", "/application")
    );
}

#[test]
fn a_deployment_without_a_strategy_says_how_to_get_one() {
    let mut request = request(vec![deployment("web")]);
    request.strategy = None;
    let error = ArgoRenderer.render(&request).unwrap_err();
    assert_eq!(error.problems[0].code, "noStrategy");
    assert!(
        error.problems[0].hint.contains("targets.staging.strategy"),
        "{:?}",
        error.problems[0]
    );
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let labels: Value = (0..50_000)
        .map(|index| (format!("label-{index}"), json!(index)))
        .collect();
    let error = refused(vec![with(deployment("web"), "/metadata/labels", labels)]);
    assert_eq!(error.problems.len(), 201);
    assert_eq!(error.problems[200].message, "there are 49800 more problems");
}

#[test]
fn weights_that_exchange_no_pod_are_said() {
    let said = |replicas: i64, surge: Value, weight: u8| {
        let rolling = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1}});
        let web = with(deployment("web"), "/spec/strategy", rolling);
        let mut request = request(vec![with(web, "/spec/replicas", json!(replicas))]);
        request.strategy = Some(Strategy::Canary(Canary {
            steps: vec![Step::SetWeight(weight)],
        }));
        ArgoRenderer.render(&request).unwrap().notes.len()
    };
    for (replicas, surge, weight, notes) in [
        (10, json!(0), 95, 1),
        (10, json!("0%"), 95, 1),
        (1, json!(0), 50, 1),
        (10, json!(1), 95, 0),
        (10, json!(0), 90, 0),
        (10, json!(0), 5, 0),
        (10, json!(0), 100, 0),
        (1, json!(1), 50, 0),
    ] {
        assert_eq!(
            said(replicas, surge.clone(), weight),
            notes,
            "{replicas} {surge} {weight}"
        );
    }
}
