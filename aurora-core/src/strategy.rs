//! How traffic shifts from the old version to the new one, as a user asks for it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a target's Deployments move to a new version.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// The new version stands beside the old one, then all traffic moves at once.
    BlueGreen(BlueGreen),
    /// Step by step, by weight.
    Canary(Canary),
    /// Pod by pod, without a stop.
    Rolling(Rolling),
}

/// The gates of a blue/green move; the gates of each list wait side by side, and all must open.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// Once the new version is available and before traffic goes to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_after: Vec<Pause>,
    /// Once traffic goes to the new version and before the old one is shut down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shut_down_after: Vec<Pause>,
}

impl BlueGreen {
    /// How long a platform keeps the old version after the redirect, should nobody shut it down.
    ///
    /// Without gates that is half a minute, in which the last traffic leaves it. Gates are opened by the
    /// control plane, which then ends the time; it only has to be longer than they can stand.
    pub fn keeps_old(&self) -> Span {
        const LEAVES: u64 = 30;
        const AFTER_A_TIMER: u64 = 60;
        // A yes that expires rolls back, best to an old version that still runs.
        const AFTER_AN_EXPIRY: u64 = 60 * 60;
        const FOR_EVER: u64 = 365 * 24 * 60 * 60;
        let stands = |gate: &Pause| match gate {
            Pause::Timed(span) => span.as_secs().saturating_add(AFTER_A_TIMER),
            Pause::Approval(approval) => approval
                .expires_after
                .map_or(FOR_EVER, |span| span.as_secs().saturating_add(AFTER_AN_EXPIRY)),
        };
        let longest = self.shut_down_after.iter().map(stands).max();
        Span::from_secs(longest.unwrap_or(LEAVES))
    }
}

/// How many pods a rolling update may add and take away at a time; the platform's defaults where absent.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rolling {
    /// Above the wanted number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<Portion>,
    /// Below the wanted number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<Portion>,
}

/// A number of pods, or a share of the wanted number.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Portion {
    /// So many pods.
    Count(u32),
    /// So many of a hundred, 0 to 100.
    Percent(u8),
}

/// The Services of a blue/green move that a deploy file names.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePair {
    /// It sends users to the version in use.
    pub active: String,
    /// It shows the new version before traffic goes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

/// Steps of a canary; after the last one the weight is 100.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Canary {
    /// In order.
    pub steps: Vec<Step>,
}

/// One step of a canary.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Wait at a gate.
    Pause(Pause),
    /// Send this share of the traffic, 0 to 100, to the new version.
    SetWeight(u8),
}

/// What a pause waits for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pause {
    /// A person's yes.
    Approval(Approval),
    /// A while, counted from when the gate is reached.
    Timed(Span),
}

/// Who may say yes, and until when.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Any one of these roles suffices; empty: everyone who may deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// How long the gate stays open for a yes; then the run is cancelled. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Span>,
}

/// A length of time in whole seconds, written as seconds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Span {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// The seconds.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// The same as a standard duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        match (hours, minutes, seconds) {
            (0, 0, s) => write!(f, "{s} s"),
            (0, m, 0) => write!(f, "{m} min"),
            (0, m, s) => write!(f, "{m} min {s} s"),
            (h, 0, 0) => write!(f, "{h} h"),
            (h, m, 0) => write!(f, "{h} h {m} min"),
            (h, m, s) => write!(f, "{h} h {m} min {s} s"),
        }
    }
}
