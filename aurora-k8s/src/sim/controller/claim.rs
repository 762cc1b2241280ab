//! PersistentVolumeClaims: bound as soon as they are made.

use async_trait::async_trait;
use serde_json::json;

use crate::sim::{
    objects::{Objects, WatchEvent},
    resource::PERSISTENT_VOLUME_CLAIMS,
};

use super::{
    meta,
    queue::{Next, ObjectKey, Reconciler},
    write,
};

/// The controller that binds claims.
#[derive(Debug)]
pub(super) struct Claims;

#[async_trait]
impl Reconciler for Claims {
    fn wants(&self, _objects: &Objects, event: &WatchEvent) -> Vec<ObjectKey> {
        meta::own_or_controller(event, &PERSISTENT_VOLUME_CLAIMS)
    }

    async fn reconcile(&self, objects: &Objects, (namespace, name): &ObjectKey) -> Next {
        let kind = &PERSISTENT_VOLUME_CLAIMS;
        let Some(claim) = objects.get(kind, namespace, name) else {
            return Next::Done;
        };
        if claim["status"]["phase"] == "Bound" || meta::is_deleting(&claim) {
            return Next::Done;
        }
        let volume = format!("pvc-{}", meta::uid(&claim));
        let bound = json!({
            "phase": "Bound",
            "accessModes": claim["spec"]["accessModes"],
            "capacity": claim["spec"]["resources"]["requests"],
        });
        // A claim that vanished in between needs no volume.
        let _named = write::edit(objects, kind, namespace, name, |claim| {
            meta::put(claim, &["spec", "volumeName"], volume.clone());
        });
        let _bound = write::patch_status(objects, kind, namespace, name, &bound);
        Next::Done
    }
}
