//! How Deployments move: blue/green, rolling, and what scales them.

use aurora_core::strategy::{BlueGreen, Portion, Rolling, ServicePair, Span};

use super::*;

fn service(name: &str, selector: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": selector, "ports": [{"port": 80}]},
    })
}

fn of(app: &str) -> Value {
    service(app, json!({"app": app}))
}

fn pair(active: &str, preview: Option<&str>) -> ServicePair {
    ServicePair {
        active: active.to_owned(),
        preview: preview.map(str::to_owned),
    }
}

fn moved_by(strategy: Strategy, services: &[ServicePair], bodies: Vec<Value>) -> Result<Plan, RenderError> {
    let mut request = request(bodies);
    request.strategy = Some(strategy);
    request.services = services.to_vec();
    ArgoRenderer.render(&request)
}

fn blue_green(services: &[ServicePair], bodies: Vec<Value>) -> Result<Plan, RenderError> {
    moved_by(Strategy::BlueGreen(BlueGreen::default()), services, bodies)
}

fn strategy_of<'a>(plan: &'a Plan, rollout: &str) -> &'a Value {
    &body(plan, "Rollout", rollout)["spec"]["strategy"]
}

fn codes(refused: Result<Plan, RenderError>) -> Vec<String> {
    let problems = refused.expect_err("it must be refused").problems;
    problems.into_iter().map(|problem| problem.code).collect()
}

#[test]
fn services_that_the_file_names_are_joined_by_their_selectors() {
    let bodies = vec![
        deployment("web"),
        deployment("api"),
        of("web"),
        of("api"),
        service("web-next", json!({"app": "web"})),
    ];
    let plan = blue_green(&[pair("api", None), pair("web", Some("web-next"))], bodies).unwrap();
    let web = &strategy_of(&plan, "web")["blueGreen"];
    assert_eq!(
        (&web["activeService"], &web["previewService"]),
        (&json!("web"), &json!("web-next"))
    );
    let api = &strategy_of(&plan, "api")["blueGreen"];
    assert_eq!(
        (&api["activeService"], &api["previewService"]),
        (&json!("api"), &json!(null))
    );
    assert!(
        plan.objects
            .iter()
            .all(|planned| planned.object().name != "api-preview"),
        "none is made up"
    );
}

#[test]
fn a_deployment_that_no_pair_is_about_finds_its_service_itself() {
    let bodies = vec![
        deployment("web"),
        deployment("api"),
        of("web"),
        of("api"),
        service("web-next", json!({"app": "web"})),
    ];
    let plan = blue_green(&[pair("web", Some("web-next"))], bodies).unwrap();
    assert_eq!(strategy_of(&plan, "api")["blueGreen"]["activeService"], "api");
    let note = "Deployment api: its active Service is `api`, which selects its pods";
    assert!(plan.notes.iter().any(|said| said == note), "{:?}", plan.notes);
}

#[test]
fn the_controllers_own_label_is_left_out_of_selectors() {
    let live = service(
        "web",
        json!({"app": "web", "rollouts-pod-template-hash": "69dfbf845c"}),
    );
    let plan = blue_green(&[], vec![deployment("web"), live]).unwrap();
    assert_eq!(strategy_of(&plan, "web")["blueGreen"]["activeService"], "web");
    let selector = &body(&plan, "Service", "web")["spec"]["selector"];
    assert_eq!(
        selector,
        &json!({"app": "web"}),
        "an old hash would select nothing"
    );
    let note = "Service web: left out spec.selector.rollouts-pod-template-hash";
    assert!(plan.notes.iter().any(|said| said == note), "{:?}", plan.notes);
    let only = service("web", json!({"rollouts-pod-template-hash": "69dfbf845c"}));
    assert_eq!(
        codes(blue_green(&[], vec![deployment("web"), only])),
        ["noService"]
    );
}

#[test]
fn two_deployments_behind_one_service_are_refused_at_the_service() {
    let shared = service("shop", json!({"part": "front"}));
    let part = |name: &str| {
        with(
            deployment(name),
            "/spec/template/metadata/labels/part",
            json!("front"),
        )
    };
    let error = blue_green(&[], vec![part("web"), part("api"), shared]).unwrap_err();
    assert_eq!(error.problems.len(), 2, "one for each: {:?}", error.problems);
    for problem in &error.problems {
        assert_eq!(
            (problem.code.as_str(), problem.pointer.as_str(), problem.line),
            ("sharedService", "/spec/selector", 21)
        );
    }
}

#[test]
fn a_service_has_one_part_and_a_deployment_one_pair() {
    let bodies = || {
        vec![
            deployment("web"),
            deployment("api"),
            of("web"),
            of("api"),
            service("also", json!({"app": "web"})),
        ]
    };
    let two = [pair("web", None), pair("also", None), pair("api", None)];
    assert_eq!(codes(blue_green(&two, bodies())), ["twoServices"]);
    let twice = [pair("web", Some("also")), pair("also", None), pair("api", None)];
    assert_eq!(
        codes(blue_green(&twice, bodies())),
        ["twoServices", "sharedService"]
    );
    let foreign = [pair("web", Some("api")), pair("api", None)];
    assert_eq!(codes(blue_green(&foreign, bodies())), ["selectorMismatch"]);
}

#[test]
fn a_pair_about_a_users_own_rollout_says_what_is_so_already() {
    let mut own = deployment("own");
    own["apiVersion"] = json!("argoproj.io/v1alpha1");
    own["kind"] = json!("Rollout");
    own["spec"]["strategy"] = json!({"blueGreen": {"activeService": "own", "autoPromotionEnabled": false}});
    let bodies = vec![own, of("own"), deployment("web"), of("web")];
    let plan = blue_green(&[pair("own", None), pair("web", None)], bodies).unwrap();
    let named: Vec<&String> = plan.steps.blue_green.iter().collect();
    assert_eq!(named, ["web"], "the gates of a user's own Rollout are its own");
    assert_eq!(plan.steps.rollouts["own"], 0);
}

#[test]
fn services_are_not_used_where_the_strategy_moves_none() {
    let rolling = Strategy::Rolling(Rolling::default());
    let plan = moved_by(rolling, &[pair("web", None)], vec![deployment("web"), of("web")]).unwrap();
    let note = "the Services that the file names for target `staging` are not used: its strategy moves none";
    assert_eq!(plan.notes, [note]);
    assert_eq!(
        strategy_of(&plan, "web"),
        &json!({"canary": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
}

#[test]
fn every_blue_green_rollout_stops_before_its_redirect_and_keeps_the_old_version_for_its_gates() {
    let yes = |expires: Option<u64>| {
        Pause::Approval(Approval {
            expires_after: expires.map(Span::from_secs),
            ..Approval::default()
        })
    };
    let timed = |seconds| Pause::Timed(Span::from_secs(seconds));
    for (gates, delay) in [
        (vec![], 30),
        (vec![timed(600)], 660),
        (vec![timed(600), timed(60)], 660),
        (vec![yes(Some(3600)), timed(60)], 7200),
        (vec![yes(None), timed(600)], 31_536_000),
        (vec![timed(u64::MAX)], i64::from(i32::MAX)),
    ] {
        let strategy = Strategy::BlueGreen(BlueGreen {
            redirect_after: Vec::new(),
            shut_down_after: gates.clone(),
        });
        let plan = moved_by(strategy, &[], vec![deployment("web"), of("web")]).unwrap();
        let expected = json!({"blueGreen": {
            "activeService": "web", "autoPromotionEnabled": false, "scaleDownDelaySeconds": delay,
        }});
        assert_eq!(strategy_of(&plan, "web"), &expected, "{gates:?}");
    }
}

#[test]
fn a_rolling_update_takes_the_files_shares_then_the_deployments() {
    let own = json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "10%"}});
    let web = with(deployment("web"), "/spec/strategy", own);
    for (surge, unavailable, expected) in [
        (None, None, json!({"maxSurge": 1, "maxUnavailable": "10%"})),
        (
            Some(Portion::Percent(50)),
            None,
            json!({"maxSurge": "50%", "maxUnavailable": "10%"}),
        ),
        (
            Some(Portion::Count(0)),
            Some(Portion::Count(2)),
            json!({"maxSurge": 0, "maxUnavailable": 2}),
        ),
    ] {
        let strategy = Strategy::Rolling(Rolling {
            max_surge: surge,
            max_unavailable: unavailable,
        });
        let plan = moved_by(strategy, &[], vec![web.clone()]).unwrap();
        assert_eq!(strategy_of(&plan, "web"), &json!({"canary": expected}));
    }
    let nothing = Strategy::Rolling(Rolling {
        max_surge: Some(Portion::Count(0)),
        max_unavailable: Some(Portion::Percent(0)),
    });
    assert_eq!(codes(moved_by(nothing, &[], vec![web])), ["noRoom"]);
}

#[test]
fn recreate_is_refused_whatever_the_strategy() {
    let web = with(deployment("web"), "/spec/strategy", json!({"type": "Recreate"}));
    for strategy in [
        Strategy::BlueGreen(BlueGreen::default()),
        Strategy::Canary(Canary::default()),
        Strategy::Rolling(Rolling::default()),
    ] {
        assert_eq!(
            codes(moved_by(strategy, &[], vec![web.clone(), of("web")])),
            ["recreate"]
        );
    }
}

#[test]
fn whatever_the_strategy_an_autoscaler_owns_the_count_while_it_is_in_the_plan() {
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "maxReplicas": 4},
    });
    let web = with(deployment("web"), "/spec/replicas", json!(3));
    for strategy in [
        Strategy::BlueGreen(BlueGreen::default()),
        Strategy::Canary(Canary::default()),
        Strategy::Rolling(Rolling::default()),
    ] {
        let bodies = vec![web.clone(), of("web")];
        let without = moved_by(strategy.clone(), &[], bodies.clone()).unwrap();
        assert_eq!(
            body(&without, "Rollout", "web")["spec"]["replicas"],
            3,
            "it left: the declared count"
        );
        let with_scaler = [bodies, vec![scaler.clone()]].concat();
        let plan = moved_by(strategy, &[], with_scaler).unwrap();
        assert!(
            body(&plan, "Rollout", "web")["spec"].get("replicas").is_none(),
            "it joined: nobody else's"
        );
        let template = |plan: &Plan| body(plan, "Rollout", "web")["spec"]["template"].clone();
        assert_eq!(template(&plan), template(&without), "no revision of its own");
    }
}

#[test]
fn an_autoscaler_of_a_deployment_and_one_of_its_rollout_fight() {
    let scaler = |name: &str, version: &str, kind: &str| {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
            "spec": {"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": "web"}, "maxReplicas": 4},
        })
    };
    let error = refused(vec![
        deployment("web"),
        scaler("one", "apps/v1", "Deployment"),
        scaler("two", "argoproj.io/v1alpha1", "Rollout"),
    ]);
    assert_eq!(error.problems[0].code, "twoAutoscalers", "{:?}", error.problems);
}

#[test]
fn an_autoscaler_of_an_opted_out_deployment_stays_with_it() {
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "db"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "db"}, "maxReplicas": 4},
    });
    let mut opted_out = with(deployment("db"), "/spec/replicas", json!(3));
    opted_out["metadata"]["annotations"] = json!({"aurora.dev/strategy": "none"});
    let bodies = vec![opted_out, scaler.clone(), deployment("web"), of("web")];
    let plan = blue_green(&[], bodies).unwrap();
    let held = body(&plan, "HorizontalPodAutoscaler", "db");
    assert_eq!(held["spec"], scaler["spec"]);
    assert!(body(&plan, "Deployment", "db")["spec"].get("replicas").is_none());
}

#[test]
fn quantities_of_init_containers_are_written_as_the_controller_would() {
    // Else it takes them over, and the next revision cannot leave the init containers out.
    let init = json!([{
        "name": "wait", "image": "registry.example/wait:1",
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 2, "memory": "2048Mi"}},
    }]);
    let web = with(deployment("web"), "/spec/template/spec/initContainers", init);
    let plan = blue_green(&[], vec![web, of("web")]).unwrap();
    let resources =
        &body(&plan, "Rollout", "web")["spec"]["template"]["spec"]["initContainers"][0]["resources"];
    let expected =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
    assert_eq!(resources, &expected);
}

#[test]
fn what_else_is_wrong_is_said_beside_what_is_wrong_with_services() {
    let broken = with(deployment("web"), "/spec/replicas", json!("3"));
    assert_eq!(codes(blue_green(&[], vec![broken])), ["noService", "badType"]);
}
