//! The table's part on who routes traffic.

use super::{Field, NAME, OBJECT_NAME, Object, Shape};

/// Who routes the traffic of which targets.
pub(crate) static TRAFFIC: Object = Object {
    name: "TrafficManagement",
    about: "Who routes the traffic of some targets.",
    fields: &[
        Field::new(
            "targets",
            Shape::List {
                of: &Shape::Text(&NAME),
                least: 1,
            },
            "For these targets; for all unless given.",
        ),
        Field::new(
            "kubernetes",
            Shape::List {
                of: &Shape::Object(&SERVICE_PAIR),
                least: 0,
            },
            "Services of blue/green strategies; each belongs to the Deployment that its selector matches.",
        ),
        Field::new(
            "smi",
            Shape::List {
                of: &Shape::Object(&SMI),
                least: 0,
            },
            "A service mesh that reads SMI TrafficSplit objects.",
        )
        .later(),
        Field::new(
            "istio",
            Shape::List {
                of: &Shape::Object(&ISTIO),
                least: 0,
            },
            "Istio.",
        )
        .later(),
        Field::not_ours("alias", "belongs to AWS Lambda, which Aurora does not deploy to"),
    ],
    bonds: &[],
};

/// Services of a blue/green strategy.
pub(crate) static SERVICE_PAIR: Object = Object {
    name: "ServicePair",
    about: "The Services of one Deployment that moves by blue/green.",
    fields: &[
        Field::new(
            "activeService",
            Shape::Text(&OBJECT_NAME),
            "The Service that users reach.",
        )
        .required("the Service that users reach"),
        Field::new(
            "previewService",
            Shape::Text(&OBJECT_NAME),
            "A Service that reaches the new version before traffic moves; another one than the active.",
        ),
    ],
    bonds: &[],
};

/// A split by SMI.
pub(crate) static SMI: Object = Object {
    name: "Smi",
    about: "A TrafficSplit object.",
    fields: &[
        Field::new(
            "rootServiceName",
            Shape::Text(&OBJECT_NAME),
            "The Service that users reach; its selector matches a Deployment.",
        )
        .required("the Service that users reach")
        .later(),
        Field::new(
            "canaryServiceName",
            Shape::Text(&OBJECT_NAME),
            "The Service of the new version; made as `<root>-canary` unless given.",
        )
        .later(),
        Field::new(
            "trafficSplitName",
            Shape::Text(&OBJECT_NAME),
            "The TrafficSplit's name; the root Service's unless given.",
        )
        .later(),
    ],
    bonds: &[],
};

/// A split by Istio.
pub(crate) static ISTIO: Object = Object {
    name: "Istio",
    about: "An Istio route.",
    fields: &[
        Field::new(
            "virtualService",
            Shape::Object(&VIRTUAL_SERVICE),
            "The VirtualService whose weights move.",
        )
        .required("for example `virtualService: {name: web}`")
        .later(),
        Field::new(
            "destinationRule",
            Shape::Object(&DESTINATION_RULE),
            "The DestinationRule whose subsets stand for old and new.",
        )
        .later(),
    ],
    bonds: &[],
};

static VIRTUAL_SERVICE: Object = Object {
    name: "VirtualService",
    about: "The VirtualService whose weights move.",
    fields: &[
        Field::new("name", Shape::Text(&OBJECT_NAME), "Its name.")
            .required("its name")
            .later(),
        Field::new(
            "httpRouteName",
            Shape::Text(&NAME),
            "The route; needed where it has several.",
        )
        .later(),
    ],
    bonds: &[],
};

static DESTINATION_RULE: Object = Object {
    name: "DestinationRule",
    about: "The DestinationRule whose subsets stand for old and new.",
    fields: &[
        Field::new(
            "name",
            Shape::Text(&OBJECT_NAME),
            "Its name; the only one unless given.",
        )
        .later(),
        Field::new(
            "activeSubsetName",
            Shape::Text(&NAME),
            "The subset of the old version; needed where there are several.",
        )
        .later(),
        Field::new(
            "canarySubsetName",
            Shape::Text(&NAME),
            "The subset of the new version; made unless given.",
        )
        .later(),
    ],
    bonds: &[],
};
