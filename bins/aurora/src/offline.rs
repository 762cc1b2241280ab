//! `aurora validate` and `aurora render`: what needs no server.

use std::collections::BTreeMap;

use anyhow::Result;
use aurora_core::deploy_file::Problem;
use aurora_core::plan::Plan;
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;

use crate::cli::{FileArgs, Output, RenderArgs};
use crate::exit::Exit;
use crate::submission::{self, Submission};
use crate::{context, print};

/// Checks a deploy file and everything that would be rendered from it.
pub(crate) fn validate(args: &FileArgs, output: Output) -> Result<Exit> {
    let (submission, plans) = match rendered(args) {
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
pub(crate) fn render(args: &RenderArgs, output: Output) -> Result<Exit> {
    let (submission, plans) = match rendered(&args.file) {
        Ok(done) => done,
        Err(problems) => {
            print::problems(output, &problems)?;
            return Ok(Exit::Usage);
        }
    };
    if let Some(target) = &args.target
        && !plans.contains_key(target)
    {
        let known: Vec<_> = plans.keys().map(String::as_str).collect();
        print::note(&format!(
            "error: there is no target `{target}`; the file has {}",
            known.join(", ")
        ));
        return Ok(Exit::Usage);
    }
    for warning in &submission.warnings {
        print::note(&format!("warning: {warning}"));
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
        let mut text = format!("# target {target}: plan {}\n", plan.digest());
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

fn rendered(args: &FileArgs) -> Result<(Submission, BTreeMap<String, Plan>), Vec<Problem>> {
    let submission = submission::read(&args.file, args.application.as_deref())?;
    let mut plans = BTreeMap::new();
    let mut problems = Vec::new();
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
