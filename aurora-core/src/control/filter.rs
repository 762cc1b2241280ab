//! Deploying a part of a file: only the targets that are named.

use super::submit::{Submission, SubmitError};
use crate::deploy_file::Problem;

/// Leaves only the targets that the submission, or else its file, names; what they depend on besides counts as done.
pub(super) fn narrow(submission: &mut Submission) -> Result<(), SubmitError> {
    let Some(only) = submission.only.take().or_else(|| submission.file.only.clone()) else {
        return Ok(());
    };
    let file = &mut submission.file;
    let known: Vec<String> = file.targets.keys().map(|name| format!("`{name}`")).collect();
    let known = known.join(", ");
    let unknown = only.iter().filter(|name| !file.targets.contains_key(*name));
    let mut problems: Vec<Problem> = unknown
        .map(|name| {
            let name: String = name.chars().take(128).collect();
            let message = format!("there is no target `{name}` in the deploy file");
            Problem::error("targetUnknown", "/targetFilters", message).with_hint(format!("it has {known}"))
        })
        .collect();
    if only.is_empty() {
        let message = "the target filter names no target";
        let hint = format!("leave it out, or name some of {known}");
        problems.push(Problem::error("targetUnknown", "/targetFilters", message).with_hint(hint));
    }
    if !problems.is_empty() {
        return Err(SubmitError::Invalid { problems });
    }
    file.targets.retain(|name, _| only.contains(name));
    for target in file.targets.values_mut() {
        target.depends_on.retain(|name| only.contains(name));
    }
    submission.manifests.retain(|name, _| only.contains(name));
    Ok(())
}
