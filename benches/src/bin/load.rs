//! Commands through a hub beside raw frames over a tonic stream: rate, and CPU per round trip of the hub.
//!
//! Agents run in a process of their own; TLS is on; payloads are 1 KiB. The ratio is what matters: both
//! figures come from the same run on the same computer.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use aurora_benches::cpu;
use aurora_benches::echo::{EchoServer, Opened, echo};
use aurora_bin::tls::Authority;
use aurora_core::account::{AgentKey, AgentName};
use aurora_core::agent::Agent;
use aurora_core::command::{Outcome, Update, Verb};
use aurora_core::entropy::Entropy;
use aurora_core::hub::Hub;
use aurora_core::id::CommandId;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::token::{Token, TokenError, TokenSource, TokenVerifier};
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::secret::Secret;
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_transport::grpc::{GrpcConnector, GrpcListener, Trust};
use axum::Router;
use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Mutex;

/// Commands through a hub beside raw frames over a tonic stream.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// How many agents.
    #[arg(long, default_value_t = 1)]
    agents: usize,
    /// How many round trips are under way at once.
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// How long each part is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// The other process: agents and echoing clients; started by the measurement itself.
    #[command(hide = true)]
    Agents {
        hub: String,
        authority: std::path::PathBuf,
        count: usize,
    },
}

const TOKEN: &str = "a token of the measurement";
const PAYLOAD: usize = 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    match args.role {
        Some(Role::Agents {
            hub,
            authority,
            count,
        }) => agents(&hub, &authority, count).await,
        None => measure(&args).await,
    }
}

/// Knows one token.
#[derive(Clone, Debug)]
struct OneToken(Arc<Principal>);

#[async_trait]
impl TokenVerifier for OneToken {
    async fn verify(&self, token: &Secret, _: Timestamp) -> Result<Arc<Principal>, TokenError> {
        if token.equals(TOKEN) {
            return Ok(Arc::clone(&self.0));
        }
        Err(TokenError::Unauthenticated {
            reason: "another token",
        })
    }
}

#[async_trait]
impl TokenSource for OneToken {
    async fn token(&self, _: Timestamp) -> Result<Token, TokenError> {
        Ok(Token {
            secret: Secret::new(TOKEN),
            expires_at: Timestamp::MAX,
        })
    }
}

fn tenant() -> Result<Tenant> {
    Ok(Tenant::new("bench", "main")?)
}

fn name(index: usize) -> Result<AgentName> {
    Ok(AgentName::new(format!("agent-{index}"))?)
}

fn token(agents: usize) -> Result<OneToken> {
    Ok(OneToken(Arc::new(Principal {
        kind: PrincipalKind::Machine,
        id: "bench".into(),
        display: "bench".into(),
        tenant: Some(tenant()?),
        scopes: ["connect:agentHub".to_owned()].into(),
        roles: Default::default(),
        agents: (0..agents).map(name).collect::<Result<_>>()?,
        expires_at: Timestamp::from_second(4_000_000_000)?,
    })))
}

async fn agents(hub: &str, authority: &std::path::Path, count: usize) -> Result<()> {
    let tasks = Tasks::new();
    let tokens = token(count)?;
    for index in 0..count {
        let connector = GrpcConnector::new(hub, Trust::file(authority))?;
        let agent = Agent::new(
            name(index)?,
            connector,
            tokens.clone(),
            InMemoryCluster::default(),
        );
        tasks.spawn(|stop| async move {
            let _ = agent.run(stop).await;
        });
    }
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(std::fs::read(authority)?));
    let channel = tonic::transport::Endpoint::from_shared(hub.to_owned())?
        .tls_config(tls)?
        .connect()
        .await?;
    echo(channel).await?;
    // The agents go on until the measurement ends this process.
    std::future::pending().await
}

async fn measure(args: &Args) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::generate(SystemClock.now())?;
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, authority.certificate())?;
    let tls = authority.server(&[], SystemClock.now())?.server_config(&["h2"])?;

    let tokens = token(args.agents)?;
    let hub = Hub::new(SystemClock).with_in_flight(args.in_flight.max(256));
    let listener = GrpcListener::new(tokens, SystemClock, hub.clone());
    let (echo_server, mut opened) = EchoServer::new();
    let routes = listener.routes().add_service(echo_server);
    let tasks = Tasks::new();
    let accepting = hub.clone();
    tasks.spawn(|stop| async move {
        let _ = accepting.run(listener, stop).await;
    });
    let address: SocketAddr = "127.0.0.1:0".parse()?;
    let server = aurora_bin::http_server::HttpServer::bind(address, Some(tls)).await?;
    let url = server.url();
    let router: Router = routes.into_axum_router();
    tasks.spawn(|stop| async move {
        let _ = server.serve(router, stop, Duration::from_secs(1)).await;
    });

    let child = OtherProcess(
        Command::new(std::env::current_exe()?)
            .args(["agents", &url])
            .arg(&file)
            .arg(args.agents.to_string())
            .stdin(Stdio::null())
            .spawn()?,
    );
    let opened = tokio::time::timeout(Duration::from_secs(30), opened.recv())
        .await?
        .context("no echo stream")?;
    connected(&hub, args.agents).await?;

    let during = Duration::from_secs(args.seconds);
    let raw = sample(&child, || raw_echo(opened, args.in_flight, during)).await?;
    let routed = sample(&child, || {
        commands(hub.clone(), args.agents, args.in_flight, during)
    })
    .await?;
    println!(
        "{} agent(s), {} in flight, {PAYLOAD} bytes, TLS, agents in another process",
        args.agents, args.in_flight
    );
    raw.print("raw tonic stream");
    routed.print("hub commands");
    println!(
        "ratio             {:.2} of the raw rate, {:.1} times the raw CPU of this process",
        routed.rate / raw.rate,
        routed.cpu_here / raw.cpu_here,
    );
    drop(child);
    let _ = tasks.drain(Duration::from_secs(5)).await;
    Ok(())
}

/// Killed at the end.
struct OtherProcess(Child);

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn connected(hub: &Hub, wanted: usize) -> Result<()> {
    let tenant = tenant()?;
    let started = Instant::now();
    while hub
        .agents(&tenant)
        .await?
        .iter()
        .filter(|agent| !agent.instances.is_empty())
        .count()
        < wanted
    {
        anyhow::ensure!(
            started.elapsed() < Duration::from_secs(60),
            "the agents did not connect"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What one part measured.
#[derive(Debug)]
struct Sample {
    rate: f64,
    cpu_here: f64,
    cpu_there: f64,
}

impl Sample {
    fn print(&self, what: &str) {
        println!(
            "{what:<17} {:>9.0} round trips/s, CPU per round trip: {:.1} µs here, {:.1} µs in the agents",
            self.rate, self.cpu_here, self.cpu_there
        );
    }
}

async fn sample<F: Future<Output = Result<u64>>>(
    child: &OtherProcess,
    run: impl FnOnce() -> F,
) -> Result<Sample> {
    let (here, there) = (cpu::used_by(std::process::id())?, cpu::used_by(child.0.id())?);
    let started = Instant::now();
    let count = run().await?;
    let took = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts of a measurement")]
    let count = count as f64;
    let per = |before: Duration, pid: u32| -> Result<f64> {
        Ok((cpu::used_by(pid)? - before).as_secs_f64() * 1e6 / count)
    };
    Ok(Sample {
        rate: count / took,
        cpu_here: per(here, std::process::id())?,
        cpu_there: per(there, child.0.id())?,
    })
}

/// Keeps so many frames under way and counts those that came back.
async fn raw_echo(opened: Opened, in_flight: usize, during: Duration) -> Result<u64> {
    let Opened { tx, mut rx } = opened;
    let frame = Bytes::from(vec![7; PAYLOAD]);
    for _ in 0..in_flight {
        tx.send(Ok(frame.clone())).await?;
    }
    let until = Instant::now() + during;
    let mut count = 0;
    while Instant::now() < until {
        rx.message().await?.context("the stream ended")?;
        count += 1;
        tx.send(Ok(frame.clone())).await?;
    }
    Ok(count)
}

/// Keeps so many commands under way, over all agents, and counts those that were answered.
async fn commands(hub: Hub, agents: usize, in_flight: usize, during: Duration) -> Result<u64> {
    let until = Instant::now() + during;
    let entropy = Arc::new(Entropy::from_system());
    let count = Arc::new(Mutex::new(0_u64));
    let mut lanes = FuturesUnordered::new();
    for lane in 0..in_flight {
        let key = AgentKey::new(tenant()?, name(lane % agents)?);
        let (hub, entropy, count) = (hub.clone(), Arc::clone(&entropy), Arc::clone(&count));
        lanes.push(async move {
            let mut done = 0;
            while Instant::now() < until {
                let command = aurora_core::command::Command {
                    id: CommandId::at(SystemClock.now(), entropy.ten_bytes()),
                    pipeline: None,
                    initiator: "bench".into(),
                    deadline: Duration::from_secs(30),
                    trace_parent: None,
                    verb: Verb::Ping {
                        payload: vec![7; PAYLOAD],
                    },
                };
                let mut updates = hub.route(&key, Order::new(command)).await?;
                while let Some(update) = updates.next().await {
                    match update {
                        Update::Finished(Outcome::Ok(_)) => done += 1,
                        Update::Finished(other) => anyhow::bail!("a command ended {other:?}"),
                        _ => {}
                    }
                }
            }
            *count.lock().await += done;
            Ok(())
        });
    }
    while let Some(lane) = lanes.next().await {
        lane?;
    }
    let total = *count.lock().await;
    Ok(total)
}
