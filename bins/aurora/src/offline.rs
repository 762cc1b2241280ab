//! `aurora validate` and `aurora render`: what needs no server.

use std::collections::BTreeMap;

use anyhow::Result;
use aurora_core::deploy_file::Problem;
use aurora_core::plan::Plan;
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;

use crate::cli::{FileArgs, Output, RenderArgs};
use crate::submission::{self, Submission};
use crate::{context, print};
use aurora_bin::exit::Exit;

/// Checks a deploy file and everything that would be rendered from it.
pub(crate) async fn validate(args: &FileArgs, output: Output) -> Result<Exit> {
    let (submission, plans) = match rendered(args).await {
        Ok(done) => done,
        Err(problems) => {
            print::problems(output, &problems)?;
            return Ok(Exit::Usage);
        }
    };
    if output == Output::Text {
        print::problems(output, &submission.warnings)?;
        for (target, plan) in &plans {
            let rollouts = plan.steps.rollouts.len();
            let line = format!(
                "{target}: {} object(s), {rollouts} Rollout(s) in {}",
                plan.objects.len(),
                plan.namespace
            );
            print::write(&(line + "\n"))?;
        }
        print::write(&format!("{} is valid\n", args.file.display()))?;
    } else {
        print::problems(output, &submission.warnings)?;
    }
    Ok(Exit::Succeeded)
}

/// Prints exactly what would be applied.
pub(crate) async fn render(args: &RenderArgs, output: Output) -> Result<Exit> {
    let (submission, mut plans) = match rendered(&args.file).await {
        Ok(done) => done,
        Err(problems) => return Ok(print::invalid(output, &problems)),
    };
    if let Some(target) = &args.target
        && !plans.contains_key(target)
    {
        let known: Vec<_> = plans.keys().map(String::as_str).collect();
        let problem = format!("there is no target `{target}`; the file has {}", known.join(", "));
        return print::failure(output, "target.unknown", &problem, Exit::Usage);
    }
    for warning in &submission.warnings {
        print::note(&format!("warning: {warning}"));
    }
    let digests: BTreeMap<String, String> = plans
        .iter()
        .map(|(name, plan)| (name.clone(), plan.digest().to_string()))
        .collect();
    if !args.show_secrets {
        let objects = plans.values_mut().flat_map(|plan| &mut plan.objects);
        objects.for_each(|object| redact(&mut object.body));
    }
    let wanted: BTreeMap<_, _> = plans
        .iter()
        .filter(|(name, _)| args.target.as_ref().is_none_or(|target| target == *name))
        .collect();
    if output == Output::Json {
        print::document(output, &wanted, |_| String::new())?;
        return Ok(Exit::Succeeded);
    }
    for (target, plan) in wanted {
        let mut text = format!("# target {target}: plan {}\n", digests[target]);
        for note in &plan.notes {
            text.push_str(&format!("# {note}\n"));
        }
        for object in &plan.objects {
            text.push_str(&format!(
                "---\n# from {}\n{}",
                object.origin,
                print::yaml(&object.body)?
            ));
        }
        print::write(&text)?;
    }
    Ok(Exit::Succeeded)
}

/// Puts what can be told apart in place of a Secret's values, so that a plan can be shown and kept.
fn redact(object: &mut serde_json::Value) {
    if object["kind"] != "Secret" || object["apiVersion"] != "v1" {
        return;
    }
    for part in ["data", "stringData"] {
        let Some(values) = object.get_mut(part).and_then(|part| part.as_object_mut()) else {
            continue;
        };
        for value in values.values_mut() {
            *value = "(redacted; --show-secrets shows it)".into();
        }
    }
    // What kubectl remembers of its last apply holds the same values again.
    let annotations = object.pointer_mut("/metadata/annotations");
    if let Some(annotations) = annotations.and_then(|annotations| annotations.as_object_mut()) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

async fn rendered(args: &FileArgs) -> Result<(Submission, BTreeMap<String, Plan>), Vec<Problem>> {
    let submission = submission::read_all(&args.file, args.application.as_deref()).await?;
    let mut plans = BTreeMap::new();
    let not_yet = submission.deploy.not_yet().into_iter();
    let mut problems: Vec<Problem> = not_yet
        .map(|problem| submission.document.locate(problem))
        .collect();
    for (name, target) in &submission.deploy.targets {
        let request = RenderRequest {
            services: target.services.clone(),
            tenant: Tenant::clone(&context::local_tenant()),
            application: submission.deploy.application.clone(),
            target: name.clone(),
            namespace: target.namespace.clone(),
            strategy: target
                .strategy
                .as_ref()
                .and_then(|name| submission.deploy.strategies.get(name))
                .cloned(),
            manifests: submission.manifests.get(name).cloned().unwrap_or_default(),
        };
        match ArgoRenderer.render(&request) {
            Ok(plan) => drop(plans.insert(name.clone(), plan)),
            // Targets share most manifests: what is wrong with one is told once.
            Err(error) => problems.extend(
                error
                    .problems
                    .into_iter()
                    .filter(|p| !problems.contains(p))
                    .collect::<Vec<_>>(),
            ),
        }
    }
    if problems.iter().any(Problem::is_error) {
        return Err(problems);
    }
    Ok((submission, plans))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_values_of_secrets_are_redacted() {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "hush", "team": "lanterns",
            }},
            "data": {"password": "aHVzaA=="}, "stringData": {"key": "hush"},
        });
        redact(&mut secret);
        let text = secret.to_string();
        assert!(!text.contains("hush") && !text.contains("aHVzaA"), "{text}");
        assert!(text.contains("password") && text.contains("lanterns"));
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}});
        let mut same = map.clone();
        redact(&mut same);
        assert_eq!(same, map);
    }
}
