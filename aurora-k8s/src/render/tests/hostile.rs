//! Whatever stands in a manifest, rendering does not panic and is a function.

use aurora_core::port::renderer::{ManifestRenderer as _, laws};
use aurora_core::strategy::{BlueGreen, Canary, Rolling, ServicePair, Strategy};
use proptest::prelude::{Just, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Values;
use serde_json::{Value, json};

use super::{deployment, request, with};
use crate::render::ArgoRenderer;

/// Values as they may stand in manifests, wrong ones among them.
fn value() -> impl Values<Value = Value> {
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
            Just("blueGreen"),
            Just("activeService"),
            Just("labels"),
            Just("app"),
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
            Just("/spec/template/metadata"), Just("/spec/template/metadata/labels/app"),
        ],
        kind in prop_oneof![
            Just(("apps/v1", "Deployment")), Just(("argoproj.io/v1alpha1", "Rollout")), Just(("v1", "ConfigMap")),
            Just(("v1", "Secret")), Just(("v1", "Service")), Just(("v1", "List")),
            Just(("argoproj.io/v1alpha1", "AnalysisTemplate")), Just(("batch/v1", "CronJob")),
            Just(("autoscaling/v2", "HorizontalPodAutoscaler")), Just(("networking.k8s.io/v1", "Ingress")),
            Just(("batch/v1", "Job")), Just(("v1", "PersistentVolume")), Just(("storage.k8s.io/v1", "StorageClass")),
        ],
        strategy in prop_oneof![
            Just(Strategy::BlueGreen(BlueGreen::default())), Just(Strategy::Canary(Canary::default())),
            Just(Strategy::Rolling(Rolling::default())),
        ],
        services in prop_oneof![
            Just(Vec::new()),
            Just(vec![ServicePair { active: "web".to_owned(), preview: None }]),
            Just(vec![ServicePair { active: "next".to_owned(), preview: Some("web".to_owned()) }]),
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
        let asked = |bodies: Vec<Value>| {
            let mut request = request(bodies);
            request.strategy = Some(strategy.clone());
            request.services = services.clone();
            request
        };
        let service = laws::sample().manifests[1].body.as_ref().clone();
        let preview = with(service.clone(), "/metadata/name", json!("next"));
        let mut bodies = vec![body, service];
        bodies.extend((!services.is_empty()).then_some(preview));
        let wanted = asked(bodies);
        let once = ArgoRenderer.render(&wanted);
        prop_assert_eq!(&once, &ArgoRenderer.render(&wanted));
        if let Ok(plan) = once {
            let bodies: Vec<Value> = plan.objects.iter().map(|planned| planned.body.clone()).collect();
            let again = ArgoRenderer.render(&asked(bodies.clone()));
            let again = again.map(|plan| plan.objects.into_iter().map(|planned| planned.body).collect::<Vec<_>>());
            prop_assert_eq!(again, Ok(bodies), "a rendered plan renders to itself");
        }
    }
}
