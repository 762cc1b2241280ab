//! One process with everything in it, killed fifty times: every pipeline still ends, and nothing happens twice.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod fleet;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::id::PipelineId;
use aurora_core::pipeline::{EffectKind, Pipeline, outstanding};
use aurora_core::port::clock::SystemClock;
use aurora_core::port::store::{Scope, Store as _};
use aurora_core::tenant::Tenant;
use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
use aurora_store::sqlite::SqliteStore;
use fleet::{Cli, Process, Sim, application, assert_written_once, aurora, wait_for};
use serde_json::Value;

const KILLS: usize = 50;

/// What the log says right after a kill: the last event's type and version, and how many commands are in hand.
async fn last_stored(state: &Path, pipeline: PipelineId) -> (String, u64, usize) {
    let secrets: Value =
        serde_json::from_str(&std::fs::read_to_string(state.join("secrets.json")).unwrap()).unwrap();
    let master = MasterKey::from_base64(secrets["masterKey"].as_str().unwrap()).unwrap();
    let file = SqliteStore::open(state.join("pipelines.sqlite"), Arc::new(SystemClock))
        .await
        .unwrap();
    let store = SealedStore::new(file, MasterKeys::new(master));
    let scope = Scope::from(&Tenant::new("local", "main").unwrap());
    let events = store
        .read_stream(&scope, &format!("pipeline/{pipeline}"), 0, 10_000)
        .await
        .unwrap();
    let folded = Pipeline::new(pipeline).fold(events.iter().map(|event| event.value.as_ref()));
    assert!(folded.parked.is_none(), "{:?}", folded.parked);
    let last: Value = serde_json::from_slice(&events.last().unwrap().value).unwrap();
    let commands = outstanding(&folded)
        .iter()
        .filter(|effect| matches!(effect.kind, EffectKind::Command { .. }))
        .count();
    (
        last["type"].as_str().unwrap_or_default().to_owned(),
        folded.version,
        commands,
    )
}

fn up(state: &Path, staging: &Sim, prod: &Sim, port: u16) -> Process {
    let mut command = aurora();
    command.args(["-o", "json", "up", "--state-dir"]).arg(state);
    command.args([
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--health-listen",
        "127.0.0.1:0",
    ]);
    for (name, sim) in [("staging", staging), ("prod", prod)] {
        command.arg("--kubeconfig").arg(sim.kubeconfig()).args([
            "--context",
            &sim.context(),
            "--agent",
            name,
        ]);
    }
    Process::start("up", &mut command, &state.with_extension("log")).0
}

/// A number below a bound that differs from kill to kill and is the same in every run.
fn spread(kill: usize, below: u64) -> u64 {
    ((kill as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % below
}

#[test]
#[ignore = "needs some minutes of processes that are killed"]
fn fifty_kills_lose_nothing_and_do_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (staging, prod) = (Sim::start(&at("staging")), Sim::start(&at("prod")));
    let state = at("up");
    let cli = Cli {
        context: state.join("context.json"),
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut version, mut pipeline): (u32, Option<String>) = (0, None);
    let (mut positions, mut inside, mut kills) = (BTreeSet::new(), 0, 0);
    while kills < KILLS {
        let process = up(&state, &staging, &prod, free);
        let current = pipeline.clone().unwrap_or_else(|| {
            version += 1;
            let file = application(&at("app"), version);
            wait_for("the submit", || {
                let answer = cli
                    .json(&["deploy", "start", "-f", file.to_str().unwrap()])
                    .ok()?;
                Some(answer["pipelineId"].as_str().unwrap().to_owned())
            })
        });
        pipeline = Some(current.clone());
        // Some events after the start, and a moment more: so every part of a pipeline has its turn.
        let (mut from, mut ended) = (None, false);
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < patience {
            let Some(view) = cli.view(&current) else { continue };
            cli.approve_all(&view);
            let version = view["version"].as_u64().unwrap();
            ended = view["endedAt"].is_string();
            if ended {
                assert_eq!(view["status"], "SUCCEEDED", "{view:#}");
            }
            if ended || version > *from.get_or_insert(version) + spread(kills, 4) {
                std::thread::sleep(Duration::from_millis(spread(kills, 60)));
                break;
            }
        }
        process.kill();
        if ended {
            pipeline = None;
            continue;
        }
        kills += 1;
        let (last, at_version, commands) = runtime.block_on(last_stored(&state, current.parse().unwrap()));
        println!(
            "kill {kills}: version {version}, event {at_version} `{last}`, {commands} command(s) in hand"
        );
        positions.insert((version.min(2), at_version));
        inside += usize::from(commands > 0);
    }
    if let Some(last) = pipeline {
        let _process = up(&state, &staging, &prod, free);
        let view = cli.follow(&last);
        assert_eq!(view["status"], "SUCCEEDED", "{view:#}");
    }
    println!(
        "{} distinct positions, {inside} inside a command, {version} pipelines",
        positions.len()
    );
    assert!(
        positions.len() >= 20,
        "only {} distinct positions",
        positions.len()
    );
    assert!(inside >= 5, "only {inside} kills inside a command");
    for sim in [&staging, &prod] {
        assert_written_once(sim, version);
    }
}
