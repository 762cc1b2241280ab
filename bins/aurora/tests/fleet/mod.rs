//! Real processes for tests: simulated clusters, servers, and the command line against them.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test uses its part, and reports by panicking"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Anything that does not happen within this time is taken for a hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts a program and waits for its first line of JSON.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> (Self, Value) {
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let process = Self {
            child,
            name: name.to_owned(),
        };
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!(
                "{name} said {line:?} ({error}); see {}:\n{}",
                log.display(),
                tail(log)
            );
        });
        // What it says later is not read; the pipe stays open so that writing to it works.
        std::thread::spawn(move || lines.lines().map_while(Result::ok).for_each(drop));
        (process, said)
    }

    /// Starts a program that says nothing on its standard output.
    pub fn start_silent(name: &str, command: &mut Command, log: &Path) -> Self {
        let errors = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("{name} does not start: {error}")),
            name: name.to_owned(),
        }
    }

    /// Tells it to stop, waits until it has ended, and gives its exit code.
    pub fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(told.success(), "{} is gone already", self.name);
        self.child.wait().unwrap().code()
    }

    /// Ends it the hard way, as a crash would.
    pub fn kill(mut self) {
        self.child
            .kill()
            .unwrap_or_else(|error| panic!("{} cannot be killed: {error}", self.name));
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// The program under test.
pub fn aurora() -> Command {
    Command::new(env!("CARGO_BIN_EXE_aurora"))
}

/// A simulated cluster as a process; its state is in a directory.
#[derive(Debug)]
pub struct Sim {
    pub directory: PathBuf,
    pub process: Process,
}

impl Sim {
    pub fn start(directory: &Path) -> Self {
        let log = directory.with_extension("log");
        let (process, _) = Process::start(
            "sim",
            aurora().args(["-o", "json", "sim", "--state-dir"]).arg(directory),
            &log,
        );
        Self {
            directory: directory.to_owned(),
            process,
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// The context that the kubeconfig has.
    pub fn context(&self) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        file["current-context"].as_str().unwrap().to_owned()
    }

    /// Every request that the cluster answered.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.join("requests.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// The command line with a context.
#[derive(Clone, Debug)]
pub struct Cli {
    pub context: PathBuf,
}

impl Cli {
    /// Runs a command and reads its JSON; the text of its error output otherwise.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = aurora()
            .args(["-o", "json", "--context-file"])
            .arg(&self.context)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            return Err(format!("{}{text}", String::from_utf8_lossy(&output.stderr)));
        }
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// A pipeline's view; `None` while the API cannot be reached.
    pub fn view(&self, id: &str) -> Option<Value> {
        self.json(&["deploy", "status", id]).ok()
    }

    /// Says yes to every gate that waits for a person.
    pub fn approve_all(&self, view: &Value) {
        for waiting in view["waiting"].as_array().into_iter().flatten() {
            if waiting["kind"] == "approval" {
                let (id, gate) = (
                    view["id"].as_str().unwrap(),
                    waiting["subject"]["gate"].as_str().unwrap(),
                );
                // Lost or already given: the next look at the pipeline tells.
                let _ = self.json(&["deploy", "approve", id, "--gate", gate]);
            }
        }
    }

    /// Follows a pipeline to its end, approving what waits.
    pub fn follow(&self, id: &str) -> Value {
        let started = Instant::now();
        loop {
            let view = self.view(id);
            if let Some(view) = &view {
                self.approve_all(view);
                if view["endedAt"].is_string() {
                    return view.clone();
                }
            }
            assert!(
                started.elapsed() < PATIENCE,
                "pipeline {id} does not end: {view:#?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Looks again until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often each object was changed by an apply of the agent, applied sets aside, and each Rollout by an act.
fn effective_writes(requests: &[Value]) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut applies, mut acts) = (BTreeMap::new(), BTreeMap::new());
    for request in requests {
        let path = request["path"].as_str().unwrap_or_default();
        let query = request["query"].as_str().unwrap_or_default();
        if request["changed"] != true || request["verb"] != "patch" {
            continue;
        }
        if path.ends_with("/status") {
            *acts
                .entry(path.trim_end_matches("/status").to_owned())
                .or_insert(0) += 1;
        } else if query.contains("fieldManager=aurora-agent") && !path.contains("/configmaps/aurora-") {
            *applies.entry(path.to_owned()).or_insert(0) += 1;
        }
    }
    (applies, acts)
}

/// Each object of so many plans was changed by one apply per plan, and each Rollout by one act per gate.
pub fn assert_written_once(sim: &Sim, plans: u32) {
    let (applies, acts) = effective_writes(&sim.requests());
    println!("{}: applies {applies:?}, acts {acts:?}", sim.directory.display());
    let plans = plans as usize;
    assert_eq!(
        applies.len(),
        3 + plans,
        "a Namespace, two Rollouts, and a ConfigMap per plan: {applies:?}"
    );
    for (object, count) in &applies {
        // Configuration has a name of its own in each plan.
        let expected = if object.contains("/configmaps/") { 1 } else { plans };
        assert_eq!(
            *count, expected,
            "{object} was changed by {count} applies in {plans} plans"
        );
    }
    assert_eq!(acts.len(), 2, "two Rollouts are moved: {acts:?}");
    for (rollout, count) in &acts {
        // Two gates per plan after the first, whose steps are not exercised.
        assert_eq!(*count, 2 * (plans - 1), "{rollout} was moved {count} times");
    }
}

/// A small application in two Deployments, with two gates, as a folder with a deploy file.
pub fn application(folder: &Path, version: u32) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let deployment = |name: &str, replicas: u32| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    \
             spec:\n      containers:\n      - name: main\n        image: {name}:{version}\n        \
             envFrom: [{{configMapRef: {{name: settings}}}}]\n---\n"
        )
    };
    let manifests = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: v1\nkind: ConfigMap\n\
         metadata: {{name: settings}}\ndata: {{version: \"{version}\"}}\n---\n{}{}",
        deployment("web", 3),
        deployment("api", 2)
    );
    std::fs::write(folder.join("manifests.yaml"), manifests).unwrap();
    let deploy = "application: shop
targets:
  staging: {account: staging, namespace: shop, strategy: steps}
  prod:
    account: prod
    namespace: shop
    strategy: steps
    constraints: {dependsOn: [staging]}
manifests: [{path: manifests.yaml}]
strategies:
  steps:
    canary:
      steps:
        - setWeight: {weight: 30}
        - pause: {untilApproved: true}
        - setWeight: {weight: 60}
        - pause: {duration: 1, unit: seconds}
";
    let path = folder.join("deploy.yaml");
    std::fs::write(&path, deploy).unwrap();
    path
}
