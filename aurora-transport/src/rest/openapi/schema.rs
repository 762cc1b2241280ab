//! Schemas of parameters, and those that the routes name.

use std::collections::BTreeMap;

use http::StatusCode;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{KnownFormat, Object, RefOr, Response, Schema};

use super::doc::named;
use crate::rest::request::{MAX_VALUE, MAX_VALUES};

/// Schemas and refusals by name.
#[derive(Default)]
pub(super) struct Components {
    pub(super) schemas: BTreeMap<String, RefOr<Schema>>,
    pub(super) responses: BTreeMap<String, Response>,
}

impl Components {
    /// A reference to a type's schema, which is kept with all that it names.
    pub(super) fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        self.schemas.extend(schemas);
        named(&T::name())
    }

    /// The name of a refusal, which is kept once for all routes.
    pub(super) fn refusal(
        &mut self,
        status: StatusCode,
        deprecated: bool,
        make: impl FnOnce() -> Response,
    ) -> String {
        let reason = status.canonical_reason().unwrap_or("Problem").replace(' ', "");
        let name = if deprecated {
            format!("{reason}OfAnOldPath")
        } else {
            reason
        };
        self.responses.entry(name.clone()).or_insert_with(make);
        name
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.schemas.extend(others.schemas);
    }
}

/// Any text.
pub(super) fn text() -> Object {
    ObjectBuilder::new().schema_type(Type::String).build()
}

/// A short text.
pub(super) fn short() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_VALUE))
        .build()
}

/// A text of one form.
pub(super) fn form(pattern: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .build()
}

/// One of a few words.
pub(super) fn one_of(words: &[&str]) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
        .build()
}

/// A whole number.
pub(super) fn number(from: usize, to: usize) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(from))
        .maximum(Some(to))
        .build()
}

/// A version of a stream.
pub(super) fn version() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .maximum(Some(i64::MAX))
        .build()
}

/// Any object.
pub(super) fn object() -> Object {
    ObjectBuilder::new().schema_type(Type::Object).build()
}

/// Any object, or null.
pub(super) fn object_or_null() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .build()
}

/// Texts by name.
pub(super) fn texts() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(Schema::from(text())))
        .build()
}

/// The name of a deploy file.
pub(super) fn file_name() -> Object {
    form("^[!-~]{1,256}$")
}

/// Yes or no.
pub(super) fn flag() -> Object {
    ObjectBuilder::new().schema_type(Type::Boolean).build()
}

/// A moment.
pub(super) fn time() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .build()
}

/// A pipeline's id.
pub(super) fn uuid() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .build()
}

/// A digest.
pub(super) fn digest() -> Object {
    form("^sha256:[0-9a-f]{64}$")
}

/// A place in the tenant's feed, or between two frames of one event.
pub(super) fn place() -> Object {
    form("^t1\\.[0-9a-f]{16}(~1)?$")
}

/// The same, or nothing, as a browser's library may send before it heard of a place.
pub(super) fn place_or_nothing() -> Object {
    form("^(t1\\.[0-9a-f]{16}(~1)?)?$")
}

/// An idempotency key.
pub(super) fn key() -> Object {
    form("^[!-~]{1,255}$")
}

/// Several values.
pub(super) fn list(item: impl Into<RefOr<Schema>>) -> Schema {
    ArrayBuilder::new().items(item.into()).build().into()
}

/// Several values of a parameter, with commas between them.
pub(super) fn values(item: impl Into<RefOr<Schema>>) -> Schema {
    ArrayBuilder::new()
        .items(item.into())
        .min_items(Some(1))
        .max_items(Some(MAX_VALUES))
        .build()
        .into()
}

/// One of several values that stand with commas between them.
pub(super) fn word() -> Object {
    form("^[^,]{1,256}$")
}

/// What stands at a place of a path.
pub(super) fn path(path: &str, name: &str) -> (Object, &'static str) {
    match name {
        "id" if path.contains("/deployments/") => {
            (short(), "The pipeline and the target: `PIPELINE.TARGET`.")
        }
        "id" if !path.starts_with("/pipelines/") => (short(), "As it came from an earlier answer."),
        "digest" => (digest(), "Names the object's text, as the plan says."),
        "action" => (short(), "What is to be done."),
        "agent" => (short(), "The agent's name, which is its account's."),
        "application" => (short(), "The application."),
        "evidence" => (short(), "Names the piece of evidence."),
        "id" => (uuid(), "The pipeline."),
        "target" => (short(), "The target's name."),
        _ => (short(), "As it came from an earlier answer."),
    }
}
