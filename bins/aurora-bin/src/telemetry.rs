//! Logs to standard error, as text or JSON; metrics kept for `/metrics`.

use std::str::FromStr;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// For people.
    #[default]
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("write text or json"),
        }
    }
}

/// What is logged: a level, or pairs of module and level.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = tracing_subscriber::filter::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Installs the process's one subscriber.
///
/// # Errors
/// When there is one already.
pub fn install_logs(format: LogFormat, filter: &LogFilter) -> Result<()> {
    let filter = EnvFilter::builder()
        .parse(&filter.0)
        .context("the log filter was checked before")?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => lines
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Installs the process's one recorder of metrics, and gives what reads it.
///
/// # Errors
/// When there is one already.
pub fn install_metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .install_recorder()
        .context("metrics are recorded already")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_filters_are_read_from_text() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert!("xml".parse::<LogFormat>().is_err());
        assert!("info,aurora_core=debug".parse::<LogFilter>().is_ok());
        assert!("aurora=loud".parse::<LogFilter>().is_err());
    }
}
