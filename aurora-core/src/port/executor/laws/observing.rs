//! Laws of observing: first everything, then levels, until it settles; and of reading.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;

use super::fixture::{
    ClusterFixture, NAMESPACE, apply, at_the_first_pause, crashing, deployed, observation, release, rollout,
    set, settings, stamp, until, until_done,
};
use crate::command::Direction;
use crate::manifest::ObjectRef;
use crate::progress::Standing;

/// The first levels of an observation name every workload of the plan, also absent ones.
pub async fn observing_starts_with_everything(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    let observe = observation(&plan, Direction::Forward);
    let executor = fixture.executor();
    for expected in [Standing::Missing, Standing::Done] {
        let first = executor
            .observe(&observe, &plan)
            .await
            .unwrap()
            .next()
            .await
            .unwrap()
            .unwrap();
        let named: Vec<_> = first.iter().map(|progress| &progress.object).collect();
        assert_eq!(named, [&rollout()], "every workload of the plan, at once");
        assert_eq!(first[0].standing, expected);
        if expected == Standing::Missing {
            deployed(fixture, &plan).await;
        }
    }
}

/// An observation that began before the apply sees the workload settle, without being asked again.
pub async fn observing_goes_on_until_done(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    let observe = observation(&plan, Direction::Forward);
    let mut levels = fixture.executor().observe(&observe, &plan).await.unwrap();
    assert_eq!(
        levels.next().await.unwrap().unwrap()[0].standing,
        Standing::Missing
    );
    let settles = async {
        loop {
            let news = levels.next().await.unwrap().unwrap();
            if news[0].standing == Standing::Done {
                break news[0].clone();
            }
        }
    };
    let applies = async { apply(fixture, &plan, 1).await.unwrap() };
    let both = async { tokio::join!(settles, applies).0 };
    let done = tokio::time::timeout(Duration::from_secs(600), both)
        .await
        .expect("it must settle");
    assert_eq!(done.pods.new_available, 4);
    assert_eq!(done.pods.old, 0);
    assert_eq!(done.stable, done.revision);
}

/// A second release stops at its first pause, with the share of pods that its step asks for.
pub async fn a_canary_stops_at_its_first_pause(fixture: &dyn ClusterFixture) {
    let (_plan, seen) = at_the_first_pause(fixture).await;
    assert_ne!(seen.revision, seen.stable);
    assert_eq!(seen.step.unwrap().index, 1);
    assert_eq!(seen.step.unwrap().total, 4);
    let weight = seen.weight.unwrap();
    assert_eq!((weight.wanted, weight.real), (25, 25));
    assert_eq!((seen.pods.new_available, seen.pods.old_available), (1, 3));
    assert!(seen.expect.is_some(), "what stands at a pause can be promoted");
}

/// Dropping an observation leaves no watch behind.
pub async fn dropping_an_observation_leaves_no_watch(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = fixture.watches();
    let executor = fixture.executor();
    let mut levels = executor
        .observe(&observation(&plan, Direction::Forward), &plan)
        .await
        .unwrap();
    levels.next().await.unwrap().unwrap();
    assert!(fixture.watches() > before, "an observation must watch");
    drop(levels);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(fixture.watches(), before, "a dropped observation must not watch");
}

/// Pods that crash are named, with how they ended.
pub async fn a_crashing_pod_is_evidence(fixture: &dyn ClusterFixture) {
    deployed(fixture, &release("v1")).await;
    let plan = crashing("v2");
    apply(fixture, &plan, 2).await.unwrap();
    let seen = until(fixture, &plan, Direction::Forward, |seen| {
        seen.failing.iter().any(|pod| pod.restarts >= 3)
    })
    .await;
    let pod = &seen.failing[0];
    assert_eq!(pod.container, "web");
    assert_eq!(pod.reason, "CrashLoopBackOff");
    assert!(pod.exit_code.is_some_and(|code| code != 0));
    assert!(pod.pod.starts_with("web-"), "{}", pod.pod);
    assert!(
        !pod.log.is_empty(),
        "the last lines of the previous container belong to it"
    );
    assert_ne!(seen.standing, Standing::Done);
    assert_eq!(seen.pods.new_available, 0);
}

/// What is read of a Secret has its keys, not its values; what is absent is none.
pub async fn a_secret_keeps_its_values(fixture: &dyn ClusterFixture) {
    let secret = ObjectRef::new("", "Secret", NAMESPACE, "token");
    let executor = fixture.executor();
    assert_eq!(executor.get(&secret).await.unwrap(), None);
    let body = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "token", "namespace": NAMESPACE}, "data": {"key": "aHVudGVyMg=="},
    });
    fixture.create_by_hand(body).await;
    let read = executor.get(&secret).await.unwrap().expect("it is there");
    assert!(read["data"].get("key").is_some(), "its keys can be seen");
    assert!(
        !read.to_string().contains("aHVudGVyMg=="),
        "its values must stay in the cluster"
    );
    deployed(fixture, &release("v1")).await;
    let read = executor
        .get(&settings("v1"))
        .await
        .unwrap()
        .expect("it was applied");
    assert_eq!(read["data"]["release"], "v1");
}

/// The inventory names namespaces, and applied sets with application, target and stamp.
pub async fn inventory_names_namespaces_and_applied_sets(fixture: &dyn ClusterFixture) {
    let plan = release("v1");
    deployed(fixture, &plan).await;
    until_done(fixture, &plan).await;
    let items = fixture.executor().inventory().await.unwrap();
    let namespace = |item: &crate::session::InventoryItem| item.kind == "namespace" && item.name == NAMESPACE;
    assert!(items.iter().any(|(_, item)| namespace(item)), "{items:?}");
    let sets: Vec<_> = items
        .iter()
        .filter(|(_, item)| item.kind == "appliedSet")
        .collect();
    assert_eq!(sets.len(), 1, "{items:?}");
    let facts = &sets[0].1.facts;
    assert_eq!(facts["application"], set().application);
    assert_eq!(facts["target"], "staging");
    assert_eq!(facts["stamp"], stamp(1).to_string());
    assert_eq!(facts["tenant"], set().tenant);
}
