//! A control plane with an in-memory store, router and clusters, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::authz::{Deploy, Grant, ReadInfrastructure, ReadPipelines};
use aurora_core::control::{ControlPlane, Decision, Door, Submission};
use aurora_core::deploy_file::{DeployFile, Files, InProgress, TargetSpec, manifests};
use aurora_core::deploy_file::{ManifestFrom, ManifestSource};
use aurora_core::entropy::Entropy;
use aurora_core::id::PipelineId;
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{Event, Pipeline, PipelineView, State, decode};
use aurora_core::port::clock::InMemoryClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::store::{Scope, SharedStore, Store as _};
use aurora_core::principal::{Channel, Principal, PrincipalKind};
use aurora_core::strategy::{Approval, BlueGreen, Canary, Pause, Span, Step, Strategy};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use jiff::Timestamp;
use serde_json::json;

pub(crate) const DEPLOYMENTS: [&str; 2] = ["shop", "worker"];

/// Everything around control planes; control planes themselves come and go.
pub(crate) struct World {
    pub(crate) clock: InMemoryClock,
    pub(crate) store: InMemoryStore,
    pub(crate) router: InMemoryRouter,
    pub(crate) clusters: BTreeMap<String, InMemoryCluster>,
    pub(crate) entropy: Arc<Entropy>,
    pub(crate) tenant: Tenant,
}

impl World {
    pub(crate) fn new(accounts: &[&str]) -> Self {
        Self::with(accounts, |cluster| cluster)
    }

    /// Clusters move only when they are ticked.
    pub(crate) fn ticking(accounts: &[&str]) -> Self {
        Self::with(accounts, InMemoryCluster::with_ticks)
    }

    fn with(accounts: &[&str], make: impl Fn(InMemoryCluster) -> InMemoryCluster) -> Self {
        let start: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let clock = InMemoryClock::starting_at(start);
        let router = InMemoryRouter::new(clock.clone());
        let tenant = Tenant::new("acme", "main").unwrap();
        let clusters: BTreeMap<String, InMemoryCluster> = accounts
            .iter()
            .map(|name| {
                let cluster = make(InMemoryCluster::default().with_clock(Arc::new(clock.clone())));
                router.connect(key(&tenant, name), cluster.clone());
                ((*name).to_owned(), cluster)
            })
            .collect();
        Self {
            store: InMemoryStore::new(Arc::new(clock.clone())),
            clock,
            router,
            clusters,
            entropy: Arc::new(Entropy::seeded(7)),
            tenant,
        }
    }

    pub(crate) fn plane(&self) -> ControlPlane {
        self.plane_over(Arc::new(self.store.clone()))
    }

    pub(crate) fn plane_over(&self, store: SharedStore) -> ControlPlane {
        ControlPlane::new(store, self.router.clone(), InMemoryRenderer, self.clock.clone())
            .with_entropy(Arc::clone(&self.entropy))
            .with_holder("one")
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope::from(&self.tenant)
    }

    pub(crate) fn key(&self, agent: &str) -> AgentKey {
        key(&self.tenant, agent)
    }

    pub(crate) fn cluster(&self, account: &str) -> &InMemoryCluster {
        &self.clusters[account]
    }

    /// The decoded events of a pipeline.
    pub(crate) async fn events(&self, id: PipelineId) -> Vec<Event> {
        let stream = format!("pipeline/{id}");
        let stored = self
            .store
            .read_stream(&self.scope(), &stream, 0, 100_000)
            .await
            .unwrap();
        stored.iter().map(|event| decode(&event.value).unwrap()).collect()
    }

    /// The folded state of a pipeline.
    pub(crate) async fn pipeline(&self, id: PipelineId) -> Pipeline {
        let stream = format!("pipeline/{id}");
        let stored = self
            .store
            .read_stream(&self.scope(), &stream, 0, 100_000)
            .await
            .unwrap();
        Pipeline::new(id).fold(stored.iter().map(|event| event.value.as_ref()))
    }

    /// Waits until a pipeline's state is as wanted, and gives it.
    pub(crate) async fn until(&self, id: PipelineId, wanted: impl Fn(&Pipeline) -> bool) -> Pipeline {
        let mut written = self.store.written();
        let limit = tokio::time::Instant::now() + Duration::from_secs(24 * 3600);
        while tokio::time::Instant::now() < limit {
            written.borrow_and_update();
            let pipeline = self.pipeline(id).await;
            if wanted(&pipeline) {
                return pipeline;
            }
            let _ = tokio::time::timeout(Duration::from_secs(600), written.changed()).await;
        }
        let pipeline = self.pipeline(id).await;
        panic!("never as wanted: {:?} {pipeline:#?}", pipeline.state());
    }

    pub(crate) async fn ended(&self, id: PipelineId) -> Pipeline {
        self.until(id, Pipeline::is_final).await
    }
}

/// Runs a control plane for as long as the returned tasks live.
pub(crate) fn drive(plane: &ControlPlane) -> Tasks {
    let tasks = Tasks::new();
    let plane = plane.clone();
    tasks.spawn(|stop| async move {
        plane.run(stop).await.unwrap();
    });
    tasks
}

fn key(tenant: &Tenant, agent: &str) -> AgentKey {
    AgentKey::new(tenant.clone(), AgentName::new(agent).unwrap())
}

pub(crate) fn principal(name: &str, roles: &[&str], scopes: &[&str]) -> Arc<Principal> {
    Arc::new(Principal {
        kind: PrincipalKind::User,
        id: name.to_owned(),
        display: name.to_owned(),
        tenant: Some(Tenant::new("acme", "main").unwrap()),
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        agents: BTreeSet::new(),
        expires_at: Timestamp::MAX,
    })
}

pub(crate) fn deployer(name: &str, roles: &[&str]) -> Grant<Deploy> {
    principal(name, roles, &["manage:deploy"]).authorize().unwrap()
}

pub(crate) fn reader() -> Grant<ReadPipelines> {
    principal("reader", &[], &["read:pipelines"]).authorize().unwrap()
}

pub(crate) fn operator() -> Grant<ReadInfrastructure> {
    principal("operator", &[], &["read:infra:data"])
        .authorize()
        .unwrap()
}

pub(crate) fn door() -> Door {
    Door::new(Channel::Cli)
}

pub(crate) fn approval(roles: &[&str], expires_after: Option<u64>) -> Pause {
    Pause::Approval(Approval {
        roles: roles.iter().map(|r| (*r).to_owned()).collect(),
        expires_after: expires_after.map(Span::from_secs),
    })
}

pub(crate) fn timed(seconds: u64) -> Pause {
    Pause::Timed(Span::from_secs(seconds))
}

/// 25 %, an approval by a release manager, 50 %, a minute's pause.
pub(crate) fn canary() -> Vec<Step> {
    vec![
        Step::SetWeight(25),
        Step::Pause(approval(&["release-manager"], None)),
        Step::SetWeight(50),
        Step::Pause(timed(60)),
    ]
}

pub(crate) fn target(account: &str, depends_on: &[&str]) -> TargetSpec {
    TargetSpec {
        services: Vec::new(),
        account: AgentName::new(account).unwrap(),
        namespace: Some("shop".to_owned()),
        strategy: Some("rolling-out".to_owned()),
        depends_on: depends_on.iter().map(|d| (*d).to_owned()).collect(),
        before: Vec::new(),
        after: Vec::new(),
    }
}

pub(crate) fn rollout(name: &str) -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "shop", name)
}

/// A deploy file of an application with two Deployments and a ConfigMap, which moves as a canary.
pub(crate) fn file(
    application: &str,
    image: &str,
    steps: Vec<Step>,
    targets: &[(&str, TargetSpec)],
) -> DeployFile {
    file_of(application, image, Strategy::Canary(Canary { steps }), targets)
}

/// A release manager and a minute before the redirect; half a minute and anybody before the old version goes.
pub(crate) fn blue_green() -> Strategy {
    Strategy::BlueGreen(BlueGreen {
        redirect_after: vec![approval(&["release-manager"], None), timed(60)],
        shut_down_after: vec![timed(30), approval(&[], None)],
    })
}

/// A deploy file of an application with two Deployments and a ConfigMap.
pub(crate) fn file_of(
    application: &str,
    image: &str,
    strategy: Strategy,
    targets: &[(&str, TargetSpec)],
) -> DeployFile {
    let mut text = String::new();
    for name in DEPLOYMENTS {
        let body = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 4, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
        });
        text.push_str(&format!("---\n{body}\n"));
    }
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{application}-config")}, "data": {"image": image}});
    text.push_str(&format!("---\n{config}\n"));
    DeployFile {
        in_progress: InProgress::Reject,
        only: None,
        application: application.to_owned(),
        description: format!("{application} with {image}"),
        context: BTreeMap::new(),
        targets: targets
            .iter()
            .map(|(name, target)| ((*name).to_owned(), target.clone()))
            .collect(),
        strategies: BTreeMap::from([("rolling-out".to_owned(), strategy)]),
        manifests: vec![ManifestSource {
            from: ManifestFrom::Inline(text),
            targets: None,
            line: 1,
        }],
        timeout: Span::from_secs(1800),
        webhooks: Vec::new(),
        analysis: None,
        traffic: Vec::new(),
        later: Vec::new(),
        keep_deployment: false,
    }
}

pub(crate) fn submission(file: DeployFile) -> Submission {
    let manifests = manifests(&file, &Files::default(), "deploy.yml").unwrap();
    Submission::new(file, manifests)
}

pub(crate) async fn submit(plane: &ControlPlane, file: DeployFile) -> PipelineId {
    let submitted = plane
        .submit(&deployer("ada", &[]), &door(), submission(file))
        .await;
    submitted.unwrap().pipeline
}

pub(crate) async fn see(plane: &ControlPlane, id: PipelineId) -> PipelineView {
    plane.view(&reader(), id).await.unwrap().body
}

/// Whether a gate of this place stands.
pub(crate) fn stands(pipeline: &Pipeline, gate: &str) -> bool {
    let gate = gate.parse().unwrap();
    pipeline
        .gate(&gate)
        .is_some_and(|gate| gate.standing_since().is_some())
}

pub(crate) fn yes(gate: &str) -> Decision {
    Decision {
        gate: gate.parse().unwrap(),
        expect: None,
        comment: Some("looks good".to_owned()),
    }
}

/// Version 1 of an application, brought to its end.
pub(crate) async fn first_version(world: &World, plane: &ControlPlane, file: DeployFile) -> PipelineId {
    let id = submit(plane, file).await;
    let pipeline = world.ended(id).await;
    assert_eq!(pipeline.state(), State::Succeeded, "{pipeline:#?}");
    id
}
