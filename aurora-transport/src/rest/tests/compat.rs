//! The request sequences of the older product's command line client, over real connections.
//!
//! Requests carry the headers that the client v1.20.0 was seen to send, and answers are held to what it
//! reads of them: exact status codes, members that it takes for granted, and the envelope of errors.

use std::net::SocketAddr;

use aurora_core::tasks::Tasks;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::client::serve;
use super::{DEPLOY, EVERYTHING, World, file, gated, ours, theirs};

const START: &str = "application/vnd.start.kubernetes.pipeline.v2+json";
const BY_LINK: &str = "application/vnd.start.kubernetes.pipeline.v2.link+json";
const PRODUCT: &str = "armory-cli/v1.20.0";
/// The queue query, spaced as the client sends it.
const QUERY: &str = "\n  query ($pipelineID: uuid!) {\n    pipelineById(id: $pipelineID) {\n      id\n      status\n      blockedByPipeline {\n        id\n      }\n      application {\n        name\n      }\n    }\n  }\n";
const NEVER: &str = "01900000-0000-7000-8000-000000000000";

/// The older client: one token, one server.
struct OldClient {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// An answer as the client reads it.
#[derive(Debug)]
struct Heard {
    status: StatusCode,
    media_type: String,
    body: Value,
}

impl OldClient {
    fn new(address: SocketAddr, token: String) -> Self {
        Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            base: format!("http://{address}"),
            token,
        }
    }

    /// A request with the headers that every call but the queue query has.
    fn request(&self, method: Method, path: &str, media_type: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, media_type)
            .header(USER_AGENT, PRODUCT)
            .header("X-Armory-Client", PRODUCT)
    }

    async fn hear(request: RequestBuilder) -> Heard {
        let answer = request.send().await.unwrap();
        let media_type = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        Heard {
            status: answer.status(),
            media_type,
            body: answer.json().await.unwrap(),
        }
    }

    async fn get(&self, path: &str) -> Heard {
        Self::hear(self.request(Method::GET, path, "application/json")).await
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Heard {
        Self::hear(
            self.request(method, path, "application/json")
                .body(body.to_string()),
        )
        .await
    }

    /// `deploy start -f`: the file as JSON, with what the client always adds.
    async fn start(&self, mut file: Value, filters: &[&str]) -> Heard {
        file["targetFilters"] = filters_of(filters);
        file["sourceControl"] = json!({});
        if file.get("context").is_none() {
            file["context"] = json!({});
        }
        // The client makes an entry without a name for each manifest that is inline.
        file["files"][""] = Value::Null;
        let (path, media_type) = match &file["deploymentConfig"] {
            Value::Null => ("/pipelines/kubernetes", START),
            _ => ("/pipelines", "application/json"),
        };
        let request = self.request(Method::POST, path, media_type);
        Self::hear(request.header(ACCEPT, media_type).body(file.to_string())).await
    }

    /// `deploy start -i`
    async fn start_again(&self, id: &str, filters: &[&str]) -> Heard {
        let location = format!("armory::{}/pipelines/{id}/config", self.base);
        let body = json!({"account": "", "targetFilters": filters_of(filters)});
        let request = self
            .request(Method::POST, "/pipelines/kubernetes", BY_LINK)
            .header(ACCEPT, START)
            .header("X-Armory-Config-Location", location);
        Self::hear(request.body(body.to_string())).await
    }

    /// What the client asks after a start, with no other header than these.
    async fn queue(&self, id: &str) -> Value {
        let request = self
            .http
            .post(format!("{}/v1/graphql", self.base))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header("X-Request-Id", "9f0c5d52-7d7b-4f1f-9d54-000000000001")
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(json!({"query": QUERY, "variables": {"pipelineID": id}}).to_string());
        let heard = Self::hear(request).await;
        assert_eq!(heard.status, StatusCode::OK, "{heard:?}");
        heard.body["data"]["pipelineById"].clone()
    }

    /// `--watch`: polls the status until the client would stop.
    async fn watch(&self, id: &str) -> Value {
        for _ in 0..2_000 {
            let heard = self.get(&format!("/pipelines/{id}")).await;
            assert_eq!(heard.status, StatusCode::OK, "{heard:?}");
            if matches!(
                heard.body["status"].as_str(),
                Some("SUCCEEDED" | "FAILED" | "CANCELLED")
            ) {
                return heard.body;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("pipeline {id} does not end");
    }
}

fn filters_of(names: &[&str]) -> Value {
    if names.is_empty() {
        return Value::Null;
    }
    names.iter().map(|name| json!({"includeTarget": name})).collect()
}

/// The id of a start that was taken.
fn started(heard: &Heard) -> String {
    assert_eq!(heard.status, StatusCode::ACCEPTED, "{heard:?}");
    assert!(heard.body["warnings"].is_array(), "{heard:?}");
    heard.body["pipelineId"].as_str().unwrap().to_owned()
}

/// The envelope of every error: the client prints nothing useful without it.
fn error(heard: &Heard, status: u16, code: &str) {
    assert_eq!(heard.status.as_u16(), status, "{heard:?}");
    assert!(!heard.body["error_id"].as_str().unwrap().is_empty(), "{heard:?}");
    let errors = heard.body["errors"].as_array().unwrap();
    assert!(!errors.is_empty(), "{heard:?}");
    for error in errors {
        assert!(!error["message"].as_str().unwrap().is_empty(), "{heard:?}");
        assert!(
            error["metadata"].is_null() || error["metadata"].is_object(),
            "{heard:?}"
        );
    }
    assert_eq!(errors[0]["code"], code, "{heard:?}");
}

/// Two targets, the second after the first; nothing waits, so that a run ends at once.
fn quick(application: &str, image: &str) -> Value {
    let mut file = file(application, image);
    file["strategies"]["slowly"]["canary"]["steps"] = json!([{"setWeight": {"weight": 50}}]);
    let mut second = file["targets"]["staging"].clone();
    second["namespace"] = json!("shop-2");
    second["constraints"] = json!({"dependsOn": ["staging"]});
    file["targets"]["prod"] = second;
    file
}

async fn world() -> (World, OldClient, Tasks) {
    let world = World::new().await;
    let (address, serving) = serve(&world.api, None).await;
    let client = OldClient::new(address, world.owner());
    (world, client, serving)
}

#[tokio::test]
async fn deploy_start_is_taken_leaves_the_queue_and_is_watched_to_its_end() {
    let (_world, client, _serving) = world().await;
    let heard = client.start(quick("shop", "app:1"), &[]).await;
    assert_eq!(heard.media_type, START);
    let id = started(&heard);
    for _ in 0..2 {
        let queued = client.queue(&id).await;
        assert_eq!(queued["id"], id.as_str());
        assert_ne!(queued["status"], "QUEUED");
        assert_eq!(queued["blockedByPipeline"], Value::Null);
        assert_eq!(queued["application"], json!({"name": "shop"}));
        let members: Vec<&String> = queued.as_object().unwrap().keys().collect();
        assert_eq!(members.len(), 4, "only what was asked for: {members:?}");
    }
    let status = client.watch(&id).await;
    assert_eq!(status["status"], "SUCCEEDED");
    for member in [
        "id",
        "startedAtIso8601",
        "completedAtIso8601",
        "application",
        "description",
        "context",
        "source",
        "environments",
        "status",
        "initiatedBy",
        "steps",
    ] {
        assert!(!status[member].is_null(), "the client reads {member}: {status}");
    }
    assert_eq!(status.get("sourceControl"), None, "empty, so left out");
    assert_eq!(
        status["source"],
        json!({"product": "armory-cli", "version": "v1.20.0"})
    );
    let deployments: Vec<&Value> = status["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["type"] == "deployment")
        .collect();
    assert_eq!(deployments.len(), 2);
    for step in deployments {
        let deployment = step["deployment"]["id"].as_str().unwrap();
        for prefix in ["", "/deploy-engine"] {
            let heard = client.get(&format!("{prefix}/deployments/{deployment}")).await;
            assert_eq!(heard.status, StatusCode::OK, "{heard:?}");
            assert_eq!(heard.body["id"], deployment);
            assert_eq!(heard.body["parentPipelineId"], id.as_str());
            assert_eq!(heard.body["status"], "SUCCEEDED");
            let canary = &heard.body["kubernetes"]["canary"];
            assert_eq!(heard.body["kubernetes"]["strategy"], "canary");
            assert_eq!(canary["step"], canary["totalSteps"]);
            assert_eq!(canary["setWeight"], 100);
            assert_eq!(canary["steps"][0]["ref"], "canary-step-0");
            assert_eq!(canary["steps"][0]["type"], "setWeight");
            assert_eq!(heard.body["kubernetes"]["deployedObjects"][0]["status"], "done");
        }
    }
}

#[tokio::test]
async fn deploy_status_shows_pauses_in_the_words_that_the_client_prints() {
    let (_world, client, _serving) = world().await;
    let mut file = gated("shop");
    file["targets"]["staging"]["constraints"]["afterDeployment"] =
        json!([{"pause": {"duration": 90, "unit": "minutes"}}]);
    let id = started(&client.start(file, &[]).await);
    let status = client.get(&format!("/pipelines/{id}")).await.body;
    assert_eq!(status["status"], "AWAITING_APPROVAL");
    let steps = status["steps"].as_array().unwrap();
    let kinds: Vec<&Value> = steps.iter().map(|step| &step["type"]).collect();
    assert_eq!(kinds, ["pause", "deployment", "pause"]);
    assert_eq!(steps[0]["pause"], json!({"untilApproved": true}));
    assert_eq!(
        steps[2]["pause"],
        json!({"duration": 5400, "unit": "SECONDS", "untilApproved": false})
    );
    let deployment = format!("/deployments/{}", steps[1]["deployment"]["id"].as_str().unwrap());
    let deployment = client.get(&deployment).await.body;
    assert_eq!(deployment["status"], "AWAITING_APPROVAL");
    assert_eq!(
        deployment["kubernetes"]["canary"]["steps"][0]["status"],
        "NOT_STARTED"
    );
}

#[tokio::test]
async fn a_second_start_is_a_conflict_and_the_client_ends_with_three() {
    let (_world, client, _serving) = world().await;
    let first = started(&client.start(gated("shop"), &[]).await);
    let second = client.start(gated("shop"), &[]).await;
    error(&second, 409, "application.busy");
    assert_eq!(second.body["pipelineId"], first.as_str());
}

#[tokio::test]
async fn a_start_that_may_wait_is_queued_behind_the_run_in_the_way_and_a_newer_one_replaces_it() {
    let (_world, client, _serving) = world().await;
    let mut waits = gated("shop");
    waits["deploymentConfig"] = json!({"ifDeploymentInProgress": {"strategy": "enqueueOne"}});
    let first = started(&client.start(gated("shop"), &[]).await);
    let second = client.start(waits.clone(), &[]).await;
    assert_eq!(second.media_type, "application/json");
    let second = started(&second);
    let queued = client.queue(&second).await;
    assert_eq!(queued["status"], "QUEUED");
    assert_eq!(queued["blockedByPipeline"], json!({"id": first}));
    assert_eq!(
        client.get(&format!("/pipelines/{second}")).await.body["status"],
        "NOT_STARTED"
    );
    let third = started(&client.start(waits, &[]).await);
    assert_eq!(client.queue(&second).await["status"], "CANCELLED");
    assert_eq!(
        client.queue(&third).await["blockedByPipeline"]["id"],
        first.as_str()
    );
    let query = "{ pipelineById(id: \"ID\") { replacedByPipeline { id status } } }".replace("ID", &second);
    let heard = client
        .send(Method::POST, "/v1/graphql", &json!({"query": query}))
        .await;
    assert_eq!(
        heard.body["data"]["pipelineById"]["replacedByPipeline"],
        json!({"id": third, "status": "QUEUED"})
    );
}

#[tokio::test]
async fn an_earlier_run_is_started_again_for_the_targets_that_are_named() {
    let (_world, client, _serving) = world().await;
    let first = started(&client.start(quick("shop", "app:1"), &[]).await);
    client.watch(&first).await;
    let config = client.get(&format!("/pipelines/{first}/config")).await;
    assert_eq!(config.status, StatusCode::OK);
    assert_eq!(config.body["application"], "shop");
    assert!(config.body["files"]["manifests/app.yaml"].is_array());

    let heard = client.start_again(&first, &["prod"]).await;
    assert_eq!(heard.media_type, START);
    let second = started(&heard);
    assert_ne!(second, first);
    let status = client.watch(&second).await;
    assert_eq!(status["status"], "SUCCEEDED");
    let environments = status["environments"].as_array().unwrap();
    assert_eq!(environments.len(), 1);
    assert_eq!(environments[0]["name"], "prod");

    let whole = started(&client.start_again(&first, &[]).await);
    let status = client.watch(&whole).await;
    assert_eq!(status["environments"].as_array().unwrap().len(), 2);

    error(&client.start_again(&first, &["nope"]).await, 422, "targetUnknown");
    error(&client.start_again(NEVER, &[]).await, 404, "notFound");
    let request = client.request(Method::POST, "/pipelines/kubernetes", BY_LINK);
    error(
        &OldClient::hear(request.body("{}")).await,
        422,
        "configLocation.invalid",
    );
}

#[tokio::test]
async fn target_filters_of_a_start_leave_the_other_targets_alone() {
    let (_world, client, _serving) = world().await;
    let id = started(&client.start(quick("shop", "app:1"), &["staging"]).await);
    let status = client.watch(&id).await;
    let environments = status["environments"].as_array().unwrap();
    assert_eq!(environments.len(), 1);
    assert_eq!(environments[0]["name"], "staging");
}

#[tokio::test]
async fn config_get_and_apply_hear_what_there_is_and_what_cannot_be_changed_yet() {
    let (_world, client, _serving) = world().await;
    let environments = client.get("/environments").await;
    assert_eq!(environments.status, StatusCode::OK);
    assert_eq!(
        environments.body,
        json!([{"id": "main", "name": "main", "orgId": "acme"}])
    );
    let roles = client.get("/roles").await;
    assert_eq!(roles.status, StatusCode::OK);
    assert_eq!(roles.body[0]["name"], "ci-role");
    assert_eq!(roles.body.as_array().unwrap().len(), 1, "none of another tenant");
    for member in ["id", "envId", "name", "tenant", "systemDefined", "grants"] {
        assert!(!roles.body[0][member].is_null(), "the client reads {member}");
    }
    let role = json!({"Name": "Payments", "Tenant": "main", "Grants": [
        {"Type": "api", "Resource": "deployment", "Permission": "full"},
    ]});
    for (method, path, body) in [
        (Method::POST, "/environments", json!({"name": "payments"})),
        (Method::PUT, "/roles/ci-role", role.clone()),
        (Method::POST, "/roles", role),
        (Method::DELETE, "/roles/ci-role", json!({"ID": "ci-role"})),
    ] {
        let heard = client.send(method, path, &body).await;
        error(&heard, 501, "notYet");
        assert!(
            heard.body["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("token service")
        );
    }
}

#[tokio::test]
async fn agent_create_sees_agents_and_credentials_and_hears_how_agents_are_added() {
    let (_world, client, _serving) = world().await;
    let all = client.get("/identity/connected-agents").await;
    assert_eq!(all.status, StatusCode::OK);
    assert_eq!(all.body[0]["agentIdentifier"], "staging-agent");
    for member in [
        "agentInstanceUuid",
        "connectedAtIso8601",
        "lastHeartbeatAtIso8601",
        "envId",
        "orgId",
    ] {
        assert!(
            all.body[0][member].is_string(),
            "the client reads {member}: {}",
            all.body
        );
    }
    let one = client
        .get("/identity/connected-agents?agent-identifier=staging-agent")
        .await;
    assert_eq!(one.body.as_array().unwrap().len(), 1);
    let none = client
        .get("/identity/connected-agents?agent-identifier=other")
        .await;
    assert_eq!((none.status, none.body), (StatusCode::OK, json!([])));
    let credentials = client.get("/credentials").await;
    assert_eq!(credentials.status, StatusCode::OK);
    assert_eq!(credentials.body.as_array().unwrap().len(), 1);
    assert_eq!(credentials.body[0]["clientId"], "ci");
    assert!(!credentials.body.to_string().contains("ecret"));
    let roles = client.get("/roles?envId=main&principalType=machine").await;
    assert_eq!(roles.body.as_array().unwrap().len(), 1);
    let made = client
        .send(
            Method::POST,
            "/credentials",
            &json!({"name": "prod-rna-credentials"}),
        )
        .await;
    error(&made, 501, "notYet");
    assert!(
        made.body["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("--allow-agent")
    );
    let roles = client
        .send(Method::PUT, "/credentials/ci/roles", &json!(["ci-role"]))
        .await;
    error(&roles, 501, "notYet");
    error(
        &client.send(Method::DELETE, "/credentials/ci", &Value::Null).await,
        501,
        "notYet",
    );
}

#[tokio::test]
async fn an_api_that_is_told_of_no_credentials_does_not_say_that_there_are_none() {
    let (world, client, _serving) = world().await;
    let api = super::Api::new(world.plane.clone(), world.tokens.clone(), world.clock.clone());
    let (address, _serving) = serve(&api, None).await;
    let client = OldClient::new(address, client.token);
    error(&client.get("/credentials").await, 501, "notYet");
    assert_eq!(client.get("/roles").await.body, json!([]));
}

#[tokio::test]
async fn every_refusal_has_the_envelope_that_the_client_reads() {
    let (world, client, _serving) = world().await;
    let id = started(&client.start(gated("shop"), &[]).await);
    let as_whom = |token: String| OldClient {
        http: client.http.clone(),
        base: client.base.clone(),
        token,
    };
    let mut wrong = quick("other", "app:1");
    wrong["targets"]["staging"]["account"] = json!("nobody");
    error(&client.start(wrong, &[]).await, 422, "account.unknown");
    error(
        &client
            .start(json!({"kind": "kubernetes", "files": {}}), &[])
            .await,
        422,
        "missing",
    );
    error(&client.get(&format!("/pipelines/{NEVER}")).await, 404, "notFound");
    error(
        &client.get(&format!("/deployments/{id}.nope")).await,
        404,
        "notFound",
    );
    error(&client.get("/deployments/nine").await, 404, "notFound");
    error(&client.get("/sandbox/clusters/nine").await, 404, "notFound");

    let stranger = as_whom(world.token(&theirs(), "Mallory", EVERYTHING, &[]));
    for path in [
        format!("/pipelines/{id}"),
        format!("/pipelines/{id}/config"),
        format!("/deployments/{id}.staging"),
    ] {
        error(&stranger.get(&path).await, 404, "notFound");
    }
    assert_eq!(stranger.queue(&id).await, Value::Null, "as for what never was");
    assert_eq!(client.queue(NEVER).await, Value::Null);
    error(&stranger.start_again(&id, &[]).await, 404, "notFound");
    assert_eq!(stranger.get("/environments").await.body[0]["orgId"], "globex");

    let reader = as_whom(world.token(&ours(), "Rita", &["read:pipelines"], &[]));
    error(&reader.start(gated("other"), &[]).await, 403, "scope.missing");
    error(&reader.start_again(&id, &[]).await, 403, "scope.missing");
    error(
        &reader.get(&format!("/pipelines/{id}/config")).await,
        403,
        "scope.missing",
    );
    assert_eq!(reader.queue(&id).await["id"], id.as_str());
    let deployer = as_whom(world.token(&ours(), "Dora", DEPLOY, &[]));
    error(&deployer.get("/credentials").await, 403, "scope.missing");

    let nobody = as_whom("forged".to_owned());
    error(&nobody.get("/environments").await, 401, "token.invalid");
    let bare = client.http.get(format!("{}/pipelines/{id}", client.base));
    error(&OldClient::hear(bare).await, 401, "token.missing");
    let bare = client.http.post(format!("{}/v1/graphql", client.base)).body("{}");
    error(&OldClient::hear(bare).await, 401, "token.missing");
}

#[tokio::test]
async fn a_query_that_cannot_be_answered_is_said_as_graphql_says_it() {
    let (_world, client, _serving) = world().await;
    for query in [
        "mutation { cancel }",
        "{ pipelines { id } }",
        "query ($id: uuid!) { pipelineById(id: $id) { id } }",
    ] {
        let heard = client
            .send(Method::POST, "/v1/graphql", &json!({"query": query}))
            .await;
        assert_eq!(heard.status, StatusCode::OK, "{query}");
        assert!(heard.body["errors"][0]["message"].is_string(), "{heard:?}");
        assert!(
            heard.body["errors"][0]["extensions"]["code"].is_string(),
            "{heard:?}"
        );
        assert_eq!(heard.body.get("data"), None);
    }
    let heard = client
        .send(Method::POST, "/v1/graphql", &json!({"variables": {}}))
        .await;
    error(&heard, 422, "graphql.malformed");
    let long = json!({"query": "x".repeat(20_000)});
    error(
        &client.send(Method::POST, "/v1/graphql", &long).await,
        413,
        "tooLarge",
    );
}

#[tokio::test]
async fn whoever_has_a_token_learns_what_it_is_good_for() {
    let (world, client, _serving) = world().await;
    let me = client.get("/me").await.body;
    assert_eq!((&me["name"], &me["kind"]), (&json!("Olga"), &json!("user")));
    assert_eq!(me["tenants"][0]["id"], "acme/main");
    let permissions = me["tenants"][0]["permissions"].as_array().unwrap();
    assert!(permissions.contains(&json!("deploy")), "{me}");
    assert!(me["now"].is_string() && me["tokenExpiresAt"].is_string() && me["serverVersion"].is_string());
    let rita = world.token(&ours(), "Rita", &["openid"], &[]);
    let me = OldClient {
        token: rita,
        ..client
    }
    .get("/me")
    .await
    .body;
    assert_eq!(me["tenants"][0]["permissions"], json!([]));
}
