//! Every route: with the right token, then not with another tenant's, without its scope, or without one.

use aurora_core::principal::PrincipalKind;
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{EVERYTHING, World, file, gated, ours, request, theirs};
use crate::rest::Api;

/// What another tenant, with all scopes, gets of something of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Foreign {
    /// The same as for what never was.
    LikeUnknown,
    /// Its own part, in which nothing of ours is.
    NothingOfOurs,
    /// A refusal of the body, since our accounts are unknown to it.
    Refused,
    /// The same refusal that everybody gets.
    Same,
}

struct Case {
    method: &'static str,
    route: &'static str,
    /// The scopes that open it, each by itself; none: every good token does.
    scopes: &'static [&'static str],
    ok: StatusCode,
    foreign: Foreign,
}

const READ: &[&str] = &[
    "read:pipelines",
    "manage:deploy",
    "api:deployment:full",
    "api:tenant:full",
];
const WRITE: &[&str] = &["manage:deploy", "api:deployment:full", "api:organization:full"];
const INFRASTRUCTURE: &[&str] = &["read:infrastructure:data", "read:infra:data"];
const AUDIT: &[&str] = &["read:audit", "api:tenant:full", "api:organization:full"];
/// What is open to everyone.
const OPEN: &str = "/openapi.json";
const MANAGE: &[&str] = &["api:tenant:full", "api:organization:full"];

const fn case(
    method: &'static str,
    route: &'static str,
    scopes: &'static [&'static str],
    foreign: Foreign,
) -> Case {
    let ok = if method.len() == 4 {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Case {
        method,
        route,
        scopes,
        ok,
        foreign,
    }
}

/// A path of the older product that is not served yet: whoever may ask hears that.
const fn later(method: &'static str, route: &'static str) -> Case {
    Case {
        method,
        route,
        scopes: MANAGE,
        ok: StatusCode::NOT_IMPLEMENTED,
        foreign: Foreign::Same,
    }
}

const CASES: &[Case] = &[
    case("POST", "/pipelines", WRITE, Foreign::Refused),
    case("POST", "/pipelines/kubernetes", WRITE, Foreign::Refused),
    case(
        "POST",
        "/pipelines/{id}/actions/{action}",
        WRITE,
        Foreign::LikeUnknown,
    ),
    case(
        "GET",
        "/pipelines/{id}/actions/{action}/impact",
        READ,
        Foreign::LikeUnknown,
    ),
    case("GET", "/pipelines", READ, Foreign::NothingOfOurs),
    case("GET", "/pipelines/{id}", READ, Foreign::LikeUnknown),
    case("GET", "/pipelines/{id}/view", READ, Foreign::LikeUnknown),
    case(
        "GET",
        "/pipelines/{id}/targets/{target}/view",
        READ,
        Foreign::LikeUnknown,
    ),
    case(
        "GET",
        "/pipelines/{id}/targets/{target}/history",
        READ,
        Foreign::LikeUnknown,
    ),
    case(
        "GET",
        "/pipelines/{id}/targets/{target}/plan",
        READ,
        Foreign::LikeUnknown,
    ),
    case(
        "GET",
        "/pipelines/{id}/targets/{target}/plan/objects/{digest}",
        READ,
        Foreign::LikeUnknown,
    ),
    case("GET", "/diff", READ, Foreign::LikeUnknown),
    case("GET", "/approvals", READ, Foreign::NothingOfOurs),
    case("GET", "/applications", READ, Foreign::NothingOfOurs),
    case("GET", "/applications/{application}", READ, Foreign::LikeUnknown),
    case("GET", "/audit", AUDIT, Foreign::NothingOfOurs),
    case("GET", "/pipelines/{id}/timeline", READ, Foreign::LikeUnknown),
    case("GET", "/pipelines/{id}/evidence", READ, Foreign::LikeUnknown),
    case(
        "GET",
        "/pipelines/{id}/evidence/{evidence}",
        READ,
        Foreign::LikeUnknown,
    ),
    case("GET", "/pipelines/{id}/events", READ, Foreign::LikeUnknown),
    case("GET", "/events", READ, Foreign::NothingOfOurs),
    case("GET", "/agents", INFRASTRUCTURE, Foreign::NothingOfOurs),
    case("GET", "/agents/{agent}", INFRASTRUCTURE, Foreign::LikeUnknown),
    case("GET", "/accounts", INFRASTRUCTURE, Foreign::NothingOfOurs),
    case(
        "GET",
        "/identity/connected-agents",
        INFRASTRUCTURE,
        Foreign::NothingOfOurs,
    ),
    case("GET", "/me", &[], Foreign::NothingOfOurs),
    case("GET", "/pipelines/{id}/config", WRITE, Foreign::LikeUnknown),
    case("GET", "/deployments/{id}", READ, Foreign::LikeUnknown),
    case(
        "GET",
        "/deploy-engine/deployments/{id}",
        READ,
        Foreign::LikeUnknown,
    ),
    Case {
        ok: StatusCode::OK,
        ..case("POST", "/v1/graphql", READ, Foreign::NothingOfOurs)
    },
    case("GET", "/environments", &[], Foreign::NothingOfOurs),
    later("POST", "/environments"),
    case("GET", "/roles", MANAGE, Foreign::NothingOfOurs),
    later("POST", "/roles"),
    later("PUT", "/roles/{id}"),
    later("DELETE", "/roles/{id}"),
    case("GET", "/credentials", MANAGE, Foreign::NothingOfOurs),
    later("POST", "/credentials"),
    later("DELETE", "/credentials/{id}"),
    later("GET", "/credentials/{id}/roles"),
    later("PUT", "/credentials/{id}/roles"),
];

/// What the routes are tried on.
struct Things {
    failed: String,
    evidence: String,
    waiting: String,
    /// An object of the plan of the one that waits.
    digest: String,
}

async fn world() -> (World, Things) {
    let world = World::new().await;
    let failed = world.submit(&file("broken", "app:broken")).await;
    world.until(&failed, "FAILED").await;
    let waiting = world.waiting().await;
    let evidence = world
        .get(&world.ada(), &format!("/pipelines/{failed}/evidence"))
        .await
        .json();
    let evidence = evidence["evidence"][0]["id"].as_str().unwrap().to_owned();
    let plan = world
        .get(
            &world.ada(),
            &format!("/pipelines/{waiting}/targets/staging/plan"),
        )
        .await
        .json();
    let digest = plan["objects"][0]["digest"].as_str().unwrap().to_owned();
    let things = Things {
        failed,
        evidence,
        waiting,
        digest,
    };
    (world, things)
}

impl Case {
    fn request(&self, things: &Things, token: Option<&str>) -> Request<Body> {
        let id = if self.route.contains("evidence") {
            &things.failed
        } else {
            &things.waiting
        };
        let path = self
            .route
            .replace("deployments/{id}", &format!("deployments/{id}.staging"))
            .replace("{id}", id)
            .replace("{action}", "cancel")
            .replace("{target}", "staging")
            .replace("{evidence}", &things.evidence)
            .replace("{agent}", "staging-agent")
            .replace("{digest}", &things.digest)
            .replace("{application}", "shop")
            .replace(
                "/diff",
                &format!("/diff?from=run:{id}/staging&to=run:{}/staging", things.failed),
            );
        if self.method == "GET" {
            return request("GET", &path, token, &[], Body::empty());
        }
        let body = if self.route.contains("actions") {
            json!({"comment": "for the test"})
        } else if self.route.contains("graphql") {
            json!({
                "query": "query ($id: uuid!) { pipelineById(id: $id) { status application { name } } }",
                "variables": {"id": id},
            })
        } else {
            gated("other")
        };
        let json = [("content-type", "application/json")];
        request(self.method, &path, token, &json, Body::from(body.to_string()))
    }

    async fn status(&self, world: &World, things: &Things, token: Option<&str>) -> StatusCode {
        use tower::ServiceExt;

        let request = self.request(things, token);
        world.api.router().oneshot(request).await.unwrap().status()
    }
}

#[test]
fn every_route_is_in_the_table_and_nothing_else() {
    let mut routes: Vec<(String, &str)> = Api::paths()
        .into_iter()
        .map(|(method, path)| (method.to_string(), path))
        .filter(|(_, path)| *path != OPEN)
        .collect();
    let mut cases: Vec<(String, &str)> = CASES
        .iter()
        .map(|case| (case.method.to_owned(), case.route))
        .collect();
    routes.sort();
    cases.sort();
    assert_eq!(
        routes, cases,
        "give a new route its case, and take out the case of one that is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn the_right_scope_opens_each_route_and_nothing_less_does() {
    for case in CASES {
        let any: &[&str] = &["openid"];
        for scope in if case.scopes.is_empty() { any } else { case.scopes } {
            let (world, things) = world().await;
            let right = world.token(&ours(), "Ada", &[scope], &[]);
            let status = case.status(&world, &things, Some(&right)).await;
            assert_eq!(status, case.ok, "{} {} with {scope}", case.method, case.route);
        }
        if case.scopes.is_empty() {
            continue;
        }
        let (world, things) = world().await;
        let others: Vec<&str> = [READ, WRITE, INFRASTRUCTURE]
            .concat()
            .into_iter()
            .filter(|scope| !case.scopes.contains(scope) && !scope.starts_with("api:"))
            .collect();
        let without = world.token(&ours(), "Ada", &others, &[]);
        let answer = world.send(case.request(&things, Some(&without))).await;
        assert_eq!(
            answer.status,
            StatusCode::FORBIDDEN,
            "{} {}",
            case.method,
            case.route
        );
        let problem = answer.problem();
        assert_eq!(problem.code, "scope.missing");
        assert!(
            case.scopes
                .iter()
                .all(|scope| problem.needs.iter().any(|needed| needed == scope))
        );
        assert!(problem.detail.contains(case.scopes[0]), "{}", problem.detail);
        assert!(answer.header("www-authenticate").contains("insufficient_scope"));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_without_a_good_token_gets_anything() {
    for case in CASES {
        let (world, things) = world().await;
        let right = world.owner();
        assert_eq!(case.status(&world, &things, Some(&right)).await, case.ok);
        let answer = world.send(case.request(&things, None)).await;
        assert_eq!(
            answer.status,
            StatusCode::UNAUTHORIZED,
            "{} {}",
            case.method,
            case.route
        );
        assert_eq!(answer.problem().code, "token.missing");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"aurora\"");
        let answer = world.send(case.request(&things, Some("forged"))).await;
        assert_eq!(answer.problem().code, "token.invalid");
        assert!(answer.header("www-authenticate").contains("invalid_token"));

        world.clock.jump(jiff::SignedDuration::from_hours(2));
        let answer = world.send(case.request(&things, Some(&right))).await;
        assert_eq!(
            answer.status,
            StatusCode::UNAUTHORIZED,
            "an ended token opens {}",
            case.route
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_opens_no_route() {
    let scopes = [EVERYTHING, &["route:commands", "api:organization:full"]].concat();
    for case in CASES {
        let (world, things) = world().await;
        for tenant in [None, Some(ours())] {
            let service = world.token_of(PrincipalKind::Service, tenant.as_ref(), "Hub", &scopes, &[]);
            let answer = world.send(case.request(&things, Some(&service))).await;
            assert_eq!(
                answer.status,
                StatusCode::FORBIDDEN,
                "{} {}",
                case.method,
                case.route
            );
            assert_eq!(answer.problem().code, "service.refused");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_tenant_gets_what_it_would_get_of_nothing() {
    const NEVER: &str = "01900000-0000-7000-8000-000000000000";
    for case in CASES {
        let (world, things) = world().await;
        let name = format!("{} {}", case.method, case.route);
        assert_eq!(
            case.status(&world, &things, Some(&world.owner())).await,
            case.ok,
            "{name}"
        );
        let scopes = [EVERYTHING, &["api:organization:full"]].concat();
        let stranger = world.token(&theirs(), "Mallory", &scopes, &["release-manager"]);
        match case.foreign {
            Foreign::Refused => {
                let answer = world.send(case.request(&things, Some(&stranger))).await;
                assert_eq!(answer.problem().code, "account.unknown", "{name}");
            }
            Foreign::Same => {
                let answer = world.send(case.request(&things, Some(&stranger))).await;
                assert_eq!(answer.status, case.ok, "{name}");
                assert_eq!(answer.problem().code, "notYet", "{name}");
            }
            Foreign::NothingOfOurs if case.route == "/events" => {
                let status = case.status(&world, &things, Some(&stranger)).await;
                assert_eq!(
                    status,
                    StatusCode::OK,
                    "its frames are looked at in the tests of streams"
                );
            }
            Foreign::NothingOfOurs => {
                let answer = world.send(case.request(&things, Some(&stranger))).await;
                assert_eq!(answer.status, StatusCode::OK, "{name}");
                let text = answer.json().to_string();
                for ours in [&things.waiting, &things.failed, "staging-agent", "shop"] {
                    assert!(!text.contains(ours), "{name} shows {ours}: {text}");
                }
            }
            Foreign::LikeUnknown => {
                let answer = world.send(case.request(&things, Some(&stranger))).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
                let never = Things {
                    failed: NEVER.to_owned(),
                    evidence: things.evidence.clone(),
                    waiting: NEVER.to_owned(),
                    digest: things.digest.clone(),
                };
                let unknown = world.send(case.request(&never, Some(&stranger))).await;
                let blank = |mut body: Value| {
                    body["error_id"] = Value::Null;
                    let text = body.to_string();
                    text.replace(&things.waiting, "ID")
                        .replace(&things.failed, "ID")
                        .replace(NEVER, "ID")
                };
                assert_eq!(
                    blank(answer.json()),
                    blank(unknown.json()),
                    "{name} tells that it is there"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_path_is_a_problem_and_only_for_those_who_are_known() {
    let world = World::new().await;
    let answer = world.get(&world.ada(), "/nothing/here").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    answer.problem();
    let answer = world.post(&world.ada(), "/agents", &json!({})).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    answer.problem();
    let answer = world
        .send(request("GET", "/nothing/here", None, &[], Body::empty()))
        .await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
