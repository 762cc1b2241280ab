//! The table's lower part: queries and webhooks, which steps name.

use super::steps::LONGEST;
use super::{ACCOUNT, ANY_TEXT, Bond, Field, NAME, Object, Shape, TEMPLATE, Words};

/// What analysis steps ask.
pub(crate) static ANALYSIS: Object = Object {
    name: "Analysis",
    about: "Queries that analysis steps ask, and whom.",
    fields: &[
        Field::new(
            "defaultMetricProviderName",
            Shape::Text(&NAME),
            "Who is asked where neither step nor query say so.",
        )
        .later(),
        Field::new(
            "queries",
            Shape::List {
                of: &Shape::Object(&QUERY),
                least: 1,
            },
            "Queries by name.",
        )
        .required("for example `queries: [{name: errors, upperLimit: 0.02, queryTemplate: …}]`")
        .later(),
    ],
    bonds: &[],
};

/// A question to a metric provider.
pub(crate) static QUERY: Object = Object {
    name: "Query",
    about: "A question to a metric provider, with at least one limit.",
    fields: &[
        Field::new(
            "name",
            Shape::Text(&NAME),
            "What steps call it; no two have the same name.",
        )
        .required("what steps call it")
        .later(),
        Field::new(
            "queryTemplate",
            Shape::Text(&TEMPLATE),
            "The question, which gives one value; variables stand in it as {{armory.…}} and {{context.…}}.",
        )
        .required("the question in the provider's language")
        .later(),
        Field::new("upperLimit", Shape::Number, "A higher average fails.").later(),
        Field::new("lowerLimit", Shape::Number, "A lower average fails.").later(),
        Field::new(
            "metricProviderName",
            Shape::Text(&NAME),
            "Who is asked; the default unless given.",
        )
        .later(),
        Field::new(
            "aggregationMethod",
            Shape::Text(&ANY_TEXT),
            "From older files; changes nothing.",
        )
        .shown(),
    ],
    bonds: &[Bond::AtLeastOne(&["upperLimit", "lowerLimit"])],
};

/// An HTTP call.
pub(crate) static WEBHOOK: Object = Object {
    name: "Webhook",
    about: "An HTTP call that runWebhook steps make.",
    fields: &[
        Field::new(
            "name",
            Shape::Text(&NAME),
            "What steps call it; no two have the same name.",
        )
        .required("what steps call it")
        .later(),
        Field::new(
            "method",
            Shape::Words(&METHOD),
            "The HTTP method; POST with a body and GET without one unless given.",
        )
        .later(),
        Field::new(
            "uriTemplate",
            Shape::Text(&TEMPLATE),
            "Where it goes; variables stand in it.",
        )
        .required("for example `uriTemplate: https://ci.example.test/{{context.job}}`")
        .later(),
        Field::new(
            "networkMode",
            Shape::Words(&NETWORK),
            "Whether the control plane calls it, or an agent; direct unless said.",
        )
        .later(),
        Field::new(
            "agentIdentifier",
            Shape::Text(&ACCOUNT),
            "The agent that calls it; that of the step's target unless given.",
        )
        .later(),
        Field::new(
            "headers",
            Shape::List {
                of: &Shape::Object(&HEADER),
                least: 0,
            },
            "Headers of the call.",
        )
        .later(),
        Field::new("bodyTemplate", Shape::Object(&BODY), "The body of the call.").later(),
        Field::new(
            "retryCount",
            Shape::Whole {
                least: 0,
                most: LONGEST,
            },
            "How often connecting is tried again; not, unless said.",
        )
        .later(),
        Field::new(
            "disableCallback",
            Shape::Bool,
            "Whether a good status is enough; else it waits for the callback, at most 24 hours.",
        )
        .later(),
    ],
    bonds: &[Bond::OnlyWith(
        "agentIdentifier",
        "networkMode",
        "remoteNetworkAgent",
    )],
};

static METHOD: Words = Words {
    what: "an HTTP method",
    code: "unknownValue",
    all: &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
    any_case: true,
    refused: &[],
};

static NETWORK: Words = Words {
    what: "a network mode",
    code: "unknownValue",
    all: &["direct", "remoteNetworkAgent"],
    any_case: false,
    refused: &[],
};

static HEADER: Object = Object {
    name: "Header",
    about: "A header of a call.",
    fields: &[
        Field::new("key", Shape::Text(&NAME), "Its name.")
            .required("the header's name")
            .later(),
        Field::new(
            "value",
            Shape::Text(&TEMPLATE),
            "Its value; variables stand in it.",
        )
        .required("the header's value")
        .later(),
    ],
    bonds: &[],
};

static BODY: Object = Object {
    name: "BodyTemplate",
    about: "The body of a call.",
    fields: &[
        Field::new(
            "inline",
            Shape::Text(&TEMPLATE),
            "The text; variables stand in it.",
        )
        .required("the body's text")
        .later(),
        Field::not_ours(
            "path",
            "is from older files, and nothing reads the file; write the body as `inline`",
        ),
    ],
    bonds: &[],
};
