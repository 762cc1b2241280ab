//! Each law of the executor is seen to fail on a double that breaks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use aurora_core::command::{Act, Acted, Action, Applied, AppliedSetKey, Apply, Direction, Observe, Stamp};
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::executor::laws::{self, ClusterFixture, InMemoryFixture};
use aurora_core::port::executor::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use aurora_core::session::InventoryItem;

/// What the double does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    ActsOnWhatIsThere,
    ChangesEachTime,
    DeletesAnything,
    DeletesOnlyWhatIsThere,
    ForgetsEvidence,
    GoesBack,
    GoesForward,
    GoesOnlyOnce,
    HasNoInventory,
    IgnoresSteps,
    KeepsWatching,
    NeverAdopts,
    PromotesUnderAPause,
    PrunesAnything,
    PrunesNothing,
    RaisesStamps,
    SaysDone,
    SaysItOnce,
    ShowsSecrets,
    /// Nothing.
    Sound,
    StartsEmpty,
    TakesOver,
}

/// An executor with one flaw, and the cluster under it.
#[derive(Clone, Debug)]
struct Broken {
    sound: Arc<InMemoryFixture>,
    flaw: Flaw,
    count: Arc<AtomicU64>,
}

impl Broken {
    fn with(flaw: Flaw) -> Self {
        Self {
            sound: Arc::default(),
            flaw,
            count: Arc::default(),
        }
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }

    fn stamp(&self, stamp: Stamp) -> Stamp {
        if !self.is(Flaw::RaisesStamps) {
            return stamp;
        }
        Stamp {
            fence: stamp.fence,
            version: 1000 + self.count.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn plan(&self, plan: &Plan) -> Plan {
        let mut plan = plan.clone();
        for planned in &mut plan.objects {
            match self.flaw {
                Flaw::ChangesEachTime => {
                    let count = self.count.fetch_add(1, Ordering::Relaxed).to_string();
                    planned.body["metadata"]["annotations"] = json!({"count": count});
                }
                Flaw::IgnoresSteps if planned.body["spec"]["strategy"]["blueGreen"].is_object() => {
                    planned.body["spec"]["strategy"]["blueGreen"]["autoPromotionEnabled"] = json!(true);
                }
                Flaw::IgnoresSteps if planned.body["kind"] == "Rollout" => {
                    planned.body["spec"]["strategy"]["canary"]["steps"] = json!([]);
                }
                Flaw::NeverAdopts => planned.adopt = false,
                Flaw::TakesOver => {
                    let object = planned.object();
                    let cluster = self.sound.cluster();
                    let ours = cluster
                        .writes()
                        .iter()
                        .any(|write| format!("{write:?}").contains(&object.name));
                    if !ours || object.kind == "Service" {
                        cluster.delete_by_hand(&object);
                    }
                }
                _ => {}
            }
        }
        plan
    }
}

#[async_trait]
impl ClusterExecutor for Broken {
    fn capabilities(&self) -> Capabilities {
        self.sound.cluster().capabilities()
    }

    async fn apply(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        let stamp = self.stamp(apply.stamp);
        if self.is(Flaw::GoesOnlyOnce) {
            let seen = self.count.swap(apply.stamp.version, Ordering::Relaxed);
            if seen == apply.stamp.version {
                return Ok(Applied::default());
            }
        }
        let plan = self.plan(plan);
        let direction = match self.flaw {
            Flaw::GoesBack => Direction::Back,
            Flaw::GoesForward => Direction::Forward,
            _ => apply.direction,
        };
        self.sound
            .cluster()
            .apply(
                &Apply {
                    stamp,
                    direction,
                    ..apply.clone()
                },
                &plan,
                stages,
            )
            .await
    }

    async fn finish(&self, apply: &Apply, plan: &Plan, stages: &StageSink) -> Result<Applied, ExecutorError> {
        let stamp = self.stamp(apply.stamp);
        if self.is(Flaw::PrunesNothing) {
            return Ok(Applied::default());
        }
        if self.is(Flaw::PrunesAnything) {
            let mut applied = Applied::default();
            for body in self.sound.cluster().objects() {
                let object = ObjectRef::of(&body);
                if !plan.objects.iter().any(|planned| planned.object() == object) {
                    self.sound.cluster().delete_by_hand(&object);
                    applied.pruned.push(object);
                }
            }
            return Ok(applied);
        }
        self.sound
            .cluster()
            .finish(
                &Apply {
                    stamp,
                    ..apply.clone()
                },
                plan,
                stages,
            )
            .await
    }

    async fn observe(&self, observe: &Observe, plan: &Plan) -> Result<Levels, ExecutorError> {
        let levels = self.sound.cluster().observe(observe, plan).await?;
        Ok(match self.flaw {
            Flaw::ForgetsEvidence => levels
                .map(|level| {
                    let mut level = level?;
                    level.iter_mut().for_each(|progress| progress.failing.clear());
                    Ok(level)
                })
                .boxed(),
            Flaw::KeepsWatching => {
                std::mem::forget(self.sound.cluster().observe(observe, plan).await?);
                levels
            }
            Flaw::SaysItOnce => levels.take(1).chain(stream::pending()).boxed(),
            Flaw::StartsEmpty => stream::once(async { Ok(Vec::new()) }).chain(levels).boxed(),
            _ => levels,
        })
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        let mut act = act.clone();
        act.stamp = self.stamp(act.stamp);
        if self.is(Flaw::ActsOnWhatIsThere) {
            let cluster = self.sound.cluster();
            cluster.act_by_hand(&act.object, act.action);
            return Ok(Acted::Done);
        }
        if self.is(Flaw::PromotesUnderAPause) && act.action == Action::Promote {
            act.action = Action::Resume;
            self.sound.cluster().act(&act).await?;
            act.action = Action::Promote;
        }
        let acted = self.sound.cluster().act(&act).await?;
        Ok(if self.is(Flaw::SaysDone) {
            Acted::Done
        } else {
            acted
        })
    }

    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, ExecutorError> {
        if self.is(Flaw::ShowsSecrets) {
            return Ok(self.sound.cluster().object(object));
        }
        self.sound.cluster().get(object).await
    }

    async fn delete(&self, set: &AppliedSetKey, object: &ObjectRef) -> Result<(), ExecutorError> {
        if self.is(Flaw::DeletesAnything) {
            self.sound.cluster().delete_by_hand(object);
            return Ok(());
        }
        if self.is(Flaw::DeletesOnlyWhatIsThere) && self.sound.cluster().object(object).is_none() {
            return Err(ExecutorError::Unsupported {
                what: "delete what is not there".to_owned(),
            });
        }
        self.sound.cluster().delete(set, object).await
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        if self.is(Flaw::HasNoInventory) {
            return Ok(Vec::new());
        }
        self.sound.cluster().inventory().await
    }
}

#[async_trait]
impl ClusterFixture for Broken {
    fn executor(&self) -> Arc<dyn ClusterExecutor> {
        Arc::new(self.clone())
    }

    fn watches(&self) -> usize {
        self.sound.watches()
    }

    async fn identity(&self, object: &ObjectRef) -> Option<(String, u64)> {
        self.sound.identity(object).await
    }

    async fn object(&self, object: &ObjectRef) -> Option<Value> {
        self.sound.object(object).await
    }

    async fn create_by_hand(&self, body: Value) {
        self.sound.create_by_hand(body).await;
    }

    async fn patch_by_hand(&self, object: &ObjectRef, patch: Value) {
        self.sound.patch_by_hand(object, patch).await;
    }

    async fn delete_by_hand(&self, object: &ObjectRef) {
        self.sound.delete_by_hand(object).await;
    }
}

macro_rules! bites {
    ($($law:ident: $flaw:ident),+ $(,)?) => {
        $(
            #[tokio::test(start_paused = true)]
            #[should_panic]
            async fn $law() {
                laws::$law(&Broken::with(Flaw::$flaw)).await;
            }
        )+
    };
}

bites! {
    a_blue_green_rollout_stops_before_its_redirect: IgnoresSteps,
    a_canary_stops_at_its_first_pause: IgnoresSteps,
    a_change_by_somebody_else_is_seen_and_healed: GoesOnlyOnce,
    a_crashing_pod_is_evidence: ForgetsEvidence,
    a_first_blue_green_version_goes_live_by_itself: SaysDone,
    a_foreign_object_can_be_adopted: NeverAdopts,
    a_foreign_object_is_not_deleted: DeletesAnything,
    a_foreign_workload_is_never_taken_over: TakesOver,
    a_pause_by_hand_ends_by_hand: PromotesUnderAPause,
    // A platform that has steps is none without.
    a_platform_without_steps_says_so: Sound,
    a_promote_takes_effect_once: ActsOnWhatIsThere,
    a_promote_without_what_was_seen_is_refused: ActsOnWhatIsThere,
    a_redirect_takes_effect_once: ActsOnWhatIsThere,
    a_retry_begins_anew: ActsOnWhatIsThere,
    a_secret_keeps_its_values: ShowsSecrets,
    a_shut_down_on_another_revision_is_refused: ActsOnWhatIsThere,
    an_abort_before_the_redirect_leaves_the_old_version_live: ActsOnWhatIsThere,
    an_abort_takes_effect_once: SaysDone,
    an_act_on_another_revision_is_refused: ActsOnWhatIsThere,
    an_act_on_steps_is_unsupported: Sound,
    an_act_older_than_the_plan_is_superseded: RaisesStamps,
    an_interrupted_apply_goes_on: GoesOnlyOnce,
    an_object_created_again_by_somebody_else_is_foreign: TakesOver,
    an_older_version_brought_back_stops_before_its_redirect: GoesBack,
    an_older_apply_is_superseded: RaisesStamps,
    an_older_finish_is_superseded: RaisesStamps,
    applying_again_changes_nothing: ChangesEachTime,
    configuration_of_the_old_version_stays_until_it_is_shut_down: PrunesAnything,
    deleting_twice_is_fine: DeletesOnlyWhatIsThere,
    dropping_an_observation_leaves_no_watch: KeepsWatching,
    finish_keeps_configuration_that_pods_may_need: PrunesAnything,
    finish_prunes_what_left_the_plan: PrunesNothing,
    foreign_objects_are_named_together_and_nothing_is_written: TakesOver,
    inventory_names_namespaces_and_applied_sets: HasNoInventory,
    nothing_is_aborted_when_all_is_done: SaysDone,
    observing_goes_on_until_done: SaysItOnce,
    observing_starts_with_everything: StartsEmpty,
    promote_full_goes_to_the_end_once: SaysDone,
    promote_full_redirects_once: SaysDone,
    rolling_back_to_a_version_that_still_runs_needs_nobody: GoesForward,
    rolling_back_brings_the_configuration_back: PrunesNothing,
    the_old_version_is_shut_down_once: SaysDone,
    the_same_delivery_again_answers_the_same: RaisesStamps,
    the_same_stamp_with_another_plan_is_refused: RaisesStamps,
    what_was_deleted_by_hand_is_created_again: GoesOnlyOnce,
}

/// Without a flaw the double keeps every law, so it is the flaws that break them.
mod without_a_flaw {
    use super::{Broken, Flaw};

    aurora_core::executor_laws!(async { Broken::with(Flaw::Sound) });
}
