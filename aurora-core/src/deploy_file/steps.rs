//! Strategies, steps and pauses of the deploy file, once their form was checked.

use std::collections::{BTreeMap, BTreeSet};

use crate::strategy::{
    Approval, BlueGreen, Canary, Pause, Portion, Rolling, ServicePair, Span, Step, Strategy,
};

use super::analysis::{Analysis, AnalysisStep, Lookback, Query, Roll};
use super::later::{ExposeServices, Later, LaterStep, Owner};
use super::schema::{
    ANALYSIS_STEP, CANARY_STEP, CONSTRAINT_STEP, EXPOSE_STEP, LONGEST, Object, PAUSE, SPAN, STRATEGY,
    SWITCH_STEP, WEBHOOK_STEP,
};
use super::traffic::pair;
use super::tree::Kind;
use super::walk::{At, Walk};
use super::webhooks::{RunWebhook, context};

const SHORTEST_TTL: u64 = 60;
const LONGEST_TTL: u64 = 24 * 3600;
const DEFAULT_TTL: Span = Span::from_secs(5 * 60);

/// Reads steps: what they name must be defined, what cannot run yet is set aside.
#[derive(Debug)]
pub(super) struct Steps<'a, 'w> {
    pub(super) walk: &'a mut Walk<'w>,
    /// Names of webhooks.
    pub(super) webhooks: &'a BTreeSet<&'a str>,
    pub(super) analysis: Option<&'a Analysis>,
    /// Queries by name.
    pub(super) queries: &'a BTreeMap<&'a str, &'a Query>,
    /// Their names.
    pub(super) query_names: &'a BTreeSet<&'a str>,
    pub(super) later: Vec<LaterStep>,
}

/// A strategy, and the Services that older files name in it.
#[derive(Debug)]
pub(super) struct ReadStrategy {
    pub(super) strategy: Strategy,
    pub(super) services: Option<ServicePair>,
}

enum One {
    Pause(Pause),
    SetWeight(u8),
}

impl Steps<'_, '_> {
    /// A strategy; `None` where its form is broken.
    pub(super) fn strategy(&mut self, at: &At<'_>, name: &str) -> Option<ReadStrategy> {
        let owner = Owner::Strategy(name.to_owned());
        if let Some(canary) = at.get(&STRATEGY, "canary") {
            let steps = self.canary(&canary, &owner);
            return Some(ReadStrategy {
                strategy: Strategy::Canary(Canary { steps }),
                services: None,
            });
        }
        if let Some(at) = at.get(&STRATEGY, "blueGreen") {
            let object = at_object(&STRATEGY, "blueGreen")?;
            let mut pauses = |key: &str| {
                let list = at.get(object, key).map(|at| at.items()).unwrap_or_default();
                self.pauses(&list, &SWITCH_STEP, &owner)
            };
            let strategy = BlueGreen {
                redirect_after: pauses("redirectTrafficAfter"),
                shut_down_after: pauses("shutDownOldVersionAfter"),
            };
            let services = pair(self.walk, &at, object);
            if services.is_some() {
                let hint = "name them in `trafficManagement[].kubernetes[]`";
                self.walk
                    .warn(&at, "alias", "Services in the strategy are an older form", hint);
            }
            return Some(ReadStrategy {
                strategy: Strategy::BlueGreen(strategy),
                services,
            });
        }
        let rolling = at.get(&STRATEGY, "rolling")?;
        Some(ReadStrategy {
            strategy: Strategy::Rolling(self.rolling(&rolling)?),
            services: None,
        })
    }

    /// Pauses of `beforeDeployment` or `afterDeployment`.
    pub(super) fn constraint(&mut self, list: &[At<'_>], target: &str) -> Vec<Pause> {
        self.pauses(list, &CONSTRAINT_STEP, &Owner::Target(target.to_owned()))
    }

    fn canary(&mut self, at: &At<'_>, owner: &Owner) -> Vec<Step> {
        let steps = at.entries().into_iter().find(|(key, _)| *key == "steps");
        let mut read = Vec::new();
        let mut weight = 0;
        for item in steps.map(|(_, at)| at.items()).unwrap_or_default() {
            match self.step(&item, &CANARY_STEP, owner) {
                Some(One::SetWeight(next)) => {
                    if next < weight {
                        let message = format!("the weight falls from {weight} to {next}");
                        self.walk
                            .warn(&item, "fallingWeight", message, "weights usually rise");
                    }
                    weight = next;
                    read.push(Step::SetWeight(next));
                }
                Some(One::Pause(pause)) => read.push(Step::Pause(pause)),
                None => {}
            }
        }
        read
    }

    fn pauses(&mut self, list: &[At<'_>], object: &'static Object, owner: &Owner) -> Vec<Pause> {
        let read = list
            .iter()
            .filter_map(|item| match self.step(item, object, owner)? {
                One::Pause(pause) => Some(pause),
                One::SetWeight(_) => None,
            });
        read.collect()
    }

    /// One step; one that cannot run yet is set aside.
    fn step(&mut self, at: &At<'_>, object: &'static Object, owner: &Owner) -> Option<One> {
        if let Some(weight) = at.get(object, "setWeight") {
            let weight = match &weight.node.kind {
                Kind::Map(_) => weight.entries().into_iter().find(|(key, _)| *key == "weight")?.1,
                _ => weight,
            };
            return u8::try_from(weight.node.whole()?).ok().map(One::SetWeight);
        }
        if let Some(at) = at.get(object, "pause") {
            return pause(self.walk, &at).map(One::Pause);
        }
        let (key, read): (_, fn(&mut Self, &At<'_>) -> Option<Later>) =
            ["runWebhook", "analysis", "exposeServices"]
                .into_iter()
                .zip([
                    Self::run_webhook as fn(&mut Self, &At<'_>) -> _,
                    Self::analysis,
                    Self::expose,
                ])
                .find(|(key, _)| at.get(object, key).is_some())?;
        let value = at.get(object, key)?;
        let step = read(self, &value)?;
        self.later.push(LaterStep {
            pointer: value.pointer,
            owner: owner.clone(),
            step,
        });
        None
    }

    fn run_webhook(&mut self, at: &At<'_>) -> Option<Later> {
        let name = at.get(&WEBHOOK_STEP, "name")?;
        let text = name.node.text()?;
        self.walk.known(&name, "webhook", text, self.webhooks);
        Some(Later::RunWebhook(RunWebhook {
            name: text.to_owned(),
            context: context(at, &WEBHOOK_STEP),
        }))
    }

    fn analysis(&mut self, at: &At<'_>) -> Option<Later> {
        let get = |key: &str| at.get(&ANALYSIS_STEP, key);
        let word = |key: &str| get(key).and_then(|at| at.node.text().map(str::to_lowercase));
        let roll = |key: &str| match word(key).as_deref() {
            Some("manual") => Roll::Manual,
            _ => Roll::Automatic,
        };
        let provider = at.text_of(&ANALYSIS_STEP, "metricProviderName");
        let queries = at.texts_of(&ANALYSIS_STEP, "queries");
        if self.analysis.is_none() {
            let hint =
                "for example `analysis: {queries: [{name: errors, upperLimit: 0.02, queryTemplate: …}]}`";
            let message = "an analysis step asks queries, and the file has no `analysis`";
            self.walk.error(at, "needsDefinition", message, hint);
        }
        if let Some(analysis) = self.analysis {
            for (name, item) in &queries {
                if !self.walk.known(item, "query", name, self.query_names) {
                    continue;
                }
                let of_query = self
                    .queries
                    .get(name.as_str())
                    .and_then(|query| query.provider.as_ref());
                if provider.is_none() && of_query.is_none() && analysis.default_provider.is_none() {
                    let message = format!("nothing says which metric provider answers `{name}`");
                    let hint = "set `metricProviderName` in the step or the query, or `analysis.defaultMetricProviderName`";
                    self.walk.error(item, "undefinedProvider", message, hint);
                }
            }
        }
        Some(Later::Analysis(AnalysisStep {
            provider,
            context: context(at, &ANALYSIS_STEP),
            interval: timed(self.walk, &get("interval")?, &get("units")?)?,
            runs: get("numberOfJudgmentRuns")?.node.whole()?,
            roll_back: roll("rollBackMode"),
            roll_forward: roll("rollForwardMode"),
            lookback: match word("lookbackMethod").as_deref() {
                Some("growing") => Lookback::Growing,
                Some("sliding") => Lookback::Sliding,
                _ => Lookback::Unset,
            },
            abort_on_failed_judgment: get("abortOnFailedJudgment")
                .and_then(|at| at.node.boolean())
                .unwrap_or(false),
            queries: queries.into_iter().map(|(name, _)| name).collect(),
        }))
    }

    fn expose(&mut self, at: &At<'_>) -> Option<Later> {
        let services = at.texts_of(&EXPOSE_STEP, "services");
        let ttl = at.get(&EXPOSE_STEP, "ttl").and_then(|at| {
            let ttl = span(self.walk, &at)?;
            if !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl.as_secs()) {
                let message = format!("a preview address cannot work for {ttl}");
                self.walk
                    .error(&at, "outOfRange", message, "from one minute to 24 hours");
            }
            Some(ttl)
        });
        Some(Later::ExposeServices(ExposeServices {
            services: services.into_iter().map(|(name, _)| name).collect(),
            ttl: ttl.unwrap_or(DEFAULT_TTL),
        }))
    }

    fn rolling(&mut self, at: &At<'_>) -> Option<Rolling> {
        let object = at_object(&STRATEGY, "rolling")?;
        let portion = |key: &str| {
            let at = at.get(object, key)?;
            match at.node.text() {
                Some(text) => text.strip_suffix('%')?.parse().ok().map(Portion::Percent),
                None => u32::try_from(at.node.whole()?).ok().map(Portion::Count),
            }
        };
        let rolling = Rolling {
            max_surge: portion("maxSurge"),
            max_unavailable: portion("maxUnavailable"),
        };
        let zero =
            |portion: Option<Portion>| matches!(portion, Some(Portion::Count(0) | Portion::Percent(0)));
        if zero(rolling.max_surge) && zero(rolling.max_unavailable) {
            let message = "with `maxSurge` and `maxUnavailable` both zero no pod can ever be replaced";
            self.walk
                .error(at, "noRoom", message, "leave one of them out, or set it to 1");
        }
        Some(rolling)
    }
}

/// The map that a field of another map holds.
fn at_object(object: &'static Object, key: &str) -> Option<&'static Object> {
    match object.field(key)?.shape {
        super::schema::Shape::Object(inner) => Some(inner),
        _ => None,
    }
}

fn pause(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Pause> {
    let get = |key: &str| at.get(&PAUSE, key);
    if get("untilApproved").and_then(|at| at.node.boolean()) == Some(true) {
        let roles = at.texts_of(&PAUSE, "requiresRoles");
        return Some(Pause::Approval(Approval {
            roles: roles.into_iter().map(|(role, _)| role).collect(),
            expires_after: get("approvalExpiration").and_then(|at| span(walk, &at)),
        }));
    }
    timed(walk, &get("duration")?, &get("unit")?).map(Pause::Timed)
}

/// `{duration, unit}`.
pub(super) fn span(walk: &mut Walk<'_>, at: &At<'_>) -> Option<Span> {
    timed(walk, &at.get(&SPAN, "duration")?, &at.get(&SPAN, "unit")?)
}

fn timed(walk: &mut Walk<'_>, duration: &At<'_>, unit: &At<'_>) -> Option<Span> {
    let each = match unit.node.text()?.to_lowercase().as_str() {
        "seconds" => 1,
        "minutes" => 60,
        "hours" => 3600,
        _ => return None,
    };
    let seconds = duration.node.whole()?.saturating_mul(each);
    if seconds > LONGEST {
        walk.error(duration, "tooLong", "this is more than a hundred years", "");
        return None;
    }
    Some(Span::from_secs(seconds))
}
