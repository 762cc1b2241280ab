//! Permissions, and the grant that only a passed check gives.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::principal::{Principal, PrincipalKind};
use crate::tenant::Tenant;

/// Something that a principal may be allowed to do.
///
/// A permission is given by any one of its scopes. Only the types of this module implement it.
pub trait Permission: sealed::Sealed + fmt::Debug + Send + Sync + 'static {
    /// The permission's name in errors and audit lines.
    const NAME: &'static str;
    /// The scopes that give it, the preferred spelling first.
    const SCOPES: &'static [&'static str];
}

mod sealed {
    #[expect(unnameable_types, reason = "a sealed trait is meant not to be named")]
    pub trait Sealed {}
}

macro_rules! permission {
    ($(#[$doc:meta])* $name:ident = $text:literal by $($scope:literal),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl sealed::Sealed for $name {}

        impl Permission for $name {
            const NAME: &'static str = $text;
            const SCOPES: &'static [&'static str] = &[$($scope),+];
        }
    };
}

permission!(
    /// Start, approve, reject and cancel pipelines.
    Deploy = "deploy" by "manage:deploy", "api:deployment:full", "api:tenant:full", "api:organization:full"
);
permission!(
    /// Read pipelines of the tenant.
    ReadPipelines = "read pipelines" by
        "read:pipelines", "manage:deploy", "api:deployment:full", "api:tenant:full", "api:organization:full"
);
permission!(
    /// Read agents, accounts and what they last reported.
    ReadInfrastructure = "read infrastructure" by
        "read:infrastructure:data", "read:infra:data", "api:tenant:full", "api:organization:full"
);
permission!(
    /// Read who did what, and who was not let.
    ReadAudit = "read the audit log" by "read:audit", "api:tenant:full", "api:organization:full"
);
permission!(
    /// See, and once that is there change, the roles and credentials of the tenant.
    ManageTenant = "manage the tenant" by "api:tenant:full", "api:organization:full"
);
permission!(
    /// Connect an agent to the hub.
    ConnectAgent = "connect an agent" by "connect:agentHub", "api:agentHub:full"
);

/// The scope of a service that routes commands; it opens no REST route.
pub const ROUTE_COMMANDS: &str = "route:commands";

/// Why a principal may not do something.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{principal}` may not {permission}; that needs the scope {}", needs.join(" or "))]
pub struct Denied {
    /// Who asked.
    pub principal: String,
    /// For what.
    pub permission: &'static str,
    /// Any one of these scopes would do.
    pub needs: Vec<&'static str>,
}

/// Proof that a principal passed the check for `P`; the tenant comes out of it.
pub struct Grant<P> {
    tenant: Tenant,
    principal: Arc<Principal>,
    permission: PhantomData<fn() -> P>,
}

impl<P> Grant<P> {
    /// The only tenant that this grant reaches.
    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Who passed the check.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl<P> Clone for Grant<P> {
    fn clone(&self) -> Self {
        Self {
            tenant: self.tenant.clone(),
            principal: Arc::clone(&self.principal),
            permission: PhantomData,
        }
    }
}

impl<P: Permission> fmt::Debug for Grant<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("permission", &P::NAME)
            .field("tenant", &self.tenant)
            .field("principal", &self.principal.id)
            .finish()
    }
}

/// Proof that Aurora's own part may send commands to agents of every tenant; each command names its own.
pub struct RouteCommands(());

impl fmt::Debug for RouteCommands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteCommands")
    }
}

impl Principal {
    /// Turns a principal into the permission to do one thing in its own tenant.
    ///
    /// # Errors
    /// [`Denied`] when no scope gives the permission, or the principal belongs to no tenant.
    pub fn authorize<P: Permission>(self: &Arc<Self>) -> Result<Grant<P>, Denied> {
        let allowed = self.kind != PrincipalKind::Service && P::SCOPES.iter().any(|s| self.has_scope(s));
        match &self.tenant {
            Some(tenant) if allowed => Ok(Grant {
                tenant: tenant.clone(),
                principal: Arc::clone(self),
                permission: PhantomData,
            }),
            _ => Err(Denied {
                principal: self.display.clone(),
                permission: P::NAME,
                needs: P::SCOPES.to_vec(),
            }),
        }
    }

    /// Turns a service into the permission to route commands.
    ///
    /// # Errors
    /// [`Denied`] for users, machines and services without the scope.
    pub fn authorize_routing(&self) -> Result<RouteCommands, Denied> {
        if self.kind == PrincipalKind::Service && self.has_scope(ROUTE_COMMANDS) {
            return Ok(RouteCommands(()));
        }
        Err(Denied {
            principal: self.display.clone(),
            permission: "route commands",
            needs: vec![ROUTE_COMMANDS],
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn principal(kind: PrincipalKind, scopes: &[&str]) -> Arc<Principal> {
        Arc::new(Principal {
            kind,
            id: "p".into(),
            display: "p".into(),
            tenant: Tenant::new("acme", "main")
                .ok()
                .filter(|_| kind != PrincipalKind::Service),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            roles: Default::default(),
            agents: Default::default(),
            expires_at: Timestamp::MAX,
        })
    }

    #[test]
    fn either_spelling_of_the_infrastructure_scope_is_enough() {
        for scope in ["read:infrastructure:data", "read:infra:data"] {
            assert!(
                principal(PrincipalKind::Machine, &[scope])
                    .authorize::<ReadInfrastructure>()
                    .is_ok()
            );
        }
        let denied = principal(PrincipalKind::Machine, &["manage:deploy"]).authorize::<ReadInfrastructure>();
        assert!(
            denied
                .unwrap_err()
                .to_string()
                .contains("read:infrastructure:data")
        );
    }

    #[test]
    fn a_service_routes_and_does_nothing_else() {
        let service = principal(PrincipalKind::Service, &[ROUTE_COMMANDS, "manage:deploy"]);
        assert!(service.authorize_routing().is_ok());
        assert!(service.authorize::<Deploy>().is_err());
        assert!(
            principal(PrincipalKind::Machine, &[ROUTE_COMMANDS])
                .authorize_routing()
                .is_err()
        );
    }
}
