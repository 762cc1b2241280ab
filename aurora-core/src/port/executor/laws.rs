//! What every executor must keep to, as tests that run on any cluster.

#![expect(clippy::unwrap_used, reason = "a law reports by panicking")]
#![expect(clippy::missing_panics_doc, reason = "a law reports by panicking")]

mod acts;
mod applying;
mod blue_green;
mod blue_green_fixture;
mod fixture;
mod observing;
mod removing;

pub use self::acts::*;
pub use self::applying::*;
pub use self::blue_green::*;
pub use self::fixture::{CRASHING_IMAGE, ClusterFixture, InMemoryFixture};
pub use self::observing::*;
pub use self::removing::*;

/// Makes a test in paused time of each law of [`ClusterExecutor`](super::ClusterExecutor).
///
/// The argument is an async block that gives a [`ClusterFixture`] over an empty cluster. After
/// `without_steps,` it is one of a platform whose workloads go to a new version at once: the laws of steps
/// and of the acts that move them are left out then, and its
/// [`Capabilities`](super::Capabilities) must say so.
///
/// ```
/// # use aurora_core::port::executor::laws::InMemoryFixture;
/// aurora_core::executor_laws!(async { InMemoryFixture::default() });
/// ```
#[macro_export]
macro_rules! executor_laws {
    (without_steps, $fixture:expr) => {
        $crate::executor_laws!(@any $fixture);
        $crate::executor_laws!(@each $fixture; a_platform_without_steps_says_so, an_act_on_steps_is_unsupported);
    };
    ($fixture:expr) => {
        $crate::executor_laws!(@any $fixture);
        $crate::executor_laws!(@each $fixture;
            a_blue_green_rollout_stops_before_its_redirect,
            a_canary_stops_at_its_first_pause,
            a_first_blue_green_version_goes_live_by_itself,
            a_pause_by_hand_ends_by_hand,
            a_promote_takes_effect_once,
            a_promote_without_what_was_seen_is_refused,
            a_redirect_takes_effect_once,
            a_retry_begins_anew,
            a_shut_down_on_another_revision_is_refused,
            an_abort_before_the_redirect_leaves_the_old_version_live,
            an_abort_takes_effect_once,
            an_act_older_than_the_plan_is_superseded,
            an_act_on_another_revision_is_refused,
            an_older_version_brought_back_stops_before_its_redirect,
            configuration_of_the_old_version_stays_until_it_is_shut_down,
            finish_keeps_configuration_that_pods_may_need,
            nothing_is_aborted_when_all_is_done,
            promote_full_goes_to_the_end_once,
            promote_full_redirects_once,
            rolling_back_brings_the_configuration_back,
            rolling_back_to_a_version_that_still_runs_needs_nobody,
            the_old_version_is_shut_down_once
        );
    };
    (@any $fixture:expr) => {
        $crate::executor_laws!(@each $fixture;
            a_change_by_somebody_else_is_seen_and_healed,
            a_crashing_pod_is_evidence,
            a_foreign_object_can_be_adopted,
            a_foreign_object_is_not_deleted,
            a_foreign_workload_is_never_taken_over,
            a_secret_keeps_its_values,
            an_interrupted_apply_goes_on,
            an_object_created_again_by_somebody_else_is_foreign,
            an_older_apply_is_superseded,
            an_older_finish_is_superseded,
            applying_again_changes_nothing,
            deleting_twice_is_fine,
            dropping_an_observation_leaves_no_watch,
            finish_prunes_what_left_the_plan,
            foreign_objects_are_named_together_and_nothing_is_written,
            inventory_names_namespaces_and_applied_sets,
            observing_goes_on_until_done,
            observing_starts_with_everything,
            the_same_delivery_again_answers_the_same,
            the_same_stamp_with_another_plan_is_refused,
            what_was_deleted_by_hand_is_created_again
        );
    };
    (@each $fixture:expr; $($law:ident),+) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $law() {
                let fixture = $fixture.await;
                $crate::port::executor::laws::$law(&fixture).await;
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    mod on_the_in_memory_cluster {
        crate::executor_laws!(async { crate::port::executor::laws::InMemoryFixture::default() });
    }
}
