//! The agent as a process, against a hub and an issuer of the test's own.
#![expect(clippy::unwrap_used, reason = "what sets a test up fails it by panicking")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use aurora_auth::issue::{ClientConfig, TokenIssuer, new_secret};
use aurora_auth::verify::{JwtVerifier, VerifyPolicy};
use aurora_bin::http_server::HttpServer;
use aurora_bin::tls::Authority;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::command::{AppliedSetKey, Apply, Direction, Outcome, Reply, Stamp, Update, Verb};
use aurora_core::hub::Hub;
use aurora_core::manifest::Origin;
use aurora_core::plan::{Plan, PlannedObject, StepMap};
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::http::{HttpCall, HttpCaller as _};
use aurora_core::port::router::{AgentStatus, CommandRouter as _, Order, laws};
use aurora_core::port::store::SharedStore;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_transport::grpc::GrpcListener;
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};

/// Anything that does not happen within this time is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the agent's tokens live, in seconds: the shortest life that the issuer gives.
const TOKEN_LIFE: u64 = 5;

/// Hub and issuer on one address; they can be stopped and started again with another authority.
struct World {
    folder: TempDir,
    store: SharedStore,
    client: ClientConfig,
    tokens: Arc<AtomicUsize>,
    address: SocketAddr,
    running: Running,
}

struct Running {
    hub: Hub,
    stop: CancellationToken,
    tasks: Tasks,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = new_secret("agents").unwrap();
        std::fs::write(folder.path().join("secret"), secret.secret.expose()).unwrap();
        let client = serde_json::from_value(json!({
            "id": "agents", "kind": "machine", "tenant": "acme/main", "secretHash": secret.hash,
            "scopes": ["connect:agentHub"], "agents": ["staging"], "ttlSeconds": TOKEN_LIFE,
        }));
        let store: SharedStore = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
        let (tokens, client) = (Arc::new(AtomicUsize::new(0)), client.unwrap());
        let (address, running) = serve(folder.path(), None, &store, &client, &tokens).await;
        Self {
            folder,
            store,
            client,
            tokens,
            address,
            running,
        }
    }

    /// Stops hub and issuer; starts them at the same address with a certificate of a new authority.
    async fn change_authority(&mut self) {
        self.running.stop.cancel();
        self.running.tasks.drain(PATIENCE).await.unwrap();
        let address = Some(self.address);
        let (_, running) = serve(
            self.folder.path(),
            address,
            &self.store,
            &self.client,
            &self.tokens,
        )
        .await;
        self.running = running;
    }

    async fn agents(&self) -> Vec<AgentStatus> {
        let tenant = Tenant::new("acme", "main").unwrap();
        let connected = |agent: &AgentStatus| !agent.instances.is_empty();
        let mut agents = self.running.hub.agents(&tenant).await.unwrap();
        agents.retain(connected);
        agents
    }

    fn agent(&self, changes: &Value) -> Command {
        let url = format!("https://{}", self.address);
        let mut config = json!({
            "version": 1, "name": "staging", "hub": url, "issuer": url,
            "caFile": self.folder.path().join("ca.pem"),
            "clientId": "agents", "clientSecretFile": self.folder.path().join("secret"),
            "simulateIn": self.folder.path().join("cluster"),
            "health": {"listen": "127.0.0.1:0"}, "log": {"format": "json"},
        });
        for (name, value) in changes.as_object().unwrap() {
            config[name] = value.clone();
        }
        let path = self.folder.path().join("agent.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = program();
        command.arg("--config").arg(path);
        command
    }
}

async fn serve(
    folder: &Path,
    address: Option<SocketAddr>,
    store: &SharedStore,
    client: &ClientConfig,
    tokens: &Arc<AtomicUsize>,
) -> (SocketAddr, Running) {
    let now = SystemClock.now();
    let authority = Authority::generate(now).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.certificate()).unwrap();
    let tls = authority
        .server(&[], now)
        .unwrap()
        .server_config(&["h2", "http/1.1"])
        .unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(address.unwrap_or(any), Some(tls)).await.unwrap();
    let (address, url) = (server.address(), server.url());
    let clients = std::slice::from_ref(client);
    let issuer = TokenIssuer::new(&url, "aurora", clients, Arc::clone(store), Arc::new(SystemClock)).unwrap();
    let policy = VerifyPolicy::new(&url, "aurora").unwrap();
    let verifier = Arc::new(JwtVerifier::new(policy, Arc::new(issuer.keys())));
    let hub = Hub::new(SystemClock)
        .with_verifier(Arc::clone(&verifier))
        .with_drain(Duration::ZERO, Duration::from_secs(5));
    let sessions = GrpcListener::new(verifier, SystemClock, hub.clone());
    let counted = Arc::clone(tokens);
    let routes = issuer
        .router()
        .layer(from_fn(move |request: Request, next: Next| {
            if request.uri().path() == "/oauth/token" {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            next.run(request)
        }));
    let routes = sessions.routes().into_axum_router().merge(routes);
    let (stop, tasks) = (CancellationToken::new(), Tasks::new());
    let (served, routed, serving) = (stop.clone(), stop.clone(), hub.clone());
    tasks.spawn(|_| async move {
        let _ = server.serve(routes, served, Duration::from_secs(5)).await;
    });
    tasks.spawn(|_| async move {
        let _ = serving.run(sessions, routed).await;
    });
    (address, Running { hub, stop, tasks })
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aurora-agent"));
    command
        .env_clear()
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Looks again and again until something is there.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what} does not happen"))
}

async fn said(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut text = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn one_agent_lives_through_three_token_lives_and_a_change_of_authority() {
    let mut world = World::start().await;
    let mut child = world.agent(&json!({})).spawn().unwrap();
    let first = until("a session", async || world.agents().await.pop()).await;
    assert_eq!(first.name.as_str(), "staging");
    let (instance, session) = (first.instances[0].instance, first.instances[0].session);
    let started = tokio::time::Instant::now();
    until("the fifth token", async || {
        (world.tokens.load(Ordering::SeqCst) >= 5).then_some(())
    })
    .await;
    assert!(
        started.elapsed() >= Duration::from_secs(3 * TOKEN_LIFE - 1),
        "{:?}",
        started.elapsed()
    );
    let later = world.agents().await.pop().unwrap();
    assert_eq!(
        later.instances[0].session, session,
        "new tokens go over the same session"
    );

    world.change_authority().await;
    let back = until("a session under the new authority", async || {
        world.agents().await.pop()
    })
    .await;
    assert_eq!(back.instances[0].instance, instance, "the same process");
    assert_ne!(back.instances[0].session, session);

    let pid = child.id().unwrap().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0), "{}", said(&mut child).await);
    until("the end of the session", async || {
        world.agents().await.is_empty().then_some(())
    })
    .await;
}

/// So many objects that an apply of them takes longer than a signal on its way.
const OBJECTS: usize = 150;

fn large_plan() -> Plan {
    let object = |number: usize| PlannedObject {
        body: json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("settings-{number}"), "namespace": "default"},
            "data": {"number": number.to_string()},
        }),
        origin: Origin::default(),
        adopt: false,
    };
    Plan {
        version: Plan::VERSION,
        application: "shop".into(),
        target: "staging".into(),
        namespace: "default".into(),
        objects: (0..OBJECTS).map(object).collect(),
        steps: StepMap::default(),
        notes: Vec::new(),
    }
}

#[tokio::test]
async fn told_to_stop_during_an_apply_it_finishes_it_and_ends_with_0() {
    let world = World::start().await;
    let mut child = world.agent(&json!({})).spawn().unwrap();
    until("a session", async || world.agents().await.pop()).await;
    let plan = large_plan();
    let set = AppliedSetKey {
        tenant: "acme/main".into(),
        application: "shop".into(),
        namespace: "default".into(),
    };
    let apply = Apply {
        set,
        target: "staging".into(),
        plan: plan.digest(),
        stamp: Stamp { fence: 1, version: 1 },
        direction: Direction::Forward,
    };
    let order = Order::new(laws::command(1, PATIENCE, Verb::Apply(apply))).with_blob(plan.to_bytes().into());
    let key = AgentKey::new(
        Tenant::new("acme", "main").unwrap(),
        AgentName::new("staging").unwrap(),
    );
    let mut updates = world.running.hub.route(&key, order).await.unwrap();
    let mut told = false;
    let outcome = loop {
        match tokio::time::timeout(PATIENCE, updates.next())
            .await
            .unwrap()
            .unwrap()
        {
            Update::Finished(outcome) => break outcome,
            Update::Stage { .. } if !told => {
                told = true;
                let pid = child.id().unwrap().to_string();
                Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
            }
            _ => {}
        }
    };
    assert!(told, "the apply says what it does before it is done");
    let Outcome::Ok(Reply::Applied(applied)) = outcome else {
        panic!("{outcome:?}: {}", said(&mut child).await);
    };
    assert_eq!(applied.changed as usize, OBJECTS);
    let ended = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(ended.code(), Some(0), "{}", said(&mut child).await);
}

#[tokio::test]
async fn its_metrics_are_those_of_the_page() {
    let world = World::start().await;
    let mut child = world.agent(&json!({})).spawn().unwrap();
    until("a session", async || world.agents().await.pop()).await;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let http = ReqwestCaller::new(EgressRules::public_only().with_loopback(), Roots::System).unwrap();
    let url = format!("{}/metrics", line["url"].as_str().unwrap());
    let text = until("a connected agent in its metrics", async || {
        let answer = http.call(HttpCall::fetch(url.clone())).await.unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        text.contains("aurora_agent_connected 1\n").then_some(text)
    })
    .await;
    let named = |line: &str| line.split([' ', '{']).next().unwrap_or_default().to_owned();
    let found: BTreeSet<_> = text
        .lines()
        .filter(|line| line.starts_with("aurora_"))
        .map(named)
        .collect();
    let page = include_str!("../../../docs/operating.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| `aurora_") && line.contains("| agent |"));
    let expected: BTreeSet<_> = rows
        .filter_map(|row| row.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[tokio::test]
async fn a_name_that_the_credential_does_not_list_gets_no_session() {
    let world = World::start().await;
    let mut child = world.agent(&json!({"name": "production"})).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let refused = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("refused") {
                return line;
            }
        }
        panic!("the agent ended");
    };
    let line = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(!line.contains("aur_cs_"), "{line}");
    assert!(world.agents().await.is_empty());
}

#[tokio::test]
async fn every_mistake_is_listed_and_the_exit_code_is_64() {
    let ended = program()
        .args([
            "--name",
            "-",
            "--hub",
            "http://hub:8443",
            "--issuer",
            "https://issuer.example",
            "--kubeconfig",
            "x",
            "--replicas",
            "0",
        ])
        .output()
        .await
        .unwrap();
    assert_eq!(ended.status.code(), Some(64));
    let said = String::from_utf8(ended.stderr).unwrap();
    for expected in [
        "name: `-` is not an agent name",
        "replicas: at least 1",
        "hub: ",
        "clientId: is missing",
        "clientSecret: is missing",
        "where to act: say either --in-cluster",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}
