//! Through a real `kube::Client` that has no socket below it.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use kube::{Client, Error};
use serde_json::json;

use super::{api, config_map, rollout};
use crate::sim::api::{Fault, KubeApi, Matching};

fn client(api: &KubeApi) -> Client {
    Client::new(api.clone(), "default")
}

fn rollouts(api: &KubeApi) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
    Api::default_namespaced_with(client(api), &kind)
}

fn config_maps(api: &KubeApi) -> Api<ConfigMap> {
    Api::default_namespaced(client(api))
}

fn status(error: Error) -> kube::core::Status {
    match error {
        Error::Api(status) => *status,
        other => panic!("expected an answer of the API, got {other}"),
    }
}

#[tokio::test]
async fn a_client_applies_reads_conflicts_and_dry_runs() {
    let api = api();
    let rollouts = rollouts(&api);
    let ours = PatchParams::apply("aurora-agent").force();
    let created = rollouts
        .patch("web", &ours, &Patch::Apply(rollout("web", 2)))
        .await
        .unwrap();
    assert_eq!(created.metadata.generation, Some(1));
    let scaled = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"replicas": 3}});
    let refused = status(
        rollouts
            .patch("web", &PatchParams::apply("other"), &Patch::Apply(&scaled))
            .await
            .unwrap_err(),
    );
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let causes = refused.details.unwrap().causes;
    assert_eq!(causes[0].field, ".spec.replicas");
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    let dry = PatchParams {
        dry_run: true,
        ..ours.clone()
    };
    let shown = rollouts
        .patch("web", &dry, &Patch::Apply(rollout("web", 5)))
        .await
        .unwrap();
    assert_eq!(shown.data["spec"]["replicas"], 5);
    assert_eq!(rollouts.get("web").await.unwrap().data["spec"]["replicas"], 2);
    let abort = Patch::Merge(json!({"status": {"abort": true, "promoteFull": null}}));
    let aborted = rollouts
        .patch_status("web", &PatchParams::default(), &abort)
        .await
        .unwrap();
    assert_eq!(aborted.data["status"], json!({"abort": true}));
    let missing = status(rollouts.get("other").await.unwrap_err());
    assert!(missing.is_not_found());
}

#[tokio::test]
async fn an_unknown_kind_reads_as_404_without_a_status() {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("nothing.dev", "v1", "Thing"));
    let things: Api<DynamicObject> = Api::default_namespaced_with(client(&api()), &kind);
    let answer = status(things.get("a").await.unwrap_err());
    assert_eq!(answer.code, 404);
    assert!(answer.message.contains("404 page not found"), "{answer:?}");
}

#[tokio::test]
async fn typed_clients_create_replace_list_and_delete() {
    let api = api();
    let maps = config_maps(&api);
    let object: ConfigMap = serde_json::from_value(config_map("a", "1")).unwrap();
    let mut created = maps.create(&PostParams::default(), &object).await.unwrap();
    created
        .data
        .get_or_insert_default()
        .insert("b".to_owned(), "2".to_owned());
    let replaced = maps.replace("a", &PostParams::default(), &created).await.unwrap();
    assert_eq!(replaced.data.unwrap()["b"], "2");
    let stale = status(
        maps.replace("a", &PostParams::default(), &created)
            .await
            .unwrap_err(),
    );
    assert!(stale.is_conflict());
    assert_eq!(
        maps.list(&ListParams::default().limit(1))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert!(maps.delete("a", &Default::default()).await.unwrap().is_right());
    let pods: Api<Pod> = Api::default_namespaced(client(&api));
    assert!(
        pods.list(&ListParams::default().labels("app=web"))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_eq!(client(&api).apiserver_version().await.unwrap().minor, "34");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_expired_is_seen_and_a_watcher_lists_again() {
    let api = api();
    let maps = config_maps(&api);
    let ours = PatchParams::apply("aurora-agent").force();
    let first = maps
        .patch("a", &ours, &Patch::Apply(config_map("a", "1")))
        .await
        .unwrap();
    let from = first.metadata.resource_version.unwrap();
    let mut told = std::pin::pin!(watcher(maps.clone(), watcher::Config::default()).boxed());
    assert!(matches!(
        told.try_next().await.unwrap(),
        Some(watcher::Event::Init)
    ));
    assert!(matches!(
        told.try_next().await.unwrap(),
        Some(watcher::Event::InitApply(_))
    ));
    assert!(matches!(
        told.try_next().await.unwrap(),
        Some(watcher::Event::InitDone)
    ));
    api.restart();
    maps.patch("a", &ours, &Patch::Apply(config_map("a", "2")))
        .await
        .unwrap();
    let mut events = maps.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    match events.try_next().await.unwrap() {
        Some(WatchEvent::Error(error)) => assert_eq!((error.code, error.reason.as_str()), (410, "Expired")),
        other => panic!("expected an expired version, got {other:?}"),
    }
    let value = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            // The first answers after a restart are errors; the watcher then lists again.
            if let Ok(Some(watcher::Event::InitApply(map) | watcher::Event::Apply(map))) =
                told.try_next().await
                && map.data.as_ref().is_some_and(|data| data["a"] == "2")
            {
                return map;
            }
        }
    });
    assert_eq!(value.await.unwrap().metadata.name.as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn faults_hit_the_next_matching_requests_and_no_others() {
    let api = api();
    let maps = config_maps(&api);
    let ours = PatchParams::apply("aurora-agent").force();
    let body = Patch::Apply(config_map("a", "1"));
    let write = || maps.patch("a", &ours, &body);
    let patches = Matching::any().with_verb("patch").with_path("/configmaps/a");
    for (fault, code, reason) in [
        (Fault::too_many_requests(7), 429, "TooManyRequests"),
        (Fault::webhook_failure("check.example.dev"), 500, "InternalError"),
        (Fault::unavailable(), 503, "ServiceUnavailable"),
        (
            Fault::status(403, "configmaps \"a\" is forbidden: no"),
            403,
            "Forbidden",
        ),
    ] {
        api.faults().inject(fault, 1, patches.clone());
        assert!(maps.list(&ListParams::default()).await.is_ok());
        let answer = status(write().await.unwrap_err());
        assert_eq!((answer.code, answer.reason.as_str()), (code, reason));
    }
    assert_eq!(api.faults().outstanding(), 0);
    assert!(
        maps.get_opt("a").await.unwrap().is_none(),
        "refused writes have no effect"
    );
    api.faults().inject(Fault::dropped_before(), 1, patches.clone());
    assert!(matches!(write().await.unwrap_err(), Error::Service(_)));
    assert!(maps.get_opt("a").await.unwrap().is_none());
    api.faults().inject(Fault::dropped_after(), 1, patches.clone());
    assert!(matches!(write().await.unwrap_err(), Error::Service(_)));
    assert!(maps.get_opt("a").await.unwrap().is_some());
    let lost = api
        .requests()
        .into_iter()
        .rfind(|request| request.verb == "patch")
        .unwrap();
    assert_eq!((lost.code, lost.changed, lost.before), (None, true, None));
    api.faults().inject(Fault::hanging(), 1, patches);
    assert!(
        tokio::time::timeout(Duration::from_secs(3_600), write())
            .await
            .is_err()
    );
    assert!(write().await.is_ok());
}

#[tokio::test]
async fn the_request_log_tells_who_changed_what() {
    let api = api();
    let maps = config_maps(&api);
    let ours = PatchParams::apply("aurora-agent").force();
    let write = |value: &str| {
        let (maps, ours, body) = (maps.clone(), ours.clone(), config_map("a", value));
        async move { maps.patch("a", &ours, &Patch::Apply(body)).await.unwrap() }
    };
    let first = write("1").await.metadata.resource_version;
    let second = write("2").await.metadata.resource_version;
    write("2").await;
    maps.delete("a", &Default::default()).await.unwrap();
    let log = api.requests();
    let told: Vec<(&str, Option<u16>, bool)> = log
        .iter()
        .map(|it| (it.verb.as_str(), it.code, it.changed))
        .collect();
    assert_eq!(
        told,
        [
            ("patch", Some(201), true),
            ("patch", Some(200), true),
            ("patch", Some(200), false),
            ("delete", Some(200), true),
        ]
    );
    assert_eq!((&log[1].before, &log[1].after), (&first, &second));
    assert_eq!((&log[3].before, &log[3].after), (&second, &None));
    assert_eq!(log[0].path, "/api/v1/namespaces/default/configmaps/a");
    assert!(log[0].query.contains("fieldManager=aurora-agent"));
    assert!(log[0].time.starts_with("2026-01-01T00:00:0"));
}
