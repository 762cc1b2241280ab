//! The API as a process: configured, asked, drained, started twice.
#![expect(clippy::unwrap_used, reason = "what sets a test up fails it by panicking")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use aurora_core::port::http::{HttpCall, HttpCaller as _};
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-api"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Neither the hub nor the issuer is there: the API starts without them.
fn configured(folder: &Path) -> Command {
    let config = json!({
        "version": 1,
        "listen": "127.0.0.1:0",
        "health": {"listen": "127.0.0.1:0"},
        "hub": "https://hub.invalid:8444",
        "issuer": "https://issuer.invalid",
        "clientId": "api",
        "log": {"format": "json"},
        "tls": {"generateIn": folder.join("tls")},
        "store": {"file": folder.join("state/api.sqlite")},
    });
    std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
    let mut command = program();
    command
        .arg("--config")
        .arg(folder.join("config.yaml"))
        .env("AURORA_STORE_MASTER_KEY", MASTER_KEY)
        .env("AURORA_CLIENT_SECRET", "a secret of the API");
    command
}

struct Running {
    child: Child,
    url: String,
    health: String,
    caller: ReqwestCaller,
}

async fn start(folder: &Path) -> Running {
    let mut child = configured(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut urls = Vec::new();
    for what in ["health", "api"] {
        let line = lines.next_line().await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["what"], what);
        urls.push(line["url"].as_str().unwrap().to_owned());
    }
    let [health, url] = urls.try_into().unwrap();
    let authority = std::fs::read(folder.join("tls/ca.pem")).unwrap();
    let rules = EgressRules::public_only().with_loopback();
    Running {
        child,
        url,
        health,
        caller: ReqwestCaller::new(rules, Roots::Only(authority.into())).unwrap(),
    }
}

impl Running {
    async fn status(&self, url: String) -> u16 {
        self.caller.call(HttpCall::fetch(url)).await.unwrap().status
    }
}

#[tokio::test]
async fn it_serves_over_tls_is_ready_counts_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = start(folder.path()).await;
    assert_eq!(running.status(format!("{}/pipelines", running.url)).await, 401);
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            running.status(format!("{}{path}", running.health)).await,
            200,
            "{path}"
        );
    }
    let metrics = HttpCall::fetch(format!("{}/metrics", running.health));
    let metrics = running.caller.call(metrics).await.unwrap();
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("aurora_api_requests_total"), "{text}");

    let pid = running.child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let ended = tokio::time::timeout(Duration::from_secs(20), running.child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused_and_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = start(folder.path()).await;
    let pid = first.child.id().unwrap();
    let second = configured(folder.path()).output().await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("is in use by process {pid}")), "{said}");

    first.child.kill().await.unwrap();
    start(folder.path()).await;
}

#[tokio::test]
async fn every_mistake_is_listed_and_the_exit_code_is_64() {
    let ended = program()
        .args(["--listen", "nowhere", "--hub", "http://hub.example"])
        .output()
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(64));
    let said = String::from_utf8(ended.stderr).unwrap();
    for expected in [
        "listen: `nowhere` is wrong",
        "hub: ",
        "issuer: is missing",
        "clientId: is missing",
        "clientSecret: is missing",
        "tls: give ",
        "store.file: is missing",
        "store.masterKey: is missing",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}
