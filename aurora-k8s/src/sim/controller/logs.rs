//! What the containers of simulated pods have written.

use serde_json::Value;

use super::meta;

/// Log lines of one container of a pod, of the running or of the previous one; `None` when there is no such
/// container or it never ran.
#[must_use]
pub fn pod_log(pod: &Value, container: Option<&str>, previous: bool) -> Option<String> {
    let statuses = pod["status"]["containerStatuses"].as_array()?;
    let status = match container {
        Some(name) => statuses.iter().find(|status| status["name"] == name)?,
        None => statuses.first()?,
    };
    let container = status["name"].as_str().unwrap_or_default();
    let image = status["image"].as_str().unwrap_or_default();
    let restarts = meta::int(status, "/restartCount").unwrap_or(0);
    let terminated = &status["lastState"]["terminated"];
    if previous {
        let died = terminated["finishedAt"].as_str()?;
        return Some(crashed(
            container,
            image,
            died,
            meta::int(terminated, "/exitCode").unwrap_or(1),
        ));
    }
    if let Some(started) = status["state"]["running"]["startedAt"].as_str() {
        let pod = meta::name(pod);
        return Some(format!(
            "{started} starting {container} from {image}\n{started} listening on :8080 as {pod}\n"
        ));
    }
    let ended = &status["state"]["terminated"];
    if let Some(died) = ended["finishedAt"].as_str() {
        let code = meta::int(ended, "/exitCode").unwrap_or(0);
        return Some(if code == 0 {
            format!("{died} starting {container} from {image}\n{died} done\n")
        } else {
            crashed(container, image, died, code)
        });
    }
    if restarts > 0 {
        let died = terminated["finishedAt"].as_str()?;
        return Some(crashed(
            container,
            image,
            died,
            meta::int(terminated, "/exitCode").unwrap_or(1),
        ));
    }
    None
}

fn crashed(container: &str, image: &str, at: &str, code: i64) -> String {
    format!(
        "{at} starting {container} from {image}\n\
         {at} reading configuration\n\
         {at} fatal: cannot start: required setting DATABASE_URL is empty\n\
         {at} exit code {code}\n"
    )
}
