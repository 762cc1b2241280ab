//! Frames of a session, in both directions.

use std::time::Duration;

use aurora_core::account::AgentName;
use aurora_core::command::{Failure, Outcome, Update};
use aurora_core::error::ErrorKind;
use aurora_core::id::RequestId;
use aurora_core::secret::Secret;
use aurora_core::session::{CloseReason, FromAgent, FromHub, Hello, Inventory, InventoryItem, Welcome};

use super::outcome::cut;
use super::{BadField, NAME, bounded, digest, facts, id, millis, needed, pb, present, text, time};

/// What comes of a frame that arrives.
#[derive(Debug)]
pub(in crate::grpc) enum Incoming<T> {
    /// A frame.
    Frame(T),
    /// One to pass over: of a kind that is not known and may be skipped.
    Skipped,
    /// A bad field that concerns one command alone: what to pass on, or to send back, in its place.
    Failed(RequestId, BadField),
}

/// The frame as it goes out, in the session of this epoch.
pub(in crate::grpc) fn agent_frame(frame: FromAgent, epoch: u64) -> pb::AgentFrame {
    use pb::agent_frame::Kind;
    let kind = match frame {
        FromAgent::AuthRefresh(token) => Kind::AuthRefresh(pb::AuthRefresh {
            token: token.expose().to_owned(),
        }),
        FromAgent::Goodbye(reason) => Kind::Goodbye(pb::AgentGoodbye {
            reason: cut(reason, 1024),
        }),
        FromAgent::Heartbeat(ids) => Kind::Heartbeat(pb::AgentHeartbeat {
            in_hand: ids.iter().map(ToString::to_string).collect(),
        }),
        FromAgent::Hello(hello) => Kind::Hello(hello.into()),
        FromAgent::Inventory(news) => Kind::Inventory(news.into()),
        FromAgent::Update { request, update } => Kind::Update(pb::CommandUpdate {
            request: request.to_string(),
            update: Some(update.into()),
        }),
    };
    pb::AgentFrame {
        epoch,
        kind: Some(kind),
        ..pb::AgentFrame::default()
    }
}

/// Reads an agent's frame.
pub(in crate::grpc) fn from_agent_frame(wire: pb::AgentFrame) -> Result<Incoming<FromAgent>, BadField> {
    use pb::agent_frame::Kind;
    let Some(kind) = wire.kind else {
        return unknown(wire.skippable);
    };
    Ok(Incoming::Frame(match kind {
        Kind::Hello(hello) => FromAgent::Hello(hello.try_into()?),
        Kind::Heartbeat(beat) => {
            let ids = bounded(beat.in_hand, 4096, "heartbeat.in_hand")?;
            let ids = ids.iter().map(|text| id(text, "heartbeat.in_hand"));
            FromAgent::Heartbeat(ids.collect::<Result<_, _>>()?)
        }
        Kind::Update(news) => {
            let request = id(&news.request, "update.request")?;
            match present(news.update, "update").and_then(Update::try_from) {
                Ok(update) => FromAgent::Update { request, update },
                Err(bad) => return Ok(Incoming::Failed(request, bad)),
            }
        }
        Kind::Inventory(news) => FromAgent::Inventory(news.try_into()?),
        Kind::AuthRefresh(refresh) => FromAgent::AuthRefresh(Secret::new(needed(
            refresh.token,
            16 * 1024,
            "auth_refresh.token",
        )?)),
        Kind::Goodbye(goodbye) => FromAgent::Goodbye(text(goodbye.reason, 1024, "goodbye.reason")?),
    }))
}

/// The frame as it goes out, in the session of this epoch.
pub(in crate::grpc) fn hub_frame(frame: FromHub, epoch: u64) -> pb::HubFrame {
    use pb::hub_frame::Kind;
    let kind = match frame {
        FromHub::Cancel(request) => Kind::Cancel(pb::CancelCommand {
            request: request.to_string(),
        }),
        FromHub::Command { request, command } => Kind::Command(pb::RoutedCommand {
            request: request.to_string(),
            command: Some((*command).into()),
        }),
        FromHub::Credit { request, bytes } => Kind::Credit(pb::Credit {
            request: request.to_string(),
            bytes,
        }),
        FromHub::Drain { reconnect_in, reason } => Kind::Drain(pb::Drain {
            reconnect_in_ms: millis(reconnect_in),
            reason: cut(reason, 1024),
        }),
        FromHub::Goodbye { reason, retry_after } => Kind::Goodbye(pb::HubGoodbye {
            reason: pb::CloseReason::from(reason).into(),
            retry_after_ms: millis(retry_after),
        }),
        FromHub::Heartbeat => Kind::Heartbeat(pb::HubHeartbeat {}),
        FromHub::InventoryNack(reason) => Kind::InventoryNack(pb::InventoryNack {
            reason: cut(reason, 1024),
        }),
        FromHub::Welcome(welcome) => Kind::Welcome(welcome.into()),
    };
    pb::HubFrame {
        epoch,
        kind: Some(kind),
        ..pb::HubFrame::default()
    }
}

/// Reads a hub's frame.
pub(in crate::grpc) fn from_hub_frame(wire: pb::HubFrame) -> Result<Incoming<FromHub>, BadField> {
    use pb::hub_frame::Kind;
    let Some(kind) = wire.kind else {
        return unknown(wire.skippable);
    };
    Ok(Incoming::Frame(match kind {
        Kind::Welcome(welcome) => FromHub::Welcome(welcome.try_into()?),
        Kind::Heartbeat(_) => FromHub::Heartbeat,
        Kind::Command(routed) => {
            let request = id(&routed.request, "command.request")?;
            match present(routed.command, "command").and_then(TryInto::try_into) {
                Ok(command) => FromHub::Command {
                    request,
                    command: Box::new(command),
                },
                Err(bad) => return Ok(Incoming::Failed(request, bad)),
            }
        }
        Kind::Cancel(cancel) => FromHub::Cancel(id(&cancel.request, "cancel.request")?),
        Kind::Credit(credit) => FromHub::Credit {
            request: id(&credit.request, "credit.request")?,
            bytes: credit.bytes,
        },
        Kind::Drain(drain) => FromHub::Drain {
            reconnect_in: within_an_hour(drain.reconnect_in_ms),
            reason: text(drain.reason, 1024, "drain.reason")?,
        },
        Kind::Goodbye(goodbye) => FromHub::Goodbye {
            reason: reason_from(goodbye.reason()),
            retry_after: within_an_hour(goodbye.retry_after_ms),
        },
        Kind::InventoryNack(nack) => {
            FromHub::InventoryNack(text(nack.reason, 1024, "inventory_nack.reason")?)
        }
    }))
}

/// The outcome of a command whose frame had a bad field.
pub(in crate::grpc) fn bad_command(bad: BadField) -> Update {
    Update::Finished(Outcome::Failed(Failure::new(
        ErrorKind::Unsupported,
        "badField",
        format!("{bad}; the other side may speak a newer version of the protocol"),
    )))
}

fn unknown<T>(skippable: bool) -> Result<Incoming<T>, BadField> {
    if skippable {
        Ok(Incoming::Skipped)
    } else {
        Err(BadField::new("kind", "is unknown to this version"))
    }
}

fn within_an_hour(millis: u64) -> Duration {
    Duration::from_millis(millis).min(Duration::from_secs(3600))
}

impl From<Hello> for pb::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            agent: hello.agent.to_string(),
            instance: hello.instance.to_string(),
            replicas: hello.replicas,
            newest_version: hello.versions.0,
            oldest_version: hello.versions.1,
            features: hello.features,
            software: cut(hello.software, NAME),
            labels: hello.labels,
            now_us: hello.now.as_microsecond(),
            resume_session: String::new(),
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = BadField;

    fn try_from(wire: pb::Hello) -> Result<Self, BadField> {
        let agent =
            AgentName::new(wire.agent).map_err(|_| BadField::new("hello.agent", "is not an agent name"))?;
        Ok(Self {
            agent,
            instance: id(&wire.instance, "hello.instance")?,
            replicas: wire.replicas.clamp(1, 64),
            versions: (wire.newest_version, wire.oldest_version),
            features: features(wire.features)?,
            software: text(wire.software, NAME, "hello.software")?,
            labels: facts(wire.labels, "hello.labels")?,
            now: time(wire.now_us, "hello.now_us")?,
        })
    }
}

fn features(values: Vec<String>) -> Result<Vec<String>, BadField> {
    let values = bounded(values, 64, "features")?;
    values
        .into_iter()
        .map(|value| text(value, 64, "features"))
        .collect()
}

impl From<Welcome> for pb::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            session: welcome.session.to_string(),
            epoch: welcome.epoch,
            version: welcome.version,
            features: welcome.features,
            heartbeat_ms: millis(welcome.heartbeat),
            expires_at_us: welcome.expires_at.as_microsecond(),
            credit: welcome.credit,
            session_credit: 0,
        }
    }
}

impl TryFrom<pb::Welcome> for Welcome {
    type Error = BadField;

    fn try_from(wire: pb::Welcome) -> Result<Self, BadField> {
        if wire.heartbeat_ms == 0 || wire.heartbeat_ms > 600_000 {
            return Err(BadField::new(
                "welcome.heartbeat_ms",
                "is not between 1 and 600000",
            ));
        }
        Ok(Self {
            session: id(&wire.session, "welcome.session")?,
            epoch: wire.epoch,
            version: wire.version,
            features: features(wire.features)?,
            heartbeat: Duration::from_millis(wire.heartbeat_ms),
            expires_at: time(wire.expires_at_us, "welcome.expires_at_us")?,
            credit: wire.credit,
        })
    }
}

impl From<Inventory> for pb::InventoryNews {
    fn from(news: Inventory) -> Self {
        use pb::inventory_news::News;
        let (generation, news) = match news {
            Inventory::Begin { generation } => (generation, News::Begin(pb::InventoryBegin {})),
            Inventory::Delta {
                generation,
                sequence,
                key,
                value,
            } => {
                let value = value.map(Into::into);
                (
                    generation,
                    News::Delta(pb::InventoryDelta { sequence, key, value }),
                )
            }
            Inventory::End {
                generation,
                count,
                digest,
            } => {
                let digest = digest.as_bytes().to_vec();
                (generation, News::End(pb::InventoryEnd { count, digest }))
            }
            Inventory::Item {
                generation,
                key,
                value,
            } => {
                let value = Some(value.into());
                (generation, News::Item(pb::InventoryEntry { key, value }))
            }
        };
        Self {
            generation,
            news: Some(news),
        }
    }
}

impl TryFrom<pb::InventoryNews> for Inventory {
    type Error = BadField;

    fn try_from(wire: pb::InventoryNews) -> Result<Self, BadField> {
        use pb::inventory_news::News;
        let generation = wire.generation;
        Ok(match present(wire.news, "inventory.news")? {
            News::Begin(_) => Self::Begin { generation },
            News::Item(entry) => Self::Item {
                generation,
                key: needed(entry.key, 512, "inventory.key")?,
                value: present(entry.value, "inventory.value")?.try_into()?,
            },
            News::End(end) => Self::End {
                generation,
                count: end.count,
                digest: digest(&end.digest, "inventory.digest")?,
            },
            News::Delta(delta) => Self::Delta {
                generation,
                sequence: delta.sequence,
                key: needed(delta.key, 512, "inventory.key")?,
                value: delta.value.map(TryInto::try_into).transpose()?,
            },
        })
    }
}

impl From<InventoryItem> for pb::InventoryItem {
    fn from(item: InventoryItem) -> Self {
        Self {
            kind: item.kind,
            name: item.name,
            facts: item.facts,
        }
    }
}

impl TryFrom<pb::InventoryItem> for InventoryItem {
    type Error = BadField;

    fn try_from(wire: pb::InventoryItem) -> Result<Self, BadField> {
        Ok(Self {
            kind: text(wire.kind, 64, "inventory.kind")?,
            name: text(wire.name, NAME, "inventory.name")?,
            facts: facts(wire.facts, "inventory.facts")?,
        })
    }
}

impl From<CloseReason> for pb::CloseReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Conflict => Self::Conflict,
            CloseReason::Denied => Self::Denied,
            CloseReason::Drained => Self::Drained,
            CloseReason::Expired => Self::Expired,
            CloseReason::Protocol => Self::Protocol,
            CloseReason::Silent => Self::Silent,
            CloseReason::Superseded => Self::Superseded,
            CloseReason::Version => Self::Version,
        }
    }
}

fn reason_from(wire: pb::CloseReason) -> CloseReason {
    match wire {
        pb::CloseReason::Conflict => CloseReason::Conflict,
        pb::CloseReason::Denied => CloseReason::Denied,
        pb::CloseReason::Drained => CloseReason::Drained,
        pb::CloseReason::Expired => CloseReason::Expired,
        pb::CloseReason::Protocol | pb::CloseReason::Unspecified => CloseReason::Protocol,
        pb::CloseReason::Silent => CloseReason::Silent,
        pb::CloseReason::Superseded => CloseReason::Superseded,
        pb::CloseReason::Version => CloseReason::Version,
    }
}
