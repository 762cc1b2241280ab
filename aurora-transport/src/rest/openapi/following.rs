//! Event streams.

use aurora_core::authz::ReadPipelines;
use http::StatusCode;
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Object, ObjectBuilder, OneOfBuilder, RefOr};

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
    let frames = OneOfBuilder::new()
        .item(frame::<Beat>(&mut doc, "beat"))
        .item(frame::<Bye>(&mut doc, "bye"))
        .item(frame::<Hello>(&mut doc, "hello"))
        .item(frame::<HistoryAppended>(&mut doc, "history.point"))
        .item(frame::<PipelineChanged>(&mut doc, "pipeline.changed"))
        .item(frame::<Resync>(&mut doc, "resync"))
        .item(frame::<TimelineAppended>(&mut doc, "timeline.appended"))
        .build();
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
        schema::place_or_nothing(),
        "The same, as browsers send it; it goes before `cursor`.",
    )
    .gives_raw(
        StatusCode::OK,
        ABOUT,
        vec![("text/event-stream", RefOr::T(frames.into()))],
    )
}

/// One event of a stream: its name, its data as a line of JSON, and perhaps its id.
fn frame<T: ToSchema>(doc: &mut Doc, name: &str) -> Object {
    let data = ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(doc.reference::<T>()))
        .build();
    ObjectBuilder::new()
        .property("event", schema::one_of(&[name]))
        .property("data", data)
        .property("id", schema::place())
        .required("event")
        .required("data")
        .build()
}
