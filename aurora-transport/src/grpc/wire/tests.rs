//! Every frame reads back as it was written, hostile bytes never panic, and released frames decode for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use aurora_core::account::AgentName;
use aurora_core::command::{
    Act, Acted, Action, Applied, AppliedSetKey, Apply, Command, Direction, Failure, FailureDetail, Observe,
    Outcome, Reply, Stamp, Update, Verb,
};
use aurora_core::digest::Digest;
use aurora_core::error::ErrorKind;
use aurora_core::id::{CommandId, InstanceId, PipelineId, RequestId, SessionId};
use aurora_core::manifest::ObjectRef;
use aurora_core::progress::{
    ExpectToken, FailingPod, PodCounts, Progress, Standing, StepPosition, Weight, WeightSource,
};
use aurora_core::secret::Secret;
use aurora_core::session::{
    CloseReason, FromAgent, FromHub, Hello, Inventory, InventoryItem, MAX_ENVELOPE_BYTES, Welcome,
};
use jiff::Timestamp;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::grpc::wire::Incoming;

fn at() -> Timestamp {
    Timestamp::from_second(1_772_366_400).unwrap()
}

fn object() -> ObjectRef {
    ObjectRef::new("argoproj.io", "Rollout", "web", "shop")
}

fn set() -> AppliedSetKey {
    AppliedSetKey {
        tenant: "acme/main".into(),
        application: "shop".into(),
        namespace: "web".into(),
    }
}

fn apply() -> Apply {
    Apply {
        set: set(),
        target: "prod-west".into(),
        plan: Digest::of(b"a plan"),
        stamp: Stamp { fence: 7, version: 3 },
        direction: Direction::Back,
    }
}

fn verbs() -> Vec<Verb> {
    let act = |action| {
        Verb::Act(Act {
            set: set(),
            object: object(),
            action,
            expect: ExpectToken::new("uid/hash/2/2026"),
            stamp: Stamp { fence: 7, version: 4 },
        })
    };
    let actions = [
        Action::Abort,
        Action::Pause,
        Action::Promote,
        Action::PromoteFull,
        Action::Resume,
        Action::Retry,
        Action::Skip,
    ];
    let others = [
        Verb::Apply(apply()),
        Verb::Delete {
            set: set(),
            object: object(),
        },
        Verb::Finish(Apply {
            direction: Direction::Forward,
            ..apply()
        }),
        Verb::Get {
            object: ObjectRef::new("", "Namespace", "", "web"),
        },
        Verb::Observe(Observe {
            set: set(),
            plan: Digest::of(b"a plan"),
            direction: Direction::Forward,
        }),
        Verb::Ping {
            payload: vec![1, 2, 3],
        },
    ];
    actions.into_iter().map(act).chain(others).collect()
}

fn command(verb: Verb) -> Command {
    let pipeline = PipelineId::at(at(), [5; 10]);
    Command {
        id: CommandId::derive(pipeline, 3, 1),
        pipeline: (!matches!(verb, Verb::Ping { .. })).then_some(pipeline),
        initiator: "Alice".into(),
        deadline: Duration::from_secs(90),
        trace_parent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        verb,
    }
}

fn level(standing: Standing) -> Progress {
    Progress {
        object: object(),
        standing,
        revision: "6d4b75cb6d".into(),
        stable: "57d8f4c9d".into(),
        step: Some(StepPosition { index: 2, total: 5 }),
        weight: Some(Weight {
            wanted: 40,
            real: 50,
            source: WeightSource::Pods,
        }),
        pods: PodCounts {
            desired: 4,
            new: 2,
            new_available: 1,
            old: 2,
            old_available: 2,
        },
        expect: ExpectToken::new("uid/hash/2/2026"),
        message: "CanaryPauseStep".into(),
        failing: vec![FailingPod {
            pod: "shop-6d4b75cb6d-x".into(),
            container: "shop".into(),
            reason: "CrashLoopBackOff".into(),
            restarts: 3,
            exit_code: Some(137),
            message: "back-off".into(),
            log: vec!["panic: no".into()],
            since: at(),
            unpullable: false,
        }],
        observed_at: at(),
    }
}

fn updates() -> Vec<Update> {
    let standings = [
        Standing::Aborted,
        Standing::ChangedElsewhere {
            by: "kubectl-edit".into(),
        },
        Standing::Degraded,
        Standing::Done,
        Standing::Invalid,
        Standing::Missing,
        Standing::Moving,
        Standing::NotObserved,
        Standing::PausedByHand,
        Standing::AtPause {
            index: 1,
            ready: true,
            inconclusive: false,
        },
    ];
    let failure = Failure {
        kind: ErrorKind::Conflict,
        code: "foreignObject".into(),
        message: "1 object(s) belong to somebody else".into(),
        details: vec![FailureDetail {
            object: object(),
            message: "adopt it".into(),
        }],
    };
    let applied = Applied {
        changed: 3,
        unchanged: 1,
        pruned: vec![object()],
        kept: BTreeMap::from([("ConfigMap web/old".to_owned(), "still named".to_owned())]),
        warnings: vec!["a warning".into()],
    };
    let replies = [
        Reply::Acted(Acted::Done),
        Reply::Acted(Acted::NothingToAbort),
        Reply::Acted(Acted::Unchanged),
        Reply::Acted(Acted::WaitForPods),
        Reply::Applied(applied),
        Reply::Deleted,
        Reply::Object(Some(serde_json::json!({ "kind": "Rollout" }))),
        Reply::Object(None),
        Reply::Observed,
        Reply::Pong(vec![9]),
    ];
    let ends = [
        Outcome::AgentLost { dispatched: true },
        Outcome::Cancelled,
        Outcome::DeadlineExceeded,
        Outcome::Failed(failure),
    ];
    [
        Update::Accepted,
        Update::Progress(standings.into_iter().map(level).collect()),
        Update::Stage {
            done: 1,
            total: 4,
            doing: "Service web/shop".into(),
        },
    ]
    .into_iter()
    .chain(ends.into_iter().map(Update::Finished))
    .chain(
        replies
            .into_iter()
            .map(|reply| Update::Finished(Outcome::Ok(reply))),
    )
    .collect()
}

fn request() -> RequestId {
    RequestId::at(at(), [9; 10])
}

fn agent_frames() -> Vec<FromAgent> {
    let item = InventoryItem {
        kind: "namespace".into(),
        name: "web".into(),
        facts: BTreeMap::from([("phase".to_owned(), "Active".to_owned())]),
    };
    let news = [
        Inventory::Begin { generation: 2 },
        Inventory::Item {
            generation: 2,
            key: "namespace/web".into(),
            value: item.clone(),
        },
        Inventory::End {
            generation: 2,
            count: 1,
            digest: Digest::of(b"items"),
        },
        Inventory::Delta {
            generation: 2,
            sequence: 1,
            key: "namespace/web".into(),
            value: Some(item),
        },
        Inventory::Delta {
            generation: 2,
            sequence: 2,
            key: "namespace/web".into(),
            value: None,
        },
    ];
    let hello = Hello {
        agent: AgentName::new("staging").unwrap(),
        instance: InstanceId::at(at(), [1; 10]),
        replicas: 2,
        versions: (1, 1),
        features: vec!["observe".into()],
        software: "aurora-agent/0.1.0".into(),
        labels: BTreeMap::from([("kubernetes".to_owned(), "1.33".to_owned())]),
        now: at(),
    };
    [
        FromAgent::Hello(hello),
        FromAgent::Heartbeat(vec![request()]),
        FromAgent::AuthRefresh(Secret::new("a.b.c")),
        FromAgent::Goodbye("stopping".into()),
    ]
    .into_iter()
    .chain(news.into_iter().map(FromAgent::Inventory))
    .chain(updates().into_iter().map(|update| FromAgent::Update {
        request: request(),
        update,
    }))
    .collect()
}

fn hub_frames() -> Vec<FromHub> {
    let welcome = Welcome {
        session: SessionId::at(at(), [2; 10]),
        epoch: 41,
        version: 1,
        features: vec!["observe".into()],
        heartbeat: Duration::from_secs(20),
        expires_at: at(),
        credit: 65_536,
    };
    let reasons = [
        CloseReason::Conflict,
        CloseReason::Denied,
        CloseReason::Drained,
        CloseReason::Expired,
        CloseReason::Protocol,
        CloseReason::Silent,
        CloseReason::Superseded,
        CloseReason::Version,
    ];
    let retry_after = Duration::from_secs(10);
    [
        FromHub::Welcome(welcome),
        FromHub::Heartbeat,
        FromHub::Cancel(request()),
        FromHub::Credit {
            request: request(),
            bytes: 4096,
        },
        FromHub::Drain {
            reconnect_in: Duration::from_millis(1500),
            reason: "the hub stops".into(),
        },
        FromHub::InventoryNack("delta 4 came after 2".into()),
    ]
    .into_iter()
    .chain(
        reasons
            .into_iter()
            .map(|reason| FromHub::Goodbye { reason, retry_after }),
    )
    .chain(verbs().into_iter().map(|verb| FromHub::Command {
        request: request(),
        command: Box::new(command(verb)),
    }))
    .collect()
}

/// Secrets show nothing in Debug, so a refresh is compared by what it holds.
fn seen_agent(frame: &FromAgent) -> String {
    match frame {
        FromAgent::AuthRefresh(token) => format!("AuthRefresh({})", token.expose()),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_agent_frame_reads_back() {
    for frame in agent_frames() {
        let bytes = agent_frame(frame.clone(), 41).encode_to_vec();
        let wire = pb::AgentFrame::decode(&*bytes).unwrap();
        assert_eq!(wire.epoch, 41);
        match from_agent_frame(wire) {
            Ok(Incoming::Frame(read)) => assert_eq!(seen_agent(&read), seen_agent(&frame)),
            other => panic!("{frame:?} became {other:?}"),
        }
    }
}

#[test]
fn every_hub_frame_reads_back() {
    for frame in hub_frames() {
        let bytes = hub_frame(frame.clone(), 41).encode_to_vec();
        match from_hub_frame(pb::HubFrame::decode(&*bytes).unwrap()) {
            Ok(Incoming::Frame(read)) => assert_eq!(format!("{read:?}"), format!("{frame:?}")),
            other => panic!("{frame:?} became {other:?}"),
        }
    }
}

/// The frames of version 1 as they were first released: these bytes must decode for ever.
///
/// A line is `agent` or `hub`, the name of the frame, and its bytes in hexadecimal. What is read from
/// them must be written as the same bytes again, so nothing of it was lost. New frames are appended; a
/// line that is there never changes.
#[test]
fn released_frames_decode_for_ever() {
    let golden = include_str!("../../../tests/golden/frames_v1.txt");
    for line in golden.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let (side, named, bytes) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let (read, again) = if side == "agent" {
            match from_agent_frame(pb::AgentFrame::decode(&*unhex(bytes)).unwrap()) {
                Ok(Incoming::Frame(frame)) => (format!("{frame:?}"), agent_frame(frame, 41).encode_to_vec()),
                other => panic!("{named} became {other:?}"),
            }
        } else {
            match from_hub_frame(pb::HubFrame::decode(&*unhex(bytes)).unwrap()) {
                Ok(Incoming::Frame(frame)) => (format!("{frame:?}"), hub_frame(frame, 41).encode_to_vec()),
                other => panic!("{named} became {other:?}"),
            }
        };
        assert_eq!(name(&read), named);
        assert_eq!(hex(&again), bytes, "{read}");
    }
    let agents = agent_frames().into_iter().map(|frame| {
        let seen = format!("{frame:?}");
        format!(
            "agent {} {}",
            name(&seen),
            hex(&agent_frame(frame, 41).encode_to_vec())
        )
    });
    let hubs = hub_frames().into_iter().map(|frame| {
        let seen = format!("{frame:?}");
        format!(
            "hub {} {}",
            name(&seen),
            hex(&hub_frame(frame, 41).encode_to_vec())
        )
    });
    let missing: Vec<_> = agents
        .chain(hubs)
        .filter(|line| !golden.contains(line.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "append to tests/golden/frames_v1.txt:\n{}",
        missing.join("\n")
    );
}

fn name(seen: &str) -> &str {
    seen.split([' ', '(', '{']).next().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

#[test]
fn an_unknown_kind_is_skipped_only_where_it_may_be() {
    // Field 99 of a later version, with and without `skippable`.
    let unknown = [0x9a, 0x06, 0x01, 0x00];
    let may = [&[0x20, 0x01][..], &unknown].concat();
    let wire = pb::AgentFrame::decode(&*may).unwrap();
    assert!(matches!(from_agent_frame(wire), Ok(Incoming::Skipped)));
    let wire = pb::AgentFrame::decode(&unknown[..]).unwrap();
    assert!(from_agent_frame(wire).is_err());
    let wire = pb::HubFrame::decode(&*may).unwrap();
    assert!(matches!(from_hub_frame(wire), Ok(Incoming::Skipped)));
}

#[test]
fn a_bad_field_of_a_command_concerns_the_command_alone() {
    let mut wire = hub_frame(
        FromHub::Command {
            request: request(),
            command: Box::new(command(verbs()[0].clone())),
        },
        1,
    );
    if let Some(pb::hub_frame::Kind::Command(routed)) = &mut wire.kind {
        routed.command.as_mut().unwrap().verb = None;
    }
    match from_hub_frame(wire) {
        Ok(Incoming::Failed(of, bad)) => {
            assert_eq!(of, request());
            assert_eq!(bad.field, "command.verb");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_beyond_their_limit_are_refused() {
    let mut wire = pb::Command::from(command(verbs()[0].clone()));
    wire.initiator = "x".repeat(513);
    assert_eq!(Command::try_from(wire).unwrap_err().field, "command.initiator");
    let mut wire = pb::Command::from(command(verbs()[0].clone()));
    wire.deadline_ms = u64::MAX;
    assert_eq!(Command::try_from(wire).unwrap_err().field, "command.deadline_ms");
    let mut wire = pb::Progress::from(level(Standing::Moving));
    wire.weight.as_mut().unwrap().wanted = 101;
    assert_eq!(Progress::try_from(wire).unwrap_err().field, "weight");
    let mut wire = pb::Progress::from(level(Standing::Moving));
    wire.failing = vec![wire.failing[0].clone(); 65];
    assert_eq!(Progress::try_from(wire).unwrap_err().field, "progress.failing");
}

#[test]
fn what_is_too_large_for_a_frame_is_cut_or_said_before_it_is_sent() {
    let long = "é".repeat(200_000);
    let failure = Failure {
        kind: ErrorKind::Internal,
        code: "x".into(),
        message: long.clone(),
        details: vec![
            FailureDetail {
                object: object(),
                message: long.clone()
            };
            2000
        ],
    };
    let applied = Applied {
        pruned: vec![object(); 10_000],
        warnings: vec![long.clone(); 1000],
        ..Applied::default()
    };
    let outcomes = [
        Outcome::Failed(failure),
        Outcome::Ok(Reply::Applied(applied)),
        Outcome::Ok(Reply::Object(Some(serde_json::Value::String(long)))),
    ];
    for outcome in outcomes {
        let update = Update::Finished(outcome);
        let wire = agent_frame(
            FromAgent::Update {
                request: request(),
                update,
            },
            1,
        );
        assert!(
            wire.encoded_len() <= MAX_ENVELOPE_BYTES,
            "{} bytes",
            wire.encoded_len()
        );
        assert!(matches!(from_agent_frame(wire), Ok(Incoming::Frame(_))));
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(wire) = pb::AgentFrame::decode(&*bytes) {
            let _ = from_agent_frame(wire);
        }
        if let Ok(wire) = pb::HubFrame::decode(&*bytes) {
            let _ = from_hub_frame(wire);
        }
    }

    #[test]
    fn a_damaged_frame_never_panics(which in any::<proptest::sample::Index>(), at in any::<proptest::sample::Index>(), to in any::<u8>()) {
        let frames = agent_frames();
        let mut bytes = agent_frame(frames[which.index(frames.len())].clone(), 1).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(wire) = pb::AgentFrame::decode(&*bytes) {
            let _ = from_agent_frame(wire);
        }
        let frames = hub_frames();
        let mut bytes = hub_frame(frames[which.index(frames.len())].clone(), 1).encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(wire) = pb::HubFrame::decode(&*bytes) {
            let _ = from_hub_frame(wire);
        }
    }

    #[test]
    fn progress_reads_back(
        wanted in 0_u8..=100, real in 0_u8..=100, new in any::<u32>(), index in 0_usize..1000,
        message in ".{0,200}", exit_code in any::<Option<i32>>(), since in -1_000_000_000_i64..4_000_000_000,
    ) {
        let mut written = level(Standing::AtPause { index, ready: new % 2 == 0, inconclusive: new % 3 == 0 });
        written.weight = Some(Weight { wanted, real, source: WeightSource::Router });
        written.pods.new = new;
        written.message = message;
        written.failing[0].exit_code = exit_code;
        written.failing[0].since = Timestamp::from_second(since).unwrap();
        let bytes = pb::Progress::from(written.clone()).encode_to_vec();
        prop_assert_eq!(Progress::try_from(pb::Progress::decode(&*bytes).unwrap()).unwrap(), written);
    }
}
