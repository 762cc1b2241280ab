//! Requests per second of the REST API over many stored pipelines, and frames to many readers of its event stream.
//!
//! Each figure stands beside a limit that is taken in the same run: a bare handler that answers the same bytes from the
//! same server, or a bare channel that gives the same bytes to as many readers.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::control::ControlPlane;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::token::memory::InMemoryTokens;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_store::sqlite::SqliteStore;
use aurora_transport::rest::{Api, RequestRate};
use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use clap::Parser;
use futures::StreamExt;
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tower::ServiceExt as _;

/// Requests per second of the REST API, and the fan-out of its event stream.
#[derive(Debug, Parser)]
struct Args {
    /// How many pipelines are stored before anything is measured.
    #[arg(long, default_value_t = 10_000)]
    pipelines: usize,
    /// How many clients ask at once.
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// How long each sort of request is measured, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// How many readers follow the event stream.
    #[arg(long, default_value_t = 1000)]
    readers: usize,
    /// How many pipelines are submitted while they read.
    #[arg(long, default_value_t = 50)]
    events: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let store = Arc::new(SqliteStore::open(folder.path().join("bench.sqlite"), Arc::new(SystemClock)).await?);
    let tenant = Tenant::new("bench", "main")?;
    let router = InMemoryRouter::new(SystemClock);
    router.connect(
        AgentKey::new(tenant.clone(), AgentName::new("cluster")?),
        InMemoryCluster::default(),
    );
    // Nothing drives the pipelines: what is measured is the API, not the engine.
    let plane = ControlPlane::new(store, router, InMemoryRenderer, SystemClock);
    let tokens = InMemoryTokens::new();
    let token = tokens.issue(principal(&tenant)).secret.expose().to_owned();
    let rate = RequestRate {
        per_second: f64::MAX,
        burst: u32::MAX,
    };
    let api = Api::new(plane, tokens, SystemClock)
        .with_rate(rate)
        .with_streams(args.readers + 16, args.readers + 16);
    let server = Server::start(api.router()).await?;

    let started = Instant::now();
    let first = fill(&api, &token, args.pipelines).await?;
    println!(
        "{} pipelines stored in {:.1} s",
        args.pipelines,
        started.elapsed().as_secs_f64()
    );

    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "", "per s", "p50 ms", "p99 ms", "bare/s", "share"
    );
    let measure = async |name: &str, path: &str| server.measure(&args, &token, name, path).await;
    measure("status", &format!("/pipelines/{first}")).await?;
    measure("view", &format!("/pipelines/{first}/view")).await?;
    measure("list, 50 rows", "/pipelines").await?;
    measure("list, one application", "/pipelines?application=app-77").await?;
    measure("list, text in all of them", "/pipelines?q=nothing-has-this").await?;
    measure(
        "list with all counts",
        "/pipelines?limit=1&counts=status,application,target,needs",
    )
    .await?;
    server.measure_submits(&args, &token).await?;
    fan_out(&api, &token, &args).await?;
    server.tasks.drain(Duration::from_secs(10)).await?;
    Ok(())
}

/// A server on loopback, with what is measured and the bare handlers beside it.
struct Server {
    url: String,
    tasks: Tasks,
    client: reqwest::Client,
}

impl Server {
    async fn start(router: Router) -> Result<Self> {
        let bare = Router::new().route(
            "/bare",
            post(|body: Bytes| async move { body }).layer(axum::extract::DefaultBodyLimit::max(16 << 20)),
        );
        let sized = Router::new().route(
            "/bare/{bytes}",
            get(|axum::extract::Path(bytes): axum::extract::Path<usize>| async move { vec![b'x'; bytes] }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let tasks = Tasks::new();
        let app = router.merge(bare).merge(sized);
        tasks.spawn(|stop| async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
            drop(served.await);
        });
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { url, tasks, client })
    }

    async fn measure(&self, args: &Args, token: &str, name: &str, path: &str) -> Result<()> {
        let ask = async |path: String| -> Result<usize> {
            let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(token);
            let answer = request.send().await?.error_for_status()?;
            Ok(answer.bytes().await?.len())
        };
        let bytes = ask(path.to_owned()).await?;
        let ours = load(args, |_| ask(path.to_owned())).await?;
        let bare = load(args, |_| ask(format!("/bare/{bytes}"))).await?;
        ours.print(name, &bare);
        Ok(())
    }

    async fn measure_submits(&self, args: &Args, token: &str) -> Result<()> {
        let ask = async |path: &str, body: String| -> Result<usize> {
            let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(token);
            let request = request.header("content-type", "application/json").body(body);
            let answer = request.send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            anyhow::ensure!(status.is_success(), "{status}: {body}");
            Ok(body.len())
        };
        let bare = load(args, |number| {
            ask("/bare", file(&format!("bare-{number}")).to_string())
        })
        .await?;
        let ours = load(args, |number| {
            ask("/pipelines", file(&format!("submit-{number}")).to_string())
        })
        .await?;
        ours.print("submit, durable", &bare);
        Ok(())
    }
}

/// How long each request took, in order of length, and how long all of them.
struct Took {
    each: Vec<Duration>,
    all: Duration,
}

impl Took {
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.all.as_secs_f64()
    }

    fn at(&self, percent: usize) -> f64 {
        let index = (self.each.len() * percent / 100).min(self.each.len().saturating_sub(1));
        self.each
            .get(index)
            .map_or(0.0, |took| took.as_secs_f64() * 1000.0)
    }

    fn print(&self, name: &str, bare: &Self) {
        println!(
            "{name:<34} {:>9.0} {:>9.2} {:>9.2} {:>9.0} {:>7.2}",
            self.rate(),
            self.at(50),
            self.at(99),
            bare.rate(),
            self.rate() / bare.rate()
        );
    }
}

/// So many clients ask one after another for so long.
async fn load<F: Future<Output = Result<usize>>>(args: &Args, ask: impl Fn(usize) -> F) -> Result<Took> {
    let number = AtomicUsize::new(0);
    let started = Instant::now();
    let until = started + Duration::from_secs(args.seconds);
    let clients = (0..args.clients).map(|_| async {
        let mut took = Vec::new();
        while Instant::now() < until {
            let asked = Instant::now();
            ask(number.fetch_add(1, Ordering::Relaxed)).await?;
            took.push(asked.elapsed());
        }
        anyhow::Ok(took)
    });
    let took = futures::future::try_join_all(clients).await?;
    let all = started.elapsed();
    let mut each: Vec<Duration> = took.into_iter().flatten().collect();
    each.sort();
    Ok(Took { each, all })
}

/// Submits as many pipelines, some at once so that they share commits; the id of the first.
async fn fill(api: &Api, token: &str, pipelines: usize) -> Result<String> {
    let router = api.router();
    let mut ids = futures::stream::iter(0..pipelines)
        .map(|number| submit(router.clone(), token, format!("app-{number}")))
        .buffered(64);
    let first = ids.next().await.context("at least one pipeline")??;
    while let Some(id) = ids.next().await {
        id?;
    }
    Ok(first)
}

async fn submit(router: Router, token: &str, application: String) -> Result<String> {
    let request = Request::post("/pipelines")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Body::from(file(&application).to_string()))?;
    let answer = router.oneshot(request).await?;
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await?;
    let body: Value = serde_json::from_slice(&body)?;
    let id = body["pipelineId"].as_str().with_context(|| body.to_string())?;
    Ok(id.to_owned())
}

/// Many readers of one stream: what it costs, and how late the last of them is.
async fn fan_out(api: &Api, token: &str, args: &Args) -> Result<()> {
    let frames = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(AtomicUsize::new(0));
    let memory = resident_kib();
    let tasks = Tasks::new();
    let router = api.router();
    for _ in 0..args.readers {
        let request = Request::get("/events?topic=pipelines")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())?;
        let answer = router.clone().oneshot(request).await?;
        anyhow::ensure!(answer.status().is_success(), "a stream is {}", answer.status());
        let (frames, bytes) = (Arc::clone(&frames), Arc::clone(&bytes));
        tasks.spawn(|stop| async move {
            let mut body = answer.into_body().into_data_stream();
            while let Some(Some(Ok(chunk))) = stop.run_until_cancelled(body.next()).await {
                bytes.fetch_add(chunk.len(), Ordering::Relaxed);
                let text = String::from_utf8_lossy(&chunk);
                frames.fetch_add(text.matches("event: pipeline.changed").count(), Ordering::Relaxed);
            }
        });
    }
    let (cpu, started) = (cpu_seconds(), Instant::now());
    let mut lags = Vec::new();
    let mut expected = 0;
    for number in 0..args.events {
        submit(router.clone(), token, format!("fan-out-{number}")).await?;
        let committed = Instant::now();
        // A submit stores two events: that it came, and the gate that it waits at.
        expected += args.readers;
        while frames.load(Ordering::Relaxed) < expected {
            tokio::task::yield_now().await;
        }
        expected = frames.load(Ordering::Relaxed).max(expected);
        lags.push(committed.elapsed());
    }
    let (cpu, took) = (cpu_seconds() - cpu, started.elapsed());
    let memory = resident_kib().saturating_sub(memory);
    let told = frames.load(Ordering::Relaxed);
    tasks.drain(Duration::from_secs(10)).await?;
    let size = bytes.load(Ordering::Relaxed) / told.max(1);
    let bare = bare_fan_out(args.readers, args.events, size).await?;
    lags.sort();
    let lag = |percent: usize| lags[(lags.len() * percent / 100).min(lags.len() - 1)].as_secs_f64() * 1000.0;
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let (told, readers) = (told as f64, args.readers as f64);
    println!(
        "fan-out to {} readers: {told:.0} frames of {size} bytes in {:.2} s",
        args.readers,
        took.as_secs_f64()
    );
    println!("  frames per second    {:.0}", told / took.as_secs_f64());
    println!(
        "  bare channel         {bare:.0} per second, share {:.3}",
        told / took.as_secs_f64() / bare
    );
    println!(
        "  processor            {cpu:.2} s, {:.1} us a frame",
        cpu * 1e6 / told
    );
    println!(
        "  memory               {:.1} KiB a reader",
        memory as f64 / readers
    );
    println!(
        "  lag of the last      p50 {:.1} ms, p99 {:.1} ms",
        lag(50),
        lag(99)
    );
    Ok(())
}

/// Frames per second that a bare channel gives to as many readers.
async fn bare_fan_out(readers: usize, events: usize, size: usize) -> Result<f64> {
    let (sender, _) = broadcast::channel::<Bytes>(1024);
    let heard = Arc::new(AtomicUsize::new(0));
    let tasks = Tasks::new();
    for _ in 0..readers {
        let (mut receiver, heard) = (sender.subscribe(), Arc::clone(&heard));
        tasks.spawn(|stop| async move {
            while let Some(Ok(chunk)) = stop.run_until_cancelled(receiver.recv()).await {
                heard.fetch_add(usize::from(!chunk.is_empty()), Ordering::Relaxed);
            }
        });
    }
    let started = Instant::now();
    for number in 1..=events {
        sender.send(Bytes::from(vec![b'x'; size]))?;
        while heard.load(Ordering::Relaxed) < number * readers {
            tokio::task::yield_now().await;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let rate = (readers * events) as f64 / started.elapsed().as_secs_f64();
    tasks.drain(Duration::from_secs(10)).await?;
    Ok(rate)
}

/// Memory of this process, in KiB; 0 where the system does not say.
fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Processor time of this process; 0 where the system does not say. A tick is 10 ms everywhere.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit(')').next().unwrap_or_default();
    let ticks: u32 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    f64::from(ticks) / 100.0
}

/// A deploy file whose run waits for a person.
fn file(application: &str) -> Value {
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    });
    json!({
        "version": "v1", "kind": "kubernetes", "application": application,
        "targets": {"t": {
            "account": "cluster", "namespace": "web", "strategy": "s",
            "constraints": {"beforeDeployment": [{"pause": {"untilApproved": true}}]},
        }},
        "strategies": {"s": {"canary": {"steps": [{"setWeight": {"weight": 50}}]}}},
        "manifests": [{"path": "app.yaml"}],
        "files": {"app.yaml": [manifest.to_string()]},
    })
}

fn principal(tenant: &Tenant) -> Principal {
    Principal {
        kind: PrincipalKind::Machine,
        id: "bench".into(),
        display: "bench".into(),
        tenant: Some(tenant.clone()),
        scopes: BTreeSet::from(["manage:deploy".to_owned()]),
        roles: BTreeSet::new(),
        agents: BTreeSet::new(),
        expires_at: Timestamp::MAX,
    }
}
