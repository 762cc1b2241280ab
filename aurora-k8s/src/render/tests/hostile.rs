//! Whatever stands in a manifest, rendering does not panic and is a function.

use aurora_core::port::renderer::{ManifestRenderer as _, laws};
use proptest::prelude::{Just, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as _;
use serde_json::{Value, json};

use super::{deployment, request};
use crate::render::ArgoRenderer;

/// Values as they may stand in manifests, wrong ones among them.
fn value() -> impl proptest::strategy::Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9.%/-]{0,8}".prop_map(Value::from),
        Just(json!("25%")),
        Just(json!("100m")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop_oneof![
            Just("name"),
            Just("image"),
            Just("env"),
            Just("steps"),
            Just("pause"),
            Just("setWeight"),
            Just("resources"),
            Just("limits"),
            Just("cpu"),
            Just("volumes"),
            Just("configMap"),
            Just("ports"),
            Just("containerPort"),
            Just("canary"),
            Just("strategy"),
            Just("items"),
            Just("metadata"),
        ];
        let fields = prop::collection::vec((key, inner.clone()), 0..4).prop_map(|fields| {
            fields
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()
        });
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::Array),
            fields.prop_map(Value::Object),
        ]
    })
}

proptest! {
    #[test]
    fn hostile_manifests_never_panic_and_always_give_the_same(
        at in prop_oneof![
            Just(""), Just("/spec"), Just("/metadata"), Just("/spec/template"), Just("/spec/template/spec"),
            Just("/spec/template/spec/containers"), Just("/spec/template/spec/containers/0"),
            Just("/spec/template/spec/volumes"), Just("/spec/strategy"), Just("/spec/selector"),
            Just("/spec/strategy/canary"), Just("/spec/strategy/canary/steps"),
        ],
        kind in prop_oneof![
            Just(("apps/v1", "Deployment")), Just(("argoproj.io/v1alpha1", "Rollout")), Just(("v1", "ConfigMap")),
            Just(("v1", "Secret")), Just(("v1", "Service")), Just(("v1", "List")),
            Just(("argoproj.io/v1alpha1", "AnalysisTemplate")), Just(("batch/v1", "CronJob")),
            Just(("autoscaling/v2", "HorizontalPodAutoscaler")), Just(("networking.k8s.io/v1", "Ingress")),
        ],
        value in value(),
    ) {
        let mut body = deployment("web");
        body["spec"]["strategy"] = json!({"canary": {"steps": []}});
        body["spec"]["template"]["spec"]["volumes"] = json!([]);
        (body["apiVersion"], body["kind"]) = (json!(kind.0), json!(kind.1));
        if let Some(place) = body.pointer_mut(at) {
            *place = value;
        }
        let wanted = request(vec![body, laws::sample().manifests[1].body.as_ref().clone()]);
        let once = ArgoRenderer.render(&wanted);
        prop_assert_eq!(&once, &ArgoRenderer.render(&wanted));
        if let Ok(plan) = once {
            let bodies: Vec<Value> = plan.objects.iter().map(|planned| planned.body.clone()).collect();
            let again = ArgoRenderer.render(&request(bodies.clone()));
            let again = again.map(|plan| plan.objects.into_iter().map(|planned| planned.body).collect::<Vec<_>>());
            prop_assert_eq!(again, Ok(bodies), "a rendered plan renders to itself");
        }
    }
}
