//! Blue/green pipelines from the deploy file to a simulated cluster: what engine, renderer and executor do together.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::sync::Arc;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::authz::{Deploy, ReadPipelines};
use aurora_core::control::{ControlPlane, Decision, Door, Submission};
use aurora_core::deploy_file::{Files, manifests, parse};
use aurora_core::id::PipelineId;
use aurora_core::manifest::ObjectRef;
use aurora_core::pipeline::{PipelineView, RolledBack, State};
use aurora_core::port::clock::{Clock, InMemoryClock};
use aurora_core::port::executor::ClusterExecutor as _;
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
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

const DEPLOYMENTS: [&str; 2] = ["api", "web"];
const HASH: &str = "rollouts-pod-template-hash";

struct World {
    control: ControlPlane,
    cluster: KubeExecutor,
    client: kube::Client,
    principal: Arc<Principal>,
    tasks: Tasks,
}

impl World {
    fn start() -> Self {
        let clock = InMemoryClock::starting_at("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap());
        let tenant = Tenant::new("acme", "main").unwrap();
        let router = InMemoryRouter::new(clock.clone());
        let tasks = Tasks::new();
        let time = clock.clone();
        let objects = Objects::new(Arc::new(move || time.now()));
        let controllers = Controllers::new(objects.clone(), Behaviour::default());
        tasks.spawn(|stop| controllers.run(stop));
        let client = kube::Client::new(KubeApi::new(objects), "default");
        let executor = || {
            KubeExecutor::new(client.clone())
                .with_policy(AgentPolicy::new().with_namespace_creation())
                .with_clock(Arc::new(clock.clone()))
        };
        let agent = AgentKey::new(tenant.clone(), AgentName::new("prod").unwrap());
        router.connect(agent, executor());
        let store = InMemoryStore::new(Arc::new(clock.clone()));
        let cluster = executor();
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
            cluster,
            client,
            principal,
            tasks,
        }
    }

    async fn submit(&self, file: &Value) -> PipelineId {
        let text = file.to_string();
        let deploy = parse(&text, "deploy.yaml").unwrap().deploy;
        let manifests = manifests(&deploy, &Files::default(), "deploy.yaml").unwrap();
        let grant = self.principal.authorize::<Deploy>().unwrap();
        let submission = Submission::new(deploy, manifests);
        let submitted = self
            .control
            .submit(&grant, &Door::new(Channel::Cli), submission)
            .await;
        submitted
            .unwrap_or_else(|error| panic!("{error}: {error:#?}"))
            .pipeline
    }

    async fn view(&self, id: PipelineId) -> PipelineView {
        let grant = self.principal.authorize::<ReadPipelines>().unwrap();
        self.control.view(&grant, id).await.unwrap().body
    }

    async fn until(&self, id: PipelineId, wanted: impl Fn(&PipelineView) -> bool) -> PipelineView {
        for _ in 0..20_000 {
            let view = self.view(id).await;
            if wanted(&view) {
                return view;
            }
            assert!(view.ended_at.is_none(), "it ended: {view:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never as wanted: {:#?}", self.view(id).await);
    }

    async fn ended(&self, id: PipelineId) -> PipelineView {
        self.until(id, |view| view.ended_at.is_some()).await
    }

    async fn stands(&self, id: PipelineId, gate: &str) -> PipelineView {
        let stands = |view: &PipelineView| {
            let mut gates = view
                .waiting
                .iter()
                .filter_map(|wait| wait.subject.gate.as_deref());
            gates.any(|standing| standing == gate)
        };
        self.until(id, stands).await
    }

    async fn decide(&self, id: PipelineId, gate: &str, yes: bool) {
        let grant = self.principal.authorize::<Deploy>().unwrap();
        let decision = Decision {
            gate: gate.parse().unwrap(),
            expect: None,
            comment: None,
        };
        let door = Door::new(Channel::Cli);
        if yes {
            self.control.approve(&grant, &door, id, decision).await.unwrap();
        } else {
            self.control.reject(&grant, &door, id, decision).await.unwrap();
        }
    }

    /// What `kubectl argo rollouts` does: a patch of the status.
    async fn patch_by_hand(&self, name: &str, status: Value) {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout"));
        let rollouts: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "shop", &resource);
        let patch = Patch::Merge(json!({"status": status}));
        let patched = rollouts.patch_status(name, &PatchParams::default(), &patch).await;
        patched.unwrap();
    }

    /// What others did in the cluster, as the timeline tells it.
    async fn external(&self, id: PipelineId) -> Vec<String> {
        let grant = self.principal.authorize::<ReadPipelines>().unwrap();
        let timeline = self.control.timeline(&grant, id, 0, 500).await.unwrap();
        let entries = timeline.entries.into_iter();
        entries
            .filter(|entry| matches!(entry.kind.as_str(), "externalSeen" | "gatePassed"))
            .map(|entry| entry.text)
            .collect()
    }

    async fn get(&self, group: &str, kind: &str, name: &str) -> Value {
        let object = ObjectRef::new(group, kind, "shop", name);
        let found = self.cluster.get(&object).await.unwrap();
        found.unwrap_or_else(|| panic!("there is no {object}"))
    }

    /// The revision that users of each Deployment reach.
    async fn live(&self) -> Vec<String> {
        let mut live = Vec::new();
        for name in DEPLOYMENTS {
            let service = self.get("", "Service", name).await;
            live.push(service["spec"]["selector"][HASH].as_str().unwrap().to_owned());
        }
        live
    }

    /// The replicas that each Deployment's ReplicaSet of a revision should have.
    async fn wanted(&self, revisions: &[String]) -> Vec<u64> {
        let mut wanted = Vec::new();
        for (name, revision) in DEPLOYMENTS.iter().zip(revisions) {
            let set = self
                .get("apps", "ReplicaSet", &format!("{name}-{revision}"))
                .await;
            wanted.push(set["spec"]["replicas"].as_u64().unwrap());
        }
        wanted
    }
}

/// Two Deployments, each with its Service, and a StatefulSet that has none, in a namespace of their own.
fn file(version: u32, shut_down_after: &Value, after: &Value) -> Value {
    let pod = |name: &str| {
        json!({
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app", "image": format!("registry.example/{name}:{version}")}]},
        })
    };
    let mut inline: Vec<Value> = DEPLOYMENTS
        .iter()
        .flat_map(|name| {
            let selector = json!({"matchLabels": {"app": name}});
            [
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                       "spec": {"replicas": 2, "selector": selector, "template": pod(name)}}),
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                       "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}}),
            ]
        })
        .collect();
    inline.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    inline.push(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "data"},
        "spec": {"serviceName": "data", "replicas": 1, "selector": {"matchLabels": {"app": "data"}}, "template": pod("data")},
    }));
    let inline: Vec<String> = inline.iter().map(Value::to_string).collect();
    json!({
        "version": "v1", "kind": "kubernetes", "application": "shop",
        "targets": {"prod": {
            "account": "prod", "namespace": "shop", "strategy": "switch", "constraints": {"afterDeployment": after},
        }},
        "manifests": [{"inline": inline.join("\n---\n")}],
        "strategies": {"switch": {"blueGreen": {
            "redirectTrafficAfter": [{"pause": {"untilApproved": true}}],
            "shutDownOldVersionAfter": shut_down_after,
        }}},
    })
}

#[tokio::test(start_paused = true)]
async fn a_blue_green_pipeline_goes_there_and_three_ways_back() {
    let world = World::start();
    let (asks, none) = (json!([{"pause": {"untilApproved": true}}]), json!([]));

    let id = world.submit(&file(1, &asks, &none)).await;
    let first = world.ended(id).await;
    assert_eq!(first.state, State::Succeeded, "{first:#?}");
    assert!(first.targets[0].first_deployment);
    let one = world.live().await;

    // There: the redirect, then the end of the old version, each after its gate.
    let id = world.submit(&file(2, &asks, &none)).await;
    let seen = world.stands(id, "prod/redirect/0").await;
    assert_eq!(world.live().await, one, "nothing is redirected before the gate");
    assert_eq!(seen.targets[0].step, 1);
    world.decide(id, "prod/redirect/0", true).await;
    world.stands(id, "prod/shutdown/0").await;
    let two = world.live().await;
    assert!(one.iter().zip(&two).all(|(one, two)| one != two));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(
        world.wanted(&one).await,
        [2, 2],
        "the old version is kept as long as it is asked about"
    );
    world.decide(id, "prod/shutdown/0", true).await;
    let ended = world.ended(id).await;
    assert_eq!(ended.state, State::Succeeded, "{ended:#?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.wanted(&one).await, [0, 0]);
    assert_eq!(world.wanted(&two).await, [2, 2]);

    // Back before the redirect, within the delay, and after it.
    for (version, gate) in [
        (3, "prod/redirect/0"),
        (4, "prod/shutdown/0"),
        (5, "prod/after/0"),
    ] {
        let late = gate == "prod/after/0";
        let (shut_down, after) = if late { (&none, &asks) } else { (&asks, &none) };
        let id = world.submit(&file(version, shut_down, after)).await;
        world.stands(id, "prod/redirect/0").await;
        if version > 3 {
            world.decide(id, "prod/redirect/0", true).await;
            world.stands(id, gate).await;
            assert_ne!(world.live().await, two);
        }
        if late {
            tokio::time::sleep(Duration::from_secs(120)).await;
            assert_eq!(world.wanted(&two).await, [0, 0], "its delay is over");
        }
        world.decide(id, gate, false).await;
        let ended = world.ended(id).await;
        assert_eq!(ended.state, State::Cancelled, "{gate}: {ended:#?}");
        assert_eq!(ended.rolled_back, Some(RolledBack::Yes), "{gate}: {ended:#?}");
        assert_eq!(world.live().await, two, "{gate}");
        assert_eq!(world.wanted(&two).await, [2, 2], "{gate}");
    }
    world.tasks.drain(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_people_do_with_kubectl_is_told_apart_and_followed() {
    let world = World::start();
    let (asks, none) = (json!([{"pause": {"untilApproved": true}}]), json!([]));
    let id = world.submit(&file(1, &asks, &none)).await;
    assert_eq!(world.ended(id).await.state, State::Succeeded);
    let one = world.live().await;

    // An abort takes the target back.
    let id = world.submit(&file(2, &asks, &none)).await;
    world.stands(id, "prod/redirect/0").await;
    world.patch_by_hand("web", json!({"abort": true})).await;
    let ended = world.ended(id).await;
    assert_eq!(ended.state, State::Failed, "{ended:#?}");
    assert_eq!(ended.targets[0].error.as_ref().unwrap().code, "aborted");
    assert_eq!(world.live().await, one);
    assert_eq!(
        world.external(id).await,
        ["target `prod`: somebody aborted Rollout shop/web in the cluster"]
    );

    // A promotion of all of them passes the gate.
    let id = world.submit(&file(3, &asks, &none)).await;
    world.stands(id, "prod/redirect/0").await;
    for name in DEPLOYMENTS {
        world.patch_by_hand(name, json!({"pauseConditions": null})).await;
    }
    world.stands(id, "prod/shutdown/0").await;
    let mut external = world.external(id).await;
    external.sort();
    assert_eq!(
        external,
        [
            "target `prod`: somebody promoted Rollout shop/api in the cluster",
            "target `prod`: somebody promoted Rollout shop/web in the cluster",
            "the Rollouts were moved past gate 1 before the redirect of target `prod` in the cluster",
        ]
    );
    world.tasks.drain(Duration::from_secs(60)).await.unwrap();
}
