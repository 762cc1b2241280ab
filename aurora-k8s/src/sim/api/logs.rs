//! What `pods/NAME/log` answers.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::request::Query;

/// A request for the output of a container.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogRequest {
    /// The container.
    pub container: String,
    /// Asks for the run before the present one.
    pub previous: bool,
}

/// Writes the output of containers: pod and request to text; clones share it.
#[derive(Clone)]
pub struct PodLogs(Arc<dyn Fn(&Value, &LogRequest) -> String + Send + Sync>);

impl PodLogs {
    /// Output comes from this function.
    pub fn new(write: impl Fn(&Value, &LogRequest) -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    pub(crate) fn read(&self, pod: &Value, query: &Query) -> Result<String, ApiError> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let containers: Vec<&str> = ["containers", "initContainers"]
            .into_iter()
            .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
            .filter_map(|container| container["name"].as_str())
            .collect();
        let container = match (query.text("container"), containers.as_slice()) {
            (Some(wanted), held) if held.contains(&wanted) => wanted,
            (Some(wanted), _) => {
                return Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {name}")));
            }
            (None, [only]) => only,
            (None, held) => {
                let held = held.join(" ");
                return Err(ApiError::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{held}]"
                )));
            }
        };
        let previous = query.flag("previous") && query.text("previous").is_some();
        let statuses = pod["status"]["containerStatuses"].as_array();
        let status = statuses.into_iter().flatten().find(|it| it["name"] == container);
        let restarts = status.and_then(|status| status["restartCount"].as_u64()).unwrap_or(0);
        let waiting = status.and_then(|status| status["state"]["waiting"]["reason"].as_str());
        if previous && restarts == 0 {
            return Err(ApiError::bad_request(format!(
                "previous terminated container \"{container}\" in pod \"{name}\" not found"
            )));
        }
        if let Some(reason) = waiting.or(status.is_none().then_some("ContainerCreating"))
            && restarts == 0
        {
            return Err(ApiError::bad_request(format!(
                "container \"{container}\" in pod \"{name}\" is waiting to start: {reason}"
            )));
        }
        let request = LogRequest { container: container.to_owned(), previous };
        let text = (self.0)(pod, &request);
        Ok(match query.number("tailLines")?.map(usize::try_from) {
            Some(Ok(lines)) => tail(&text, lines),
            _ => text,
        })
    }
}

impl Default for PodLogs {
    /// Says which image runs, and how the run before ended.
    fn default() -> Self {
        Self::new(|pod, request| {
            let containers = pod["spec"]["containers"].as_array();
            let image = containers
                .into_iter()
                .flatten()
                .find(|it| it["name"] == request.container.as_str())
                .and_then(|it| it["image"].as_str())
                .unwrap_or_default();
            let statuses = pod["status"]["containerStatuses"].as_array();
            let status = statuses.into_iter().flatten().find(|it| it["name"] == request.container.as_str());
            let ended = status.map(|status| &status["lastState"]["terminated"]);
            match ended.filter(|ended| ended.is_object()) {
                Some(ended) => {
                    let message = ended["message"].as_str().unwrap_or("no message");
                    format!("starting {image}\n{message}\nexit code {}\n", ended["exitCode"])
                }
                None => format!("starting {image}\n"),
            }
        })
    }
}

impl fmt::Debug for PodLogs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PodLogs(..)")
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    all[all.len().saturating_sub(lines)..].concat()
}
