//! What the examples share: who acts, a small deploy file, and following a pipeline to its end.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::sync::Arc;
use std::time::Duration;

use aurora_core::account::{AgentKey, AgentName};
use aurora_core::control::{ControlPlane, Decision, Door, Submission};
use aurora_core::deploy_file::{Files, manifests, parse};
use aurora_core::error::BoxError;
use aurora_core::pipeline::State;
use aurora_core::principal::{Channel, Principal, PrincipalKind};
use aurora_core::tenant::Tenant;

#[cfg(feature = "everything")]
#[path = "vendor/src/platform/mod.rs"]
pub mod platform;
#[cfg(feature = "everything")]
#[path = "vendor/src/transport.rs"]
pub mod transport;

/// The organization and environment of all examples.
///
/// # Errors
/// Never: both names are good.
pub fn tenant() -> Result<Tenant, BoxError> {
    Ok(Tenant::new("acme", "main")?)
}

/// An agent of that tenant.
///
/// # Errors
/// For a name that no agent may have.
pub fn agent(name: &str) -> Result<AgentKey, BoxError> {
    Ok(AgentKey::new(tenant()?, AgentName::new(name)?))
}

/// A person who may deploy.
///
/// # Errors
/// As for [`tenant`].
pub fn ada() -> Result<Arc<Principal>, BoxError> {
    Ok(Arc::new(principal(
        PrincipalKind::User,
        "ada",
        "manage:deploy",
        [],
    )?))
}

/// The credential of an agent: the names that it may claim.
///
/// # Errors
/// As for [`agent`].
pub fn machine(agent: &str) -> Result<Principal, BoxError> {
    let name = AgentName::new(agent)?;
    principal(PrincipalKind::Machine, agent, "connect:agentHub", [name])
}

fn principal<const N: usize>(
    kind: PrincipalKind,
    id: &str,
    scope: &str,
    agents: [AgentName; N],
) -> Result<Principal, BoxError> {
    Ok(Principal {
        kind,
        id: id.to_owned(),
        display: id.to_owned(),
        tenant: Some(tenant()?),
        scopes: [scope.to_owned()].into(),
        roles: Default::default(),
        agents: agents.into(),
        expires_at: jiff::Timestamp::MAX,
    })
}

/// A deploy file with one target: a canary of 50 %, an approval, the rest.
pub fn deploy_file(account: &str, image: &str) -> String {
    format!(
        r#"
application: shop
targets: {{edge: {{account: {account}, namespace: shop, strategy: canary}}}}
strategies:
  canary: {{canary: {{steps: [{{setWeight: {{weight: 50}}}}, {{pause: {{untilApproved: true}}}}]}}}}
manifests:
  - inline: |
      apiVersion: v1
      kind: Namespace
      metadata: {{name: shop}}
      ---
      apiVersion: apps/v1
      kind: Deployment
      metadata: {{name: shop, namespace: shop}}
      spec:
        replicas: 2
        selector: {{matchLabels: {{app: shop}}}}
        template:
          metadata: {{labels: {{app: shop}}}}
          spec: {{containers: [{{name: web, image: "{image}"}}]}}
"#
    )
}

/// Submits a deploy file, says yes at every gate, and says how it ended.
///
/// # Errors
/// When the file is not one, or the control plane refuses it.
pub async fn deploy(plane: &ControlPlane, text: &str) -> Result<State, BoxError> {
    let (ada, door) = (ada()?, Door::new(Channel::Cli));
    let file = parse(text, "deploy.yml")
        .map_err(|problems| format!("{problems:?}"))?
        .deploy;
    let manifests =
        manifests(&file, &Files::default(), "deploy.yml").map_err(|problems| format!("{problems:?}"))?;
    let submission = Submission::new(file, manifests);
    let id = plane.submit(&ada.authorize()?, &door, submission).await?.pipeline;
    loop {
        let view = plane.view(&ada.authorize()?, id).await?.body;
        for wait in view.waiting.iter().filter(|wait| wait.kind == "approval") {
            let Some(gate) = &wait.subject.gate else { continue };
            println!("  {} says yes at {gate}", ada.display);
            let gate = gate.parse()?;
            let decision = Decision {
                gate,
                expect: None,
                comment: None,
            };
            plane.approve(&ada.authorize()?, &door, id, decision).await?;
        }
        if view.ended_at.is_some() {
            println!("  pipeline {:?}", view.state);
            return Ok(view.state);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
