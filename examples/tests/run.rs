//! Every example runs, ends well, and says what it shows.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aurora_auth::issue::{TokenIssuer, new_secret};
use aurora_auth::verify::{JwtVerifier, VerifyPolicy};
use aurora_bin::http_server::HttpServer;
use aurora_bin::tls::Authority;
use aurora_core::hub::Hub;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use aurora_transport::grpc::GrpcListener;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Anything that does not happen within this time is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program to its end and gives what it said.
async fn said_by(program: &str) -> String {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{program} does not end"))
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} failed:\n{said}{errors}");
    said
}

fn assert_says(said: &str, expected: &[&str]) {
    let mut rest = said;
    for line in expected {
        let at = rest.find(line);
        let at = at.unwrap_or_else(|| panic!("`{line}` is not said, or not in its place:\n{said}"));
        rest = &rest[at + line.len()..];
    }
}

#[tokio::test]
async fn all_in_one_rolls_two_versions_out() {
    let said = said_by(env!("CARGO_BIN_EXE_all_in_one")).await;
    let expected = [
        "shop:1",
        "pipeline Succeeded",
        "shop:2",
        "ada says yes at edge/step/1",
        "pipeline Succeeded",
        "the rollout is \"Healthy\"",
    ];
    assert_says(&said, &expected);
}

#[tokio::test]
async fn custom_executor_deploys_to_a_supervisor_and_rolls_back() {
    let said = said_by(env!("CARGO_BIN_EXE_custom_executor")).await;
    let expected = [
        "deploying shop:1",
        "pipeline Succeeded",
        "the supervisor runs \"shop:1\"",
        "deploying shop:2",
        "pipeline Succeeded",
        "the supervisor runs \"shop:2\"",
        "deploying shop:crash",
        "pipeline Failed",
        "the supervisor runs \"shop:2\"",
    ];
    assert_says(&said, &expected);
}

#[tokio::test]
async fn custom_renderer_refuses_and_labels() {
    let said = said_by(env!("CARGO_BIN_EXE_custom_renderer")).await;
    assert_says(
        &said,
        &["refused: ", "pipeline Succeeded", "cost centre \"4711\""],
    );
}

#[tokio::test]
async fn custom_transport_carries_a_deployment() {
    let said = said_by(env!("CARGO_BIN_EXE_custom_transport")).await;
    let expected = [
        "hub listens on",
        "agent connected",
        "pipeline Succeeded",
        "says yes",
        "pipeline Succeeded",
    ];
    assert_says(&said, &expected);
}

#[tokio::test]
async fn custom_verifier_accepts_one_key_and_refuses_the_other() {
    let said = said_by(env!("CARGO_BIN_EXE_custom_verifier")).await;
    assert_says(
        &said,
        &["`correct horse` is accepted", "`battery staple` is refused"],
    );
}

#[tokio::test]
async fn embed_hub_routes_a_ping() {
    let said = said_by(env!("CARGO_BIN_EXE_embed_hub")).await;
    let expected = [
        "hub listens on https://",
        "agent edge has 1 session(s)",
        "the agent answers Pong",
    ];
    assert_says(&said, &expected);
}

#[tokio::test]
async fn embed_agent_connects_to_a_real_hub_and_stops_when_told() {
    let (folder, now) = (tempfile::tempdir().unwrap(), SystemClock.now());
    let authority = Authority::generate(now).unwrap();
    let tls = authority.server(&[], now).unwrap();
    let tls = tls.server_config(&["h2", "http/1.1"]).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(any, Some(tls)).await.unwrap();
    let (url, secret) = (server.url(), new_secret("edge").unwrap());
    let client = serde_json::from_value(json!({
        "id": "edge", "kind": "machine", "tenant": "acme/main", "secretHash": secret.hash,
        "scopes": ["connect:agentHub"], "agents": ["edge"],
    }));
    let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
    let issuer = TokenIssuer::new(&url, "aurora", &[client.unwrap()], store, Arc::new(SystemClock)).unwrap();
    let policy = VerifyPolicy::new(&url, "aurora").unwrap();
    let verifier = Arc::new(JwtVerifier::new(policy, Arc::new(issuer.keys())));
    let hub = Hub::new(SystemClock)
        .with_verifier(Arc::clone(&verifier))
        .with_drain(Duration::ZERO, Duration::ZERO);
    let sessions = GrpcListener::new(verifier, SystemClock, hub.clone());
    let routes = sessions.routes().into_axum_router().merge(issuer.router());
    let tasks = Tasks::new();
    tasks.spawn(|stop| async move {
        let _ = server.serve(routes, stop, Duration::from_secs(1)).await;
    });
    tasks.spawn(|stop| async move {
        let _ = hub.run(sessions, stop).await;
    });
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("ca.pem"), authority.certificate()).unwrap();
    std::fs::write(at("secret"), secret.secret.expose()).unwrap();

    let mut agent = Command::new(env!("CARGO_BIN_EXE_embed_agent"))
        .args([&url, &url])
        .arg(at("ca.pem"))
        .arg("edge")
        .arg(at("secret"))
        .arg("edge")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    let connected = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("connected") {
                return;
            }
        }
        panic!("the agent ended");
    };
    tokio::time::timeout(PATIENCE, connected)
        .await
        .expect("a session");
    let pid = agent.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, agent.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    tasks.drain(PATIENCE).await.unwrap();
}
