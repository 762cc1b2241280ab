//! The course of a server process, from its arguments to its exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aurora_core::tasks::Tasks;
use clap::error::ErrorKind;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::health::Health;
use crate::http_server::HttpServer;
use crate::settings::{InvalidConfig, Settings, Spec};
use crate::signals::Signals;
use crate::telemetry::{self, LogFilter, LogFormat};

/// What a role gets from its process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Cancelled when the process shall stop.
    pub stop: CancellationToken,
    /// How long work in hand may take then.
    pub grace: Duration,
    /// What `/readyz` says.
    pub health: Health,
    /// Owns what runs beside the role; it is drained after the role returned.
    pub tasks: Tasks,
    name: &'static str,
    format: LogFormat,
}

/// The settings that every binary has.
#[derive(Debug)]
struct Common {
    filter: LogFilter,
    format: LogFormat,
    grace: Duration,
    health: Option<std::net::SocketAddr>,
}

impl Common {
    fn read(settings: &mut Settings, spec: &Spec) -> Option<Self> {
        let filter = settings.parsed("log.level");
        let format = settings.parsed("log.format");
        let grace = settings.time("grace");
        let health = settings.address_or_off("health.listen", spec.health);
        Some(Self {
            filter: filter?,
            format: format?,
            grace: grace?,
            health,
        })
    }
}

impl Process {
    /// Says on standard output that something listens; one line, JSON where the log is JSON.
    ///
    /// # Errors
    /// When standard output is closed.
    pub fn announce(&self, what: &str, url: &str) -> Result<()> {
        let line = match self.format {
            LogFormat::Json => {
                json!({"event": "listening", "program": self.name, "what": what, "url": url}).to_string()
            }
            LogFormat::Text => format!("{}: {what} is listening on {url}", self.name),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("standard output is closed")
    }
}

/// Runs a role: reads its configuration, serves until a signal or an error, drains.
pub fn main<C>(
    spec: &'static Spec,
    read: impl FnOnce(Settings) -> Result<C, InvalidConfig>,
    role: impl AsyncFnOnce(C, Process) -> Result<()>,
) -> ExitCode {
    let arguments = match Settings::arguments(spec, std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(asked) => {
            // Help and version are no mistakes.
            let wrong = !matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = asked.print();
            return if wrong { Exit::Usage } else { Exit::Succeeded }.into();
        }
    };
    let mut settings = Settings::gather(spec, &arguments, variable);
    let common = Common::read(&mut settings, spec);
    let (common, config) = match (common, read(settings)) {
        (Some(common), Ok(config)) => (common, config),
        (_, Err(invalid)) => return said(spec.name, &invalid, Exit::WrongConfiguration),
        (None, Ok(_)) => return said(spec.name, &"a common setting is wrong", Exit::WrongConfiguration),
    };
    match run(spec.name, common, config, role) {
        Ok(()) => Exit::Succeeded.into(),
        Err(error) => said(spec.name, &format!("{error:#}"), Exit::Failed),
    }
}

#[expect(clippy::disallowed_methods, reason = "binaries read the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn said(name: &str, what: &dyn std::fmt::Display, exit: Exit) -> ExitCode {
    // Where standard error is closed nobody listens.
    let _ = writeln!(io::stderr(), "{name}: {what}");
    exit.into()
}

fn run<C>(
    name: &'static str,
    common: Common,
    config: C,
    role: impl AsyncFnOnce(C, Process) -> Result<()>,
) -> Result<()> {
    telemetry::install_logs(common.format, &common.filter)?;
    let metrics = telemetry::install_metrics()?;
    // A default that somebody installed before is as good: there is one crypto stack.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    let ended = runtime.block_on(async {
        let process = Process {
            stop: CancellationToken::new(),
            grace: common.grace,
            health: Health::new(),
            tasks: Tasks::new(),
            name,
            format: common.format,
        };
        let signals = Signals::listen()?;
        let (stop, health) = (process.stop.clone(), process.health.clone());
        process
            .tasks
            .spawn(|end| drain_when_told(signals, stop, health, end));
        // The health listener outlives the drain, so that it can be watched.
        let watched = Tasks::new();
        if let Some(address) = common.health {
            let server = HttpServer::bind(address, None).await?;
            process.announce("health", &server.url())?;
            let router = process.health.router(metrics);
            watched.spawn(|stop| async move {
                let _ = server.serve(router, stop, Duration::ZERO).await;
            });
        }
        let served = role(config, process.clone()).await;
        process.health.draining();
        process.stop.cancel();
        let drained = process.tasks.drain(process.grace).await;
        let _ = watched.drain(Duration::from_secs(1)).await;
        served?;
        drained.context("not everything ended")
    });
    // What still blocks a thread shall not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// The first signal drains; the second one does not wait for that.
async fn drain_when_told(
    mut signals: Signals,
    stop: CancellationToken,
    health: Health,
    end: CancellationToken,
) {
    tokio::select! {
        biased;
        () = end.cancelled() => return,
        () = signals.next() => {}
    }
    tracing::info!("told to stop; draining");
    health.draining();
    stop.cancel();
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = signals.end_at_the_next() => {}
    }
}

/// The machine's clock, shared.
pub fn clock() -> Arc<dyn aurora_core::port::clock::Clock> {
    Arc::new(aurora_core::port::clock::SystemClock)
}
