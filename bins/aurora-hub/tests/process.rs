//! The hub as a process, between an agent and a caller of the test's own.
#![expect(clippy::unwrap_used, reason = "what sets a test up fails it by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use aurora_auth::issue::{NewSecret, TokenIssuer, new_secret};
use aurora_auth::token_source::ClientCredentials;
use aurora_bin::http_server::HttpServer;
use aurora_bin::tls::Authority;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::agent::Agent;
use aurora_core::command::{Outcome, Reply, Update};
use aurora_core::error::ErrorKind;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::executor::ClusterExecutor;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::http::{HttpCall, HttpCaller as _};
use aurora_core::port::router::{CommandRouter as _, Order, laws};
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_transport::grpc::{GrpcConnector, HubClient, Trust};
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};

/// Anything that does not happen within this time is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hub as a process, and an issuer in this one.
struct World {
    folder: TempDir,
    child: Child,
    issuer: String,
    secret: NewSecret,
    authority: String,
    health: String,
    agents: String,
    callers: String,
    tasks: Tasks,
}

impl World {
    async fn start() -> Self {
        let (folder, now) = (tempfile::tempdir().unwrap(), SystemClock.now());
        let authority = Authority::kept_in(&folder.path().join("tls"), now).unwrap();
        let tls = authority
            .server(&[], now)
            .unwrap()
            .server_config(&["h2", "http/1.1"])
            .unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = HttpServer::bind(any, Some(tls)).await.unwrap();
        let (issuer, secret) = (server.url(), new_secret("test").unwrap());
        let clients: Vec<_> = [
            json!({"id": "agents", "kind": "machine", "tenant": "acme/main", "scopes": ["connect:agentHub"], "agents": ["staging"]}),
            json!({"id": "cli", "kind": "machine", "tenant": "acme/main", "scopes": ["manage:deploy"]}),
            json!({"id": "api", "kind": "service", "scopes": ["route:commands"]}),
        ]
        .into_iter()
        .map(|mut client| {
            client["secretHash"] = json!(secret.hash);
            serde_json::from_value(client).unwrap()
        })
        .collect();
        let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
        let served = TokenIssuer::new(&issuer, "aurora", &clients, store, Arc::new(SystemClock)).unwrap();
        let tasks = Tasks::new();
        tasks.spawn(|stop| async move {
            let _ = server.serve(served.router(), stop, Duration::ZERO).await;
        });
        let config = json!({
            "version": 1, "listen": "127.0.0.1:0", "callers": {"listen": "127.0.0.1:0"}, "issuer": issuer,
            "caFile": folder.path().join("tls/ca.pem"), "tls": {"generateIn": folder.path().join("tls")},
            "health": {"listen": "127.0.0.1:0"}, "log": {"format": "json"}, "drainSpread": "0s", "grace": "5s",
        });
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut child = program().arg("--config").arg(path).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut urls = Vec::new();
        for what in ["health", "agents", "callers"] {
            let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            assert_eq!(line["what"], what);
            urls.push(line["url"].as_str().unwrap().to_owned());
        }
        let [health, agents, callers] = urls.try_into().unwrap();
        Self {
            folder,
            child,
            issuer,
            secret,
            authority: authority.certificate().to_owned(),
            health,
            agents,
            callers,
            tasks,
        }
    }

    fn source(&self, client: &str) -> ClientCredentials {
        let rules = EgressRules::public_only().with_loopback();
        let http = ReqwestCaller::new(rules, Roots::Only(self.authority.clone().into())).unwrap();
        let endpoint = format!("{}/oauth/token", self.issuer);
        ClientCredentials::new(Arc::new(http), endpoint, client, self.secret.secret.clone()).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::file(self.folder.path().join("tls/ca.pem"))
    }

    fn caller(&self, client: &str) -> HubClient {
        HubClient::new(&self.callers, self.trust(), self.source(client), SystemClock).unwrap()
    }

    /// Runs an agent beside a cluster in memory.
    fn agent(&self) -> CancellationToken {
        self.agent_over(InMemoryCluster::default())
    }

    fn agent_over(&self, executor: impl ClusterExecutor) -> CancellationToken {
        let connector = GrpcConnector::new(&self.agents, self.trust()).unwrap();
        let name = AgentName::new("staging").unwrap();
        let agent = Agent::new(name, connector, self.source("agents"), executor);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        self.tasks.spawn(|_| async move {
            let _ = agent.run(stopped).await;
        });
        stop
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-hub"));
    command
        .env_clear()
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn staging() -> AgentKey {
    AgentKey::new(
        Tenant::new("acme", "main").unwrap(),
        AgentName::new("staging").unwrap(),
    )
}

/// Routes a ping until the agent is there, and gives its outcome.
async fn ping(caller: &HubClient) -> Outcome {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let answered = async {
        for number in 1.. {
            again.tick().await;
            let Ok(mut updates) = caller.route(&staging(), Order::new(laws::ping(number))).await else {
                continue;
            };
            while let Some(update) = updates.next().await {
                if let Update::Finished(outcome) = update {
                    return outcome;
                }
            }
        }
        unreachable!("numbers do not end")
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap()
}

#[tokio::test]
async fn a_command_goes_from_a_caller_through_the_hub_to_an_agent_and_back() {
    let mut world = World::start().await;
    let agent = world.agent();
    let caller = world.caller("api");
    let outcome = ping(&caller).await;
    assert!(matches!(&outcome, Outcome::Ok(Reply::Pong(_))), "{outcome:?}");

    // A machine's token opens no route, and another tenant's agent is not there.
    let refused = world
        .caller("cli")
        .route(&staging(), Order::new(laws::ping(1)))
        .await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Denied));
    let foreign = AgentKey::new(Tenant::new("acme", "other").unwrap(), staging().name);
    let refused = caller.route(&foreign, Order::new(laws::ping(1))).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::NotFound));

    let pid = world.child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, world.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    agent.cancel();
    world.tasks.drain(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn told_to_stop_it_finishes_the_command_in_hand_and_ends_with_0() {
    let mut world = World::start().await;
    let probe = laws::ProbeExecutor::default();
    probe.hold();
    let agent = world.agent_over(probe.clone());
    let caller = world.caller("api");
    ping(&caller).await;
    let act = Order::new(laws::act(1, PATIENCE));
    let updates = caller.route(&staging(), act).await.unwrap();
    probe.until(|seen| seen.running == 1).await;

    let pid = world.child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let http = ReqwestCaller::new(EgressRules::public_only().with_loopback(), Roots::System).unwrap();
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let drains = async {
        let ready = HttpCall::fetch(format!("{}/readyz", world.health));
        while http
            .call(ready.clone())
            .await
            .is_ok_and(|answer| answer.status == 200)
        {
            again.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, drains).await.unwrap();
    probe.release();
    let outcome = tokio::time::timeout(PATIENCE, laws::outcome(updates))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Ok(Reply::Acted(_))), "{outcome:?}");
    assert_eq!(probe.seen().mutations, 1);
    let ended = tokio::time::timeout(PATIENCE, world.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0));
    agent.cancel();
    world.tasks.drain(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn its_metrics_are_those_of_the_page() {
    let mut world = World::start().await;
    let agent = world.agent();
    ping(&world.caller("api")).await;
    let http = ReqwestCaller::new(EgressRules::public_only().with_loopback(), Roots::System).unwrap();
    let answer = http
        .call(HttpCall::fetch(format!("{}/metrics", world.health)))
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let named = |line: &str| line.split([' ', '{']).next().unwrap_or_default().to_owned();
    let found: BTreeSet<_> = text
        .lines()
        .filter(|line| line.starts_with("aurora_"))
        .map(named)
        .collect();
    let page = include_str!("../../../docs/operating.md");
    let rows = page.lines().filter(|line| line.starts_with("| `aurora_"));
    let ours = rows.filter(|row| row.contains("| hub, up |"));
    let expected: BTreeSet<_> = ours
        .filter_map(|row| row.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected, "{text}");
    assert!(text.contains("aurora_hub_sessions 1\n"), "{text}");
    assert!(
        text.contains("aurora_hub_commands_total{outcome=\"ok\"} 1\n"),
        "{text}"
    );
    world.child.kill().await.unwrap();
    agent.cancel();
    world.tasks.drain(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn every_mistake_is_listed_and_the_exit_code_is_64() {
    let ended = program()
        .args([
            "--callers-listen",
            "8444",
            "--issuer",
            "issuer.example",
            "--ca-file",
            "/nonexistent/ca.pem",
        ])
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(64));
    let said = String::from_utf8(ended.stderr).unwrap();
    for expected in [
        "callers.listen: `8444` is wrong",
        "issuer: `issuer.example`",
        "caFile: /nonexistent/ca.pem cannot be read",
        "tls: give ",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}
