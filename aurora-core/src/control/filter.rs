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
    // Whatever asks the file later which targets run must hear of these.
    submission.file.only = Some(only);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::deploy_file::parse;

    #[test]
    fn a_filter_of_the_submit_cannot_hide_a_step_that_cannot_run_yet() {
        let text = "application: x\nmanifests: [{path: m}]\ntargetFilters: [{includeTarget: a}]\n\
                    webhooks: [{name: w, method: POST, uriTemplate: 'https://a.example'}]\n\
                    targets:\n  a: {account: a}\n  b: {account: b, constraints: {afterDeployment: [{runWebhook: {name: w}}]}}\n";
        let file = parse(text, "deploy.yaml").unwrap().deploy;
        let mut submission = Submission::new(file, BTreeMap::new());
        assert!(submission.file.not_yet().is_empty());
        submission.only = Some(BTreeSet::from(["b".to_owned()]));
        narrow(&mut submission).unwrap();
        assert_eq!(submission.file.not_yet()[0].code, "notYet");
    }
}
