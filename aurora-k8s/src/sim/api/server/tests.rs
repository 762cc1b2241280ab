//! The server over real sockets: restarts, credentials, what survives.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, WatchParams};
use serde_json::{Value, json};

use super::{REQUESTS, ServerError, SimServer};
use crate::sim::Objects;
use crate::sim::api::KubeApi;
use crate::sim::objects::tokio_clock;

const GRACE: Duration = Duration::from_secs(10);

fn api() -> KubeApi {
    KubeApi::new(Objects::new(tokio_clock(Timestamp::UNIX_EPOCH)))
}

async fn start(directory: &std::path::Path) -> SimServer {
    SimServer::start(api(), "staging", directory, None).await.unwrap()
}

async fn config_maps(server: &SimServer) -> Api<ConfigMap> {
    let client = Client::try_from(server.config().await.unwrap()).unwrap();
    Api::default_namespaced(client)
}

fn config_map(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": value}})
}

async fn write(maps: &Api<ConfigMap>, value: &str) -> ConfigMap {
    let ours = PatchParams::apply("aurora-agent").force();
    maps.patch("a", &ours, &Patch::Apply(config_map(value)))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_cluster_comes_back_with_its_objects_its_port_and_its_kubeconfig() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    let (address, kubeconfig) = (server.address(), server.kubeconfig().to_owned());
    let maps = config_maps(&server).await;
    let written = write(&maps, "1").await;
    server.stop(GRACE).await.unwrap();

    let server = start(directory.path()).await;
    assert_eq!(server.address(), address);
    assert_eq!(server.kubeconfig(), kubeconfig);
    assert_eq!(
        std::fs::read_to_string(server.kubeconfig_path()).unwrap(),
        kubeconfig
    );
    let held = config_maps(&server).await.get("a").await.unwrap();
    assert_eq!(held, written);
    let log = std::fs::read_to_string(directory.path().join(REQUESTS)).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["verb"], "patch");
    assert_eq!(lines[0]["changed"], true);
    assert_eq!(
        lines[0]["after"].as_str(),
        written.metadata.resource_version.as_deref()
    );
    server.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn what_was_answered_survives_a_server_that_is_not_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    write(&config_maps(&server).await, "1").await;
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    server.stop(GRACE).await.unwrap();
    let again = start(copy.path()).await;
    assert_eq!(
        config_maps(&again).await.get("a").await.unwrap().data.unwrap()["a"],
        "1"
    );
    again.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_answered_by_a_cluster_that_came_back() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    write(&config_maps(&server).await, "1").await;
    server.stop(GRACE).await.unwrap();

    // Nothing else writes here, so no later write can answer this one.
    let server = start(directory.path()).await;
    let maps = config_maps(&server).await;
    let answered = tokio::time::timeout(GRACE, write(&maps, "1")).await;
    assert!(answered.is_ok(), "what it came back with is on disk");
    server.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_directory_has_one_server_and_an_address_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    let second = SimServer::start(api(), "x", directory.path(), None)
        .await
        .unwrap_err();
    assert!(matches!(second, ServerError::InUse { .. }), "{second}");
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = SimServer::start(api(), "x", elsewhere.path(), Some(server.address()))
        .await
        .unwrap_err();
    assert!(matches!(taken, ServerError::Bind { .. }), "{taken}");
    server.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn certificates_that_do_not_cover_the_address_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).await.stop(GRACE).await.unwrap();
    let other = Some("127.0.0.2:0".parse().unwrap());
    let error = SimServer::start(api(), "x", directory.path(), other)
        .await
        .unwrap_err();
    assert!(matches!(error, ServerError::Certificates { .. }), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn files_that_hold_secrets_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    for name in [
        super::IDENTITY,
        super::KUBECONFIG,
        REQUESTS,
        "objects.json",
        "objects.journal",
    ] {
        let mode = std::fs::metadata(directory.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let token = server.kubeconfig().split("token: ").nth(1).unwrap();
    let token = token.lines().next().unwrap();
    assert!(!format!("{server:?}").contains(token));
    server.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn a_wrong_token_is_unauthorized_and_the_token_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    let mut config = server.config().await.unwrap();
    config.auth_info.token = Some("wrong".to_owned().into());
    let maps: Api<ConfigMap> = Api::default_namespaced(Client::try_from(config).unwrap());
    match maps.get("a").await.unwrap_err() {
        kube::Error::Api(status) => assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized")),
        other => panic!("expected 401, got {other}"),
    }
    assert!(server.api().requests().is_empty(), "a stranger reaches no object");
    assert!(config_maps(&server).await.get_opt("a").await.unwrap().is_none());
    server.stop(GRACE).await.unwrap();
}

#[tokio::test]
async fn stopping_ends_watches() {
    use futures::StreamExt as _;
    let directory = tempfile::tempdir().unwrap();
    let server = start(directory.path()).await;
    let maps = config_maps(&server).await;
    let mut watch = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    write(&maps, "1").await;
    assert!(matches!(
        watch.next().await,
        Some(Ok(kube::api::WatchEvent::Added(_)))
    ));
    server.stop(GRACE).await.unwrap();
    while let Some(Ok(_)) = watch.next().await {}
}
