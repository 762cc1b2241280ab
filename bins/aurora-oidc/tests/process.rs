//! The issuer as a process: configured, asked for tokens, killed, started again.
#![expect(clippy::unwrap_used, reason = "what sets a test up fails it by panicking")]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use aurora_auth::issue::new_secret;
use aurora_auth::token_source::ClientCredentials;
use aurora_auth::verify::{HttpKeys, JwtVerifier, VerifyPolicy};
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::http::{HttpCall, HttpCaller};
use aurora_core::port::token::{TokenSource as _, TokenVerifier as _};
use aurora_core::secret::Secret;
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};

/// The public origin of the tests; the port that is really listened on is another one.
const ISSUER: &str = "https://issuer.example";

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-oidc"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

struct Running {
    child: Child,
    url: String,
    health: String,
    ca: String,
}

/// Writes a configuration and gives the secret of its client `ci`.
fn configure(folder: &Path) -> Secret {
    let made = new_secret("ci").unwrap();
    let config = json!({
        "version": 1,
        "listen": "127.0.0.1:0",
        "health": {"listen": "127.0.0.1:0"},
        "issuer": ISSUER,
        "log": {"format": "json"},
        "tls": {"generateIn": folder.join("tls")},
        "store": {"file": folder.join("state/oidc.sqlite")},
        "clients": [{
            "id": "ci", "kind": "machine", "tenant": "acme/main", "secretHash": made.hash,
            "scopes": ["manage:deploy"], "ttlSeconds": 600,
        }],
    });
    std::fs::write(folder.join("config.yaml"), config.to_string()).unwrap();
    made.secret
}

async fn start(folder: &Path) -> Running {
    let mut child = program()
        .arg("--config")
        .arg(folder.join("config.yaml"))
        .env("AURORA_STORE_MASTER_KEY", MASTER_KEY)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut urls = Vec::new();
    for what in ["health", "oidc"] {
        let line = lines.next_line().await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["what"], what);
        urls.push(line["url"].as_str().unwrap().to_owned());
    }
    let [health, url] = urls.try_into().unwrap();
    Running {
        child,
        url,
        health,
        ca: std::fs::read_to_string(folder.join("tls/ca.pem")).unwrap(),
    }
}

impl Running {
    fn caller(&self) -> Arc<dyn HttpCaller> {
        let rules = EgressRules::public_only().with_loopback();
        Arc::new(ReqwestCaller::new(rules, Roots::Only(self.ca.clone().into())).unwrap())
    }

    async fn token(&self, secret: &Secret) -> Secret {
        let endpoint = format!("{}/oauth/token", self.url);
        let source = ClientCredentials::new(self.caller(), endpoint, "ci", secret.clone()).unwrap();
        source.token(SystemClock.now()).await.unwrap().secret
    }

    fn verifier(&self) -> JwtVerifier {
        let keys = HttpKeys::at(self.caller(), format!("{}/oauth/jwks", self.url)).unwrap();
        JwtVerifier::new(VerifyPolicy::new(ISSUER, "aurora").unwrap(), Arc::new(keys))
    }
}

#[tokio::test]
async fn a_token_outlives_the_process_that_issued_it() {
    let folder = tempfile::tempdir().unwrap();
    let secret = configure(folder.path());
    let mut first = start(folder.path()).await;
    let token = first.token(&secret).await;
    let principal = first.verifier().verify(&token, SystemClock.now()).await.unwrap();
    assert_eq!(principal.id, "ci");
    first.child.kill().await.unwrap();

    let second = start(folder.path()).await;
    assert_eq!(first.ca, second.ca, "clients go on trusting the same authority");
    let verified = second.verifier().verify(&token, SystemClock.now()).await;
    assert!(verified.is_ok(), "the keys were kept: {verified:?}");
    assert!(
        second
            .verifier()
            .verify(&second.token(&secret).await, SystemClock.now())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn health_is_served_and_a_signal_ends_the_process_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    let mut running = start(folder.path()).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = running
            .caller()
            .call(HttpCall::fetch(format!("{}{path}", running.health)))
            .await;
        assert_eq!(answer.unwrap().status, 200, "{path}");
    }
    let pid = running.child.id().unwrap().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(told.success());
    let ended = tokio::time::timeout(Duration::from_secs(20), running.child.wait()).await;
    assert_eq!(ended.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_process_on_the_same_state_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path());
    let _first = start(folder.path()).await;
    let second = program()
        .arg("--config")
        .arg(folder.path().join("config.yaml"))
        .env("AURORA_STORE_MASTER_KEY", MASTER_KEY)
        .output()
        .await
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("is in use by"), "{said}");
}

#[tokio::test]
async fn every_mistake_is_listed_and_the_exit_code_is_64() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    let config = json!({
        "version": 1, "listne": "x", "issuer": "http://issuer.example/path", "grace": "soon",
        "clients": [
            {"id": "a", "kind": "machine"},
            {"id": "b", "kind": "machine", "secretHash": "hunter2", "scopes": ["manage:deploy"]},
        ],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let ended = program()
        .args(["--listen", "nowhere", "--config"])
        .arg(&path)
        .env("AURORA_LOG_FORMAT", "xml")
        .output()
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(64));
    let said = String::from_utf8(ended.stderr).unwrap();
    for expected in [
        "unknown setting `listne`; did you mean `listen`?",
        "listen: `nowhere` is wrong",
        "(--listen)",
        "issuer: `http://issuer.example/path`",
        "grace: `soon` is wrong",
        "log.format: `xml` is wrong: write text or json (AURORA_LOG_FORMAT)",
        "client `a`: missing field `secretHash`",
        "client `b`: a secret hash is written",
        "tls: give ",
        "store.file: is missing",
        "store.masterKey: is missing; make one with",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn usage_help_and_new_secrets() {
    let wrong = program().arg("--nonsense").output().await.unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let help = program().arg("--help").output().await.unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("AURORA_ISSUER"));
    let made = program().args(["new-secret", "ci"]).output().await.unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert!(made["clientSecret"].as_str().unwrap().starts_with("aur_cs_ci_"));
    assert!(made["secretHash"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(
        program().arg("new-secret").output().await.unwrap().status.code(),
        Some(2)
    );
}
