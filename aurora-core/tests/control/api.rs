//! Use cases as their callers see them: refusals, races, lists, feeds.

use aurora_core::control::{ControlError, Cursor, Facet, PipelineQuery, SubmitError};
use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{ArmoryStatus, Refused, State};
use aurora_core::port::store::{Append, Batch, RecordKey, Store as _};
use futures::StreamExt as _;

use crate::world::{
    World, canary, deployer, door, drive, file, first_version, operator, principal, reader, see, stands,
    submission, submit, target, yes,
};

#[tokio::test(start_paused = true)]
async fn one_run_per_application() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let targets = [("staging", target("staging", &[]))];
    let first = submit(&plane, file("shop", "app:1", canary(), &targets)).await;
    let second = submission(file("shop", "app:2", canary(), &targets));
    let refused = plane
        .submit(&deployer("ada", &[]), &door(), second.clone())
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, SubmitError::Busy { pipeline, .. } if *pipeline == first),
        "{refused:?}"
    );
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    submit(&plane, file("other", "app:1", canary(), &targets)).await;

    let _tasks = drive(&plane);
    world.ended(first).await;
    plane
        .submit(&deployer("ada", &[]), &door(), second)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_account_that_was_never_seen_is_refused_and_one_that_is_offline_is_not() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let unknown = submission(file("shop", "app:1", canary(), &[("moon", target("moon", &[]))]));
    let refused = plane
        .submit(&deployer("ada", &[]), &door(), unknown)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SubmitError::AccountUnknown { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("`moon`"), "{refused}");

    assert!(plane.agents(&operator()).await.unwrap()[0].online);
    // A hub that was restarted knows nothing of agents that have not come back.
    let amnesia = World::new(&[]);
    let plane = aurora_core::control::ControlPlane::new(
        std::sync::Arc::new(world.store.clone()),
        amnesia.router.clone(),
        aurora_core::port::renderer::InMemoryRenderer,
        world.clock.clone(),
    );
    assert!(!plane.agents(&operator()).await.unwrap()[0].online);
    submit(
        &plane,
        file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_same_key_submits_once() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let targets = [("staging", target("staging", &[]))];
    let mut one = submission(file("shop", "app:1", canary(), &targets));
    one.idempotency = Some("build-7".to_owned());
    let ada = deployer("ada", &[]);
    let first = plane.submit(&ada, &door(), one.clone()).await.unwrap();
    let again = plane.submit(&ada, &door(), one.clone()).await.unwrap();
    assert_eq!(
        (first.pipeline, first.repeated, again.repeated),
        (again.pipeline, false, true)
    );
    let mut other = submission(file("shop", "app:2", canary(), &targets));
    other.idempotency = Some("build-7".to_owned());
    let refused = plane.submit(&ada, &door(), other).await.unwrap_err();
    assert!(matches!(refused, SubmitError::KeyReused { .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn all_problems_of_all_targets_come_at_once() {
    let world = World::new(&["a", "b"]);
    let plane = world.plane();
    let (mut one, mut other) = (target("a", &[]), target("b", &[]));
    one.namespace = None;
    other.namespace = None;
    let wrong = submission(file("shop", "app:1", canary(), &[("a", one), ("b", other)]));
    let refused = plane
        .submit(&deployer("ada", &[]), &door(), wrong)
        .await
        .unwrap_err();
    let SubmitError::Invalid { problems } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(world.store.events(&world.scope()).is_empty(), "nothing is stored");
}

#[tokio::test(start_paused = true)]
async fn of_two_approvers_the_slower_hears_who_was_faster() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let gate = "staging/step/1";

    let nobody = plane
        .approve(&deployer("eve", &["intern"]), &door(), id, yes(gate))
        .await
        .unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Denied);
    let tried = world.store.records(&world.scope()).into_iter().any(|record| {
        let line = String::from_utf8_lossy(&record.value).into_owned();
        record.key.kind == "audit" && line.contains("\"result\":\"denied\"") && line.contains("\"eve\"")
    });
    assert!(tried, "who was not let is on record");
    let mut stale = yes(gate);
    stale.expect = Some("staging/step/1:sha256:0".to_owned());
    let grace = deployer("grace", &["release-manager"]);
    let changed = plane.approve(&grace, &door(), id, stale).await.unwrap_err();
    assert!(
        matches!(changed, ControlError::Refused(Refused::Changed { .. })),
        "{changed:?}"
    );

    let mut seen = yes(gate);
    seen.expect = see(&plane, id).await.actions[0].expect.clone();
    let recorded = plane.approve(&grace, &door(), id, seen.clone()).await.unwrap();
    assert!(recorded.version > 1);
    let late = plane
        .approve(&deployer("bob", &["release-manager"]), &door(), id, seen)
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    assert!(late.to_string().starts_with("grace opened gate"), "{late}");
    let ahead = plane
        .approve(&grace, &door(), id, yes("staging/step/3"))
        .await
        .unwrap_err();
    assert_eq!(ahead.kind(), ErrorKind::Conflict);
    let none = plane
        .approve(&grace, &door(), id, yes("staging/step/2"))
        .await
        .unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_administrator_opens_every_gate() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let root = principal("root", &[], &["api:tenant:full"]).authorize().unwrap();
    plane
        .approve(&root, &door(), id, yes("staging/step/1"))
        .await
        .unwrap();
    let audit = world
        .store
        .records(&world.scope())
        .into_iter()
        .filter(|record| record.key.kind == "audit")
        .map(|record| String::from_utf8(record.value.to_vec()).unwrap());
    assert!(
        audit
            .into_iter()
            .any(|line| line.contains("\"basis\":\"administrator\"") && line.contains("looks good"))
    );
}

#[tokio::test(start_paused = true)]
async fn another_tenant_sees_nothing() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let id = submit(
        &plane,
        file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]),
    )
    .await;
    let mut foreign = (*principal("mallory", &[], &["manage:deploy"])).clone();
    foreign.tenant = Some(aurora_core::tenant::Tenant::new("acme", "other").unwrap());
    let foreign = std::sync::Arc::new(foreign);
    let looks = plane.view(&foreign.authorize().unwrap(), id).await.unwrap_err();
    let acts = plane
        .cancel(&foreign.authorize().unwrap(), &door(), id, None)
        .await
        .unwrap_err();
    assert_eq!(
        (looks.kind(), acts.kind()),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    let page = plane
        .list(&foreign.authorize().unwrap(), &PipelineQuery::default())
        .await
        .unwrap();
    assert!(page.rows.is_empty());
    assert!(
        plane
            .pipeline_events(&foreign.authorize().unwrap(), id, Cursor::START)
            .await
            .is_err()
    );
    see(&plane, id).await;
}

#[tokio::test(start_paused = true)]
async fn lists_filter_count_and_page_both_ways() {
    let world = World::new(&["staging", "prod"]);
    let plane = world.plane();
    let mut ids: Vec<PipelineId> = Vec::new();
    for number in 0..7 {
        let account = if number % 2 == 0 { "staging" } else { "prod" };
        let application = format!("app-{number}");
        let targets = [(account, target(account, &[]))];
        ids.push(submit(&plane, file(&application, "app:1", canary(), &targets)).await);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    ids.reverse();
    let page = |query: PipelineQuery| {
        let plane = plane.clone();
        async move { plane.list(&reader(), &query).await.unwrap() }
    };
    let limited = |page: Option<String>| PipelineQuery {
        limit: Some(3),
        page,
        ..PipelineQuery::default()
    };
    let first = page(limited(None)).await;
    let found =
        |page: &aurora_core::control::ListPage| page.rows.iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(found(&first), ids[..3]);
    assert_eq!(first.prev, None);
    let second = page(limited(first.next.clone())).await;
    assert_eq!(found(&second), ids[3..6]);
    let third = page(limited(second.next.clone())).await;
    assert_eq!((found(&third), third.next.clone()), (ids[6..].to_vec(), None));
    assert_eq!(found(&page(limited(third.prev.clone())).await), ids[3..6]);
    assert_eq!(found(&page(limited(second.prev.clone())).await), ids[..3]);

    let on_prod = page(PipelineQuery {
        account: Some("prod".to_owned()),
        counts: vec![Facet::Status, Facet::Target],
        ..PipelineQuery::default()
    })
    .await;
    assert_eq!(on_prod.rows.len(), 3);
    assert_eq!(on_prod.counts[&Facet::Target]["prod"], 3);
    let _tasks = drive(&plane);
    for id in &ids {
        world.ended(*id).await;
    }
    let done = page(PipelineQuery {
        statuses: vec![ArmoryStatus::Succeeded],
        text: Some("APP-3".to_owned()),
        ..PipelineQuery::default()
    })
    .await;
    assert_eq!(done.rows.len(), 1);
    assert_eq!(done.rows[0].application, "app-3");
    let wrong = plane
        .list(&reader(), &limited(Some("nonsense".to_owned())))
        .await
        .unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_feed_goes_on_from_its_cursor_without_gap_or_repeat() {
    let world = World::new(&["staging"]);
    let plane = world.plane();
    let _tasks = drive(&plane);
    let targets = [("staging", target("staging", &[]))];
    let mut live = plane.events(&reader(), Cursor::START).await.unwrap();
    first_version(&world, &plane, file("shop", "app:1", canary(), &targets)).await;
    let id = submit(&plane, file("shop", "app:2", canary(), &targets)).await;
    world.until(id, |p| stands(p, "staging/step/1")).await;
    let document = plane.view(&reader(), id).await.unwrap();
    let total = world.store.events(&world.scope()).len();
    let mut cursors = Vec::new();
    for _ in 0..total {
        cursors.push(live.next().await.unwrap().unwrap().cursor);
    }
    assert!(cursors.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(cursors.last(), Some(&document.as_of.cursor));

    let again = plane.events(&reader(), cursors[4]).await.unwrap();
    let rest: Vec<_> = again
        .take(total - 5)
        .map(|item| item.unwrap().cursor)
        .collect()
        .await;
    assert_eq!(rest, cursors[5..]);

    plane
        .approve(
            &deployer("grace", &["release-manager"]),
            &door(),
            id,
            yes("staging/step/1"),
        )
        .await
        .unwrap();
    let next = live.next().await.unwrap().unwrap();
    assert_eq!(next.subject, id);
    assert_eq!(next.version, document.body.version + 1);
    assert_eq!(next.entry.as_ref().unwrap().kind, "gateOpened");
    let own = plane.pipeline_events(&reader(), id, Cursor::START).await.unwrap();
    let own: Vec<_> = own.map(Result::unwrap).collect().await;
    assert_eq!(own.last().unwrap().row.as_ref().unwrap().state, State::Succeeded);
    assert!(own.iter().all(|item| item.subject == id));
    let beyond = plane
        .events(&reader(), "t1.00000000ffffffff".parse().unwrap())
        .await;
    assert!(beyond.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_newer_program_parks_its_pipeline_and_no_other() {
    let world = World::new(&["staging", "prod"]);
    let plane = world.plane();
    let broken = submit(
        &plane,
        file("broken", "app:1", canary(), &[("prod", target("prod", &[]))]),
    )
    .await;
    let mut batch = Batch::new(world.scope());
    batch.appends.push(Append {
        stream: format!("pipeline/{broken}"),
        expected: 1,
        events: vec![r#"{"type":"teleported","v":1,"at":"2026-11-24T08:00:00Z"}"#.into()],
    });
    world.store.commit(batch).await.unwrap();
    let _tasks = drive(&plane);
    first_version(
        &world,
        &plane,
        file("shop", "app:1", canary(), &[("staging", target("staging", &[]))]),
    )
    .await;
    let seen = see(&plane, broken).await;
    assert_eq!((seen.state, seen.status), (State::Parked, ArmoryStatus::Unknown));
    assert!(
        seen.waiting[0].reason.text.contains("`teleported`"),
        "{:#?}",
        seen.waiting
    );
    let refused = plane
        .cancel(&deployer("ada", &[]), &door(), broken, None)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("cannot be read"), "{refused}");
    let row = world
        .store
        .get(
            &world.scope(),
            &RecordKey::new("pipeline.summary", broken.to_string()),
        )
        .await
        .unwrap();
    let row: aurora_core::pipeline::Summary = serde_json::from_slice(&row.unwrap().value).unwrap();
    assert_eq!(row.state, State::Parked);
}
