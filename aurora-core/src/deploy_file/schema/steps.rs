//! The table's middle part: strategies and the steps of every place where steps may stand.

use super::top::CONTEXT;
use super::{Bond, Field, NAME, OBJECT_NAME, Object, PERCENT, Shape, Words};

/// A hundred years in seconds: what is longer was not meant, and times stay far from overflow.
pub(crate) const LONGEST: u64 = 3_153_600_000;

/// How a target moves to a new version.
pub(crate) static STRATEGY: Object = Object {
    name: "Strategy",
    about: "How a target's Deployments move to a new version: exactly one of the three.",
    fields: &[
        Field::new("canary", Shape::Object(&CANARY), "Step by step, by weight."),
        Field::new(
            "blueGreen",
            Shape::Object(&BLUE_GREEN),
            "The new version starts beside the old one, then all traffic moves at once.",
        ),
        Field::new(
            "rolling",
            Shape::Object(&ROLLING),
            "Pod by pod, as Kubernetes does, without steps.",
        ),
    ],
    bonds: &[Bond::OneKey],
};

static CANARY: Object = Object {
    name: "Canary",
    about: "Steps in order; after the last one the weight is 100.",
    fields: &[Field::new(
        "steps",
        Shape::List {
            of: &Shape::Object(&CANARY_STEP),
            least: 1,
        },
        "One after the other.",
    )
    .required("for example `steps: [{setWeight: {weight: 25}}, {pause: {untilApproved: true}}]`")],
    bonds: &[],
};

static BLUE_GREEN: Object = Object {
    name: "BlueGreen",
    about: "What is waited for before traffic moves, and before the old version goes.",
    fields: &[
        Field::new(
            "redirectTrafficAfter",
            Shape::List {
                of: &Shape::Object(&SWITCH_STEP),
                least: 0,
            },
            "Steps that all must pass before all traffic moves to the new version; side by side.",
        ),
        Field::new(
            "shutDownOldVersionAfter",
            Shape::List {
                of: &Shape::Object(&SWITCH_STEP),
                least: 0,
            },
            "Steps that all must pass before the old version is shut down; side by side.",
        )
        .alias("shutdownOldVersionAfter"),
        Field::new(
            "activeService",
            Shape::Text(&OBJECT_NAME),
            "The Service that users reach. Newer files name it in `trafficManagement[].kubernetes[]`.",
        ),
        Field::new(
            "previewService",
            Shape::Text(&OBJECT_NAME),
            "A Service that reaches the new version before traffic moves. Newer files name it in \
             `trafficManagement[].kubernetes[]`.",
        ),
    ],
    bonds: &[Bond::Needs("previewService", "activeService")],
};

static ROLLING: Object = Object {
    name: "Rolling",
    about: "How far above and below the wanted number of pods it may go; not both zero.",
    fields: &[
        Field::new(
            "maxSurge",
            PORTION,
            "Pods above the wanted number, or a share of it; 25% unless said.",
        ),
        Field::new(
            "maxUnavailable",
            PORTION,
            "Pods below the wanted number, or a share of it; 25% unless said.",
        ),
    ],
    bonds: &[],
};

const PORTION: Shape = Shape::Forms(&[
    Shape::Text(&PERCENT),
    Shape::Whole {
        least: 0,
        most: 1_000_000,
    },
]);

const WEIGHT_FORMS: Shape = Shape::Forms(&[
    Shape::Object(&SET_WEIGHT),
    Shape::Older(
        &Shape::Whole { least: 0, most: 100 },
        "`setWeight: N` is a short form",
        "write `setWeight: {weight: N}`",
    ),
]);
const WEIGHT: Field = Field::new(
    "setWeight",
    WEIGHT_FORMS,
    "Sends this share of the traffic to the new version.",
);
const PAUSE_FIELD: Field = Field::new(
    "pause",
    Shape::Object(&PAUSE),
    "Waits for a while, or for a person.",
);
const WEBHOOK_FIELD: Field = Field::new(
    "runWebhook",
    Shape::Object(&WEBHOOK_STEP),
    "Calls a webhook and waits for its answer.",
)
.later();
const ANALYSIS_FIELD: Field = Field::new(
    "analysis",
    Shape::Object(&ANALYSIS_STEP),
    "Asks metrics and judges them.",
)
.later();
const EXPOSE_FIELD: Field = Field::new(
    "exposeServices",
    Shape::Object(&EXPOSE_STEP),
    "Gives Services a preview address for a while.",
)
.later();

/// A step of a canary.
pub(crate) static CANARY_STEP: Object = Object {
    name: "CanaryStep",
    about: "One step of a canary: exactly one of these.",
    fields: &[WEIGHT, PAUSE_FIELD, WEBHOOK_FIELD, ANALYSIS_FIELD, EXPOSE_FIELD],
    bonds: &[Bond::OneKey],
};

/// A step before traffic moves, or before the old version goes.
pub(crate) static SWITCH_STEP: Object = Object {
    name: "SwitchStep",
    about: "One step of a blue/green strategy: exactly one of these.",
    fields: &[PAUSE_FIELD, WEBHOOK_FIELD, ANALYSIS_FIELD, EXPOSE_FIELD],
    bonds: &[Bond::OneKey],
};

/// A step before or after a target.
pub(crate) static CONSTRAINT_STEP: Object = Object {
    name: "ConstraintStep",
    about: "One step before or after a target: exactly one of these.",
    fields: &[PAUSE_FIELD, WEBHOOK_FIELD, ANALYSIS_FIELD],
    bonds: &[Bond::OneKey],
};

static SET_WEIGHT: Object = Object {
    name: "SetWeight",
    about: "A share of the traffic.",
    fields: &[Field::new(
        "weight",
        Shape::Whole { least: 0, most: 100 },
        "Percent; weights usually rise.",
    )
    .required("a whole number from 0 to 100")],
    bonds: &[],
};

/// A wait.
pub(crate) static PAUSE: Object = Object {
    name: "Pause",
    about: "Waits for a while (`duration` and `unit`) or for a person (`untilApproved: true`).",
    fields: &[
        Field::new(
            "duration",
            Shape::Whole {
                least: 1,
                most: LONGEST,
            },
            "How many units.",
        ),
        Field::new("unit", Shape::Words(&UNIT), "The unit of `duration`.").alias("units"),
        Field::new("untilApproved", Shape::Bool, "Waits for a person's yes."),
        Field::new(
            "requiresRoles",
            Shape::List {
                of: &Shape::Text(&NAME),
                least: 1,
            },
            "Any one of these roles may say yes; everybody who may deploy unless given.",
        ),
        Field::new(
            "approvalExpiration",
            Shape::Object(&SPAN),
            "How long it waits for a yes; then the run is cancelled. For ever unless said.",
        )
        .alias("approvalDuration"),
    ],
    bonds: &[Bond::TimedOrApproved],
};

/// A length of time.
pub(crate) static SPAN: Object = Object {
    name: "Duration",
    about: "A length of time.",
    fields: &[
        Field::new(
            "duration",
            Shape::Whole {
                least: 1,
                most: LONGEST,
            },
            "How many units.",
        )
        .required("for example `{duration: 10, unit: minutes}`"),
        Field::new("unit", Shape::Words(&UNIT), "The unit.")
            .alias("units")
            .required("for example `{duration: 10, unit: minutes}`"),
    ],
    bonds: &[],
};

static UNIT: Words = Words {
    what: "a unit",
    code: "unknownUnit",
    all: &["seconds", "minutes", "hours"],
    any_case: true,
    refused: &[],
};

/// A webhook call.
pub(crate) static WEBHOOK_STEP: Object = Object {
    name: "RunWebhook",
    about: "Calls a webhook.",
    fields: &[
        Field::new("name", Shape::Text(&NAME), "The name of one of `webhooks`.")
            .required("the name of one of `webhooks`")
            .later(),
        Field::new(
            "context",
            CONTEXT,
            "Variables of this call, beside those of the run.",
        )
        .later(),
    ],
    bonds: &[],
};

/// A judgment by metrics.
pub(crate) static ANALYSIS_STEP: Object = Object {
    name: "AnalysisStep",
    about: "Asks queries several times and judges their averages.",
    fields: &[
        Field::new(
            "metricProviderName",
            Shape::Text(&NAME),
            "Who is asked; the query's own unless given, else `analysis.defaultMetricProviderName`.",
        )
        .later(),
        Field::new(
            "context",
            CONTEXT,
            "Variables of these queries, beside those of the run.",
        )
        .later(),
        Field::new(
            "interval",
            Shape::Whole {
                least: 1,
                most: LONGEST,
            },
            "The length of one sample, in `units`.",
        )
        .required("for example `interval: 30, units: seconds`")
        .later(),
        Field::new("units", Shape::Words(&UNIT), "The unit of `interval`.")
            .alias("unit")
            .required("for example `interval: 30, units: seconds`")
            .later(),
        Field::new(
            "numberOfJudgmentRuns",
            Shape::Whole {
                least: 1,
                most: 10_000,
            },
            "How often each query is asked; the average is judged.",
        )
        .required("a whole number of at least 1")
        .later(),
        Field::new(
            "rollBackMode",
            Shape::Words(&ROLL),
            "What happens when it fails; automatic unless said.",
        )
        .later(),
        Field::new(
            "rollForwardMode",
            Shape::Words(&ROLL),
            "What happens when it passes; automatic unless said.",
        )
        .later(),
        Field::new(
            "lookbackMethod",
            Shape::Words(&LOOKBACK),
            "Whether a sample reaches back to the step's start or only over the last interval.",
        )
        .later(),
        Field::new(
            "abortOnFailedJudgment",
            Shape::Bool,
            "Whether the first failed judgment ends it; not, unless said.",
        )
        .later(),
        Field::new(
            "queries",
            Shape::List {
                of: &Shape::Text(&NAME),
                least: 1,
            },
            "Names of `analysis.queries`; all must pass.",
        )
        .required("names of `analysis.queries`")
        .later(),
    ],
    bonds: &[],
};

static ROLL: Words = Words {
    what: "a mode",
    code: "unknownValue",
    all: &["automatic", "manual"],
    any_case: true,
    refused: &[],
};

static LOOKBACK: Words = Words {
    what: "a lookback method",
    code: "unknownValue",
    all: &["growing", "sliding", "unset"],
    any_case: true,
    refused: &[],
};

/// Preview addresses.
pub(crate) static EXPOSE_STEP: Object = Object {
    name: "ExposeServices",
    about: "Gives Services a preview address for a while.",
    fields: &[
        Field::new(
            "services",
            Shape::List {
                of: &Shape::Text(&OBJECT_NAME),
                least: 1,
            },
            "Services of the target's namespace with one HTTP port each.",
        )
        .required("names of Services")
        .later(),
        Field::new(
            "ttl",
            Shape::Object(&SPAN),
            "How long the address works, from one minute to 24 hours; 5 minutes unless said.",
        )
        .later(),
    ],
    bonds: &[],
};
