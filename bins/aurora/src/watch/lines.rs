//! What changed between two views of a pipeline, a plain line each: for pipes and build logs.

use std::collections::BTreeMap;

use aurora_core::pipeline::PipelineView;

use super::tree::{error_lines, in_order, rollout_words, state_words, step_words, target_words};

/// Remembers what was said last, so that only news is said.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    said: BTreeMap<String, String>,
}

impl Lines {
    /// The lines that say something new.
    pub(crate) fn news(&mut self, view: &PipelineView) -> Vec<String> {
        let mut news = Vec::new();
        let mut say = |key: String, words: String| {
            if self.said.get(&key) != Some(&words) {
                news.push(words.clone());
                self.said.insert(key, words);
            }
        };
        for target in in_order(view) {
            let name = &target.name;
            let first = if target.first_deployment {
                " (first deployment, strategy not exercised)"
            } else {
                ""
            };
            say(
                format!("{name}/"),
                format!("{name}: {}{first}", target_words(target)),
            );
            for step in target
                .steps
                .iter()
                .filter(|step| step.state == "current" || step.state == "done")
            {
                say(
                    format!("{name}/step/{}", step.index),
                    format!("{name}:   {}", step_words(step)),
                );
            }
            for rollout in &target.rollouts {
                say(
                    format!("{name}/{}", rollout.object),
                    format!("{name}:   {}", rollout_words(target, rollout)),
                );
            }
            for (index, words) in error_lines(target).into_iter().enumerate() {
                say(
                    format!("{name}/error/{index}"),
                    format!("{name}: failed: {words}"),
                );
            }
        }
        for wait in view.waiting.iter().filter(|wait| {
            matches!(
                wait.kind.as_str(),
                "approval" | "timer" | "queue" | "agent" | "operator"
            )
        }) {
            let place = wait.subject.target.as_deref().unwrap_or("pipeline");
            let ends = wait
                .actions
                .iter()
                .find(|action| action.allowed)
                .map(|action| format!("  [{}]", action.cli));
            say(
                format!("wait/{}", wait.id),
                format!("{place}: … {}{}", wait.reason.text, ends.unwrap_or_default()),
            );
        }
        for evidence in &view.evidence {
            let pod = &evidence.evidence.pod;
            say(
                format!("evidence/{}/{}", pod.pod, pod.container),
                format!(
                    "{}: ! pod {} container {}: {}",
                    evidence.target, pod.pod, pod.container, pod.reason
                ),
            );
        }
        say(
            "state".to_owned(),
            format!("{}: {}", view.application, state_words(view)),
        );
        news
    }
}
