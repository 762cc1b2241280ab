//! The supervisor's state file: what it runs, who declared it, and which plans were accepted.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aurora_core::command::{AppliedSetKey, Stamp};
use aurora_core::manifest::ObjectRef;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The file and its lock; clones and other processes share them.
#[derive(Clone, Debug)]
pub struct Supervisor {
    folder: PathBuf,
    watches: Arc<AtomicUsize>,
}

/// An object that the supervisor holds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Held {
    /// What is declared.
    pub body: Value,
    /// New with each creation, so that an object made again is told from the one before.
    pub uid: String,
    /// Moves when `spec` changes.
    pub generation: u64,
    /// Who wrote it last.
    pub written_by: String,
    /// And when.
    pub written_at: Timestamp,
}

/// The record of what is Aurora's: the last accepted plan of an application, and its objects.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct AppliedSet {
    pub(super) target: String,
    pub(super) stamp: Stamp,
    pub(super) digest: String,
    pub(super) entries: Vec<(ObjectRef, Entry)>,
}

/// An object of a set: its uid, and whether the present plan changed it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) uid: String,
    pub(super) changed: bool,
}

/// Everything in the file. JSON has no maps with such keys, so they are lists of pairs.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct State {
    serial: u64,
    objects: Vec<(ObjectRef, Held)>,
    sets: Vec<(AppliedSetKey, AppliedSet)>,
}

impl Supervisor {
    /// Uses a folder; its file is made with the first change.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn in_folder(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        let watches = Arc::default();
        Ok(Self { folder, watches })
    }

    /// How many observations look at it now.
    pub fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    pub(super) fn watched(&self) -> Watched {
        self.watches.fetch_add(1, Ordering::Relaxed);
        Watched(Arc::clone(&self.watches))
    }

    /// An object as it is.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn object(&self, object: &ObjectRef) -> io::Result<Option<Held>> {
        Ok(self.read()?.find(object).cloned())
    }

    /// Another person's hands: creates or replaces an object.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put_by_hand(&self, body: Value) -> io::Result<()> {
        self.change(|state| {
            state.put(&ObjectRef::of(&body), body, "somebody");
            Ok(())
        })
    }

    /// Another person's hands: deletes an object.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn delete_by_hand(&self, object: &ObjectRef) -> io::Result<()> {
        self.change(|state| {
            state.remove(object);
            Ok(())
        })
    }

    pub(super) fn read(&self) -> io::Result<State> {
        match fs::read(self.folder.join("state.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(error),
        }
    }

    /// Reads, changes and replaces the file while nobody else may; a failed change leaves it as it was.
    pub(super) fn change<T, E: From<io::Error>>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        let lock = File::create(self.folder.join("lock"))?;
        lock.lock()?;
        let mut state = self.read()?;
        let result = change(&mut state)?;
        write(&self.folder.join("state.json"), &state)?;
        Ok(result)
    }
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec_pretty(state)?)?;
    fs::rename(fresh, path)
}

/// Counted for as long as it lives.
#[derive(Debug)]
pub(super) struct Watched(Arc<AtomicUsize>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    pub(super) fn find(&self, object: &ObjectRef) -> Option<&Held> {
        let found = self.objects.iter().find(|(held, _)| held == object);
        found.map(|(_, held)| held)
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self
            .objects
            .iter()
            .map(|(object, _)| object.namespace.as_str())
            .collect();
        names.into_iter()
    }

    /// Writes an object; its uid, and whether anything changed.
    pub(super) fn put(&mut self, object: &ObjectRef, body: Value, by: &str) -> (String, bool) {
        self.serial += 1;
        if let Some((_, held)) = self.objects.iter_mut().find(|(held, _)| held == object) {
            let changed = held.body != body;
            if changed {
                held.generation += u64::from(held.body["spec"] != body["spec"]);
                by.clone_into(&mut held.written_by);
                held.written_at = Timestamp::now();
                held.body = body;
            }
            return (held.uid.clone(), changed);
        }
        let uid = format!("unit-{}", self.serial);
        let held = Held {
            body,
            uid: uid.clone(),
            generation: 1,
            written_by: by.to_owned(),
            written_at: Timestamp::now(),
        };
        self.objects.push((object.clone(), held));
        (uid, true)
    }

    pub(super) fn remove(&mut self, object: &ObjectRef) -> bool {
        let before = self.objects.len();
        self.objects.retain(|(held, _)| held != object);
        self.objects.len() < before
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &(AppliedSetKey, AppliedSet)> {
        self.sets.iter()
    }

    pub(super) fn set(&self, key: &AppliedSetKey) -> Option<&AppliedSet> {
        let found = self.sets.iter().find(|(held, _)| held == key);
        found.map(|(_, set)| set)
    }

    pub(super) fn set_mut(&mut self, key: &AppliedSetKey) -> Option<&mut AppliedSet> {
        let found = self.sets.iter_mut().find(|(held, _)| held == key);
        found.map(|(_, set)| set)
    }

    pub(super) fn insert_set(&mut self, key: &AppliedSetKey, set: AppliedSet) {
        match self.set_mut(key) {
            Some(held) => *held = set,
            None => self.sets.push((key.clone(), set)),
        }
    }
}

impl AppliedSet {
    pub(super) fn entry(&self, object: &ObjectRef) -> Option<&Entry> {
        let found = self.entries.iter().find(|(listed, _)| listed == object);
        found.map(|(_, entry)| entry)
    }

    pub(super) fn entry_mut(&mut self, object: &ObjectRef) -> &mut Entry {
        let listed = self.entries.iter().position(|(listed, _)| listed == object);
        let index = listed.unwrap_or_else(|| {
            self.entries.push((object.clone(), Entry::default()));
            self.entries.len() - 1
        });
        &mut self.entries[index].1
    }
}
