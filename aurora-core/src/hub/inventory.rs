//! What an agent says its cluster has: snapshots replace each other whole, deltas follow one another or are refused.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::port::router::InventoryStatus;
use crate::session::{Inventory, InventoryItem, inventory_digest};

/// The most items of one agent.
const MAX_ITEMS: usize = 20_000;

/// The last complete snapshot of an agent and the one that is being built.
#[derive(Debug, Default)]
pub(super) struct InventoryView {
    /// The epoch of the session whose word counts.
    writer: u64,
    current: Option<InventoryStatus>,
    /// Deltas of the current generation that were taken.
    sequence: u64,
    building: Option<(u64, BTreeMap<String, InventoryItem>)>,
}

impl InventoryView {
    /// Takes news of the session with this epoch; an error asks for the whole inventory again.
    ///
    /// Of several instances the newest session's word counts; `is_live` tells whether a session lives.
    pub(super) fn take(
        &mut self,
        epoch: u64,
        is_live: impl Fn(u64) -> bool,
        news: Inventory,
        now: Timestamp,
    ) -> Result<(), String> {
        if epoch != self.writer {
            if self.writer > epoch && is_live(self.writer) {
                return Ok(());
            }
            if !matches!(news, Inventory::Begin { .. }) {
                return Err("another instance reported last; send the whole inventory".into());
            }
            self.writer = epoch;
        }
        match news {
            Inventory::Begin { generation } => {
                self.building = Some((generation, BTreeMap::new()));
                Ok(())
            }
            Inventory::Item {
                generation,
                key,
                value,
            } => self.item(generation, key, value),
            Inventory::End {
                generation,
                count,
                digest,
            } => self.end(generation, count, digest, now),
            Inventory::Delta {
                generation,
                sequence,
                key,
                value,
            } => self.delta(generation, sequence, key, value, now),
        }
    }

    /// The last complete snapshot.
    pub(super) fn status(&self) -> Option<InventoryStatus> {
        self.current.clone()
    }

    fn item(&mut self, generation: u64, key: String, value: InventoryItem) -> Result<(), String> {
        match &mut self.building {
            Some((building, items)) if *building == generation && items.len() < MAX_ITEMS => {
                items.insert(key, value);
                Ok(())
            }
            Some((building, _)) if *building == generation => {
                self.building = None;
                Err(format!("more than {MAX_ITEMS} items"))
            }
            _ => Err(format!("no snapshot {generation} was begun")),
        }
    }

    fn end(
        &mut self,
        generation: u64,
        count: u64,
        digest: crate::digest::Digest,
        now: Timestamp,
    ) -> Result<(), String> {
        match self.building.take() {
            Some((building, items)) if building == generation => {
                check(&items, count, digest)?;
                self.sequence = 0;
                self.current = Some(InventoryStatus {
                    generation,
                    at: now,
                    items,
                });
                Ok(())
            }
            // Repeated after deltas it lets both sides compare.
            building => {
                self.building = building;
                match &mut self.current {
                    Some(current) if current.generation == generation => {
                        check(&current.items, count, digest)?;
                        current.at = now;
                        Ok(())
                    }
                    _ => Err(format!("snapshot {generation} is not the one that is held")),
                }
            }
        }
    }

    fn delta(
        &mut self,
        generation: u64,
        sequence: u64,
        key: String,
        value: Option<InventoryItem>,
        now: Timestamp,
    ) -> Result<(), String> {
        let current = self
            .current
            .as_mut()
            .filter(|current| current.generation == generation)
            .ok_or_else(|| format!("snapshot {generation} is not the one that is held"))?;
        if sequence <= self.sequence {
            return Ok(());
        }
        if sequence != self.sequence + 1 {
            return Err(format!("delta {sequence} came after {}", self.sequence));
        }
        match value {
            Some(_) if current.items.len() >= MAX_ITEMS && !current.items.contains_key(&key) => {
                return Err(format!("more than {MAX_ITEMS} items"));
            }
            Some(value) => {
                current.items.insert(key, value);
            }
            None => {
                current.items.remove(&key);
            }
        }
        self.sequence = sequence;
        current.at = now;
        Ok(())
    }
}

fn check(
    items: &BTreeMap<String, InventoryItem>,
    count: u64,
    digest: crate::digest::Digest,
) -> Result<(), String> {
    if items.len() as u64 != count || inventory_digest(items) != digest {
        return Err(format!("{} items are held and their digest differs", items.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> InventoryItem {
        InventoryItem {
            kind: "namespace".into(),
            name: name.into(),
            facts: BTreeMap::new(),
        }
    }

    fn snapshot(view: &mut InventoryView, epoch: u64, generation: u64, names: &[&str]) -> Result<(), String> {
        let items: BTreeMap<_, _> = names
            .iter()
            .map(|name| ((*name).to_owned(), item(name)))
            .collect();
        let (count, digest) = (items.len() as u64, inventory_digest(&items));
        let mut take = |news| view.take(epoch, |_| true, news, Timestamp::UNIX_EPOCH);
        take(Inventory::Begin { generation })?;
        for (key, value) in items {
            take(Inventory::Item {
                generation,
                key,
                value,
            })?;
        }
        take(Inventory::End {
            generation,
            count,
            digest,
        })
    }

    fn names(view: &InventoryView) -> Vec<String> {
        view.status()
            .into_iter()
            .flat_map(|held| held.items.into_keys())
            .collect()
    }

    #[test]
    fn a_half_snapshot_is_never_seen() {
        let mut view = InventoryView::default();
        snapshot(&mut view, 1, 1, &["a", "b"]).unwrap();
        let begin = Inventory::Begin { generation: 2 };
        view.take(1, |_| true, begin, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(names(&view), ["a", "b"]);
        snapshot(&mut view, 1, 3, &["c"]).unwrap();
        assert_eq!(names(&view), ["c"]);
    }

    #[test]
    fn a_gap_between_deltas_asks_for_the_whole_and_a_repeat_does_not() {
        let mut view = InventoryView::default();
        snapshot(&mut view, 1, 1, &["a"]).unwrap();
        let delta = |sequence, key: &str, value| Inventory::Delta {
            generation: 1,
            sequence,
            key: key.into(),
            value,
        };
        let mut take = |news| view.take(1, |_| true, news, Timestamp::UNIX_EPOCH);
        take(delta(1, "b", Some(item("b")))).unwrap();
        take(delta(1, "b", None)).unwrap();
        take(delta(2, "a", None)).unwrap();
        assert!(take(delta(4, "c", None)).is_err());
        assert_eq!(names(&view), ["b"]);
    }

    #[test]
    fn a_wrong_digest_leaves_the_old_snapshot() {
        let mut view = InventoryView::default();
        snapshot(&mut view, 1, 1, &["a"]).unwrap();
        let mut take = |news| view.take(1, |_| true, news, Timestamp::UNIX_EPOCH);
        take(Inventory::Begin { generation: 2 }).unwrap();
        let digest = crate::digest::Digest::of(b"something else");
        assert!(
            take(Inventory::End {
                generation: 2,
                count: 0,
                digest
            })
            .is_err()
        );
        assert_eq!(names(&view), ["a"]);
    }

    #[test]
    fn an_older_instance_is_heard_only_once_the_newer_is_gone() {
        let mut view = InventoryView::default();
        snapshot(&mut view, 2, 1, &["new"]).unwrap();
        snapshot(&mut view, 1, 9, &["old"]).unwrap();
        assert_eq!(names(&view), ["new"]);
        let delta = Inventory::Delta {
            generation: 9,
            sequence: 1,
            key: "x".into(),
            value: None,
        };
        assert!(view.take(1, |_| false, delta, Timestamp::UNIX_EPOCH).is_err());
    }
}
