//! Figures of the use cases as metrics: read when somebody asks for `/metrics`, so that they cost nothing else.
//!
//! `docs/operating.md` says what each means; a test holds the page and the programs to each other.

use std::time::Duration;

use aurora_core::agent::{AgentHealth, AgentState};
use aurora_core::control::{ControlPlane, EFFECTS};
use aurora_core::hub::{COMMAND_REFUSALS, Hub, OUTCOMES, SESSION_REFUSALS};
use aurora_core::pipeline::State;
use aurora_core::port::clock::Clock;
use metrics::{counter, gauge};
use tokio::sync::watch;

use crate::health::Health;

/// States in which a pipeline is driven.
const DRIVEN: [State; 6] = [
    State::NotStarted,
    State::Parked,
    State::RollingBack,
    State::Running,
    State::Waiting,
    State::WaitingForApproval,
];

/// States in which a pipeline is over.
const OVER: [State; 3] = [State::Cancelled, State::Failed, State::Succeeded];

/// Verbs of the engine that change something.
const VERBS: [&str; 3] = ["act", "apply", "finish"];

/// Publishes what a hub has and counted.
pub fn publish_hub(health: &Health, hub: Hub) {
    health.before_metrics(move || {
        let figures = hub.figures();
        gauge!("aurora_hub_sessions").set(level(figures.sessions));
        gauge!("aurora_hub_commands_in_flight").set(level(figures.in_flight));
        counter!("aurora_hub_sessions_opened_total").absolute(figures.opened);
        counter!("aurora_hub_reconnects_total").absolute(figures.reconnects);
        for reason in SESSION_REFUSALS {
            let count = figures.refused_sessions.get(reason).copied().unwrap_or(0);
            counter!("aurora_hub_sessions_refused_total", "reason" => reason).absolute(count);
        }
        for reason in COMMAND_REFUSALS {
            let count = figures.refused_commands.get(reason).copied().unwrap_or(0);
            counter!("aurora_hub_commands_refused_total", "reason" => reason).absolute(count);
        }
        for outcome in OUTCOMES {
            let count = figures.outcomes.get(outcome).copied().unwrap_or(0);
            counter!("aurora_hub_commands_total", "outcome" => outcome).absolute(count);
        }
    });
}

/// Publishes what a control plane drives and counted.
pub fn publish_engine(health: &Health, control: ControlPlane) {
    health.before_metrics(move || {
        let figures = control.figures();
        for state in DRIVEN {
            let count = figures.driven.get(&state).copied().unwrap_or(0);
            gauge!("aurora_pipelines_driven", "state" => state.name()).set(level(count));
        }
        for state in OVER {
            let count = figures.ended.get(&state).copied().unwrap_or(0);
            counter!("aurora_pipelines_ended_total", "state" => state.name()).absolute(count);
        }
        for effect in EFFECTS {
            let age = figures.oldest.get(effect).copied().unwrap_or_default();
            gauge!("aurora_effect_oldest_seconds", "effect" => effect).set(age.as_secs_f64());
        }
        for verb in VERBS {
            for outcome in OUTCOMES {
                let count = figures.commands.get(&(verb, outcome)).copied().unwrap_or(0);
                counter!("aurora_commands_total", "verb" => verb, "outcome" => outcome).absolute(count);
            }
        }
    });
}

/// Publishes whether an agent has a session, and how long its hub has been silent.
pub fn publish_agent(health: &Health, status: watch::Receiver<AgentHealth>, clock: impl Clock) {
    health.before_metrics(move || {
        let now = status.borrow().clone();
        let connected = matches!(now.state, AgentState::Connected { .. });
        gauge!("aurora_agent_connected").set(level(usize::from(connected)));
        let silence = now.hub_frame_age(clock.now()).unwrap_or(Duration::ZERO);
        gauge!("aurora_agent_hub_silence_seconds").set(silence.as_secs_f64());
    });
}

/// A count as a metric has it; nobody counts beyond 32 bits here.
fn level(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
