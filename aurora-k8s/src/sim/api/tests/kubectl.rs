//! Through a real kubectl over TLS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use aurora_core::tasks::Tasks;
use serde_json::{Value, json};

use super::{api, deployment, rollout};
use crate::sim::api::SimServer;
use crate::sim::{Behaviour, Controllers};

/// Runs kubectl and answers what it printed; it must succeed.
#[track_caller]
fn kubectl(directory: &Path, arguments: &str) -> String {
    let (done, printed, complaint) = run(directory, arguments);
    assert!(done, "kubectl {arguments}: {complaint}");
    printed
}

fn run(directory: &Path, arguments: &str) -> (bool, String, String) {
    let output = Command::new("kubectl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .env("KUBECONFIG", directory.join("kubeconfig"))
        .env("HOME", directory)
        .output()
        .expect("kubectl is installed");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn write(directory: &Path, name: &str, objects: &[Value]) {
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    std::fs::write(directory.join(name), documents.join("\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs kubectl"]
async fn kubectl_applies_waits_shows_describes_and_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let api = api();
    let server = SimServer::start(api.clone(), "sim", home, None).await.unwrap();
    let controllers = Tasks::new();
    let objects = api.objects().clone();
    controllers.spawn(|stop| Controllers::new(objects, Behaviour::default()).run(stop));

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let team = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    write(
        home,
        "v1.json",
        &[team, service, rollout("web", 4), deployment("db")],
    );
    let apply = "apply --server-side --validate=false -f";
    let printed = kubectl(home, &format!("{apply} v1.json"));
    assert!(
        printed.contains("rollout.argoproj.io/web serverside-applied"),
        "{printed}"
    );
    kubectl(
        home,
        "wait --for=jsonpath={.status.phase}=Healthy rollout/web --timeout=30s",
    );
    kubectl(home, "wait --for=condition=Available deployment/db --timeout=30s");
    kubectl(home, "wait --for=condition=Ready pod -l app=web --timeout=30s");

    let table = kubectl(home, "get rollouts");
    assert!(
        table.starts_with("NAME   DESIRED   CURRENT   UP-TO-DATE   AVAILABLE   AGE\nweb    4"),
        "{table}"
    );
    assert_eq!(
        kubectl(home, "get pods -l app=web --no-headers").lines().count(),
        4
    );
    for kind in [
        "services",
        "configmaps",
        "replicasets",
        "events",
        "namespaces",
        "ro",
        "all",
    ] {
        kubectl(home, &format!("get {kind} -o wide"));
    }
    let yaml = kubectl(home, "get rollout web -o yaml --show-managed-fields");
    assert!(
        yaml.contains("manager: kubectl") && yaml.contains("manager: rollouts-controller"),
        "{yaml}"
    );
    assert!(kubectl(home, "describe rollout web").contains("RolloutCompleted"));
    assert!(kubectl(home, "describe service web").contains("Selector:                 app=web"));
    assert!(kubectl(home, "describe pods -l app=web").contains("Controlled By:  ReplicaSet/web-"));
    let pod = kubectl(home, "get pods -l app=web -o jsonpath={.items[0].metadata.name}");
    assert!(kubectl(home, &format!("logs {pod}")).contains("starting web"));

    let mut second = rollout("web", 4);
    second["spec"]["template"]["spec"]["containers"][0]["image"] = "ok:2".into();
    write(home, "v2.json", &[second]);
    // Without the flag kubectl asks whether the server validates fields itself.
    kubectl(home, "apply --server-side -f v2.json");
    kubectl(
        home,
        "wait --for=jsonpath={.status.phase}=Paused rollout/web --timeout=30s",
    );
    let promote =
        r#"patch rollout web --subresource=status --type=merge -p {"status":{"pauseConditions":null}}"#;
    kubectl(home, promote);
    kubectl(
        home,
        "wait --for=jsonpath={.status.phase}=Healthy rollout/web --timeout=30s",
    );
    kubectl(home, "scale rollout/web --replicas=2");
    kubectl(home, "scale deployment/db --replicas=2");
    kubectl(home, "rollout status deployment/db --timeout=30s");
    let (same, difference, _) = run(home, "diff --server-side --force-conflicts -f v2.json");
    assert!(!same && difference.contains("+  replicas: 4"), "{difference}");

    let (done, _, complaint) = run(home, "get nothings");
    assert!(
        !done && complaint.contains("doesn't have a resource type \"nothings\""),
        "{complaint}"
    );
    let (done, _, complaint) = run(home, "get configmap gone");
    assert!(
        !done && complaint.contains("configmaps \"gone\" not found"),
        "{complaint}"
    );
    kubectl(home, "delete -f v1.json --timeout=30s");
    kubectl(home, "wait --for=delete pod -l app=web --timeout=30s");
    assert_eq!(
        kubectl(
            home,
            "get rollouts,deployments,replicasets,pods --ignore-not-found"
        ),
        ""
    );

    let grace = Duration::from_secs(10);
    controllers.drain(grace).await.unwrap();
    server.stop(grace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs kubectl"]
async fn kubectl_follows_changes() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let server = SimServer::start(api(), "sim", home, None).await.unwrap();
    let watching = Command::new("kubectl")
        .args(["get", "configmaps", "--watch", "--request-timeout=3s"])
        .env("KUBECONFIG", home.join("kubeconfig"))
        .env("HOME", home)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl is installed");
    let api = server.api().clone();
    let mut answered = api.answered();
    let watches = |_: &usize| api.requests().iter().any(|request| request.verb == "watch");
    answered.wait_for(watches).await.unwrap();
    super::expect(
        &super::apply(&api, super::CONFIG_MAPS, &super::config_map("later", "1")).await,
        201,
    );
    let output = tokio::task::spawn_blocking(move || watching.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("NAME    DATA   AGE\nlater   1"), "{printed}");
    server.stop(Duration::from_secs(10)).await.unwrap();
}
