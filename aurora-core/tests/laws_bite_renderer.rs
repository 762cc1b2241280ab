//! Each law of the renderer port is seen to fail on a renderer that breaks just that law.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use aurora_core::deploy_file::Problem;
use aurora_core::plan::{self, APPLICATION_LABEL};
use aurora_core::port::renderer::laws::{self, Law};
use aurora_core::port::renderer::{InMemoryRenderer, ManifestRenderer, RenderError, RenderRequest};
use serde_json::json;

/// What a [`Broken`] renderer does wrong, before or after it asks the right one.
#[derive(Debug)]
enum Fault {
    /// Edits the plan; the number counts the calls.
    Plan(fn(&mut plan::Plan, usize)),
    /// Edits the problems.
    Problems(fn(&mut Vec<Problem>)),
    /// Edits the request.
    Request(fn(&mut RenderRequest)),
}

#[derive(Debug)]
struct Broken {
    fault: Fault,
    calls: AtomicUsize,
}

impl ManifestRenderer for Broken {
    fn render(&self, request: &RenderRequest) -> Result<plan::Plan, RenderError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut request = request.clone();
        if let Fault::Request(edit) = &self.fault {
            edit(&mut request);
        }
        let mut rendered = InMemoryRenderer.render(&request);
        match (&self.fault, &mut rendered) {
            (Fault::Plan(edit), Ok(plan)) => edit(plan, call),
            (Fault::Problems(edit), Err(error)) => edit(&mut error.problems),
            _ => {}
        }
        rendered
    }
}

/// Each law by its name, and the fault that must make it fail.
fn faults() -> Vec<(&'static str, Fault)> {
    use Fault::{Plan, Problems, Request};
    vec![
        (
            "a_blue_green_target_names_its_rollouts",
            Plan(|plan, _| plan.steps.blue_green.clear()),
        ),
        (
            "a_changed_manifest_changes_the_digest",
            Plan(|plan, _| plan.objects.iter_mut().for_each(|o| drop(o.body["spec"].take()))),
        ),
        (
            "a_deployment_without_a_strategy_is_refused",
            Request(|request| request.strategy = request.strategy.take().or(laws::sample().strategy)),
        ),
        (
            "a_named_service_that_is_not_declared_is_refused",
            Request(|request| request.services.clear()),
        ),
        (
            "a_plan_reads_back_from_its_bytes",
            Plan(|plan, _| plan.version = 2),
        ),
        (
            "a_plan_says_whose_it_is",
            Request(|request| request.application.push('s')),
        ),
        (
            "a_refusal_names_the_place_in_the_file",
            Problems(|problems| problems.iter_mut().for_each(|problem| problem.file.clear())),
        ),
        (
            "a_rolling_update_stops_nowhere",
            Plan(|plan, _| plan.steps.rollouts.values_mut().for_each(|steps| *steps = 1)),
        ),
        (
            "a_strategy_does_nothing_where_no_deployment_is",
            Plan(|plan, _| plan.steps.rollouts.extend([("web".to_owned(), 0)])),
        ),
        (
            "all_problems_are_reported_at_once",
            Problems(|problems| problems.truncate(1)),
        ),
        (
            "an_opted_out_deployment_is_not_moved_by_blue_green",
            Plan(|plan, _| plan.steps.blue_green.extend(["database".to_owned()])),
        ),
        (
            "an_opted_out_deployment_has_no_steps",
            Plan(|plan, _| plan.steps.workloads.clear()),
        ),
        (
            "another_workload_leaves_the_steps_of_the_others_alone",
            Plan(|plan, _| {
                let siblings = plan.steps.rollouts.len();
                for steps in plan.steps.rollouts.values_mut() {
                    *steps += siblings;
                }
            }),
        ),
        (
            "every_object_carries_the_application_and_target_labels",
            Plan(|plan, _| plan.objects[0].body["metadata"]["labels"][APPLICATION_LABEL] = json!("other")),
        ),
        (
            "no_namespace_at_all_is_refused",
            Request(|request| request.namespace = request.namespace.take().or(Some("default".to_owned()))),
        ),
        (
            "nothing_namespaced_lies_outside_the_targets_namespace",
            Plan(|plan, _| {
                for planned in &mut plan.objects {
                    if planned.object().name == "other" {
                        planned.body["metadata"]["namespace"] = json!("elsewhere");
                    }
                }
            }),
        ),
        (
            "same_request_same_bytes",
            Plan(|plan, call| plan.notes.push(format!("run {call}"))),
        ),
        (
            "steps_keep_their_order",
            Plan(|plan, _| plan.steps.steps.reverse()),
        ),
        (
            "the_adopt_annotation_reaches_the_plan",
            Plan(|plan, _| plan.objects.iter_mut().for_each(|planned| planned.adopt = true)),
        ),
        (
            "the_manifests_single_namespace_counts_where_the_target_names_none",
            Request(|request| request.namespace = request.namespace.take().or(Some("default".to_owned()))),
        ),
        (
            "the_step_map_names_each_gate",
            Plan(|plan, _| plan.steps.steps.iter_mut().for_each(|step| step.gate = true)),
        ),
        (
            "two_namespaces_are_refused_where_the_target_names_none",
            Request(|request| request.namespace = request.namespace.take().or(Some("one".to_owned()))),
        ),
        (
            "what_runs_by_itself_counts_and_cron_jobs_do_not",
            Plan(|plan, _| plan.steps.workloads.retain(|object| object.kind != "Job")),
        ),
    ]
}

fn holds(law: Law, renderer: &dyn ManifestRenderer) -> bool {
    catch_unwind(AssertUnwindSafe(|| law(renderer))).is_ok()
}

#[test]
fn every_law_fails_on_its_fault() {
    let laws = laws::all();
    for (name, fault) in faults() {
        let (_, law) = laws.iter().find(|(law, _)| *law == name).unwrap();
        let broken = Broken {
            fault,
            calls: AtomicUsize::new(0),
        };
        assert!(!holds(*law, &broken), "{name} does not notice {:?}", broken.fault);
    }
}

#[test]
fn every_law_has_a_fault_and_holds_without_one() {
    let faults = faults();
    for (name, law) in laws::all() {
        assert!(
            faults.iter().any(|(known, _)| *known == name),
            "{name} has no fault"
        );
        assert!(
            holds(law, &InMemoryRenderer),
            "{name} fails on the right renderer"
        );
    }
}
