//! What the document says of one route: a small builder over utoipa's, so that nothing common is forgotten.

use aurora_core::authz::Permission;
use http::{Method, StatusCode};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::{
    ContentBuilder, Deprecated, Ref, RefOr, Required, Response, Schema, SecurityRequirement,
};

use super::schema::{self, Components};
use crate::rest::deprecated;
use crate::rest::problem::{PROBLEM_JSON, ProblemBody};

/// The name of the security scheme.
pub(super) const BEARER: &str = "bearer";

/// What each route may answer besides what it is asked for.
const ALWAYS: [StatusCode; 3] = [
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// One route in the document.
pub(in crate::rest) struct Doc {
    pub(in crate::rest) method: Method,
    pub(in crate::rest) path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    token: bool,
    scopes: &'static [&'static str],
    params: Vec<Parameter>,
    body: Option<RequestBody>,
    answers: Vec<(StatusCode, Response)>,
    refusals: Vec<StatusCode>,
    deprecated: bool,
    components: Components,
}

impl Doc {
    /// A route that is read; `id` is the name that generated clients give it.
    pub(super) fn get(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::GET, path, id, tag, summary)
    }

    /// A route that is posted to.
    pub(super) fn post(
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(Method::POST, path, id, tag, summary)
    }

    /// A route.
    pub(super) fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        let doc = Self {
            method,
            path,
            id,
            tag,
            summary,
            token: true,
            scopes: &[],
            params: Vec::new(),
            body: None,
            answers: Vec::new(),
            refusals: Vec::new(),
            deprecated: deprecated::successor(path).is_some(),
            components: Components::default(),
        };
        let names: Vec<&str> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        names.into_iter().fold(doc, Self::placed)
    }

    fn placed(mut self, name: &str) -> Self {
        let (schema, description) = schema::path(self.path, name);
        self.params.push(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(schema))
                .description(Some(description))
                .build(),
        );
        self.may(StatusCode::NOT_FOUND)
    }

    /// Any one scope of a permission opens it.
    pub(super) fn needs<P: Permission>(mut self) -> Self {
        self.scopes = P::SCOPES;
        self
    }

    /// It is open to everyone.
    pub(super) fn open(mut self) -> Self {
        self.token = false;
        self
    }

    /// A query parameter; a wrong one is 422.
    pub(super) fn query(mut self, name: &str, schema: impl Into<RefOr<Schema>>, description: &str) -> Self {
        self.params.push(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .schema(Some(schema))
                .explode(Some(false))
                .description(Some(description))
                .build(),
        );
        self.may(StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// A query parameter that must stand there.
    pub(super) fn query_needed(
        mut self,
        name: &str,
        schema: impl Into<RefOr<Schema>>,
        description: &str,
    ) -> Self {
        self = self.query(name, schema, description);
        if let Some(last) = self.params.last_mut() {
            last.required = Required::True;
        }
        self
    }

    /// A query parameter whose values are those of an enum of ours, several with commas between them.
    pub(super) fn words<T: ToSchema>(mut self, name: &str, description: &str) -> Self {
        let item = self.components.reference::<T>();
        self.query(name, schema::values(item), description)
    }

    /// A header of the request.
    pub(super) fn header(mut self, name: &str, schema: impl Into<RefOr<Schema>>, description: &str) -> Self {
        self.params.push(
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .schema(Some(schema))
                .description(Some(description))
                .build(),
        );
        self.may(StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// The key under which an act is remembered.
    pub(super) fn idempotent(self) -> Self {
        let about = "Remembers the request under a key of the caller's: repeated with it, it has no second effect and \
                     gets the same answer; another request under it is refused.";
        self.header("Idempotency-Key", schema::key(), about)
    }

    /// The body that is sent.
    pub(super) fn takes(mut self, description: &str, contents: Vec<(&str, RefOr<Schema>)>) -> Self {
        let needed = if self.path.contains("/actions/") {
            Required::False
        } else {
            Required::True
        };
        let mut body = RequestBodyBuilder::new()
            .description(Some(description))
            .required(Some(needed));
        for (media_type, schema) in contents {
            body = body.content(media_type, ContentBuilder::new().schema(Some(schema)).build());
        }
        self.body = Some(body.build());
        self.may(StatusCode::BAD_REQUEST)
            .may(StatusCode::PAYLOAD_TOO_LARGE)
            .may(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            .may(StatusCode::UNPROCESSABLE_ENTITY)
    }

    /// The schema of a type of ours, by name.
    pub(super) fn reference<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.components.reference::<T>()
    }

    /// What it answers as JSON.
    pub(super) fn gives<T: ToSchema>(self, description: &str) -> Self {
        self.gives_as::<T>(StatusCode::OK, &["application/json"], description)
    }

    /// What it answers with a status, in one of several media types.
    pub(super) fn gives_as<T: ToSchema>(
        mut self,
        status: StatusCode,
        media_types: &[&str],
        description: &str,
    ) -> Self {
        let schema = self.components.reference::<T>();
        let mut response = ResponseBuilder::new().description(description);
        for media_type in media_types {
            response = response.content(
                *media_type,
                ContentBuilder::new().schema(Some(schema.clone())).build(),
            );
        }
        self.answers.push((status, response.build()));
        self
    }

    /// What it answers, where no type of ours says it.
    pub(super) fn gives_raw(
        mut self,
        status: StatusCode,
        description: &str,
        contents: Vec<(&str, RefOr<Schema>)>,
    ) -> Self {
        let mut response = ResponseBuilder::new().description(description);
        for (media_type, schema) in contents {
            response = response.content(media_type, ContentBuilder::new().schema(Some(schema)).build());
        }
        self.answers.push((status, response.build()));
        self
    }

    /// The same answer in another media type, with another schema.
    pub(super) fn also(mut self, status: StatusCode, media_type: &str, schema: RefOr<Schema>) -> Self {
        if let Some((_, response)) = self.answers.iter_mut().find(|(of, _)| *of == status) {
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response.content.insert(media_type.to_owned(), content.into());
        }
        self
    }

    /// Something else that it may refuse.
    pub(super) fn may(mut self, status: StatusCode) -> Self {
        if !self.refusals.contains(&status) {
            self.refusals.push(status);
        }
        self
    }

    /// The finished operation; schemas that it names go to `components`.
    pub(super) fn build(mut self, components: &mut Components) -> Operation {
        let problem = self.components.reference::<ProblemBody>();
        components.extend(self.components);
        let mut refusals = self.refusals;
        refusals.extend(ALWAYS);
        // A query string that nobody takes is refused everywhere.
        refusals.push(StatusCode::UNPROCESSABLE_ENTITY);
        if self.token {
            refusals.extend([
                StatusCode::UNAUTHORIZED,
                StatusCode::FORBIDDEN,
                StatusCode::TOO_MANY_REQUESTS,
            ]);
        }
        refusals.sort();
        refusals.dedup();
        let mut operation = OperationBuilder::new()
            .operation_id(Some(self.id))
            .tag(self.tag)
            .summary(Some(self.summary))
            .description((!self.scopes.is_empty()).then(|| needs(self.scopes)))
            .request_body(self.body);
        for param in self.params {
            operation = operation.parameter(param);
        }
        for (status, response) in self.answers {
            let response = with_headers(response, status, self.deprecated);
            operation = operation.response(status.as_str(), response);
        }
        for status in refusals {
            let name = components.refusal(status, self.deprecated, || {
                let response = ResponseBuilder::new()
                    .description(status.canonical_reason().unwrap_or("A problem"))
                    .content(
                        PROBLEM_JSON,
                        ContentBuilder::new().schema(Some(problem.clone())).build(),
                    );
                with_headers(response.build(), status, self.deprecated)
            });
            operation = operation.response(status.as_str(), Ref::from_response_name(name));
        }
        if self.deprecated {
            operation = operation.deprecated(Some(Deprecated::True));
        }
        if self.token {
            operation = operation.security(SecurityRequirement::new(BEARER, [""; 0]));
        }
        operation.build()
    }
}

fn needs(scopes: &[&str]) -> String {
    format!("Needs any one of the scopes `{}`.", scopes.join("`, `"))
}

fn with_headers(response: Response, status: StatusCode, deprecated: bool) -> Response {
    let mut response = response;
    let mut header = |name: &str, about: &str| {
        let header = HeaderBuilder::new()
            .schema(Some(schema::text()))
            .description(Some(about));
        response.headers.insert(name.to_owned(), header.build().into());
    };
    header("X-Request-Id", "Names the request in the server's log.");
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            header("WWW-Authenticate", "What would do.");
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            header("Retry-After", "Seconds after which to try again.");
        }
        StatusCode::ACCEPTED => header("Location", "The pipeline."),
        _ => {}
    }
    if deprecated {
        header("Deprecation", "Since when, as RFC 9745 says.");
        header("Sunset", "Not before when it goes, as RFC 8594 says.");
        header("Link", "The one to use, with `rel=\"successor-version\"`.");
    }
    response
}

/// A reference to a schema by name.
pub(super) fn named(name: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(name))
}
