//! The table's upper part: the file itself, targets, manifests, and how a run behaves.

use super::steps::{CONSTRAINT_STEP, SPAN, STRATEGY};
use super::traffic::TRAFFIC;
use super::{
    ACCOUNT, ANALYSIS, ANY_TEXT, APPLICATION, Bond, Field, NAME, NAMESPACE, Object, Shape, WEBHOOK, Words,
};

const LAMBDA: &str = "belongs to AWS Lambda, which Aurora does not deploy to";

/// The deploy file.
pub(crate) static ROOT: Object = Object {
    name: "DeployFile",
    about: "What to deploy, where to, and how it moves from the old version to the new one.",
    fields: &[
        Field::new(
            "version",
            Shape::Text(&ANY_TEXT),
            "The version of this format: v1.",
        ),
        Field::new(
            "kind",
            Shape::Words(&KIND),
            "What is deployed to; kubernetes unless said.",
        ),
        Field::new(
            "application",
            Shape::Text(&APPLICATION),
            "The name under which runs are kept apart: one run of an application at a time.",
        )
        .required("the name under which runs of this application are kept apart"),
        Field::new(
            "description",
            Shape::Text(&ANY_TEXT),
            "For people; shown with the run.",
        )
        .shown(),
        Field::new(
            "context",
            CONTEXT,
            "Variables of the whole run, read as {{context.NAME}}.",
        )
        .alias("contextOverrides"),
        Field::new(
            "targets",
            Shape::FullMap(&Shape::Object(&TARGET)),
            "The places it goes to, by name.",
        )
        .required("for example `targets: {staging: {account: my-agent, namespace: web, strategy: canary}}`"),
        Field::new(
            "manifests",
            Shape::List {
                of: &Shape::Object(&MANIFEST),
                least: 1,
            },
            "What is deployed.",
        )
        .required("for example `manifests: [{path: manifests/web.yaml}]`"),
        Field::new(
            "strategies",
            Shape::Map(&Shape::Object(&STRATEGY)),
            "Ways of moving to a new version, by name; targets name one of them.",
        ),
        Field::new(
            "analysis",
            Shape::Object(&ANALYSIS),
            "Queries that analysis steps ask.",
        )
        .later(),
        Field::new(
            "webhooks",
            Shape::List {
                of: &Shape::Object(&WEBHOOK),
                least: 0,
            },
            "HTTP calls that runWebhook steps make.",
        )
        .later(),
        Field::new(
            "trafficManagement",
            Shape::Forms(&[
                Shape::List {
                    of: &Shape::Object(&TRAFFIC),
                    least: 0,
                },
                Shape::Older(
                    &Shape::Object(&TRAFFIC),
                    "`trafficManagement` as a map is an older form",
                    "write it as a list of such maps",
                ),
            ]),
            "Who routes the traffic of which targets.",
        ),
        Field::new(
            "deploymentConfig",
            Shape::Object(&DEPLOYMENT_CONFIG),
            "How the whole run behaves.",
        ),
        Field::new(
            "targetFilters",
            Shape::List {
                of: &Shape::Object(&TARGET_FILTER),
                least: 1,
            },
            "Only these targets run; all unless given.",
        ),
        Field::new(
            "files",
            Shape::NullableMap(&FILE_TEXTS),
            "Manifest texts by the path that the file names; clients fill it in.",
        ),
        Field::new(
            "sourceControl",
            Shape::Map(&Shape::Anything),
            "Which commit, by whom; clients fill it in.",
        )
        .shown(),
        Field::not_ours("artifacts", LAMBDA),
        Field::not_ours("providerOptions", LAMBDA),
    ],
    bonds: &[],
};

static KIND: Words = Words {
    what: "a kind of deploy file",
    code: "unknownValue",
    all: &["kubernetes"],
    any_case: false,
    refused: &[("lambda", "Aurora does not deploy Lambda functions")],
};

/// Variables by name; older files write a list of maps.
pub(super) const CONTEXT: Shape = Shape::Forms(&[
    Shape::Map(&Shape::Text(&ANY_TEXT)),
    Shape::Older(
        &Shape::List {
            of: &Shape::Map(&Shape::Text(&ANY_TEXT)),
            least: 0,
        },
        "a context as a list is an older form",
        "write it as a map",
    ),
]);

/// A place the application goes to.
pub(crate) static TARGET: Object = Object {
    name: "Target",
    about: "One place the application goes to.",
    fields: &[
        Field::new(
            "account",
            Shape::Text(&ACCOUNT),
            "The agent that serves the cluster.",
        )
        .required("the name of the agent that serves the cluster"),
        Field::new(
            "namespace",
            Shape::Text(&NAMESPACE),
            "Overrides the manifests' namespace; their single one unless given.",
        ),
        Field::new(
            "strategy",
            Shape::Text(&NAME),
            "A key of `strategies`; may be absent only where the manifests hold no Deployment.",
        ),
        Field::new(
            "constraints",
            Shape::Object(&CONSTRAINTS),
            "What it waits for, and what waits for it.",
        ),
        Field::not_ours("region", LAMBDA),
        Field::not_ours("deployAsIamRole", LAMBDA),
    ],
    bonds: &[],
};

static CONSTRAINTS: Object = Object {
    name: "Constraints",
    about: "What a target waits for, and what waits for it.",
    fields: &[
        Field::new(
            "dependsOn",
            Shape::List {
                of: &Shape::Text(&NAME),
                least: 1,
            },
            "Targets that must have succeeded first; those that wait for the same ones run side by side.",
        ),
        Field::new(
            "beforeDeployment",
            Shape::List {
                of: &Shape::Object(&CONSTRAINT_STEP),
                least: 0,
            },
            "Steps that all must pass before the target starts; they run side by side.",
        ),
        Field::new(
            "afterDeployment",
            Shape::List {
                of: &Shape::Object(&CONSTRAINT_STEP),
                least: 0,
            },
            "Steps that all must pass after the target is deployed, before those that depend on it start; side by side.",
        ),
    ],
    bonds: &[],
};

/// Where manifests come from.
pub(crate) static MANIFEST: Object = Object {
    name: "ManifestSource",
    about: "Where manifests come from, and for which targets they are.",
    fields: &[
        Field::new(
            "path",
            Shape::Text(&NAME),
            "A file or directory, relative to the deploy file, or an http or https URL that the server reads.",
        ),
        Field::new(
            "inline",
            Shape::Forms(&[Shape::Text(&NAME), Shape::Map(&Shape::Anything)]),
            "Manifest text.",
        ),
        Field::new(
            "targets",
            Shape::List {
                of: &Shape::Text(&NAME),
                least: 1,
            },
            "Only for these targets; for all unless given.",
        ),
    ],
    bonds: &[Bond::ExactlyOne(&["path", "inline"])],
};

static DEPLOYMENT_CONFIG: Object = Object {
    name: "DeploymentConfig",
    about: "How the whole run behaves.",
    fields: &[
        Field::new(
            "timeout",
            Shape::Object(&SPAN),
            "The longest from an apply or an opened gate to the next gate or the end, at least one minute; then it is \
             rolled back. 30 minutes unless said.",
        ),
        Field::new(
            "keepDeploymentObject",
            Shape::Bool,
            "Whether the Deployment is made again after the run; not, unless said.",
        )
        .later(),
        Field::new(
            "ifDeploymentInProgress",
            Shape::Object(&IN_PROGRESS),
            "What happens while another run of the application is under way.",
        ),
    ],
    bonds: &[],
};

static IN_PROGRESS: Object = Object {
    name: "IfDeploymentInProgress",
    about: "What happens while another run of the application is under way.",
    fields: &[Field::new(
        "strategy",
        Shape::Words(&IN_PROGRESS_WORDS),
        "`reject` refuses the new run; `enqueueOne` lets one wait, and a newer one takes its place.",
    )],
    bonds: &[],
};

static IN_PROGRESS_WORDS: Words = Words {
    what: "a strategy for this",
    code: "unknownValue",
    all: &["reject", "enqueueOne"],
    any_case: false,
    refused: &[],
};

static TARGET_FILTER: Object = Object {
    name: "TargetFilter",
    about: "A target that runs.",
    fields: &[
        Field::new("includeTarget", Shape::Text(&NAME), "The target's name.")
            .required("the name of a target"),
    ],
    bonds: &[],
};

static FILE_TEXTS: Shape = Shape::List {
    of: &Shape::Forms(&[Shape::Text(&ANY_TEXT), Shape::Object(&FILE_TEXT)]),
    least: 1,
};

static FILE_TEXT: Object = Object {
    name: "FileText",
    about: "One manifest file.",
    fields: &[
        Field::new("name", Shape::Text(&NAME), "The file's name as people know it.")
            .required("the file's name"),
        Field::new("text", Shape::Text(&ANY_TEXT), "What it holds.").required("what the file holds"),
    ],
    bonds: &[],
};
