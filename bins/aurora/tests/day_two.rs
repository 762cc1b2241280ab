//! What comes after the first day: upgrades, backups, stopping, and what an operator reads.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod fleet;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use fleet::{Cli, Process, Sim, application, aurora, wait_for};
use serde_json::Value;

/// The pipeline of the fixture that waits for an approval.
const OPEN_PIPELINE: &str = "01a20f40-96a9-73b2-ae9f-d52919ea7de8";

/// `aurora up` on a state directory, at free ports.
fn up(state: &Path, more: &[&str]) -> (Process, Value) {
    let mut command = aurora();
    command.args(["-o", "json", "up", "--state-dir"]).arg(state);
    command.args(["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"]);
    Process::start("up", command.args(more), &state.with_extension("log"))
}

/// The flags that run an agent of this name over a cluster.
fn beside(sim: &Sim, name: &str) -> Vec<String> {
    let kubeconfig = sim.kubeconfig().display().to_string();
    [
        "--kubeconfig",
        &kubeconfig,
        "--context",
        &sim.context(),
        "--agent",
        name,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn cli(state: &Path) -> Cli {
    Cli {
        context: state.join("context.json"),
    }
}

fn start(cli: &Cli, file: &Path) -> String {
    let answer = cli
        .json(&["deploy", "start", "-f", file.to_str().unwrap()])
        .unwrap();
    answer["pipelineId"].as_str().unwrap().to_owned()
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let place = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_all(&entry, &place);
        } else {
            std::fs::copy(&entry, &place).unwrap();
        }
    }
}

fn waits_for_approval(cli: &Cli, id: &str) -> Value {
    wait_for("an approval", || {
        let view = cli.view(id)?;
        let waiting = view["waiting"]
            .as_array()?
            .iter()
            .any(|wait| wait["kind"] == "approval");
        waiting.then_some(view)
    })
}

/// The fixture is what `aurora up --simulate staging --simulate prod` of the first version left behind: one
/// pipeline that succeeded, one at a gate. Certificates were taken out; they are made anew.
#[test]
fn a_state_directory_of_the_first_version_is_opened_and_its_open_pipeline_ends() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/first-version");
    copy_all(&fixture, &state);
    let (process, _) = up(&state, &["--simulate", "staging", "--simulate", "prod"]);
    let cli = cli(&state);
    let view = waits_for_approval(&cli, OPEN_PIPELINE);
    assert_eq!(view["application"], "shop");
    let ended = cli.follow(OPEN_PIPELINE);
    assert_eq!(ended["status"], "SUCCEEDED", "{ended:#}");
    let rows = cli.json(&["deploy", "list"]).unwrap();
    let states: Vec<_> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["status"])
        .collect();
    assert_eq!(states, ["SUCCEEDED", "SUCCEEDED"], "{rows:#}");
    // And a new one runs beside what is old.
    let next = start(&cli, &application(&folder.path().join("app"), 3));
    assert_eq!(cli.follow(&next)["status"], "SUCCEEDED");
    assert_eq!(process.stop(), Some(0));
}

/// The stamps that the application's applied set had in a cluster, in the order in which it got them.
fn stamps(sim: &Sim) -> Vec<(u64, u64)> {
    let journal = std::fs::read_to_string(sim.directory.join("objects.journal")).unwrap();
    let writes = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sets = writes.filter(|write| write["object"]["metadata"]["name"] == "aurora-shop");
    let mut stamps: Vec<_> = sets
        .map(|write| {
            let set = write["object"]["data"]["appliedSet"].as_str().unwrap();
            let set: Value = serde_json::from_str(set).unwrap();
            let number = |name: &str| set["stamp"][name].as_u64().unwrap();
            (number("fence"), number("version"))
        })
        .collect();
    stamps.dedup();
    stamps
}

#[test]
#[ignore = "needs a minute of processes"]
fn a_backup_taken_while_pipelines_run_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (staging, prod) = (Sim::start(&at("staging")), Sim::start(&at("prod")));
    let agents = [beside(&staging, "staging"), beside(&prod, "prod")].concat();
    let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
    let (state, backup, restored) = (at("state"), at("backup"), at("restored"));
    let (process, _) = up(&state, &agents);
    let first = start(&cli(&state), &application(&at("app"), 1));
    assert_eq!(cli(&state).follow(&first)["status"], "SUCCEEDED");
    let second = start(&cli(&state), &application(&at("app"), 2));
    waits_for_approval(&cli(&state), &second);

    let run = |verb: &str, arguments: &[(&str, &PathBuf)]| {
        let mut command = aurora();
        command.args(["-o", "json", verb]);
        arguments.iter().for_each(|(flag, place)| {
            command.arg(flag).arg(place);
        });
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let copied = run("backup", &[("--state-dir", &state), ("--to", &backup)]);
    assert_eq!(copied.0, Some(0), "{}", copied.1);
    let again = run("backup", &[("--state-dir", &state), ("--to", &backup)]);
    assert_eq!(again.0, Some(1), "a backup is never written over");
    assert!(again.1.contains("is not empty"), "{}", again.1);

    // The original goes on, and is then lost.
    assert_eq!(cli(&state).follow(&second)["status"], "SUCCEEDED");
    let third = start(&cli(&state), &application(&at("app"), 3));
    assert_eq!(cli(&state).follow(&third)["status"], "SUCCEEDED");
    assert_eq!(process.stop(), Some(0));

    let brought = run("restore", &[("--from", &backup), ("--state-dir", &restored)]);
    assert_eq!(brought.0, Some(0), "{}", brought.1);
    let (process, _) = up(&restored, &agents);
    let cli = cli(&restored);
    let known = cli.json(&["deploy", "list"]).unwrap();
    assert_eq!(known["rows"].as_array().unwrap().len(), 2, "as it was: {known:#}");
    // It knows nothing of version 3, which is live: what it does about version 2 ends one way or the other,
    // and what is submitted then has the newest fence.
    let ended = cli.follow(&second);
    assert!(ended["endedAt"].is_string(), "{ended:#}");
    let fourth = start(&cli, &application(&at("app"), 4));
    assert_eq!(cli.follow(&fourth)["status"], "SUCCEEDED");
    assert_eq!(process.stop(), Some(0));
    for sim in [&staging, &prod] {
        let stamps = stamps(sim);
        assert!(stamps.len() >= 4, "{stamps:?}");
        assert!(stamps.is_sorted(), "an older decision was taken: {stamps:?}");
    }
}

#[test]
fn told_to_stop_during_an_apply_everything_is_finished_and_the_pipeline_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let simulated = ["--simulate", "staging", "--simulate", "prod"];
    let (process, _) = up(&state, &simulated);
    let id = start(&cli(&state), &application(&folder.path().join("app"), 1));
    wait_for("the apply", || {
        let view = cli(&state).view(&id)?;
        let phases: Vec<_> = view["targets"]
            .as_array()?
            .iter()
            .map(|target| &target["phase"])
            .collect();
        phases.iter().any(|phase| *phase != "waiting").then_some(())
    });
    assert_eq!(process.stop(), Some(0));
    let (process, _) = up(&state, &simulated);
    assert_eq!(cli(&state).follow(&id)["status"], "SUCCEEDED");
    assert_eq!(process.stop(), Some(0));
}

fn page() -> &'static str {
    include_str!("../../../docs/operating.md")
}

/// The metrics of the page that a program has: name and type.
fn metrics_of(program: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in page().lines().filter(|line| line.starts_with("| `aurora_")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        if cells[4].split(", ").any(|named| named == program) {
            found.insert(cells[1].trim_matches('`').to_owned(), cells[2].to_owned());
        }
    }
    found
}

#[test]
fn every_metric_is_on_the_page_and_every_metric_of_the_page_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let (process, said) = up(&state, &["--simulate", "staging", "--simulate", "prod"]);
    let cli = cli(&state);
    // Watched, so that there was an event stream; a first deployment waits for nobody.
    let file = application(&folder.path().join("app"), 1);
    let watched = cli.json(&["deploy", "start", "-f", file.to_str().unwrap(), "--watch"]);
    drop(watched);
    let rows = cli.json(&["deploy", "list"]).unwrap();
    assert_eq!(rows["rows"][0]["status"], "SUCCEEDED", "{rows:#}");
    let address = said["health"].as_str().unwrap().trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let found: BTreeMap<_, _> = types
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| name.starts_with("aurora_"))
        .map(|(name, kind)| (name.to_owned(), kind.trim().to_owned()))
        .collect();
    assert_eq!(found, metrics_of("up"), "{text}");
    for line in [
        "aurora_pipelines_ended_total{state=\"succeeded\"} 1",
        "aurora_hub_sessions 2",
        "aurora_commands_total{verb=\"apply\",outcome=\"ok\"} 2",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\n{text}");
    }
    assert_eq!(process.stop(), Some(0));
}

#[test]
fn every_log_line_of_the_page_is_in_the_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = String::new();
    for folder in std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        gather(&folder.join("src"), &mut sources);
    }
    for folder in std::fs::read_dir(root.join("bins"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        gather(&folder.join("src"), &mut sources);
    }
    let section = page()
        .split("## Log lines")
        .nth(1)
        .unwrap()
        .split("## Stopping")
        .next()
        .unwrap();
    let messages: BTreeSet<_> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split('`').next())
        .collect();
    assert!(messages.len() > 10, "{messages:?}");
    for message in messages {
        assert!(
            sources.contains(&format!("\"{message}")),
            "no program says `{message}`"
        );
    }
}

fn gather(folder: &Path, text: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            gather(&entry, text);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&std::fs::read_to_string(&entry).unwrap());
        }
    }
}
