//! Manifests by URL, deploy files by link, and parts of a file that cannot run yet.

use aurora_core::port::http::memory::{Reply, ScriptedHttp};

use super::*;

const LINK: &str = "application/vnd.start.kubernetes.pipeline.v2.link+json";
const LOCATION: &str = "x-armory-config-location";
const MANIFEST: &str = "https://files.example/shop/app.yaml";

async fn world(http: &ScriptedHttp) -> World {
    let http = http.clone();
    World::with(|api| api.with_http(http)).await
}

/// A file whose manifest lies at a URL, and that manifest.
fn by_url(application: &str) -> (Value, String) {
    let mut file = file(application, "app:1");
    let manifest = file["files"]["manifests/app.yaml"][0]
        .as_str()
        .unwrap()
        .to_owned();
    file["manifests"] = json!([{"path": MANIFEST}]);
    file.as_object_mut().unwrap().remove("files");
    (file, manifest)
}

#[tokio::test(start_paused = true)]
async fn a_manifest_by_url_is_read_by_the_server_and_kept_with_the_run() {
    let http = ScriptedHttp::new();
    let world = world(&http).await;
    let (file, manifest) = by_url("shop");
    http.on(MANIFEST, Reply::status(200, manifest.clone()));
    let id = world.submit(&file).await;
    let config = world.get(&world.ada(), &format!("/pipelines/{id}/config")).await;
    let mut config = config.json();
    assert_eq!(config["files"][MANIFEST][0]["text"], json!(manifest));
    // What is kept needs the address no more.
    http.on(MANIFEST, Reply::Unreachable);
    config["application"] = json!("again");
    config["targets"]["staging"]["namespace"] = json!("again");
    world.submit(&config).await;
    assert_eq!(http.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_cannot_be_read_is_told_at_its_place() {
    let http = ScriptedHttp::new();
    let world = world(&http).await;
    http.on(MANIFEST, Reply::status(403, ""));
    let text = format!(
        "application: shop\ntargets: {{staging: {{account: staging-agent, namespace: shop}}}}\nmanifests:\n- path: {MANIFEST}\n"
    );
    let headers = [
        ("content-type", "application/yaml"),
        ("x-aurora-file-name", "deploy.yaml"),
    ];
    let send = |world: &World| {
        request(
            "POST",
            "/pipelines/kubernetes",
            Some(&world.ada()),
            &headers,
            Body::from(text.clone()),
        )
    };
    let answer = world.send(send(&world)).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = &answer.problem().errors[0];
    assert_eq!(
        (problem.file.as_str(), problem.line, problem.code.as_str()),
        ("deploy.yaml", 4, "notFetched")
    );
    assert!(problem.message.contains("status 403"), "{problem}");
    http.forbid("files.example");
    let refused = world.send(send(&world)).await.problem();
    assert!(refused.errors[0].message.contains("not allowed"), "{refused:?}");
    // A server without a caller refuses by name.
    let plain = World::new().await;
    let refused = plain.send(send(&plain)).await.problem();
    assert!(
        refused.errors[0].message.contains("this server reads none"),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deploy_file_by_link_is_read_with_what_lies_beside_it() {
    let http = ScriptedHttp::new();
    let world = world(&http).await;
    let (mut file, manifest) = by_url("shop");
    file["manifests"] = json!([{"path": "m/app.yaml"}]);
    file["targets"]["staging"]
        .as_object_mut()
        .unwrap()
        .remove("account");
    file["targets"]["other"] = json!({"namespace": "other", "strategy": "slowly"});
    http.on(
        "https://git.example/shop/deploy.json?ref=main",
        Reply::status(200, file.to_string()),
    );
    http.on(
        "https://git.example/shop/m/app.yaml",
        Reply::status(200, manifest),
    );
    let wanted = json!({"account": "staging-agent", "targetFilters": [{"includeTarget": "staging"}]});
    let headers = [
        ("content-type", LINK),
        (LOCATION, "https://git.example/shop/deploy.json?ref=main"),
    ];
    let send = |world: &World, wanted: &Value| {
        request(
            "POST",
            "/pipelines/kubernetes",
            Some(&world.ada()),
            &headers,
            Body::from(wanted.to_string()),
        )
    };
    let answer = world.send(send(&world, &wanted)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let id = answer.json()["pipelineId"].as_str().unwrap().to_owned();
    let config = world
        .get(&world.ada(), &format!("/pipelines/{id}/config"))
        .await
        .json();
    assert_eq!(config["targets"]["staging"]["account"], "staging-agent");
    assert_eq!(config["targetFilters"], json!([{"includeTarget": "staging"}]));
    assert!(config["files"]["m/app.yaml"][0]["text"].is_string());
    // An account is needed from one of the two.
    let refused = world.send(send(&world, &json!({}))).await.problem();
    assert!(
        refused
            .errors
            .iter()
            .any(|problem| problem.message.contains("`account` is missing")),
        "{refused:?}"
    );
    assert!(
        refused
            .errors
            .iter()
            .all(|problem| problem.file == "https://git.example/shop/deploy.json")
    );
    let plain = World::new().await;
    let refused = plain.send(send(&plain, &wanted)).await.problem();
    assert!(
        refused.errors[0].message.contains("no deploy file by link"),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_ends_before_the_request_does() {
    let http = ScriptedHttp::new();
    let world = world(&http).await;
    http.on(MANIFEST, Reply::Silence);
    let (file, _) = by_url("shop");
    let answer = world.post(&world.ada(), "/pipelines/kubernetes", &file).await;
    assert!(
        answer.problem().errors[0].message.contains("no answer within"),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_yet_is_refused_at_submit_only_where_a_target_uses_it() {
    let world = World::new().await;
    let mut file = file("shop", "app:1");
    file["webhooks"] =
        json!([{"name": "smoke", "method": "POST", "uriTemplate": "https://ci.example/smoke"}]);
    file["strategies"]["unused"] = json!({"canary": {"steps": [{"runWebhook": {"name": "smoke"}}]}});
    world.submit(&file).await;
    file["application"] = json!("other");
    file["targets"]["staging"]["strategy"] = json!("unused");
    let answer = world.post(&world.ada(), "/pipelines/kubernetes", &file).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = &answer.problem().errors[0];
    assert_eq!(problem.pointer, "/strategies/unused/canary/steps/0/runWebhook");
    assert!(
        problem.line == 1 && problem.code == "notYet" && problem.message.contains("`staging`"),
        "{problem}"
    );
}
