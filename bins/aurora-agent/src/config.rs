//! What the agent is told.

use std::path::PathBuf;

use aurora_bin::identity::{CLIENT_SETTINGS, ClientConfig, ISSUER_SETTINGS, IssuerConfig};
use aurora_bin::settings::{InvalidConfig, Setting, Settings, Spec};
use aurora_core::account::AgentName;
use aurora_k8s::execute::AgentPolicy;
use aurora_transport::grpc::GrpcConnector;

/// The agent's settings.
pub(crate) static SPEC: Spec = Spec {
    name: "aurora-agent",
    about: "The Remote Network Agent: dials the hub and acts in its cluster",
    health: "127.0.0.1:9084",
    settings: &[
        Setting::text(
            "name",
            "NAME",
            "The agent's name: the account that deploy files name",
        ),
        Setting::text("hub", "URL", "The hub, https://host:port"),
        ISSUER_SETTINGS[0],
        ISSUER_SETTINGS[1],
        ISSUER_SETTINGS[2],
        CLIENT_SETTINGS[0],
        CLIENT_SETTINGS[1],
        CLIENT_SETTINGS[2],
        Setting::switch(
            "inCluster",
            "Act in the cluster that this process runs in, as its service account",
        ),
        Setting::text(
            "kubeconfig",
            "FILE",
            "Act in the cluster of this kubeconfig; needs the context",
        ),
        Setting::text(
            "context",
            "NAME",
            "The kubeconfig's context; the current one is never taken by itself",
        ),
        Setting::text(
            "simulateIn",
            "DIR",
            "Act in a simulated cluster of this process, with its state here",
        ),
        Setting::list("namespaces", "NAMES", "Act in these namespaces only"),
        Setting::switch(
            "allowClusterKinds",
            "Also apply kinds that belong to no namespace",
        ),
        Setting::switch("allowNamespaceCreation", "Also create the namespaces of targets"),
        Setting::text(
            "replicas",
            "COUNT",
            "How many instances of this agent are meant to run",
        )
        .or("1"),
    ],
};

/// The agent's configuration.
#[derive(Debug)]
pub(crate) struct AgentConfig {
    pub(crate) name: AgentName,
    pub(crate) connector: GrpcConnector,
    pub(crate) issuer: IssuerConfig,
    pub(crate) client: ClientConfig,
    pub(crate) place: Place,
    pub(crate) policy: AgentPolicy,
    pub(crate) replicas: u32,
}

/// Where the agent acts.
#[derive(Debug)]
pub(crate) enum Place {
    /// In the cluster around it.
    InCluster,
    /// In a cluster that it reaches from outside.
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Which of its contexts.
        context: String,
    },
    /// In a simulated one.
    Simulated(PathBuf),
}

impl AgentConfig {
    /// Reads the settings.
    pub(crate) fn read(mut settings: Settings) -> Result<Self, InvalidConfig> {
        let name = settings.required("name").and_then(|text| {
            AgentName::new(text)
                .map_err(|error| settings.problem("name", &error.to_string()))
                .ok()
        });
        let hub = settings.required("hub");
        let issuer = IssuerConfig::read(&mut settings);
        let client = ClientConfig::read(&mut settings);
        let place = Place::read(&mut settings);
        let policy = policy(&mut settings);
        let replicas = settings.parsed("replicas").and_then(|replicas: u32| {
            if replicas == 0 {
                settings.problem("replicas", "at least 1 instance runs; 0 would be no agent");
            }
            (replicas > 0).then_some(replicas)
        });
        let connector = hub.zip(issuer.as_ref()).and_then(|(hub, issuer)| {
            GrpcConnector::new(&hub, issuer.trust())
                .map_err(|error| settings.problem("hub", &error.to_string()))
                .ok()
        });
        settings.finish(|| {
            Some(Self {
                name: name?,
                connector: connector?,
                issuer: issuer?,
                client: client?,
                place: place?,
                policy,
                replicas: replicas?,
            })
        })
    }
}

impl Place {
    fn read(settings: &mut Settings) -> Option<Self> {
        let inside = settings.switch("inCluster");
        let kubeconfig = (settings.text("kubeconfig"), settings.text("context"));
        match (inside, kubeconfig, settings.text("simulateIn")) {
            (true, (None, None), None) => Some(Self::InCluster),
            (false, (Some(file), Some(context)), None) => Some(Self::Kubeconfig {
                file: file.into(),
                context,
            }),
            (false, (None, None), Some(directory)) => Some(Self::Simulated(directory.into())),
            _ => {
                settings.note(
                    "where to act: say either --in-cluster, or --kubeconfig FILE and --context NAME, or \
                     --simulate-in DIR"
                        .into(),
                );
                None
            }
        }
    }
}

fn policy(settings: &mut Settings) -> AgentPolicy {
    let mut policy = AgentPolicy::new();
    let namespaces = settings.list("namespaces");
    if !namespaces.is_empty() {
        policy = policy.with_namespaces(namespaces);
    }
    if settings.switch("allowClusterKinds") {
        policy = policy.with_cluster_kinds();
    }
    if settings.switch("allowNamespaceCreation") {
        policy = policy.with_namespace_creation();
    }
    policy
}
