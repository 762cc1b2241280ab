//! Event streams.

use aurora_core::authz::ReadPipelines;
use http::StatusCode;
use utoipa::openapi::RefOr;

use super::doc::Doc;
use super::schema;
use crate::rest::events::TOPICS;
use crate::rest::frames::{Beat, Bye, Hello, HistoryAppended, PipelineChanged, Resync, TimelineAppended};

const ABOUT: &str = "Server-sent events. Each has the name of a frame (`hello`, `beat`, `pipeline.changed`, \
                     `timeline.appended`, `history.point`, `resync`, `bye`) and its data as one line of JSON of the \
                     schema of that name. Frames that move the stream on have an `id`; sent as `Last-Event-ID` (or as \
                     `cursor`) the stream goes on after it without gap or repeat. A `beat` comes every ten seconds.";

pub(super) fn docs() -> Vec<Doc> {
    let tenant = Doc::get(
        "/events",
        "events",
        "events",
        "What happens in the tenant, as it happens.",
    );
    let pipeline = Doc::get(
        "/pipelines/{id}/events",
        "pipelineEvents",
        "events",
        "What happens to a pipeline, until it is over.",
    );
    vec![
        stream(super::reading::filters(tenant.needs::<ReadPipelines>())),
        stream(pipeline.needs::<ReadPipelines>()),
    ]
}

fn stream(mut doc: Doc) -> Doc {
    doc.frame::<Beat>();
    doc.frame::<Bye>();
    doc.frame::<Hello>();
    doc.frame::<HistoryAppended>();
    doc.frame::<PipelineChanged>();
    doc.frame::<Resync>();
    doc.frame::<TimelineAppended>();
    doc.query(
        "topic",
        schema::values(schema::one_of(&TOPICS)),
        "What to tell of; pipelines and timeline unless said.",
    )
    .query(
        "cursor",
        schema::place(),
        "From where on; from now on unless said.",
    )
    .query(
        "follow",
        schema::flag(),
        "Whether it goes on after what there is; yes unless said.",
    )
    .header(
        "Last-Event-ID",
        schema::place(),
        "The same, as browsers send it; it goes before `cursor`.",
    )
    .gives_raw(
        StatusCode::OK,
        ABOUT,
        vec![("text/event-stream", RefOr::T(schema::text().into()))],
    )
}
