//! Seeded simulation of hubs and agents: cuts, delays, lost and doubled frames, restarts, in virtual time.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

mod bed;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aurora_core::account::AgentName;
use aurora_core::agent::Agent;
use aurora_core::command::{
    Act, Acted, Applied, AppliedSetKey, Apply, Observe, Outcome, Reply, Update, Verb,
};
use aurora_core::entropy::Entropy;
use aurora_core::hub::Hub;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::executor::{Capabilities, ClusterExecutor, ExecutorError, Levels, StageSink};
use aurora_core::port::router::laws::{act, command};
use aurora_core::port::router::{CommandRouter as _, Order};
use aurora_core::port::transport::faults::{Fault, FaultyConnector};
use aurora_core::session::InventoryItem;
use aurora_core::tasks::Tasks;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use bed::{Bed, TOKEN_LIFE, key};

const SEEDS: u64 = 50;
const AGENTS: [&str; 3] = ["east", "north", "west"];
const COMMANDS: u64 = 40;

/// A cluster that remembers what was done, as every real one does, and counts attempts and effects apart.
#[derive(Clone, Debug, Default)]
struct Cluster {
    state: Arc<Mutex<ClusterState>>,
    entropy: Arc<Mutex<Option<Arc<Entropy>>>>,
}

#[derive(Debug, Default)]
struct ClusterState {
    attempts: BTreeMap<u64, u32>,
    effects: BTreeMap<u64, u32>,
    /// Mutations under way: of one set there is never more than one.
    under_way: u32,
    overlaps: u32,
}

#[async_trait]
impl ClusterExecutor for Cluster {
    fn capabilities(&self) -> Capabilities {
        Capabilities::none()
    }

    async fn apply(&self, _: &Apply, _: &Plan, _: &StageSink) -> Result<Applied, ExecutorError> {
        Ok(Applied::default())
    }

    async fn finish(&self, _: &Apply, _: &Plan, _: &StageSink) -> Result<Applied, ExecutorError> {
        Ok(Applied::default())
    }

    async fn observe(&self, _: &Observe, _: &Plan) -> Result<Levels, ExecutorError> {
        Ok(futures::stream::pending().boxed())
    }

    async fn act(&self, act: &Act) -> Result<Acted, ExecutorError> {
        let version = act.stamp.version;
        let _under_way = UnderWay::begin(&self.state, version);
        let late = self
            .entropy
            .lock()
            .unwrap()
            .as_ref()
            .map_or(0, |entropy| entropy.next_u64() % 3000);
        tokio::time::sleep(Duration::from_millis(late)).await;
        let mut state = self.state.lock().unwrap();
        // The precondition in the cluster.
        if state.effects.contains_key(&version) {
            return Ok(Acted::Unchanged);
        }
        *state.effects.entry(version).or_default() += 1;
        Ok(Acted::Done)
    }

    async fn get(&self, _: &ObjectRef) -> Result<Option<serde_json::Value>, ExecutorError> {
        Ok(None)
    }

    async fn delete(&self, _: &AppliedSetKey, _: &ObjectRef) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn inventory(&self) -> Result<Vec<(String, InventoryItem)>, ExecutorError> {
        Ok(Vec::new())
    }
}

struct UnderWay(Arc<Mutex<ClusterState>>);

impl UnderWay {
    fn begin(state: &Arc<Mutex<ClusterState>>, version: u64) -> Self {
        let mut held = state.lock().unwrap();
        *held.attempts.entry(version).or_default() += 1;
        held.under_way += 1;
        if held.under_way > 1 {
            held.overlaps += 1;
        }
        drop(held);
        Self(Arc::clone(state))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap().under_way -= 1;
    }
}

/// What one run did, in words; equal seeds give equal bytes.
struct World {
    trace: Mutex<String>,
    started: tokio::time::Instant,
}

impl World {
    fn note(&self, text: &str) {
        let at = self.started.elapsed().as_millis();
        writeln!(self.trace.lock().unwrap(), "{at:>8} {text}").unwrap();
    }
}

fn fate(entropy: &Arc<Entropy>) -> impl Fn(bool) -> Fault + Send + Sync + 'static {
    let entropy = Arc::clone(entropy);
    move |_up| match entropy.next_u64() % 100 {
        0..=1 => Fault::Cut,
        2..=3 => Fault::Drop,
        4..=7 => Fault::Duplicate,
        8..=20 => Fault::Delay(Duration::from_millis(entropy.next_u64() % 2000)),
        _ => Fault::None,
    }
}

/// One agent process over a cluster; ends when it is told to.
fn start(bed: &Bed, name: &'static str, cluster: &Cluster, entropy: &Arc<Entropy>) -> CancellationToken {
    let wire = FaultyConnector::new(bed.transport.clone(), fate(entropy));
    let source = bed.tokens.source_for(bed.machine(&[name]), TOKEN_LIFE);
    let agent = Agent::new(AgentName::new(name).unwrap(), wire, source, cluster.clone())
        .with_clock(bed.clock.clone())
        .with_entropy(Entropy::seeded(entropy.next_u64()))
        .with_grace(Duration::ZERO);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    bed.tasks.spawn(|_| async move {
        // With no grace, commands in hand are cut off: that is the point.
        let _ = agent.run(stopped).await;
    });
    stop
}

async fn simulate(seed: u64) -> String {
    let entropy = Arc::new(Entropy::seeded(seed));
    let bed = Bed::with(|hub| hub.with_drain(Duration::ZERO, Duration::ZERO));
    let world = Arc::new(World {
        trace: Mutex::default(),
        started: tokio::time::Instant::now(),
    });
    let hub = Arc::new(Mutex::new(bed.hub.clone()));
    let clusters: BTreeMap<&str, Cluster> = AGENTS.iter().map(|name| (*name, Cluster::default())).collect();
    for cluster in clusters.values() {
        *cluster.entropy.lock().unwrap() = Some(Arc::clone(&entropy));
    }
    let callers = Tasks::new();
    for name in clusters.keys() {
        let name = *name;
        let (world, hub, entropy) = (Arc::clone(&world), Arc::clone(&hub), Arc::clone(&entropy));
        callers.spawn(|_| async move { call(name, &world, &hub, &entropy).await });
    }
    let mut agents: Vec<CancellationToken> = clusters
        .iter()
        .map(|(name, cluster)| start(&bed, name, cluster, &entropy))
        .collect();
    // The world's own faults: agents are restarted, and so is the hub, which forgets everything.
    let mut bed = bed;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(3000 + entropy.next_u64() % 20_000)).await;
        match entropy.next_u64() % 4 {
            0 => {
                world.note("hub restarts");
                bed.stop_hub.cancel();
                bed.transport.close();
                tokio::time::sleep(Duration::from_secs(1)).await;
                bed.hub = Hub::new(bed.clock.clone())
                    .with_verifier(bed.tokens.clone())
                    .with_entropy(Entropy::seeded(entropy.next_u64()))
                    .with_drain(Duration::ZERO, Duration::ZERO);
                bed.stop_hub = CancellationToken::new();
                bed.start_hub();
                *hub.lock().unwrap() = bed.hub.clone();
            }
            _ => {
                let which = usize::try_from(entropy.next_u64() % 3).unwrap();
                let name = AGENTS[which];
                world.note(&format!("{name} restarts"));
                agents[which].cancel();
                tokio::time::sleep(Duration::from_millis(1500)).await;
                agents[which] = start(&bed, name, &clusters[name], &entropy);
            }
        }
    }
    // Callers end by themselves, since each of their commands does.
    tokio::time::timeout(Duration::from_secs(4 * 3600), async {
        while !callers.is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
    .expect("every command has an outcome");
    for (name, cluster) in &clusters {
        let state = cluster.state.lock().unwrap();
        let acted: Vec<u64> = state.effects.keys().copied().collect();
        assert_eq!(
            acted,
            (1..=COMMANDS).collect::<Vec<_>>(),
            "{name} did everything (seed {seed})"
        );
        assert!(
            state.effects.values().all(|times| *times == 1),
            "{name} did nothing twice (seed {seed})"
        );
        let attempts: u32 = state.attempts.values().sum();
        writeln!(
            world.trace.lock().unwrap(),
            "{name}: {attempts} attempts, {} overlaps",
            state.overlaps
        )
        .unwrap();
    }
    for agent in agents {
        agent.cancel();
    }
    bed.stop_hub.cancel();
    bed.tasks.drain(Duration::from_secs(120)).await.unwrap();
    std::mem::take(&mut *world.trace.lock().unwrap())
}

/// A control plane in small: sends each command until it has an answer, under one id.
async fn call(name: &'static str, world: &World, hub: &Mutex<Hub>, entropy: &Entropy) {
    for version in 1..=COMMANDS {
        loop {
            let router = hub.lock().unwrap().clone();
            let deadline = Duration::from_secs(5 + entropy.next_u64() % 30);
            // Queries between mutations, with ids of their own.
            let query = entropy.next_u64().is_multiple_of(4);
            let order = if query {
                let payload = vec![u8::try_from(version).unwrap()];
                Order::new(command(entropy.next_u64(), deadline, Verb::Ping { payload }))
            } else {
                Order::new(act(version, deadline))
            };
            let mut updates = match router.route(&key(name), order).await {
                Ok(updates) => updates,
                Err(error) => {
                    world.note(&format!("{name} {version} not sent: {:?}", error.kind()));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
            };
            let mut outcome = None;
            while let Some(update) = updates.next().await {
                assert!(outcome.is_none(), "nothing follows an outcome");
                if let Update::Finished(end) = update {
                    outcome = Some(end);
                }
            }
            let outcome = outcome.expect("updates end with an outcome");
            world.note(&format!(
                "{name} {version} {} {outcome:?}",
                if query { "ping" } else { "act" }
            ));
            match outcome {
                Outcome::Ok(Reply::Acted(Acted::Done | Acted::Unchanged)) => break,
                Outcome::Ok(Reply::Pong(payload)) => {
                    assert_eq!(
                        payload,
                        [u8::try_from(version).unwrap()],
                        "an answer is the question's own"
                    );
                }
                Outcome::AgentLost { .. }
                | Outcome::DeadlineExceeded
                | Outcome::Cancelled
                | Outcome::Failed(_) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Outcome::Ok(other) => panic!("an act does not answer {other:?}"),
            }
        }
    }
}

fn run(seed: u64) -> String {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(simulate(seed))
}

#[test]
fn fifty_seeds_keep_the_invariants_and_replay_byte_for_byte() {
    let (mut lost, mut faults) = (0, 0);
    for seed in 0..SEEDS {
        let first = run(seed);
        assert!(
            first == run(seed),
            "seed {seed} gives another trace the second time"
        );
        lost += first.matches("AgentLost").count();
        faults += first.matches("restarts").count();
    }
    // The simulation is worth something only if the faults bite.
    assert!(lost > 100, "{lost} commands lost their agent");
    assert!(faults > 200, "{faults} restarts");
}
