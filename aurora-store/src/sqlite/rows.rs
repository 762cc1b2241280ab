//! How values of the domain stand in columns, and what reads find there.

use aurora_core::digest::Digest;
use aurora_core::port::store::{DueTimer, Record, RecordKey, Scan, Scope, StoreError, StoredEvent};
use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, Row, params};

/// The number of a scope's rows; `None` while it has none.
pub(super) fn scope_id(sql: &Connection, scope: &Scope) -> Result<Option<i64>> {
    sql.prepare_cached("SELECT id FROM scope WHERE name = ?1")?
        .query_row([scope.as_text()], |row| row.get(0))
        .optional()
}

pub(super) fn read_stream(
    sql: &Connection,
    scope: &Scope,
    stream: &str,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>> {
    let Some(id) = scope_id(sql, scope)? else {
        return Ok(Vec::new());
    };
    sql.prepare_cached(
        "SELECT stream, version, feed, at, value FROM event
         WHERE scope = ?1 AND stream = ?2 AND version > ?3 ORDER BY version LIMIT ?4",
    )?
    .query_map(params![id, stream, column(after), rows(limit)], event)?
    .collect()
}

pub(super) fn read_feed(
    sql: &Connection,
    scope: &Scope,
    after: u64,
    limit: usize,
) -> Result<Vec<StoredEvent>> {
    let Some(id) = scope_id(sql, scope)? else {
        return Ok(Vec::new());
    };
    sql.prepare_cached(
        "SELECT stream, version, feed, at, value FROM event
         WHERE scope = ?1 AND feed > ?2 ORDER BY feed LIMIT ?3",
    )?
    .query_map(params![id, column(after), rows(limit)], event)?
    .collect()
}

pub(super) fn feed_head(sql: &Connection, scope: &Scope) -> Result<u64> {
    let head: Option<i64> = sql
        .prepare_cached("SELECT feed FROM scope WHERE name = ?1")?
        .query_row([scope.as_text()], |row| row.get(0))
        .optional()?;
    Ok(head.map_or(0, number))
}

pub(super) fn get(sql: &Connection, scope: &Scope, key: &RecordKey) -> Result<Option<Record>> {
    let Some(scope) = scope_id(sql, scope)? else {
        return Ok(None);
    };
    sql.prepare_cached(
        "SELECT kind, id, version, value FROM record WHERE scope = ?1 AND kind = ?2 AND id = ?3",
    )?
    .query_row(params![scope, key.kind, key.id], record)
    .optional()
}

pub(super) fn scan(sql: &Connection, scope: &Scope, scan: &Scan) -> Result<Vec<Record>> {
    let Some(scope) = scope_id(sql, scope)? else {
        return Ok(Vec::new());
    };
    // Bounds instead of LIKE: no character of a prefix has a meaning, and the index does all the work.
    let mut statement = sql.prepare_cached(if scan.reverse {
        "SELECT kind, id, version, value FROM record
         WHERE scope = ?1 AND kind = ?2 AND id >= ?3 AND (?4 IS NULL OR id < ?4) AND (?5 IS NULL OR id < ?5)
         ORDER BY id DESC LIMIT ?6"
    } else {
        "SELECT kind, id, version, value FROM record
         WHERE scope = ?1 AND kind = ?2 AND id >= ?3 AND (?4 IS NULL OR id < ?4) AND (?5 IS NULL OR id > ?5)
         ORDER BY id LIMIT ?6"
    })?;
    let end = first_after_prefix(&scan.prefix);
    let bounds = params![scope, scan.kind, scan.prefix, end, scan.after, rows(scan.limit)];
    statement.query_map(bounds, record)?.collect()
}

pub(super) fn due_timers(sql: &Connection, now: Timestamp, limit: usize) -> Result<Vec<DueTimer>> {
    let mut statement = sql.prepare_cached(
        "SELECT scope.name, timer.name, timer.at FROM timer JOIN scope ON scope.id = timer.scope
         WHERE timer.at <= ?1 ORDER BY timer.at, timer.scope, timer.name LIMIT ?2",
    )?;
    let due = statement.query_map(params![micros(now), rows(limit)], |row| {
        let scope: String = row.get(0)?;
        Ok(DueTimer {
            scope: scope_of(&scope).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
            })?,
            name: row.get(1)?,
            at: time(row.get(2)?),
        })
    })?;
    due.collect()
}

pub(super) fn get_blob(sql: &Connection, scope: &Scope, digest: &Digest) -> Result<Option<Bytes>> {
    let Some(scope) = scope_id(sql, scope)? else {
        return Ok(None);
    };
    let body: Option<Vec<u8>> = sql
        .prepare_cached("SELECT body FROM blob WHERE scope = ?1 AND digest = ?2")?
        .query_row(params![scope, &digest.as_bytes()[..]], |row| row.get(0))
        .optional()?;
    Ok(body.map(Bytes::from))
}

/// Wraps a failure of SQLite: what is damaged is `Corrupt`, anything else may pass.
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    let damaged = matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    ) || matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)
    );
    if damaged {
        return StoreError::Corrupt {
            what: "the file of the store".to_owned(),
            source: error.into(),
        };
    }
    StoreError::Unavailable { source: error.into() }
}

/// Counters are never negative in a file of ours.
pub(super) fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn time(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn event(row: &Row<'_>) -> Result<StoredEvent> {
    Ok(StoredEvent {
        stream: row.get(0)?,
        version: number(row.get(1)?),
        feed: number(row.get(2)?),
        at: time(row.get(3)?),
        value: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}

fn record(row: &Row<'_>) -> Result<Record> {
    Ok(Record {
        key: RecordKey {
            kind: row.get(0)?,
            id: row.get(1)?,
        },
        version: number(row.get(2)?),
        value: Bytes::from(row.get::<_, Vec<u8>>(3)?),
    })
}

fn scope_of(text: &str) -> std::result::Result<Scope, aurora_core::tenant::InvalidName> {
    if text == Scope::Global.as_text() {
        return Ok(Scope::Global);
    }
    text.parse().map(Scope::Tenant)
}

/// The lowest text above everything that begins with `prefix`; `None` when there is none.
fn first_after_prefix(prefix: &str) -> Option<String> {
    let mut rest = prefix.to_owned();
    while let Some(last) = rest.pop() {
        // Ranges of characters step over the surrogates.
        if let Some(next) = (last..=char::MAX).nth(1) {
            rest.push(next);
            return Some(rest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_text_without_it() {
        for (prefix, end) in [
            ("", None),
            ("a", Some("b")),
            ("run-", Some("run.")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("\u{d7ff}", Some("\u{e000}")),
        ] {
            assert_eq!(first_after_prefix(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn exactly_what_begins_with_a_prefix_is_below_its_end(prefix in ".{1,3}", id in ".{0,5}") {
            let inside = id >= prefix && first_after_prefix(&prefix).is_none_or(|end| id < end);
            proptest::prop_assert_eq!(inside, id.starts_with(&prefix));
        }
    }
}
