//! Commands in hand: lanes keep the order of mutations, a table answers redeliveries, deadlines and cancels hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::perform::{PlanSource, perform};
use crate::command::{Acted, AppliedSetKey, Command, Failure, Outcome, Reply, Update, Verb};
use crate::error::ErrorKind;
use crate::hub::mailbox::Mailbox;
use crate::id::CommandId;
use crate::port::executor::ClusterExecutor;
use crate::tasks::{Stuck, Tasks};

/// No command takes longer, whatever its deadline says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How much an agent does and remembers at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Mutations of different applied sets that run side by side; as many short queries again.
    pub(crate) workers: usize,
    /// Commands in hand; one more is refused as exhausted.
    pub(crate) in_hand: usize,
    /// Results that are kept for redeliveries.
    pub(crate) results: usize,
    /// How long a result is kept.
    pub(crate) keep: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 16,
            in_hand: 1024,
            results: 10_000,
            keep: Duration::from_secs(600),
        }
    }
}

/// Takes commands in hand and does them; lives longer than any one session.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    executor: Arc<dyn ClusterExecutor>,
    plans: Arc<dyn PlanSource>,
    limits: Limits,
    mutations: Semaphore,
    queries: Semaphore,
    tasks: Tasks,
    give_up: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A lane exists while its task runs.
    lanes: BTreeMap<AppliedSetKey, VecDeque<Arc<Run>>>,
    /// Mutations in hand that nobody has cancelled.
    mutations: BTreeMap<CommandId, Arc<Run>>,
    results: BTreeMap<CommandId, Outcome>,
    /// When each result was stored, the oldest first.
    ages: VecDeque<(Instant, CommandId)>,
    in_hand: usize,
}

/// One command being done, or waiting for its turn.
#[derive(Debug)]
struct Run {
    command: Command,
    due: Instant,
    cancel: CancellationToken,
    viewers: Mutex<Viewers>,
}

#[derive(Debug, Default)]
struct Viewers {
    mailboxes: Vec<Arc<Mailbox>>,
    outcome: Option<Outcome>,
}

/// One reader's hold on a command; dropping it leaves a mutation running and stops a query.
#[derive(Debug)]
pub(crate) struct Job {
    mailbox: Arc<Mailbox>,
    run: Option<Arc<Run>>,
    dispatcher: Dispatcher,
}

impl Dispatcher {
    pub(crate) fn new(
        executor: Arc<dyn ClusterExecutor>,
        plans: Arc<dyn PlanSource>,
        limits: Limits,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                executor,
                plans,
                limits,
                mutations: Semaphore::new(limits.workers),
                queries: Semaphore::new(limits.workers),
                tasks: Tasks::new(),
                give_up: CancellationToken::new(),
                state: Mutex::default(),
            }),
        }
    }

    /// Takes a command in hand without waiting; its news are read from the job.
    ///
    /// A mutation that is in hand already is attached to, one that was done is answered from the table.
    pub(crate) fn submit(&self, command: Command) -> Job {
        let mailbox = Arc::new(Mailbox::default());
        mailbox.post(Update::Accepted);
        let run = self.take(command, &mailbox);
        Job {
            mailbox,
            run,
            dispatcher: self.clone(),
        }
    }

    fn take(&self, command: Command, mailbox: &Arc<Mailbox>) -> Option<Arc<Run>> {
        let mut state = self.state();
        if command.verb.is_mutation() {
            state.forget_old(&self.inner.limits);
            if let Some(stored) = state.results.get(&command.id) {
                mailbox.post(Update::Finished(stored.clone()));
                return None;
            }
            if let Some(run) = state.mutations.get(&command.id) {
                run.watch(mailbox);
                return Some(Arc::clone(run));
            }
        }
        if state.in_hand >= self.inner.limits.in_hand {
            mailbox.post(Update::Finished(Outcome::Failed(Failure::new(
                ErrorKind::Exhausted,
                "agentBusy",
                format!(
                    "the agent has {} commands in hand; try again later",
                    state.in_hand
                ),
            ))));
            return None;
        }
        state.in_hand += 1;
        let run = Arc::new(Run::new(command, mailbox, self.inner.give_up.child_token()));
        if run.command.verb.is_mutation() {
            state.mutations.insert(run.command.id, Arc::clone(&run));
        }
        match lane_of(&run.command.verb) {
            Some(key) => {
                let idle = !state.lanes.contains_key(&key);
                state
                    .lanes
                    .entry(key.clone())
                    .or_default()
                    .push_back(Arc::clone(&run));
                drop(state);
                if idle {
                    let this = self.clone();
                    self.inner
                        .tasks
                        .spawn(|_stop| async move { this.run_lane(key).await });
                }
            }
            None => {
                drop(state);
                let (this, run) = (self.clone(), Arc::clone(&run));
                self.inner
                    .tasks
                    .spawn(|_stop| async move { this.do_one(&run).await });
            }
        }
        Some(run)
    }

    /// Commands in hand, queued ones too.
    pub(crate) fn in_hand(&self) -> usize {
        self.state().in_hand
    }

    /// Waits for what is in hand, at most `grace`, then cancels the rest.
    pub(crate) async fn drain(&self, grace: Duration) -> Result<(), Stuck> {
        let in_time = self.inner.tasks.drain(grace).await;
        if in_time.is_err() {
            self.inner.give_up.cancel();
            // What was cancelled only has to be dropped.
            let _ = self.inner.tasks.drain(Duration::from_secs(1)).await;
        }
        in_time
    }

    async fn run_lane(&self, key: AppliedSetKey) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.lanes.get_mut(&key).and_then(VecDeque::pop_front);
                if next.is_none() {
                    state.lanes.remove(&key);
                }
                next
            };
            match next {
                Some(run) => self.do_one(&run).await,
                None => return,
            }
        }
    }

    async fn do_one(&self, run: &Arc<Run>) {
        let outcome = self.outcome_of(run).await;
        let mutation = run.command.verb.is_mutation();
        let mut state = self.state();
        state.in_hand -= 1;
        if mutation {
            state.release(run);
            if is_kept(&outcome) {
                state.keep(run.command.id, outcome.clone(), &self.inner.limits);
            }
        }
        drop(state);
        run.finish(outcome);
    }

    async fn outcome_of(&self, run: &Run) -> Outcome {
        if run.command.verb.is_mutation() {
            // An earlier delivery may have been in this lane before us.
            if let Some(stored) = self.state().results.get(&run.command.id) {
                return stored.clone();
            }
        }
        let news = Mailbox::default();
        let inner = &self.inner;
        let work = async {
            let workers = match run.command.verb {
                // An observe lasts minutes and mostly sleeps: it takes no worker.
                Verb::Observe(_) => None,
                ref verb if verb.is_mutation() => Some(&inner.mutations),
                _ => Some(&inner.queries),
            };
            let _worker = match workers {
                Some(workers) => tokio::time::timeout_at(run.due, workers.acquire()).await.ok(),
                None => None,
            };
            if Instant::now() >= run.due {
                return Outcome::DeadlineExceeded;
            }
            perform(&*inner.executor, &*inner.plans, &run.command, run.due, &news).await
        };
        let pass_on = async {
            while let Some(update) = news.next(u64::MAX).await {
                run.tell(&update);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = run.cancel.cancelled() => Outcome::Cancelled,
            () = pass_on => Outcome::Cancelled,
            outcome = work => {
                news.post(Update::Finished(outcome.clone()));
                while let Some(update) = news.next(u64::MAX).await {
                    run.tell(&update);
                }
                outcome
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, id: CommandId, outcome: Outcome, limits: &Limits) {
        if self.results.insert(id, outcome).is_none() {
            self.ages.push_back((Instant::now(), id));
        }
        self.forget_old(limits);
    }

    fn forget_old(&mut self, limits: &Limits) {
        while let Some((stored, id)) = self.ages.front().copied() {
            if self.ages.len() <= limits.results && stored.elapsed() < limits.keep {
                break;
            }
            self.ages.pop_front();
            self.results.remove(&id);
        }
    }

    /// A later delivery of the same id may have taken the place after a cancel.
    fn release(&mut self, run: &Arc<Run>) {
        if self
            .mutations
            .get(&run.command.id)
            .is_some_and(|held| Arc::ptr_eq(held, run))
        {
            self.mutations.remove(&run.command.id);
        }
    }
}

impl Run {
    fn new(command: Command, mailbox: &Arc<Mailbox>, cancel: CancellationToken) -> Self {
        Self {
            due: Instant::now() + command.deadline.min(LONGEST),
            command,
            cancel,
            viewers: Mutex::new(Viewers {
                mailboxes: vec![Arc::clone(mailbox)],
                outcome: None,
            }),
        }
    }

    fn watch(&self, mailbox: &Arc<Mailbox>) {
        let mut viewers = self.viewers();
        match &viewers.outcome {
            Some(outcome) => {
                mailbox.post(Update::Finished(outcome.clone()));
            }
            None => viewers.mailboxes.push(Arc::clone(mailbox)),
        }
    }

    fn tell(&self, update: &Update) {
        if matches!(update, Update::Finished(_)) {
            return;
        }
        for mailbox in &self.viewers().mailboxes {
            mailbox.post(update.clone());
        }
    }

    fn finish(&self, outcome: Outcome) {
        let mut viewers = self.viewers();
        for mailbox in viewers.mailboxes.drain(..) {
            mailbox.post(Update::Finished(outcome.clone()));
        }
        viewers.outcome = Some(outcome);
    }

    /// Removes a reader; tells whether none is left.
    fn leave(&self, mailbox: &Arc<Mailbox>) -> bool {
        let mut viewers = self.viewers();
        viewers.mailboxes.retain(|held| !Arc::ptr_eq(held, mailbox));
        viewers.mailboxes.is_empty()
    }

    fn viewers(&self) -> MutexGuard<'_, Viewers> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Where the news arrive.
    pub(crate) const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Gives the command up; it stops unless another reader wants it. The outcome arrives in the mailbox.
    pub(crate) fn cancel(&self) {
        let Some(run) = &self.run else { return };
        // Under the lock, so that no redelivery attaches to what is about to stop.
        let mut state = self.dispatcher.state();
        if run.leave(&self.mailbox) {
            state.release(run);
            run.cancel.cancel();
        }
        drop(state);
        self.mailbox.post(Update::Finished(Outcome::Cancelled));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let Some(run) = &self.run else { return };
        if run.leave(&self.mailbox) && !run.command.verb.is_mutation() {
            run.cancel.cancel();
        }
    }
}

/// Whether a redelivery is answered with it: what a second attempt could not change.
pub(crate) fn is_kept(outcome: &Outcome) -> bool {
    match outcome {
        // It says to try again.
        Outcome::Ok(Reply::Acted(Acted::WaitForPods)) => false,
        Outcome::Ok(_) => true,
        Outcome::Failed(failure) => !failure.kind.is_transient() && failure.kind != ErrorKind::Internal,
        Outcome::AgentLost { .. } | Outcome::Cancelled | Outcome::DeadlineExceeded => false,
    }
}

/// Mutations of one applied set follow each other.
fn lane_of(verb: &Verb) -> Option<AppliedSetKey> {
    match verb {
        Verb::Act(act) => Some(act.set.clone()),
        Verb::Apply(apply) | Verb::Finish(apply) => Some(apply.set.clone()),
        Verb::Delete { set, .. } => Some(set.clone()),
        Verb::Get { .. } | Verb::Observe(_) | Verb::Ping { .. } => None,
    }
}
