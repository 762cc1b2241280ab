//! The example application over two simulated clusters, in one process and in virtual time.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::authz::{Deploy, ReadPipelines};
use aurora_core::control::{ControlPlane, Decision, Door, Submission};
use aurora_core::deploy_file::{FileText, Files, manifests, parse};
use aurora_core::id::PipelineId;
use aurora_core::pipeline::{PipelineView, State};
use aurora_core::port::clock::{Clock, InMemoryClock};
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::principal::{Channel, Principal, PrincipalKind};
use aurora_core::tasks::Tasks;
use aurora_core::tenant::Tenant;
use aurora_k8s::execute::{AgentPolicy, KubeExecutor};
use aurora_k8s::render::ArgoRenderer;
use aurora_k8s::sim::api::KubeApi;
use aurora_k8s::sim::{Behaviour, Controllers, Objects};
use jiff::Timestamp;

struct World {
    control: ControlPlane,
    clusters: BTreeMap<&'static str, Objects>,
    principal: Arc<Principal>,
    tasks: Tasks,
}

impl World {
    fn start() -> Self {
        let clock = InMemoryClock::starting_at("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
        let tenant = Tenant::new("acme", "main").unwrap();
        let router = InMemoryRouter::new(clock.clone());
        let tasks = Tasks::new();
        let mut clusters = BTreeMap::new();
        for name in ["staging", "prod"] {
            let time = clock.clone();
            let objects = Objects::new(Arc::new(move || time.now()));
            let controllers = Controllers::new(objects.clone(), Behaviour::default());
            tasks.spawn(|stop| controllers.run(stop));
            let client = kube::Client::new(KubeApi::new(objects.clone()), "default");
            let executor = KubeExecutor::new(client)
                .with_policy(AgentPolicy::new().with_namespace_creation())
                .with_clock(Arc::new(clock.clone()));
            router.connect(
                AgentKey::new(tenant.clone(), AgentName::new(name).unwrap()),
                executor,
            );
            clusters.insert(name, objects);
        }
        let store = InMemoryStore::new(Arc::new(clock.clone()));
        let control = ControlPlane::new(Arc::new(store), router, ArgoRenderer, clock);
        let running = control.clone();
        tasks.spawn(|stop| async move {
            let _ = running.run(stop).await;
        });
        let principal = Arc::new(Principal {
            kind: PrincipalKind::User,
            id: "ada".into(),
            display: "Ada".into(),
            tenant: Some(tenant),
            scopes: ["manage:deploy".to_owned()].into(),
            roles: Default::default(),
            agents: Default::default(),
            expires_at: Timestamp::MAX,
        });
        Self {
            control,
            clusters,
            principal,
            tasks,
        }
    }

    async fn submit(&self, version: &str) -> PipelineId {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/lanterns")
            .join(version);
        let text = std::fs::read_to_string(folder.join("deploy.yaml")).unwrap();
        let deploy = parse(&text, "deploy.yaml").unwrap().deploy;
        let mut files = Files::default();
        let texts = ["namespace.yaml", "orders.yaml", "web.yaml"].map(|name| FileText {
            name: name.into(),
            text: std::fs::read_to_string(folder.join("manifests").join(name)).unwrap(),
        });
        files.0.insert("manifests".into(), texts.to_vec());
        let manifests = manifests(&deploy, &files, "deploy.yaml").unwrap();
        let grant = self.principal.authorize::<Deploy>().unwrap();
        let submitted = self
            .control
            .submit(
                &grant,
                &Door::new(Channel::Cli),
                Submission::new(deploy, manifests),
            )
            .await
            .unwrap_or_else(|error| panic!("{error}: {error:#?}"));
        submitted.pipeline
    }

    async fn view(&self, id: PipelineId) -> PipelineView {
        let grant = self.principal.authorize::<ReadPipelines>().unwrap();
        self.control.view(&grant, id).await.unwrap().body
    }

    /// Approves whatever waits for it until the pipeline ends.
    async fn follow(&self, id: PipelineId) -> PipelineView {
        let grant = self.principal.authorize::<Deploy>().unwrap();
        for _ in 0..20_000 {
            let view = self.view(id).await;
            if view.ended_at.is_some() {
                return view;
            }
            for gate in view.waiting.iter().filter(|wait| wait.kind == "approval") {
                let gate = gate.subject.gate.as_ref().unwrap().parse().unwrap();
                let decision = Decision {
                    gate,
                    expect: None,
                    comment: None,
                };
                let _ = self
                    .control
                    .approve(&grant, &Door::new(Channel::Cli), id, decision)
                    .await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the pipeline does not end: {:#?}", self.view(id).await);
    }
}

#[tokio::test(start_paused = true)]
async fn version_two_follows_version_one_to_both_clusters() {
    let world = World::start();
    let first = world.submit("v1").await;
    let view = world.follow(first).await;
    assert_eq!(view.state, State::Succeeded, "{view:#?}");
    assert!(view.targets.iter().all(|target| target.first_deployment));
    let second = world.submit("v2").await;
    let view = world.follow(second).await;
    assert_eq!(view.state, State::Succeeded, "{view:#?}");
    assert!(
        view.targets
            .iter()
            .all(|target| !target.first_deployment && target.step == target.total)
    );
    world.tasks.drain(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_crashing_version_is_rolled_back_with_its_configuration() {
    let world = World::start();
    let first = world.submit("v1").await;
    assert_eq!(world.follow(first).await.state, State::Succeeded);
    let broken = world.submit("v2-broken").await;
    let view = world.follow(broken).await;
    assert_eq!(view.state, State::Failed, "{view:#?}");
    let pod = &view
        .evidence
        .first()
        .expect("the failing pod is named")
        .evidence
        .pod;
    assert_eq!(
        (pod.container.as_str(), pod.reason.as_str()),
        ("web", "CrashLoopBackOff")
    );
    let staging = &world.clusters["staging"];
    let rollouts = staging.resource("argoproj.io", "v1alpha1", "rollouts").unwrap();
    let web = staging.get(&rollouts, "lanterns", "web").unwrap();
    assert_eq!(web.pointer("/status/phase").unwrap(), "Healthy", "{web:#}");
    assert_eq!(
        web.pointer("/status/stableRS"),
        web.pointer("/status/currentPodHash")
    );
    assert_eq!(
        web.pointer("/spec/template/spec/containers/0/image").unwrap(),
        "registry.example.test/lanterns/web:1"
    );
    world.tasks.drain(Duration::from_secs(30)).await.unwrap();
}
