//! What every store refuses before it looks at what it keeps: names, sizes and contradictions.

use std::collections::BTreeSet;

use super::{Batch, Name, Precondition, RecordKey, Scan, StoreError};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// The largest value of an event or a record, in bytes: what is larger is a blob.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;
/// The largest blob, in bytes: a submit of 16 MiB and what is rendered from it fit well.
pub const MAX_BLOB_BYTES: usize = 64 * 1024 * 1024;
/// What a wrapper that seals may add to a value or blob on its way to the store inside: every store
/// keeps values up to their limit, and refuses them when they are so much larger.
pub const SEALING_BYTES: usize = 1024;
/// The most events, records and timers of one batch together.
pub const MAX_BATCH_ITEMS: usize = 10_000;

/// Refuses a name that is empty or too long.
///
/// # Errors
/// `Invalid`, naming `what`.
pub fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    if name.is_empty() {
        return Err(invalid(format!("{what} has no name")));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(invalid(format!(
            "the name of {what} has {} bytes and {MAX_NAME_BYTES} are allowed: it begins `{}`",
            name.len(),
            name.chars().take(64).collect::<String>(),
        )));
    }
    Ok(())
}

/// Refuses a key with a name that is empty or too long.
///
/// # Errors
/// `Invalid`.
pub fn check_key(key: &RecordKey) -> Result<(), StoreError> {
    check_name("a record's kind", &key.kind)?;
    check_name("a record", &key.id)
}

/// Refuses a scan of a kind that cannot be one.
///
/// # Errors
/// `Invalid`.
pub fn check_scan(scan: &Scan) -> Result<(), StoreError> {
    check_name("a record's kind", &scan.kind)?;
    if scan.prefix.len() > MAX_NAME_BYTES {
        return Err(invalid(format!("a prefix has at most {MAX_NAME_BYTES} bytes")));
    }
    Ok(())
}

/// Refuses a body that is too large.
///
/// # Errors
/// `Invalid`.
pub fn check_blob(body: &[u8]) -> Result<(), StoreError> {
    check_size("a blob", body, MAX_BLOB_BYTES)
}

impl Batch {
    /// Refuses what no store may write: bad names, large values, one thing written twice.
    ///
    /// # Errors
    /// `Invalid`, with the first mistake.
    pub fn check(&self) -> Result<(), StoreError> {
        if let Some(lease) = &self.lease
            && lease.scope != self.scope
        {
            return Err(invalid(format!("the lease `{}` is of another scope", lease.name)));
        }
        for precondition in &self.preconditions {
            let (Precondition::Absent(key) | Precondition::Version(key, _)) = precondition;
            check_key(key)?;
        }
        self.check_count()?;
        self.check_appends()?;
        self.check_records()?;
        let mut timers = BTreeSet::new();
        for (name, _) in &self.timers {
            check_name("a timer", name)?;
            once(&mut timers, name, || format!("the timer `{name}`"))?;
        }
        Ok(())
    }

    fn check_count(&self) -> Result<(), StoreError> {
        let events: usize = self.appends.iter().map(|append| append.events.len()).sum();
        let items = events + self.puts.len() + self.deletes.len() + self.timers.len();
        if items > MAX_BATCH_ITEMS {
            return Err(invalid(format!(
                "it has {items} items and {MAX_BATCH_ITEMS} are allowed"
            )));
        }
        Ok(())
    }

    fn check_appends(&self) -> Result<(), StoreError> {
        let mut streams: BTreeSet<&Name> = BTreeSet::new();
        for append in &self.appends {
            let stream = &append.stream;
            check_name("a stream", stream)?;
            once(&mut streams, stream, || format!("the stream `{stream}`"))?;
            for event in &append.events {
                check_size("an event", event, MAX_VALUE_BYTES)?;
            }
        }
        Ok(())
    }

    fn check_records(&self) -> Result<(), StoreError> {
        let mut records: BTreeSet<&RecordKey> = BTreeSet::new();
        for key in self.puts.iter().map(|(key, _)| key).chain(&self.deletes) {
            check_key(key)?;
            once(&mut records, key, || {
                format!("the record `{}/{}`", key.kind, key.id)
            })?;
        }
        for (_, value) in &self.puts {
            check_size("a record", value, MAX_VALUE_BYTES)?;
        }
        Ok(())
    }
}

fn once<T: Ord>(seen: &mut BTreeSet<T>, item: T, what: impl Fn() -> String) -> Result<(), StoreError> {
    if seen.insert(item) {
        return Ok(());
    }
    Err(invalid(format!("it writes {} twice", what())))
}

fn check_size(what: &str, value: &[u8], allowed: usize) -> Result<(), StoreError> {
    if value.len() <= allowed + SEALING_BYTES {
        return Ok(());
    }
    Err(invalid(format!(
        "{what} has {} bytes and {allowed} are allowed",
        value.len()
    )))
}

const fn invalid(problem: String) -> StoreError {
    StoreError::Invalid { problem }
}
