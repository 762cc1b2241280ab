//! Both parts under the laws that Aurora's own adapters keep.

use std::sync::Arc;

use async_trait::async_trait;
use aurora_core::manifest::ObjectRef;
use aurora_core::port::executor::ClusterExecutor;
use aurora_core::port::executor::laws::ClusterFixture;
use serde_json::Value;
use tempfile::TempDir;
use vendor::platform::{Supervisor, SupervisorExecutor};

/// A supervisor in a folder of its own, and other people's hands in it.
#[derive(Debug)]
struct Machine {
    supervisor: Supervisor,
    _folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::in_folder(folder.path()).unwrap();
        Self {
            supervisor,
            _folder: folder,
        }
    }
}

#[async_trait]
impl ClusterFixture for Machine {
    fn executor(&self) -> Arc<dyn ClusterExecutor> {
        Arc::new(SupervisorExecutor::new(self.supervisor.clone()))
    }

    fn watches(&self) -> usize {
        self.supervisor.watches()
    }

    async fn identity(&self, object: &ObjectRef) -> Option<(String, u64)> {
        let held = self.supervisor.object(object).unwrap()?;
        Some((held.uid, held.generation))
    }

    async fn object(&self, object: &ObjectRef) -> Option<Value> {
        Some(self.supervisor.object(object).unwrap()?.body)
    }

    async fn create_by_hand(&self, body: Value) {
        self.supervisor.put_by_hand(body).unwrap();
    }

    async fn patch_by_hand(&self, object: &ObjectRef, patch: Value) {
        let mut body = self.supervisor.object(object).unwrap().unwrap().body;
        merge(&mut body, &patch);
        self.supervisor.put_by_hand(body).unwrap();
    }

    async fn delete_by_hand(&self, object: &ObjectRef) {
        self.supervisor.delete_by_hand(object).unwrap();
    }
}

/// A JSON merge patch.
fn merge(body: &mut Value, patch: &Value) {
    match (body, patch) {
        (Value::Object(body), Value::Object(patch)) => {
            for (name, field) in patch {
                if field.is_null() {
                    body.remove(name);
                } else {
                    merge(body.entry(name).or_insert(Value::Null), field);
                }
            }
        }
        (body, patch) => *body = patch.clone(),
    }
}

mod executor {
    use super::Machine;

    aurora_core::executor_laws!(without_steps, async { Machine::new() });
}

mod transport {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use aurora_core::port::clock::SystemClock;
    use aurora_core::port::token::memory::InMemoryTokens;
    use aurora_core::port::transport::laws::{LawBlobs, TransportUnderTest};
    use aurora_core::principal::{Principal, PrincipalKind};
    use aurora_core::secret::Secret;
    use aurora_core::tenant::Tenant;
    use vendor::transport::{TcpConnector, TcpSessions};

    async fn over_tcp() -> TransportUnderTest {
        let tokens = InMemoryTokens::new();
        let token = tokens.issue(Principal {
            kind: PrincipalKind::Machine,
            id: "edge".into(),
            display: "Edge".into(),
            tenant: Some(Tenant::new("acme", "main").unwrap()),
            scopes: ["connect:agentHub".to_owned()].into(),
            roles: Default::default(),
            agents: Default::default(),
            expires_at: jiff::Timestamp::MAX,
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let sessions = TcpSessions::bind(any, tokens, SystemClock, LawBlobs)
            .await
            .unwrap();
        TransportUnderTest {
            connector: Arc::new(TcpConnector::new(sessions.address())),
            listener: Arc::new(sessions),
            good: token.secret,
            refused: Secret::new("somebody-elses"),
            keep: Vec::new(),
        }
    }

    aurora_core::transport_laws!(real_time, over_tcp);
}
