//! Recordings of a real Argo Rollouts controller, replayed on the simulated cluster in virtual time.
//!
//! Each driver acts on states ("when it pauses at step 1, send the recorded patch"); what the Rollout then
//! goes through has to equal the recording: phase and step with repeats folded, and where it settles also
//! message, counters and pods per ReplicaSet, hashes equal up to one renaming. Timing is left aside.

#![expect(
    clippy::unwrap_used,
    reason = "a replay reports by panicking when its fixtures are wrong"
)]

#[path = "traces/blue_green.rs"]
mod blue_green;
#[path = "traces/compare.rs"]
mod compare;
#[path = "traces/drivers.rs"]
mod drivers;
#[path = "traces/executor.rs"]
mod executor;
#[path = "traces/objects.rs"]
mod objects;
#[path = "traces/recording.rs"]
mod recording;
#[path = "traces/world.rs"]
mod world;

use std::fmt::Write as _;

use self::{recording::Recording, world::World};

#[test]
fn simulated_controller_behaves_as_the_recorded_real_one() {
    let mut table = String::from("\n| trace | result | states |\n|---|---|---|\n");
    let mut failures = String::new();
    for (name, driver) in drivers::ALL {
        let recording = Recording::read(name);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let (states, result) = runtime.unwrap().block_on(World::replay(recording, *driver));
        let verdict = if result.is_ok() { "equal" } else { "DIFFERS" };
        writeln!(table, "| {name} | {verdict} | {states} |").unwrap();
        if let Err(difference) = result {
            writeln!(failures, "\n{name}: {difference}").unwrap();
        }
    }
    println!("{table}");
    assert!(failures.is_empty(), "{failures}");
}
