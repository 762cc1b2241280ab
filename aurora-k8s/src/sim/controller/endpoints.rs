//! Endpoints: the ready pods behind each Service.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::sim::{
    objects::{Delete, Objects, WatchEvent},
    resource::{ENDPOINTS, PODS, SERVICES},
};

use super::{
    meta, pods,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// The controller of Endpoints.
#[derive(Debug)]
pub(super) struct EndpointsOfServices;

#[async_trait]
impl Reconciler for EndpointsOfServices {
    fn wants(&self, objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        if *event.resource == SERVICES {
            return vec![meta::key(&event.object)];
        }
        if *event.resource != PODS {
            return Vec::new();
        }
        let services = objects
            .list(&SERVICES, Some(meta::namespace(&event.object)))
            .items;
        services
            .iter()
            .filter(|service| is_behind(&event.object, service))
            .map(|it| meta::key(it))
            .collect()
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let Some(service) = objects.get(&SERVICES, namespace, name) else {
            // There may be none.
            let _gone = objects.delete(&ENDPOINTS, namespace, name, &Delete::default());
            return Next::Done;
        };
        if !service["spec"]["selector"].is_object() || meta::is_deleting(&service) {
            return Next::Done;
        }
        let all = objects.list(&PODS, Some(namespace)).items;
        let behind = all
            .iter()
            .filter(|pod| is_behind(pod, &service) && pods::is_active(pod));
        let (mut ready, mut unready) = (Vec::new(), Vec::new());
        for pod in behind.filter(|pod| pod["status"]["podIP"].is_string()) {
            let address = json!({
                "ip": pod["status"]["podIP"],
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": {
                    "kind": "Pod", "namespace": namespace, "name": meta::name(pod), "uid": meta::uid(pod),
                },
            });
            if pods::ready_since(pod).is_some() {
                ready.push(address)
            } else {
                unready.push(address)
            }
        }
        let subsets = subsets(&service, &ready, &unready);
        let written = write::edit(objects, &ENDPOINTS, namespace, name, |endpoints| {
            endpoints["subsets"] = subsets.clone();
        });
        if written.is_err() {
            let endpoints = json!({
                "metadata": {"name": name, "namespace": namespace, "labels": service["metadata"]["labels"]},
                "subsets": subsets,
            });
            // Refused in a namespace that is being deleted.
            let _made = objects.create(&ENDPOINTS, endpoints);
        }
        Next::Done
    }
}

fn is_behind(pod: &Value, service: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|selector| {
        let labels = &pod["metadata"]["labels"];
        !selector.is_empty()
            && selector
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
    })
}

fn subsets(service: &Value, ready: &[Value], unready: &[Value]) -> Value {
    if ready.is_empty() && unready.is_empty() {
        return json!([]);
    }
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports: Vec<Value> = ports
        .map(|port| {
            let target = if port["targetPort"].is_number() {
                &port["targetPort"]
            } else {
                &port["port"]
            };
            let mut listed = json!({"port": target, "protocol": port["protocol"]});
            if port["name"].is_string() {
                listed["name"] = port["name"].clone();
            }
            listed
        })
        .collect();
    let mut subset = json!({"ports": ports});
    if !ready.is_empty() {
        subset["addresses"] = ready.into();
    }
    if !unready.is_empty() {
        subset["notReadyAddresses"] = unready.into();
    }
    json!([subset])
}
