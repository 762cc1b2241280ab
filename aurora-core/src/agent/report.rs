//! Telling the hub what the cluster has: a snapshot per session, then what changed.

use std::collections::BTreeMap;

use crate::session::{FromAgent, Inventory, InventoryItem, inventory_digest};

/// More changes than this are told as a new snapshot.
const MAX_DELTAS: usize = 500;

/// What the hub was last told in this session.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    generation: u64,
    sequence: u64,
    told: Option<BTreeMap<String, InventoryItem>>,
}

impl Reporter {
    /// The hub asks for all of it again.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// The frames that bring the hub up to date; none when nothing changed.
    pub(super) fn report(&mut self, items: Vec<(String, InventoryItem)>) -> Vec<FromAgent> {
        let items: BTreeMap<_, _> = items.into_iter().filter_map(fitted).collect();
        let mut news = match self.told.take() {
            Some(told) => match self.deltas(&told, &items) {
                Some(deltas) if deltas.is_empty() => {
                    self.told = Some(items);
                    return Vec::new();
                }
                Some(deltas) => deltas,
                None => self.snapshot(&items),
            },
            None => self.snapshot(&items),
        };
        news.push(Inventory::End {
            generation: self.generation,
            count: items.len() as u64,
            digest: inventory_digest(&items),
        });
        self.told = Some(items);
        news.into_iter().map(FromAgent::Inventory).collect()
    }

    fn snapshot(&mut self, items: &BTreeMap<String, InventoryItem>) -> Vec<Inventory> {
        self.generation += 1;
        self.sequence = 0;
        let generation = self.generation;
        let all = items.iter().map(|(key, value)| Inventory::Item {
            generation,
            key: key.clone(),
            value: value.clone(),
        });
        std::iter::once(Inventory::Begin { generation })
            .chain(all)
            .collect()
    }

    fn deltas(
        &mut self,
        told: &BTreeMap<String, InventoryItem>,
        items: &BTreeMap<String, InventoryItem>,
    ) -> Option<Vec<Inventory>> {
        let gone = told
            .keys()
            .filter(|key| !items.contains_key(*key))
            .map(|key| (key, None));
        let changed = items
            .iter()
            .filter(|(key, item)| told.get(*key) != Some(*item))
            .map(|(key, item)| (key, Some(item.clone())));
        let changes: Vec<_> = gone.chain(changed).collect();
        if changes.len() > MAX_DELTAS {
            return None;
        }
        let deltas = changes.into_iter().map(|(key, value)| {
            self.sequence += 1;
            Inventory::Delta {
                generation: self.generation,
                sequence: self.sequence,
                key: key.clone(),
                value,
            }
        });
        Some(deltas.collect())
    }
}

/// Cuts an item to what the protocol takes, before its digest is made.
fn fitted((key, mut item): (String, InventoryItem)) -> Option<(String, InventoryItem)> {
    let cut = |text: &mut String, max: usize| {
        if text.len() > max {
            *text = text.chars().take(max / 4).collect();
        }
    };
    cut(&mut item.kind, 64);
    cut(&mut item.name, 253);
    let facts = std::mem::take(&mut item.facts).into_iter();
    item.facts = facts.filter(|(name, _)| name.len() <= 64).take(64).collect();
    for value in item.facts.values_mut() {
        cut(value, 1024);
    }
    (!key.is_empty() && key.len() <= 512).then_some((key, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(names: &[&str]) -> Vec<(String, InventoryItem)> {
        let item = |name: &&str| InventoryItem {
            kind: "namespace".into(),
            name: (*name).into(),
            facts: BTreeMap::new(),
        };
        names
            .iter()
            .map(|name| ((*name).to_owned(), item(name)))
            .collect()
    }

    #[test]
    fn the_first_report_is_whole_and_later_ones_say_what_changed() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.report(items(&["a", "b"])).len(), 4);
        assert!(reporter.report(items(&["a", "b"])).is_empty());
        let changes = reporter.report(items(&["b", "c"]));
        let deltas = changes
            .iter()
            .filter(|frame| matches!(frame, FromAgent::Inventory(Inventory::Delta { .. })));
        assert_eq!(deltas.count(), 2);
        reporter.forget();
        let whole = reporter.report(items(&["b", "c"]));
        assert!(matches!(
            whole.first(),
            Some(FromAgent::Inventory(Inventory::Begin { generation: 2 }))
        ));
    }
}
