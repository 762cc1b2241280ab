//! Who one is, and the environments, roles and credentials of one's tenant, as far as they exist.
//!
//! Credentials are configuration of the token service until they can be managed. An API that was told
//! of them ([`Api::with_credentials`](super::super::Api::with_credentials)) lists those of the tenant
//! without their secrets; one that was not says so, and knows of no roles.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aurora_core::account::AgentName;
use aurora_core::authz::{Deploy, ManageTenant, Permission, ReadAudit, ReadInfrastructure, ReadPipelines};
use aurora_core::error::ErrorKind;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::tenant::Tenant;
use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json as value;
use utoipa::ToSchema;

use super::super::Api;
use super::super::answer::json;
use super::super::authenticate::{Granted, visibility};
use super::super::problem::Refusal;
use super::super::request::Params;

/// A client credential that exists, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// The client id.
    pub client_id: String,
    /// The only tenant that it opens.
    pub tenant: Tenant,
    /// What it may do.
    pub scopes: BTreeSet<String>,
    /// The roles that it holds.
    pub roles: BTreeSet<String>,
    /// The agent names that it may claim.
    pub agents: BTreeSet<AgentName>,
}

/// The answer to `GET /me`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Me {
    /// The control plane's time.
    pub now: Timestamp,
    /// The program's version.
    pub server_version: String,
    /// What sort of somebody the token stands for.
    pub kind: PrincipalKind,
    /// The token's subject.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// When the token ends.
    pub token_expires_at: Timestamp,
    /// The scopes of the token.
    pub scopes: BTreeSet<String>,
    /// The tenants that it opens.
    pub tenants: Vec<MeTenant>,
}

/// One tenant of somebody.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeTenant {
    /// Its name: organization and environment.
    pub id: String,
    /// The organization.
    pub organization: String,
    /// The environment.
    pub environment: String,
    /// The roles that the token holds there.
    pub roles: BTreeSet<String>,
    /// What they may do there, by the names that refusals use.
    pub permissions: Vec<String>,
    /// The same for all who see the same there.
    #[serde(default)]
    pub visibility: String,
    /// How many pipelines wait for a decision that they may make; absent where they may not read pipelines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<usize>,
    /// Whether they may change nothing there.
    #[serde(default)]
    pub read_only: bool,
}

/// An environment, as `GET /environments` lists it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantEntry {
    /// What token requests name it by.
    pub id: String,
    /// For people.
    pub name: String,
    /// The organization.
    pub org_id: String,
}

/// A role, as `GET /roles` lists it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Its name again: roles are names until they can be managed.
    pub id: String,
    /// The environment.
    pub env_id: String,
    /// Its name, as pauses of deploy files name it.
    pub name: String,
    /// The environment again, by the name that people know.
    pub tenant: String,
    /// Whether it is one of the product's own.
    pub system_defined: bool,
    /// What it allows beyond approving: nothing yet.
    pub grants: Vec<BTreeMap<String, String>>,
}

/// `GET /me`
pub(in super::super) async fn me(
    State(api): State<Api>,
    Extension(principal): Extension<Arc<Principal>>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let mut permissions = Vec::new();
    let mut add = |name: &str, held: bool| {
        if held {
            permissions.push(name.to_owned());
        }
    };
    add(Deploy::NAME, principal.authorize::<Deploy>().is_ok());
    add(ManageTenant::NAME, principal.authorize::<ManageTenant>().is_ok());
    add(
        ReadInfrastructure::NAME,
        principal.authorize::<ReadInfrastructure>().is_ok(),
    );
    add(
        ReadPipelines::NAME,
        principal.authorize::<ReadPipelines>().is_ok(),
    );
    add(ReadAudit::NAME, principal.authorize::<ReadAudit>().is_ok());
    let read_only =
        principal.authorize::<Deploy>().is_err() && principal.authorize::<ManageTenant>().is_err();
    let needs = match principal.authorize::<ReadPipelines>() {
        Ok(reader) => Some(api.inner.plane.needs_me(&reader).await?),
        Err(_) => None,
    };
    let tenants = principal.tenant.iter().map(|tenant| MeTenant {
        id: tenant.to_string(),
        organization: tenant.organization.to_string(),
        environment: tenant.environment.to_string(),
        roles: principal.roles.clone(),
        permissions: permissions.clone(),
        visibility: visibility(&principal),
        needs,
        read_only,
    });
    let me = Me {
        now: api.inner.clock.now(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        kind: principal.kind,
        id: principal.id.clone(),
        name: principal.display.clone(),
        token_expires_at: principal.expires_at,
        scopes: principal.scopes.clone(),
        tenants: tenants.collect(),
    };
    Ok(json(StatusCode::OK, &me))
}

/// `GET /environments`: those that the token opens; whoever has a token may know them.
pub(in super::super) async fn environments(
    Extension(principal): Extension<Arc<Principal>>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let environments = principal.tenant.iter().map(|tenant| TenantEntry {
        id: tenant.environment.to_string(),
        name: tenant.environment.to_string(),
        org_id: tenant.organization.to_string(),
    });
    let environments: Vec<TenantEntry> = environments.collect();
    Ok(json(StatusCode::OK, &environments))
}

/// `GET /roles`: the names that credentials of the tenant hold.
pub(in super::super) async fn roles(
    State(api): State<Api>,
    Granted(grant): Granted<ManageTenant>,
    mut params: Params,
) -> Result<Response, Refusal> {
    // The older product's clients narrow by both; there is one environment here, and machines only.
    let environment = params.lenient("envId");
    params.lenient("principalType");
    params.finish()?;
    let tenant = grant.tenant();
    let ours = environment.is_none_or(|environment| environment == tenant.environment.as_str());
    let credentials = api.inner.credentials.iter().flatten();
    let names: BTreeSet<&String> = credentials
        .filter(|credential| ours && credential.tenant == *tenant)
        .flat_map(|credential| &credential.roles)
        .collect();
    let role = |name: &String| Role {
        id: name.clone(),
        env_id: tenant.environment.to_string(),
        name: name.clone(),
        tenant: tenant.environment.to_string(),
        system_defined: false,
        grants: Vec::new(),
    };
    let roles: Vec<Role> = names.into_iter().map(role).collect();
    Ok(json(StatusCode::OK, &roles))
}

/// `GET /credentials`: those of the tenant, without their secrets.
pub(in super::super) async fn credentials(
    State(api): State<Api>,
    Granted(grant): Granted<ManageTenant>,
    params: Params,
) -> Result<Response, Refusal> {
    params.finish()?;
    let Some(credentials) = &api.inner.credentials else {
        let detail = "this API is not told of credentials: they are the `clients` in the configuration of the token service";
        return Err(Refusal::new(ErrorKind::Unsupported, "notYet", detail));
    };
    let ours = credentials
        .iter()
        .filter(|credential| credential.tenant == *grant.tenant());
    let entries = ours.map(|credential| {
        value!({
            "id": credential.client_id,
            "name": credential.client_id,
            "clientId": credential.client_id,
            "scope": credential.scopes,
            "scopeGroups": [],
            "roles": credential.roles,
            "agents": credential.agents,
        })
    });
    let entries: Vec<_> = entries.collect();
    Ok(json(StatusCode::OK, &entries))
}

/// Every request that would change environments, roles or credentials.
pub(in super::super) async fn later(
    Granted(_): Granted<ManageTenant>,
    request: Request,
) -> Result<Response, Refusal> {
    let path = request.uri().path();
    let (what, instead) = if path.starts_with("/environments") {
        (
            "environments",
            "a credential's `tenant` in the configuration of the token service names its environment",
        )
    } else if path.starts_with("/roles") {
        (
            "roles",
            "a credential's `roles` in the configuration of the token service are names that deploy files may ask for",
        )
    } else {
        (
            "credentials",
            "they are the `clients` in the configuration of the token service; for `aurora up`, `--allow-agent NAME` lets another agent connect",
        )
    };
    let detail = format!("{what} cannot be managed in this version of Aurora yet; {instead}");
    Err(Refusal::new(ErrorKind::Unsupported, "notYet", detail))
}
