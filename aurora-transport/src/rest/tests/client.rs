//! The typed client over a real connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aurora_core::control::PipelineQuery;
use aurora_core::deploy_file::{FileText, Files};
use aurora_core::error::ErrorKind;
use aurora_core::pipeline::ArmoryStatus;
use aurora_core::port::clock::Clock;
use aurora_core::port::http::memory::{Reply, ScriptedHttp};
use aurora_core::port::token::{Token, TokenError, TokenSource};
use aurora_core::principal::ClientProduct;
use aurora_core::secret::Secret;
use aurora_core::tasks::Tasks;
use futures::StreamExt;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{World, file, gated};
use crate::rest::client::{Client, ClientConfig, LinkRequest, SubmitRequest};
use crate::rest::{ActRequest, Api, StreamEvent};

#[derive(Debug)]
struct Fixed(String);

#[async_trait::async_trait]
impl TokenSource for Fixed {
    async fn token(&self, _now: Timestamp) -> Result<Token, TokenError> {
        Ok(Token {
            secret: Secret::new(self.0.clone()),
            expires_at: Timestamp::MAX,
        })
    }
}

/// Serves an API on a port of its own until the tasks are dropped.
pub(super) async fn serve(api: &Api, on: Option<SocketAddr>) -> (SocketAddr, Tasks) {
    let on = on.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = TcpListener::bind(on).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api.router();
    let tasks = Tasks::new();
    tasks.spawn(|stop| async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        serving.await.unwrap();
    });
    (address, tasks)
}

fn client(world: &World, address: SocketAddr, token: String) -> Client {
    let config = ClientConfig {
        server: format!("http://{address}"),
        authorities: None,
        product: ClientProduct {
            product: "aurora-cli".to_owned(),
            version: "0.1.0".to_owned(),
        },
    };
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    Client::try_new(config, Arc::new(Fixed(token)), clock).unwrap()
}

/// The deploy file as YAML, and its manifests beside it.
fn submit_request(application: &str) -> SubmitRequest {
    let mut file = gated(application);
    let text = file["files"]["manifests/app.yaml"][0]
        .as_str()
        .unwrap()
        .to_owned();
    file.as_object_mut().unwrap().remove("files");
    let yaml: String = file
        .as_object()
        .unwrap()
        .iter()
        .map(|(key, value)| format!("{key}: {value}\n"))
        .collect();
    let manifest = FileText {
        name: "app.yaml".to_owned(),
        text,
    };
    let files = BTreeMap::from([("manifests/app.yaml".to_owned(), vec![manifest])]);
    SubmitRequest::new(yaml, "deploy.yaml", Files(files))
}

#[tokio::test]
async fn a_pipeline_is_submitted_watched_approved_and_looked_at() {
    let world = World::new().await;
    let (address, _serving) = serve(&world.api, None).await;
    let client = client(&world, address, world.ada());
    let submit = submit_request("shop");
    let submitted = client.submit(&submit).await.unwrap();
    assert_eq!(
        client.submit(&submit).await.unwrap(),
        submitted,
        "sent twice it is one pipeline"
    );
    let id = submitted.pipeline_id;
    world.until(&id.to_string(), "AWAITING_APPROVAL").await;

    let busy = client.submit(&submit_request("shop")).await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Conflict);
    assert_eq!(busy.problem().unwrap().pipeline_id, Some(id));

    let document = client.view(id).await.unwrap();
    assert_eq!(document.body.actor.via, aurora_core::principal::Channel::Cli);
    let mut events = client.watch(id, Some(document.as_of.cursor));
    assert!(matches!(events.next().await, Some(Ok(StreamEvent::Hello(_)))));
    let act = ActRequest {
        target: Some("staging".to_owned()),
        comment: Some("fine".to_owned()),
        ..ActRequest::default()
    };
    let acted = client.approve(id, &act).await.unwrap();
    let mut versions = Vec::new();
    let mut last = None;
    while let Some(event) = events.next().await {
        match event.unwrap() {
            StreamEvent::TimelineAppended(line) => versions.push(line.version),
            StreamEvent::PipelineChanged(changed) => last = Some(changed.row.status),
            _ => {}
        }
    }
    assert_eq!(versions[0], document.body.version + 1);
    assert!(versions.contains(&acted.version));
    assert!(
        versions.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{versions:?}"
    );
    assert_eq!(last, Some(ArmoryStatus::Succeeded));

    assert_eq!(client.status(id).await.unwrap().status, ArmoryStatus::Succeeded);
    assert_eq!(client.target(id, "staging").await.unwrap().target.name, "staging");
    assert!(!client.timeline(id, 0).await.unwrap().entries.is_empty());
    assert!(client.evidence(id).await.unwrap().evidence.is_empty());
    let query = PipelineQuery {
        application: Some("shop".to_owned()),
        statuses: vec![ArmoryStatus::Succeeded],
        since: Some("2026-11-24T00:00:00Z".parse().unwrap()),
        ..PipelineQuery::default()
    };
    assert_eq!(client.list(&query).await.unwrap().rows[0].id, id);
    assert_eq!(client.agents().await.unwrap().agents.len(), 1);
    assert_eq!(
        client.agent("staging-agent").await.unwrap().agent.name.as_str(),
        "staging-agent"
    );
    assert_eq!(client.accounts().await.unwrap().accounts.len(), 1);
    let ended = client.cancel(id, None).await.unwrap_err();
    assert_eq!(ended.problem().unwrap().code, "pipeline.ended");
}

#[tokio::test]
async fn a_watch_goes_on_across_a_restart_of_the_server() {
    let stop = CancellationToken::new();
    let world = World::with(|api| api.with_stop(stop.clone())).await;
    let id = world.waiting().await.parse().unwrap();
    let (address, serving) = serve(&world.api, None).await;
    let client = client(&world, address, world.ada());
    let from = client.view(id).await.unwrap();
    let mut events = client.watch(id, Some(from.as_of.cursor));
    assert!(matches!(events.next().await, Some(Ok(StreamEvent::Hello(_)))));
    stop.cancel();
    serving.drain(std::time::Duration::from_secs(10)).await.unwrap();

    // What happens while nobody listens is told afterwards.
    world
        .post(
            &world.ada(),
            &format!("/pipelines/{id}/actions/cancel"),
            &serde_json::json!({}),
        )
        .await;
    let again = Api::new(world.plane.clone(), world.tokens.clone(), world.clock.clone());
    let (_, _serving) = serve(&again, Some(address)).await;
    let mut versions = Vec::new();
    while let Some(event) = events.next().await {
        if let StreamEvent::TimelineAppended(line) = event.unwrap() {
            versions.push(line.version);
        }
    }
    let all = client.timeline(id, from.body.version).await.unwrap().entries;
    assert_eq!(versions, all.iter().map(|line| line.version).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_run_is_started_by_link_skipped_taken_back_and_deployed_again() {
    let http = ScriptedHttp::new();
    let reading = http.clone();
    let world = World::with(|api| api.with_http(reading)).await;
    let (address, _serving) = serve(&world.api, None).await;
    let client = client(&world, address, world.ada());
    let url = "https://files.example/shop/deploy.yaml";
    let mut runs = Vec::new();
    for image in ["app:1", "app:2"] {
        http.on(url, Reply::status(200, file("shop", image).to_string()));
        let mut link = LinkRequest::new(url);
        link.targets.push("staging".to_owned());
        let started = client.submit_link(&link).await.unwrap();
        runs.push(started.pipeline_id);
        let id = started.pipeline_id.to_string();
        if image == "app:2" {
            world.until(&id, "PAUSED").await;
            client
                .skip(started.pipeline_id, &ActRequest::default())
                .await
                .unwrap();
        }
        world.until(&id, "SUCCEEDED").await;
    }
    let back = ActRequest {
        to_run: Some(runs[0]),
        ..ActRequest::default()
    };
    let back = client.roll_back(runs[1], &back).await.unwrap();
    assert!(!runs.contains(&back.pipeline_id));
    world.until(&back.pipeline_id.to_string(), "SUCCEEDED").await;
    let again = ActRequest {
        targets: Some(vec!["staging".to_owned()]),
        context: BTreeMap::from([("why".to_owned(), "again".to_owned())]),
        ..ActRequest::default()
    };
    let again = client.redeploy(runs[1], &again).await.unwrap();
    let view = client.view(again.pipeline_id).await.unwrap().body;
    assert_eq!(view.context["why"], "again");
    let nothing = client.retry(runs[1], &ActRequest::default()).await.unwrap_err();
    assert_eq!(nothing.problem().unwrap().code, "retry.nothing");
    let config = client.config(runs[0]).await.unwrap();
    assert!(String::from_utf8(config).unwrap().contains("app:1"));
    let me = client.me().await.unwrap();
    assert_eq!(me.tenants[0].environment, "main");
}

#[tokio::test]
async fn what_cannot_work_is_an_error_at_once() {
    let world = World::new().await;
    let (address, serving) = serve(&world.api, None).await;
    let stranger = client(&world, address, "forged".to_owned());
    assert_eq!(
        stranger.agents().await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    let id = world.waiting().await.parse().unwrap();
    let mut events = stranger.watch(id, None);
    assert_eq!(
        events.next().await.unwrap().unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    assert!(events.next().await.is_none());
    serving.drain(std::time::Duration::from_secs(10)).await.unwrap();
    let error = stranger.agents().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut events = stranger.watch(id, None);
    assert_eq!(
        events.next().await.unwrap().unwrap_err().kind(),
        ErrorKind::Unavailable
    );

    for server in [
        "http://aurora.example",
        "ftp://x",
        "aurora",
        "https://a/?b=c",
        "https://u@a/",
    ] {
        let config = ClientConfig {
            server: server.to_owned(),
            authorities: None,
            product: ClientProduct {
                product: "test".to_owned(),
                version: "1".to_owned(),
            },
        };
        let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
        let error = Client::try_new(config, Arc::new(Fixed("t".to_owned())), clock).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{server}");
    }
}
