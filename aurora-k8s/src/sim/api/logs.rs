//! What `pods/NAME/log` answers.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::request::Query;
use crate::sim::controller::pod_log;

/// A request for the output of a container.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogRequest {
    /// The container.
    pub container: String,
    /// Asks for the run before the present one.
    pub previous: bool,
}

/// Makes up the output of containers; clones share it.
#[derive(Clone)]
pub struct PodLogs(Arc<Source>);

type Source = dyn Fn(&Value, &LogRequest) -> Option<String> + Send + Sync;

impl PodLogs {
    /// Output comes from this function; none means that the container did not run.
    pub fn new(write: impl Fn(&Value, &LogRequest) -> Option<String> + Send + Sync + 'static) -> Self {
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
                return Err(ApiError::bad_request(format!(
                    "container {wanted} is not valid for pod {name}"
                )));
            }
            (None, [only]) => only,
            (None, held) => {
                let held = held.join(" ");
                return Err(ApiError::bad_request(format!(
                    "a container name must be specified for pod {name}, choose one of: [{held}]"
                )));
            }
        };
        let previous = query.flag("previous");
        let request = LogRequest {
            container: container.to_owned(),
            previous,
        };
        let Some(text) = (self.0)(pod, &request) else {
            return Err(ApiError::bad_request(if previous {
                format!("previous terminated container \"{container}\" in pod \"{name}\" not found")
            } else {
                let reason = waiting(pod, container);
                format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")
            }));
        };
        Ok(match query.number("tailLines")?.map(usize::try_from) {
            Some(Ok(lines)) => tail(&text, lines),
            _ => text,
        })
    }
}

impl Default for PodLogs {
    /// The output that the controllers make up for the state that the container is in.
    fn default() -> Self {
        Self::new(|pod, request| pod_log(pod, Some(&request.container), request.previous))
    }
}

impl fmt::Debug for PodLogs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PodLogs(..)")
    }
}

fn waiting(pod: &Value, container: &str) -> String {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let status = statuses.into_iter().flatten().find(|it| it["name"] == container);
    let reason = status.and_then(|status| status["state"]["waiting"]["reason"].as_str());
    reason.unwrap_or("ContainerCreating").to_owned()
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    all[all.len().saturating_sub(lines)..].concat()
}
