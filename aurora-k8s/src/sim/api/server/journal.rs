//! The objects of a simulated cluster on disk: a snapshot, and a journal of the writes after it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ServerError;
use crate::sim::{Objects, WatchKind};

const SNAPSHOT: &str = "objects.json";
const JOURNAL: &str = "objects.journal";
/// A journal that has grown past this is replaced by a snapshot.
const JOURNAL_LIMIT: u64 = 16 * 1024 * 1024;
/// How far the versions of a restored cluster lie beyond the last one that is on disk, so that a version which
/// somebody saw just before a crash is never given to another state.
const VERSION_GAP: u64 = 1_000;

/// Keeps the objects on disk; every method blocks on the disk.
#[derive(Debug)]
pub(super) struct Journal {
    objects: Objects,
    directory: PathBuf,
    file: File,
    length: u64,
    written: u64,
    recovered: Option<u64>,
}

impl Journal {
    /// Brings back what `directory` holds, if anything, and starts a new journal there.
    pub(super) fn open(objects: &Objects, directory: &Path) -> Result<Self, ServerError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| ServerError::State { path, source }
        };
        let (snapshot, journal) = (directory.join(SNAPSHOT), directory.join(JOURNAL));
        let mut recovered = None;
        if let Some((state, version)) = read_state(&snapshot, &journal)? {
            recovered = Some(version);
            objects.restore(&state).map_err(|error| ServerError::State {
                path: snapshot.clone(),
                source: io::Error::other(error),
            })?;
        }
        let file = append_to(&journal)?;
        let mut opened = Self {
            objects: objects.clone(),
            directory: directory.to_owned(),
            file,
            length: 0,
            written: 0,
            recovered,
        };
        opened.compact().map_err(at(&snapshot))?;
        Ok(opened)
    }

    /// The last version that was on disk when the state was brought back.
    pub(super) const fn recovered(&self) -> Option<u64> {
        self.recovered
    }

    /// The version up to which nothing can be lost.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Puts every write so far on disk and answers the version up to which nothing can be lost.
    pub(super) fn catch_up(&mut self) -> io::Result<u64> {
        let current = self.objects.resource_version();
        let Ok(events) = self.objects.events_since(self.written) else {
            return self.compact();
        };
        let mut lines = Vec::new();
        for event in events {
            self.written = self.written.max(event.rv);
            let gone = event.kind == WatchKind::Deleted;
            let line = json!({"rv": event.rv, "gone": gone, "object": &*event.object});
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        if !lines.is_empty() {
            self.file.write_all(&lines)?;
            self.file.sync_data()?;
            self.length += lines.len() as u64;
        }
        self.written = self.written.max(current);
        if self.length > JOURNAL_LIMIT {
            return self.compact();
        }
        Ok(self.written)
    }

    /// Replaces the journal by a snapshot.
    pub(super) fn compact(&mut self) -> io::Result<u64> {
        let snapshot = self.objects.snapshot();
        let version = snapshot["resourceVersion"].as_u64().unwrap_or(0);
        write_whole(&self.directory.join(SNAPSHOT), snapshot.to_string().as_bytes())?;
        // Lines that the snapshot covers are skipped by their version, so a crash here does no harm.
        self.file.set_len(0)?;
        self.length = 0;
        self.written = self.written.max(version);
        Ok(self.written)
    }
}

/// Writes a file so that a crash leaves the old or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = private().write(true).truncate(true).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens a file to write at its end.
pub(super) fn append_to(path: &Path) -> Result<File, ServerError> {
    let opened = private().append(true).open(path);
    opened.map_err(|source| ServerError::State {
        path: path.to_owned(),
        source,
    })
}

/// Files that hold Secrets of the cluster are for their owner only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Reads a file that may be absent.
pub(super) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, ServerError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ServerError::State {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The snapshot with the journal played over it.
fn read_state(snapshot: &Path, journal: &Path) -> Result<Option<(Value, u64)>, ServerError> {
    let Some(bytes) = read_optional(snapshot)? else {
        return Ok(None);
    };
    let mut state: Value = serde_json::from_slice(&bytes).map_err(|error| ServerError::State {
        path: snapshot.to_owned(),
        source: error.into(),
    })?;
    let lines = read_optional(journal)?.unwrap_or_default();
    let mut version = state["resourceVersion"].as_u64().unwrap_or(0);
    let covered = version;
    let mut objects: BTreeMap<String, Value> = BTreeMap::new();
    if let Some(Value::Array(held)) = state.get_mut("objects").map(Value::take) {
        objects.extend(held.into_iter().map(|object| (identity(&object), object)));
    }
    // A crash can cut the last line; nobody was told that it is there.
    let entries = lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut replayed = 0;
    for mut entry in entries {
        let at = entry["rv"].as_u64().unwrap_or(0);
        if at <= covered {
            continue;
        }
        version = version.max(at);
        replayed += 1;
        let object = entry["object"].take();
        if entry["gone"] == true {
            objects.remove(&identity(&object));
        } else {
            objects.insert(identity(&object), object);
        }
    }
    state["objects"] = objects.into_values().collect();
    state["resourceVersion"] = (version + VERSION_GAP).into();
    // Each write took at most one generated name.
    state["named"] = (state["named"].as_u64().unwrap_or(0) + replayed).into();
    Ok(Some((state, version)))
}

/// Takes back from the request log what was logged as changed and then lost in a crash: nobody was told.
pub(super) fn settle(log: &Path, recovered: u64) -> Result<(), ServerError> {
    let Some(bytes) = read_optional(log)? else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lost = false;
    let mut settled = String::new();
    for line in text.lines() {
        // A crash can cut the last line.
        let Ok(mut request) = serde_json::from_str::<Value>(line) else {
            lost = true;
            continue;
        };
        let after = request["after"]
            .as_str()
            .and_then(|text| text.parse::<u64>().ok());
        if request["changed"] == true && after.is_some_and(|after| after > recovered) {
            lost = true;
            request["code"] = Value::Null;
            request["changed"] = false.into();
            request["after"] = request["before"].clone();
            settled.push_str(&request.to_string());
        } else {
            settled.push_str(line);
        }
        settled.push('\n');
    }
    if lost {
        write_whole(log, settled.as_bytes()).map_err(|source| ServerError::State {
            path: log.to_owned(),
            source,
        })?;
    }
    Ok(())
}

/// What tells objects apart, whatever version of their kind they are written in.
fn identity(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let metadata = &object["metadata"];
    format!(
        "{group}/{}/{}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::sim::objects::tokio_clock;
    use crate::sim::resource::CONFIG_MAPS;

    fn empty() -> Objects {
        Objects::new(tokio_clock(Timestamp::UNIX_EPOCH))
    }

    fn config(objects: &Objects, name: &str) -> Option<Value> {
        objects
            .get(&CONFIG_MAPS, "default", name)
            .map(|object| (*object).clone())
    }

    fn create(objects: &Objects, name: &str) {
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}});
        objects.create(&CONFIG_MAPS, object).unwrap();
    }

    #[tokio::test]
    async fn what_was_caught_up_survives_a_crash_and_versions_only_grow() {
        let directory = tempfile::tempdir().unwrap();
        let objects = empty();
        let mut journal = Journal::open(&objects, directory.path()).unwrap();
        create(&objects, "kept");
        create(&objects, "deleted");
        journal.catch_up().unwrap();
        objects
            .delete(&CONFIG_MAPS, "default", "deleted", &crate::sim::Delete::default())
            .unwrap();
        let durable = journal.catch_up().unwrap();
        assert_eq!(durable, objects.resource_version());
        create(&objects, "lost");
        let seen = objects.resource_version();
        drop(journal);

        let again = empty();
        Journal::open(&again, directory.path()).unwrap();
        assert_eq!(config(&again, "kept"), config(&objects, "kept"));
        assert_eq!(config(&again, "deleted"), None);
        assert_eq!(config(&again, "lost"), None);
        assert!(again.resource_version() > seen);
    }

    #[tokio::test]
    async fn a_cut_line_and_lines_older_than_the_snapshot_are_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let objects = empty();
        let mut journal = Journal::open(&objects, directory.path()).unwrap();
        create(&objects, "a");
        journal.catch_up().unwrap();
        let old = fs::read(directory.path().join(JOURNAL)).unwrap();
        let mut next = (*objects.get(&CONFIG_MAPS, "default", "a").unwrap()).clone();
        next["data"]["a"] = "2".into();
        objects.update(&CONFIG_MAPS, "default", "a", None, next).unwrap();
        journal.compact().unwrap();
        let cut = [old.as_slice(), br#"{"rv":99999,"obj"#].concat();
        fs::write(directory.path().join(JOURNAL), cut).unwrap();

        let again = empty();
        Journal::open(&again, directory.path()).unwrap();
        assert_eq!(config(&again, "a").unwrap()["data"]["a"], "2");
    }

    #[test]
    fn a_logged_change_that_was_lost_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("requests.jsonl");
        let line =
            |after: &str| json!({"code": 200, "before": "3", "after": after, "changed": true}).to_string();
        fs::write(&path, format!("{}\n{}\n{{\"code\"", line("4"), line("5"))).unwrap();
        settle(&path, 4).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            (&lines[0]["changed"], &lines[0]["code"]),
            (&json!(true), &json!(200))
        );
        assert_eq!(
            lines[1],
            json!({"code": null, "before": "3", "after": "3", "changed": false})
        );
    }

    #[tokio::test]
    async fn a_snapshot_that_is_none_is_refused_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(SNAPSHOT), "{").unwrap();
        let error = Journal::open(&empty(), directory.path()).unwrap_err();
        assert!(error.to_string().contains(SNAPSHOT), "{error}");
    }
}
