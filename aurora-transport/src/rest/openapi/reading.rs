//! What is read of pipelines, applications and the audit log.

use aurora_core::authz::{ReadAudit, ReadPipelines};
use aurora_core::control::Facet;
use aurora_core::pipeline::{ArmoryStatus, State};
use http::StatusCode;

use super::doc::Doc;
use super::schema;
use crate::rest::armory::PipelineStatus;
use crate::rest::bodies::{
    ApplicationAnswer, ApplicationsAnswer, ApprovalsAnswer, AuditAnswer, DiffAnswer, HistoryAnswer,
    ImpactAnswer, ObjectAnswer, PlanAnswer,
};
use crate::rest::wire::{EvidenceAnswer, ListAnswer, TargetAnswer, TimelineAnswer, ViewAnswer};
use crate::rest::{applications, approvals, audit, list, pipelines, plans};

const PIPELINES: &str = "pipelines";

pub(super) fn docs() -> Vec<Doc> {
    [pipeline(), plan(), overview()].into_iter().flatten().collect()
}

fn pipeline() -> Vec<Doc> {
    let list =
        Doc::get("/pipelines", "listPipelines", PIPELINES, "Lists pipelines.").needs::<ReadPipelines>();
    let list = filters(list)
        .words::<Facet>(
            "counts",
            "What to count over everything that the filters let through.",
        )
        .query(
            "sort",
            schema::one_of(&["-startedAt", "startedAt"]),
            "The newest first, or the oldest.",
        )
        .query(
            "limit",
            schema::number(1, list::MAX_ROWS),
            "At most so many rows.",
        )
        .query(
            "cursor",
            schema::form(PIPELINE_PAGE),
            "A page, from an earlier answer.",
        )
        .gives::<ListAnswer>("A page.");
    vec![
        list,
        Doc::get(
            "/pipelines/{id}",
            "pipelineStatus",
            PIPELINES,
            "The status, as clients of the older product read it.",
        )
        .needs::<ReadPipelines>()
        .gives::<PipelineStatus>("The status."),
        Doc::get(
            "/pipelines/{id}/view",
            "viewPipeline",
            PIPELINES,
            "Everything about a pipeline.",
        )
        .needs::<ReadPipelines>()
        .gives::<ViewAnswer>("The pipeline."),
        Doc::get(
            "/pipelines/{id}/targets/{target}/view",
            "viewTarget",
            PIPELINES,
            "One target of a pipeline.",
        )
        .needs::<ReadPipelines>()
        .gives::<TargetAnswer>("The target."),
        Doc::get(
            "/pipelines/{id}/timeline",
            "timeline",
            PIPELINES,
            "What happened, line by line.",
        )
        .needs::<ReadPipelines>()
        .query("target", schema::short(), "Only lines about this target.")
        .query(
            "kind",
            schema::values(schema::word()),
            "Only lines of these kinds.",
        )
        .query(
            "actor",
            schema::short(),
            "Only what somebody did whose id or name is this.",
        )
        .query("after", schema::version(), "Only lines after this version.")
        .query("before", schema::version(), "Only lines before this version.")
        .query(
            "limit",
            schema::number(1, pipelines::MAX_LINES),
            "At most so many lines.",
        )
        .gives::<TimelineAnswer>("The lines, in order."),
        Doc::get(
            "/pipelines/{id}/evidence",
            "listEvidence",
            PIPELINES,
            "What was captured of failures.",
        )
        .needs::<ReadPipelines>()
        .gives::<EvidenceAnswer>("One per failing pod."),
        Doc::get(
            "/pipelines/{id}/evidence/{evidence}",
            "evidence",
            PIPELINES,
            "One piece of evidence.",
        )
        .needs::<ReadPipelines>()
        .gives::<EvidenceAnswer>("That one."),
    ]
}

/// The cursors of a list of pipelines.
const PIPELINE_PAGE: &str = "^p1\\.[no]\\.[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// Those of the audit log and of decisions.
const AUDIT_PAGE: &str = "a1\\.[no]\\.[0-9]{20}(_[a-z0-9_-]{0,100})?";
/// One side of a diff.
const PLAN: &str = "^(run:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/.{1,200}|plan:sha256:[0-9a-f]{64}|live)$";

fn plan() -> Vec<Doc> {
    vec![
        Doc::get(
            "/pipelines/{id}/targets/{target}/history",
            "history",
            PIPELINES,
            "Weights and pods of a target over time, thinned to so many points.",
        )
        .needs::<ReadPipelines>()
        .query(
            "points",
            schema::number(2, plans::MAX_POINTS),
            "At most so many points.",
        )
        .gives::<HistoryAnswer>("The points, in order."),
        Doc::get(
            "/pipelines/{id}/targets/{target}/plan",
            "plan",
            PIPELINES,
            "The rendered plan of a target.",
        )
        .needs::<ReadPipelines>()
        .gives::<PlanAnswer>("Its objects, and where each was written."),
        Doc::get(
            "/pipelines/{id}/targets/{target}/plan/objects/{digest}",
            "planObject",
            PIPELINES,
            "The text of one object of a plan; values of Secrets are tags.",
        )
        .needs::<ReadPipelines>()
        .gives::<ObjectAnswer>("The object."),
        Doc::get("/diff", "diff", PIPELINES, "What two plans differ in.")
            .needs::<ReadPipelines>()
            .may(StatusCode::NOT_FOUND)
            .may(StatusCode::NOT_IMPLEMENTED)
            .query_needed(
                "from",
                schema::form(PLAN),
                "`run:PIPELINE/TARGET` or `plan:DIGEST`.",
            )
            .query_needed(
                "to",
                schema::form(PLAN),
                "The same; `live` is refused by this version.",
            )
            .gives::<DiffAnswer>("The difference."),
    ]
}

fn impact() -> Doc {
    Doc::get(
        "/pipelines/{id}/actions/{action}/impact",
        "impact",
        PIPELINES,
        "What an act would do; nothing is done.",
    )
    .needs::<ReadPipelines>()
    .query("target", schema::short(), "The target, as for the act itself.")
    .query(
        "gate",
        schema::form("^[^/]+/(before|step|after|redirect|shutdown)/[0-9]{1,4}$"),
        "The gate; the only one that could be meant unless said.",
    )
    .query("to", schema::uuid(), "For going back: the earlier run.")
    .gives::<ImpactAnswer>("What it would do, or why it is not allowed.")
}

fn overview() -> Vec<Doc> {
    vec![
        impact(),
        Doc::get(
            "/approvals",
            "listApprovals",
            "approvals",
            "Gates that wait for a person, or what people decided.",
        )
        .needs::<ReadPipelines>()
        .query(
            "needs",
            schema::one_of(&["all", "me"]),
            "Only what the one who asks may decide, or decided.",
        )
        .query(
            "state",
            schema::one_of(&["decided", "pending"]),
            "What waits, or what was decided.",
        )
        .query(
            "limit",
            schema::number(1, approvals::MAX_ROWS),
            "Of at most so many pipelines, or decisions.",
        )
        .query(
            "cursor",
            schema::form(&format!(
                "^({}|{AUDIT_PAGE})$",
                PIPELINE_PAGE.trim_matches(['^', '$'])
            )),
            "A page, from an earlier answer to the same question.",
        )
        .gives::<ApprovalsAnswer>("A page."),
        Doc::get(
            "/applications",
            "listApplications",
            "applications",
            "What runs where.",
        )
        .needs::<ReadPipelines>()
        .query(
            "limit",
            schema::number(1, applications::MAX_ROWS),
            "At most so many applications.",
        )
        .query(
            "cursor",
            schema::form("^n1\\.[ab]\\.([0-9a-f][0-9a-f]){0,100}$"),
            "A page, from an earlier answer.",
        )
        .gives::<ApplicationsAnswer>("A page, by name."),
        Doc::get(
            "/applications/{application}",
            "application",
            "applications",
            "One application and what it runs where.",
        )
        .needs::<ReadPipelines>()
        .gives::<ApplicationAnswer>("The application."),
        Doc::get(
            "/audit",
            "listAudit",
            "audit",
            "Who did what, and who was not let; the newest first.",
        )
        .needs::<ReadAudit>()
        .query(
            "actor",
            schema::form("^[^/]{1,200}/(before|step|after|redirect|shutdown)/[0-9]{1,4}$"),
            "By somebody whose id or name is this.",
        )
        .query("action", schema::values(schema::word()), "Any of these actions.")
        .query("object", schema::short(), "About this object: `pipeline/ID`.")
        .query(
            "result",
            schema::one_of(&["denied", "done", "refused"]),
            "How it ended.",
        )
        .query("since", schema::time(), "At or after.")
        .query("until", schema::time(), "Before.")
        .query(
            "limit",
            schema::number(1, audit::MAX_ROWS),
            "At most so many lines.",
        )
        .query(
            "cursor",
            schema::form(&format!("^{AUDIT_PAGE}$")),
            "A page, from an earlier answer.",
        )
        .gives::<AuditAnswer>("A page."),
    ]
}

/// The filters that lists and event streams share.
pub(super) fn filters(doc: Doc) -> Doc {
    doc.query("application", schema::short(), "Of this application.")
        .query("target", schema::short(), "With this target.")
        .query("account", schema::short(), "On this account.")
        .words::<ArmoryStatus>("status", "In any of these states, in Armory's words.")
        .words::<State>("state", "In any of these states, in ours.")
        .query("reason", schema::short(), "For this reason.")
        .query(
            "actor",
            schema::short(),
            "Submitted by somebody whose id or name is this.",
        )
        .query(
            "needs",
            schema::one_of(&["anyone", "approval", "me", "none"]),
            "Only those that wait for a person; with `me`, for the one who asks.",
        )
        .query("source", schema::short(), "Submitted with this program.")
        .query("commit", schema::short(), "Of a commit that begins like this.")
        .query("since", schema::time(), "Submitted at or after.")
        .query("until", schema::time(), "Submitted before.")
        .query(
            "q",
            schema::short(),
            "In the application, the description, a target, the actor, or the id.",
        )
}
