//! Every role and both clusters as processes of their own, killed in the middle: the pipeline still succeeds,
//! and nothing is done twice.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod fleet;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aurora_auth::issue::{hash_secret, new_secret};
use fleet::{Cli, Process, Sim, application, assert_written_once, wait_for};
use serde_json::{Value, json};

/// The tenant of all of them.
const TENANT: &str = "acme/main";

/// What can be killed.
const AGENT: &str = "agent-staging";
const HUB: &str = "hub";
const API: &str = "api";
const OIDC: &str = "oidc";
const CLUSTER: &str = "staging";

/// When it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While the staging cluster is made to hold the plan.
    InAnApply,
    /// While the canary stands at its gate.
    AtAGate,
    /// Right after somebody approved.
    AfterAnApproval,
}

struct Fleet {
    folder: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    secrets: BTreeMap<&'static str, String>,
    running: BTreeMap<&'static str, Process>,
    clusters: BTreeMap<&'static str, Sim>,
    cli: Cli,
}

impl Fleet {
    fn start(folder: &Path) -> Self {
        let mut fleet = Self {
            folder: folder.to_owned(),
            ports: [OIDC, HUB, "callers", API]
                .into_iter()
                .map(|name| (name, free_port()))
                .collect(),
            secrets: ["cli", "agents", "service"]
                .into_iter()
                .map(|id| (id, new_secret(id).unwrap().secret.expose().to_owned()))
                .collect(),
            running: BTreeMap::new(),
            clusters: BTreeMap::new(),
            cli: Cli {
                context: folder.join("context.json"),
            },
        };
        std::fs::write(
            folder.join("master.key"),
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        )
        .unwrap();
        for name in ["staging", "prod"] {
            fleet.clusters.insert(name, Sim::start(&folder.join(name)));
        }
        for role in [OIDC, HUB, API, AGENT, "agent-prod"] {
            fleet.start_role(role);
        }
        fleet.write_context();
        wait_for("both agents", || {
            let agents = fleet.cli.json(&["agent", "list"]).ok()?;
            let online = agents["agents"]
                .as_array()?
                .iter()
                .filter(|agent| agent["online"] == true)
                .count();
            (online == 2).then_some(())
        });
        fleet
    }

    fn url(&self, role: &str) -> String {
        format!("https://127.0.0.1:{}", self.ports[role])
    }

    /// The configuration file of a role.
    fn settings(&self, role: &str) -> Value {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let listen = |name: &str| format!("127.0.0.1:{}", self.ports[name]);
        let secret = |id: &str| {
            json!(hash_secret(&aurora_core::secret::Secret::new(
                self.secrets[id].clone()
            )))
        };
        let mut settings = json!({
            "version": 1,
            "issuer": self.url(OIDC),
            "log": {"format": "json", "level": "info"},
            "health": {"listen": "off"},
        });
        let more = match role {
            OIDC => json!({
                "listen": listen(OIDC),
                "tls": {"generateIn": at("tls")},
                "store": {"file": at("oidc.sqlite"), "masterKeyFile": at("master.key")},
                "clients": [
                    {"id": "cli", "kind": "machine", "tenant": TENANT, "secretHash": secret("cli"),
                     "scopes": ["manage:deploy", "read:infra:data"]},
                    {"id": "agents", "kind": "machine", "tenant": TENANT, "secretHash": secret("agents"),
                     "scopes": ["connect:agentHub"], "agents": ["staging", "prod"]},
                    {"id": "service", "kind": "service", "secretHash": secret("service"), "scopes": ["route:commands"]},
                ],
            }),
            HUB => json!({
                "listen": listen(HUB),
                "callers": {"listen": listen("callers")},
                "caFile": at("tls/ca.pem"),
                "tls": {"generateIn": at("tls")},
            }),
            API => json!({
                "listen": listen(API),
                "hub": self.url("callers"),
                "caFile": at("tls/ca.pem"),
                "tls": {"generateIn": at("tls")},
                "store": {"file": at("api.sqlite"), "masterKeyFile": at("master.key")},
                "clientId": "service",
                "clientSecret": self.secrets["service"],
            }),
            agent => {
                let name = agent.trim_start_matches("agent-");
                json!({
                    "name": name,
                    "hub": self.url(HUB),
                    "caFile": at("tls/ca.pem"),
                    "clientId": "agents",
                    "clientSecret": self.secrets["agents"],
                    "kubeconfig": self.clusters[name].kubeconfig(),
                    "context": self.clusters[name].context(),
                    "allowNamespaceCreation": true,
                })
            }
        };
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        settings
    }

    fn start_role(&mut self, role: &'static str) {
        let file = self.folder.join(format!("{role}.yaml"));
        std::fs::write(&file, self.settings(role).to_string()).unwrap();
        let program = program(&format!("aurora-{}", role.split('-').next().unwrap()));
        let log = self.folder.join(format!("{role}.log"));
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        let process = if role.starts_with("agent") {
            Process::start_silent(role, &mut command, &log)
        } else {
            Process::start(role, &mut command, &log).0
        };
        self.running.insert(role, process);
    }

    fn write_context(&self) {
        let context = json!({
            "version": 1,
            "server": self.url(API),
            "issuer": self.url(OIDC),
            "certificateAuthority": std::fs::read_to_string(self.folder.join("tls/ca.pem")).unwrap(),
            "clientId": "cli",
            "clientSecret": self.secrets["cli"],
        });
        std::fs::write(&self.cli.context, context.to_string()).unwrap();
    }

    fn kill_and_restart(&mut self, victim: &'static str) {
        if victim == CLUSTER {
            let sim = self.clusters.remove(victim).unwrap();
            let directory = sim.directory.clone();
            sim.process.kill();
            std::thread::sleep(Duration::from_millis(300));
            self.clusters.insert(victim, Sim::start(&directory));
            return;
        }
        self.running.remove(victim).unwrap().kill();
        std::thread::sleep(Duration::from_millis(300));
        self.start_role(victim);
    }

    fn submit(&self, version: u32) -> String {
        let file = application(&self.folder.join("app"), version);
        let answer = self
            .cli
            .json(&["deploy", "start", "-f", file.to_str().unwrap()])
            .unwrap();
        answer["pipelineId"].as_str().unwrap().to_owned()
    }

    /// Waits until the pipeline is where its role is to be killed.
    fn wait_until(&self, id: &str, moment: Moment) {
        wait_for(&format!("{moment:?}"), || {
            let view = self.cli.view(id)?;
            let staging = view["targets"]
                .as_array()?
                .iter()
                .find(|target| target["name"] == "staging")?;
            let gate = view["waiting"]
                .as_array()?
                .iter()
                .any(|wait| wait["kind"] == "approval");
            match moment {
                Moment::InAnApply => {
                    // Later than that the kill would show something else.
                    let phase = staging["phase"].as_str()?;
                    assert!(
                        matches!(phase, "waiting" | "applying"),
                        "the apply was over before it was seen: {phase}"
                    );
                    (phase == "applying").then_some(())
                }
                Moment::AtAGate => gate.then_some(()),
                Moment::AfterAnApproval => gate.then(|| self.cli.approve_all(&view)),
            }
        });
    }
}

/// Another program of the workspace, beside the one under test.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_aurora")).with_file_name(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace` first",
        path.display()
    );
    path
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
#[ignore = "needs the programs of the workspace, as processes that are killed"]
fn every_role_is_killed_in_the_middle_and_pipelines_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let mut fleet = Fleet::start(folder.path());
    let first = fleet.submit(1);
    assert_eq!(fleet.cli.follow(&first)["status"], "SUCCEEDED");
    let mut version = 1;
    for moment in [Moment::InAnApply, Moment::AtAGate, Moment::AfterAnApproval] {
        for victim in [AGENT, HUB, API, OIDC, CLUSTER] {
            version += 1;
            let id = fleet.submit(version);
            fleet.wait_until(&id, moment);
            fleet.kill_and_restart(victim);
            let view = fleet.cli.follow(&id);
            println!("{victim} killed {moment:?}: {}", view["status"]);
            assert_eq!(
                view["status"], "SUCCEEDED",
                "{victim} killed {moment:?}: {view:#}"
            );
        }
    }
    for sim in fleet.clusters.values() {
        assert_written_once(sim, version);
    }
}
