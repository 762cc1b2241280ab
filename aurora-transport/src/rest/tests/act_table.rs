//! Every act of a person through every door: who may, who may not, twice, too late, and about nothing.

use aurora_core::principal::PrincipalKind;
use axum::body::Body;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, EVERYTHING, World, file, ours, request, theirs};

/// In what a pipeline is before somebody acts on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    /// It waits for a release manager.
    AtAnApproval,
    /// It waits for a timer, with 50 % on the new version.
    AtATimer,
    /// It failed.
    Failed,
    /// It succeeded, and so did one before it.
    SucceededTwice,
}

struct Case {
    action: &'static str,
    before: Before,
    body: fn() -> Value,
    /// What comes of it.
    then: &'static str,
    /// Whether a new run comes of it.
    new_run: bool,
    /// What a second one hears without a key, once the first one has had its effect.
    too_late: (StatusCode, &'static str),
}

const ENDED: (StatusCode, &str) = (StatusCode::CONFLICT, "pipeline.ended");
const NOTHING_STANDS: (StatusCode, &str) = (StatusCode::CONFLICT, "gate.notStanding");

const CASES: [Case; 7] = [
    Case {
        action: "approve",
        before: Before::AtAnApproval,
        body: || json!({"comment": "yes"}),
        then: "SUCCEEDED",
        new_run: false,
        too_late: NOTHING_STANDS,
    },
    Case {
        action: "reject",
        before: Before::AtAnApproval,
        body: || json!({"target": "staging", "comment": "no"}),
        then: "CANCELLED",
        new_run: false,
        too_late: NOTHING_STANDS,
    },
    Case {
        action: "skip",
        before: Before::AtATimer,
        body: || json!({"comment": "seen enough"}),
        then: "SUCCEEDED",
        new_run: false,
        too_late: NOTHING_STANDS,
    },
    Case {
        action: "cancel",
        before: Before::AtATimer,
        body: || json!({"comment": "wrong version"}),
        then: "CANCELLED",
        new_run: false,
        too_late: ENDED,
    },
    Case {
        action: "retry",
        before: Before::Failed,
        body: || json!({"comment": "the registry was away"}),
        then: "FAILED",
        new_run: true,
        too_late: (StatusCode::ACCEPTED, ""),
    },
    Case {
        action: "rollback",
        before: Before::SucceededTwice,
        body: || json!({"target": "staging", "comment": "slower than before"}),
        then: "SUCCEEDED",
        new_run: true,
        too_late: (StatusCode::CONFLICT, "target.notReady"),
    },
    Case {
        action: "redeploy",
        before: Before::SucceededTwice,
        body: || json!({"targets": ["staging"], "context": {"reason": "again"}}),
        then: "SUCCEEDED",
        new_run: true,
        too_late: (StatusCode::ACCEPTED, ""),
    },
];

const NEVER: &str = "01900000-0000-7000-8000-000000000000";

impl Case {
    async fn world(&self) -> (World, String) {
        let world = World::new().await;
        let id = match self.before {
            Before::AtAnApproval => world.waiting().await,
            Before::AtATimer => {
                succeeded(&world, "app:1").await;
                let id = world.submit(&file("shop", "app:2")).await;
                world.until(&id, "PAUSED").await;
                id
            }
            Before::Failed => {
                let id = world.submit(&file("shop", "app:broken")).await;
                world.until(&id, "FAILED").await;
                id
            }
            Before::SucceededTwice => {
                succeeded(&world, "app:1").await;
                succeeded(&world, "app:2").await
            }
        };
        (world, id)
    }

    fn path(&self, id: &str) -> String {
        format!("/pipelines/{id}/actions/{}", self.action)
    }

    async fn act(&self, world: &World, id: &str, token: Option<&str>, key: Option<&str>) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let body = Body::from((self.body)().to_string());
        let request = request("POST", &self.path(id), token, &headers, body);
        world.send(request).await
    }
}

async fn succeeded(world: &World, image: &str) -> String {
    let id = world.submit(&file("shop", image)).await;
    world.until(&id, "SUCCEEDED").await;
    id
}

#[tokio::test(start_paused = true)]
async fn who_may_acts_once_and_hears_what_comes_of_it() {
    for case in &CASES {
        let (world, id) = case.world().await;
        let ada = world.ada();
        let first = case.act(&world, &id, Some(&ada), Some("key-1")).await;
        assert_eq!(first.status, StatusCode::ACCEPTED, "{}: {first:?}", case.action);
        let body = first.json();
        let of = body["pipelineId"].as_str().unwrap().to_owned();
        assert_eq!(of != id, case.new_run, "{}", case.action);
        assert_eq!(body["phase"], "recorded");
        assert_eq!(body["eventId"], format!("{of}:{}", body["version"]));
        assert!(body["asOf"]["cursor"].is_string(), "{body}");
        assert_eq!(first.header("location"), format!("/pipelines/{of}"));
        world.until(&of, case.then).await;
        let timeline = world
            .get(&ada, &format!("/pipelines/{of}/timeline?limit=500"))
            .await
            .json();
        let entries = timeline["entries"].as_array().unwrap();
        let recorded = entries
            .iter()
            .find(|entry| entry["version"] == body["version"])
            .unwrap_or_else(|| panic!("{}: {timeline}", case.action));
        assert_eq!(recorded["actor"]["display"], "Ada", "{}: {recorded}", case.action);
        if let Some(comment) = (case.body)()["comment"].as_str() {
            assert_eq!(recorded["comment"], comment, "{}", case.action);
        }

        let again = case.act(&world, &id, Some(&ada), Some("key-1")).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "{}: {again:?}", case.action);
        for member in ["pipelineId", "eventId", "version", "phase"] {
            assert_eq!(again.json()[member], body[member], "{} {member}", case.action);
        }
        let list = world.get(&ada, "/pipelines").await.json();
        let runs = list["rows"].as_array().unwrap().len();

        let late = case.act(&world, &id, Some(&ada), None).await;
        let (status, code) = case.too_late;
        assert_eq!(late.status, status, "{}: {late:?}", case.action);
        if status == StatusCode::CONFLICT {
            let problem = late.problem();
            assert_eq!(problem.code, code, "{}: {}", case.action, problem.detail);
            assert_eq!(problem.view.unwrap().id.to_string(), id, "{}", case.action);
            let list = world.get(&ada, "/pipelines").await.json();
            assert_eq!(list["rows"].as_array().unwrap().len(), runs, "{}", case.action);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_else_acts_and_nothing_comes_of_trying() {
    for case in &CASES {
        let (world, id) = case.world().await;
        let version = |view: Value| view["version"].as_u64().unwrap();
        let view = format!("/pipelines/{id}/view");
        let before = version(world.get(&world.ada(), &view).await.json());

        let reader = world.token(&ours(), "Rita", &["read:pipelines"], &["release-manager"]);
        let answer = case.act(&world, &id, Some(&reader), None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", case.action);
        assert_eq!(answer.problem().code, "scope.missing");

        let answer = case.act(&world, &id, None, None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", case.action);
        assert_eq!(answer.problem().code, "token.missing");

        let scopes = [EVERYTHING, &["route:commands"]].concat();
        let service = world.token_of(PrincipalKind::Service, None, "Hub", &scopes, &[]);
        let answer = case.act(&world, &id, Some(&service), None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", case.action);
        assert_eq!(answer.problem().code, "service.refused");

        let stranger = world.token(&theirs(), "Mallory", EVERYTHING, &["release-manager"]);
        let answer = case.act(&world, &id, Some(&stranger), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", case.action);
        let theirs = answer.problem();
        let answer = case.act(&world, NEVER, Some(&stranger), None).await;
        let never = answer.problem();
        assert_eq!(
            (&theirs.code, theirs.detail.replace(&id, NEVER)),
            (&never.code, never.detail)
        );
        let answer = case.act(&world, "nine", Some(&world.ada()), None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", case.action);

        // A timer may have gone on meanwhile, but nobody's deed is on record.
        let timeline = world
            .get(&world.ada(), &format!("/pipelines/{id}/timeline?after={before}"))
            .await
            .json();
        let deeds = timeline["entries"].as_array().unwrap().iter();
        let deeds: Vec<&Value> = deeds.filter(|entry| entry["actor"]["kind"] == "user").collect();
        assert!(deeds.is_empty(), "{}: {deeds:?}", case.action);
    }
}

#[tokio::test(start_paused = true)]
async fn an_act_on_a_target_that_is_none_says_which_there_are() {
    for case in CASES
        .iter()
        .filter(|case| !matches!(case.action, "cancel" | "redeploy"))
    {
        let (world, id) = case.world().await;
        let answer = world
            .post(&world.ada(), &case.path(&id), &json!({"target": "nope"}))
            .await;
        assert_eq!(
            answer.status,
            StatusCode::NOT_FOUND,
            "{}: {answer:?}",
            case.action
        );
        let problem = answer.problem();
        assert_eq!(problem.code, "target.unknown", "{}", case.action);
        assert!(problem.detail.contains("nope"), "{}", problem.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_act_does_not_take_is_refused_by_its_name() {
    let (world, id) = CASES[0].world().await;
    for (action, body, member) in [
        ("approve", json!({"toRun": NEVER}), "toRun"),
        ("skip", json!({"targets": ["staging"]}), "targets"),
        ("cancel", json!({"target": "staging"}), "target"),
        ("retry", json!({"toRun": NEVER}), "toRun"),
        ("retry", json!({"gate": "staging/before/0"}), "gate"),
        ("rollback", json!({"context": {"a": "b"}}), "context"),
        ("redeploy", json!({"target": "staging"}), "target"),
    ] {
        let path = format!("/pipelines/{id}/actions/{action}");
        let answer = world.post(&world.ada(), &path, &body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{action} {body}");
        let problem = answer.problem();
        assert_eq!(problem.code, "act.malformed");
        assert_eq!(problem.errors[0].pointer, format!("/{member}"));
        assert!(problem.detail.contains(action) && problem.detail.contains(member));
    }
}

#[tokio::test(start_paused = true)]
async fn an_approval_is_not_skipped_and_a_timer_not_approved() {
    for (before, action) in [(Before::AtAnApproval, "skip"), (Before::AtATimer, "approve")] {
        let case = CASES.iter().find(|case| case.before == before).unwrap();
        let (world, id) = case.world().await;
        let path = format!("/pipelines/{id}/actions/{action}");
        let answer = world.post(&world.ada(), &path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{action}");
        let problem = answer.problem();
        assert_eq!(problem.code, "gate.notStanding");
        assert!(problem.detail.contains("does not wait for"), "{}", problem.detail);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_goes_back_to_the_run_that_is_named() {
    let world = World::new().await;
    let first = succeeded(&world, "app:1").await;
    succeeded(&world, "app:2").await;
    let third = succeeded(&world, "app:3").await;
    let path = format!("/pipelines/{third}/actions/rollback");
    let answer = world.post(&world.ada(), &path, &json!({"toRun": first})).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let run = answer.json()["pipelineId"].as_str().unwrap().to_owned();
    world.until(&run, "SUCCEEDED").await;
    let view = world
        .get(&world.ada(), &format!("/pipelines/{run}/view"))
        .await
        .json();
    assert_eq!(view["origin"]["of"], first.as_str(), "{}", view["origin"]);
    let answer = world.post(&world.ada(), &path, &json!({"toRun": NEVER})).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn while_another_run_holds_the_application_an_act_that_needs_it_names_that_run() {
    let world = World::new().await;
    let first = succeeded(&world, "app:1").await;
    let holds = world.waiting().await;
    for action in ["redeploy", "rollback"] {
        let path = format!("/pipelines/{first}/actions/{action}");
        let answer = world.post(&world.ada(), &path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{action}: {answer:?}");
        let problem = answer.problem();
        if action == "redeploy" {
            assert_eq!(problem.code, "application.busy");
            assert_eq!(problem.pipeline_id.unwrap().to_string(), holds);
        }
    }
}
