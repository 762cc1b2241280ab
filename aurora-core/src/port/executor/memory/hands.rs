//! Looking into the in-memory cluster, breaking it, and doing what other people do to a cluster.

use serde_json::Value;

use super::canary::Declared;
use super::{InMemoryCluster, PodFault, Write};
use crate::command::Action;
use crate::manifest::ObjectRef;

/// The writer's name of what a foreign hand does.
const FOREIGN: &str = "kubectl";

impl InMemoryCluster {
    /// All objects, by name.
    pub fn objects(&self) -> Vec<Value> {
        self.world()
            .objects
            .values()
            .map(|held| held.body.clone())
            .collect()
    }

    /// One object as it is held, secrets included.
    pub fn object(&self, object: &ObjectRef) -> Option<Value> {
        self.world().objects.get(object).map(|held| held.body.clone())
    }

    /// The uid of an object, and a number that grows with every write to it.
    pub fn identity(&self, object: &ObjectRef) -> Option<(String, u64)> {
        self.world()
            .objects
            .get(object)
            .map(|held| (held.uid.clone(), held.version))
    }

    /// Every write by executors that took effect, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.world().writes.clone()
    }

    /// How many streams and applies wait for changes now.
    pub fn watches(&self) -> usize {
        self.shared.changes.listeners()
    }

    /// From now on, pods of this image fail.
    pub fn break_image(&self, image: impl Into<String>, fault: PodFault) {
        self.change(|world| world.faults.insert(image.into(), fault));
    }

    /// From now on, pods of this image become available.
    pub fn heal_image(&self, image: &str) {
        self.change(|world| world.faults.remove(image));
    }

    /// Holds one workload where it is.
    pub fn stall(&self, object: &ObjectRef) {
        self.change(|world| world.stalled.insert(object.clone()));
    }

    /// Lets a workload that was held move again.
    pub fn release(&self, object: &ObjectRef) {
        self.change(|world| world.stalled.remove(object));
    }

    /// Nothing is taken up and nothing moves, as if no controller ran.
    pub fn stop_controller(&self) {
        self.change(|world| world.controller_stopped = true);
    }

    /// Ends [`InMemoryCluster::stop_controller`].
    pub fn start_controller(&self) {
        self.change(|world| world.controller_stopped = false);
    }

    /// Somebody else writes an object.
    pub fn put_by_hand(&self, body: Value) {
        let object = ObjectRef::of(&body);
        self.change(|world| world.put(&object, body, FOREIGN));
    }

    /// Somebody else changes an object; one that is absent stays so.
    pub fn edit_by_hand(&self, object: &ObjectRef, edit: impl FnOnce(&mut Value)) {
        self.change(|world| {
            if let Some(held) = world.objects.get(object) {
                let mut body = held.body.clone();
                edit(&mut body);
                world.put(object, body, FOREIGN);
            }
        });
    }

    /// Somebody else deletes an object.
    pub fn delete_by_hand(&self, object: &ObjectRef) {
        self.change(|world| world.remove(object));
    }

    /// Somebody else acts on a Rollout, without any precondition.
    pub fn act_by_hand(&self, object: &ObjectRef, action: Action) {
        self.change(|world| {
            let declared = world.objects.get(object).map(|held| Declared::by(&held.body));
            if let Some(declared) = declared {
                world.carry_out(object, action, &declared);
            }
        });
    }
}
