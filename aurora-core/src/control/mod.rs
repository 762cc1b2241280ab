//! The control plane: use cases over stored pipelines, and the runner that drives them.

mod act_key;
mod acts;
mod again;
mod applications;
mod approvals;
mod audit;
mod audit_query;
mod diff;
mod driver;
mod effects;
mod feed;
mod figures;
mod filter;
mod fleet;
mod folded;
mod history;
mod impact;
mod journal;
mod list;
mod plans;
mod queries;
mod redact;
mod runner;
mod start;
mod submit;
mod summaries;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::authz::{Deploy, Grant, Permission as _};
use crate::entropy::Entropy;
use crate::error::ErrorKind;
use crate::pipeline::{Approver, Refused, Viewer};
use crate::port::clock::Clock;
use crate::port::renderer::ManifestRenderer;
use crate::port::router::{CommandRouter, RouteError};
use crate::port::store::{SharedStore, StoreError};
use crate::principal::{Actor, Channel, ClientProduct, Principal};
use crate::tenant::Tenant;

pub use acts::{Decision, Recorded};
pub use again::{Redeploy, TargetAct};
pub use applications::{ApplicationPage, ApplicationView, CellRun, CellView, LastGoodRun, RunningImage};
pub use approvals::{ApprovalPage, ApprovalView, DecidedPage};
pub use audit_query::{AuditEntry, AuditPage, AuditQuery};
pub use diff::{
    Change, DiffSummary, FieldDiff, ImageChange, InvalidPlanRef, ObjectDiff, PlanDiff, PlanRef,
    ReplicasChange,
};
pub use feed::{Cursor, FeedItem, FeedItems, InvalidCursor};
pub use figures::{EFFECTS, EngineFigures};
pub use fleet::{AccountView, AgentView};
pub use history::{History, HistoryPoint};
pub use impact::Intent;
pub use list::{Facet, ListPage, Order, PipelineQuery, RowFilter};
pub use plans::{ObjectText, PlanObject, PlanView};
pub use queries::{AsOf, Document, StoredConfig, Timeline};
pub use submit::{Submission, SubmitError, Submitted};

/// Use cases over pipelines: submit, look, decide; and [`ControlPlane::run`], which drives them.
///
/// Clones share everything. Any number of control planes may work over one store: each pipeline is
/// driven by the one that holds its lease, and every one of them answers.
///
/// ```
/// # use std::sync::Arc;
/// # use aurora_core::account::{AgentKey, AgentName};
/// # use aurora_core::deploy_file::{Files, manifests, parse};
/// # use aurora_core::port::clock::SystemClock;
/// # use aurora_core::port::executor::memory::InMemoryCluster;
/// # use aurora_core::port::renderer::InMemoryRenderer;
/// # use aurora_core::port::router::InMemoryRouter;
/// # use aurora_core::port::store::memory::InMemoryStore;
/// # use aurora_core::principal::{Channel, Principal, PrincipalKind};
/// # use aurora_core::tasks::Tasks;
/// # use aurora_core::tenant::Tenant;
/// use aurora_core::control::{ControlPlane, Door, Submission};
/// use aurora_core::pipeline::State;
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # let tenant = Tenant::new("acme", "main")?;
/// # let router = InMemoryRouter::new(SystemClock);
/// # let agent = AgentKey::new(tenant.clone(), AgentName::new("staging")?);
/// # router.connect(agent, InMemoryCluster::default());
/// # let principal = Arc::new(Principal {
/// #     kind: PrincipalKind::User, id: "ada".into(), display: "Ada".into(), tenant: Some(tenant),
/// #     scopes: ["manage:deploy".to_owned()].into(), roles: Default::default(),
/// #     agents: Default::default(), expires_at: jiff::Timestamp::MAX,
/// # });
/// # let text = r#"
/// # version: v1
/// # kind: kubernetes
/// # application: shop
/// # targets: {staging: {account: staging, namespace: shop, strategy: canary}}
/// # strategies: {canary: {canary: {steps: [{setWeight: {weight: 50}}]}}}
/// # manifests:
/// #   - inline: |
/// #       {apiVersion: apps/v1, kind: Deployment, metadata: {name: shop}, spec: {template: {}}}
/// # "#;
/// # let file = parse(text, "deploy.yml").map_err(|problems| format!("{problems:?}"))?.deploy;
/// # let manifests = manifests(&file, &Files::default(), "deploy.yml").map_err(|p| format!("{p:?}"))?;
/// let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
/// let plane = ControlPlane::new(store, router, InMemoryRenderer, SystemClock);
/// let (runner, tasks) = (plane.clone(), Tasks::new());
/// tasks.spawn(|stop| async move { drop(runner.run(stop).await) });
///
/// let door = Door::new(Channel::Cli);
/// let submitted = plane.submit(&principal.authorize()?, &door, Submission::new(file, manifests)).await?;
/// let reader = principal.authorize()?;
/// while plane.view(&reader, submitted.pipeline).await?.body.state != State::Succeeded {
///     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ControlPlane {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: SharedStore,
    router: Arc<dyn CommandRouter>,
    renderer: Arc<dyn ManifestRenderer>,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    options: Options,
    /// Mutating commands under way, over all pipelines.
    commands: Arc<Semaphore>,
    summaries: summaries::Summaries,
    tally: figures::Tally,
}

#[derive(Clone, Debug)]
struct Options {
    holder: String,
    lease: Duration,
    observe: Duration,
    grace: Duration,
    commands: usize,
}

impl ControlPlane {
    /// A control plane over its ports.
    pub fn new(
        store: SharedStore,
        router: impl CommandRouter,
        renderer: impl ManifestRenderer,
        clock: impl Clock,
    ) -> Self {
        let entropy = Arc::new(Entropy::from_system());
        let options = Options {
            holder: format!("control-{:016x}", entropy.next_u64()),
            lease: Duration::from_secs(15),
            observe: Duration::from_secs(300),
            grace: Duration::from_secs(10),
            commands: 256,
        };
        Self {
            inner: Arc::new(Inner {
                store,
                router: Arc::new(router),
                renderer: Arc::new(renderer),
                clock: Arc::new(clock),
                entropy,
                commands: Arc::new(Semaphore::new(options.commands)),
                options,
                summaries: summaries::Summaries::default(),
                tally: figures::Tally::default(),
            }),
        }
    }

    /// Takes random numbers from a source that can be repeated; by default from the system.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<Entropy>) -> Self {
        self.changed(|inner| inner.entropy = entropy)
    }

    /// The name under which it holds leases; by default a random one, so that two never share a lease.
    #[must_use]
    pub fn with_holder(self, holder: impl Into<String>) -> Self {
        self.changed(|inner| inner.options.holder = holder.into())
    }

    /// How long a lease on a pipeline lasts without being renewed; 15 s, so that another takes over soon.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        self.changed(|inner| inner.options.lease = lease)
    }

    /// How long one observation runs before it is renewed; 5 minutes, far above a reconnect.
    #[must_use]
    pub fn with_observe(self, observe: Duration) -> Self {
        self.changed(|inner| inner.options.observe = observe)
    }

    /// How long what is under way is waited for at the end; 10 s.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        self.changed(|inner| inner.options.grace = grace)
    }

    /// How many mutating commands are under way at once; 256, well below what one hub takes.
    #[must_use]
    pub fn with_commands(self, commands: usize) -> Self {
        self.changed(|inner| {
            inner.options.commands = commands;
            inner.commands = Arc::new(Semaphore::new(commands));
        })
    }

    /// Options are set before a control plane is shared; a clone made earlier keeps what it had.
    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner,
            Err(shared) => Inner {
                store: Arc::clone(&shared.store),
                router: Arc::clone(&shared.router),
                renderer: Arc::clone(&shared.renderer),
                clock: Arc::clone(&shared.clock),
                entropy: Arc::clone(&shared.entropy),
                options: shared.options.clone(),
                commands: Arc::clone(&shared.commands),
                summaries: summaries::Summaries::default(),
                tally: figures::Tally::default(),
            },
        };
        change(&mut inner);
        Self {
            inner: Arc::new(inner),
        }
    }
}

/// The way by which somebody came.
#[derive(Clone, Debug)]
pub struct Door {
    /// Which door.
    pub channel: Channel,
    /// The program, where it said so.
    pub client: Option<ClientProduct>,
    /// A key that makes a repeat of the same act have no second effect.
    pub idempotency: Option<String>,
}

impl Door {
    /// A door without a program's name.
    pub const fn new(channel: Channel) -> Self {
        Self {
            channel,
            client: None,
            idempotency: None,
        }
    }

    /// Has the next act be remembered under a key: repeated with it, it gives the same answer.
    #[must_use]
    pub fn with_idempotency(mut self, key: impl Into<String>) -> Self {
        self.idempotency = Some(key.into());
        self
    }

    /// The actor that a principal is when it comes through this door.
    pub fn actor(&self, principal: &Principal) -> Actor {
        Actor::of(principal, self.channel, self.client.clone())
    }
}

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Others kept writing at the same time.
    #[error("pipeline `{id}` kept changing; try again")]
    Contended {
        /// Which pipeline.
        id: String,
    },
    /// The request itself is wrong.
    #[error("{problem}")]
    Invalid {
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The key was used for another act.
    #[error("the idempotency key was used for another act; use a new key for each act")]
    KeyReused,
    /// There is no such thing in this tenant.
    #[error("there is no {what}")]
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// This version cannot do it yet.
    #[error("{what} is not in this version of Aurora yet")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The pipeline does not allow it now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A new run was not taken.
    #[error(transparent)]
    NotTaken(#[from] SubmitError),
    /// The hub cannot be asked.
    #[error("the agents cannot be asked for")]
    Router {
        /// Why.
        source: RouteError,
    },
    /// The store does not work, or holds what cannot be read.
    #[error("what is stored cannot be used")]
    Store {
        /// Why.
        source: StoreError,
    },
}

impl ControlError {
    /// What can be done about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Contended { .. } => ErrorKind::Unavailable,
            Self::Invalid { .. } | Self::KeyReused => ErrorKind::Invalid,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::NotTaken(error) => error.kind(),
            Self::Refused(refused) => refused.kind(),
            Self::Router { source } => source.kind(),
            Self::Store { source } => source.kind(),
        }
    }
}

impl From<StoreError> for ControlError {
    fn from(source: StoreError) -> Self {
        Self::Store { source }
    }
}

/// What a principal may do, as views show it.
fn viewer(principal: &Principal) -> Viewer {
    Viewer {
        approver: Approver::of(principal),
        may_deploy: Deploy::SCOPES.iter().any(|scope| principal.has_scope(scope)),
    }
}

/// One value per tenant, made when it is first asked for.
#[derive(Debug)]
struct PerTenant<T> {
    values: Mutex<BTreeMap<Tenant, Arc<T>>>,
}

impl<T> Default for PerTenant<T> {
    fn default() -> Self {
        Self {
            values: Mutex::default(),
        }
    }
}

impl<T: Default> PerTenant<T> {
    fn of(&self, tenant: &Tenant) -> Arc<T> {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(values.entry(tenant.clone()).or_default())
    }
}

/// A grant's principal as an actor.
fn actor<P>(grant: &Grant<P>, door: &Door) -> Actor {
    door.actor(grant.principal())
}
