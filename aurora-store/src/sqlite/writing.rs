//! What each write does inside of a transaction: first every check, then every change.

use std::time::Duration;

use aurora_core::digest::Digest;
use aurora_core::port::store::{Batch, Committed, Lease, Precondition, RecordKey, Scope, StoreError};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Result, params};

use super::rows::{micros, number, scope_id, time};

/// What a write gives: the inner error refused it and nothing was changed.
pub(super) type Written<T> = Result<std::result::Result<T, StoreError>>;

/// Writes a batch that was checked for what no store may write.
pub(super) fn commit(sql: &Connection, batch: &Batch, now: Timestamp) -> Written<Committed> {
    let scope = scope_for_writing(sql, &batch.scope)?;
    if let Some(refusal) = refusal(sql, scope, batch, now)? {
        return Ok(Err(refusal));
    }
    let feed = append(sql, scope, batch, now)?;
    for (key, value) in &batch.puts {
        sql.prepare_cached(
            "INSERT INTO record (scope, kind, id, version, value) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT (scope, kind, id) DO UPDATE SET version = version + 1, value = excluded.value",
        )?
        .execute(params![scope, key.kind, key.id, &value[..]])?;
    }
    for key in &batch.deletes {
        sql.prepare_cached("DELETE FROM record WHERE scope = ?1 AND kind = ?2 AND id = ?3")?
            .execute(params![scope, key.kind, key.id])?;
    }
    for (name, at) in &batch.timers {
        match at {
            Some(at) => sql
                .prepare_cached(
                    "INSERT INTO timer (scope, name, at) VALUES (?1, ?2, ?3)
                     ON CONFLICT (scope, name) DO UPDATE SET at = excluded.at",
                )?
                .execute(params![scope, name, micros(*at)])?,
            None => sql
                .prepare_cached("DELETE FROM timer WHERE scope = ?1 AND name = ?2")?
                .execute(params![scope, name])?,
        };
    }
    Ok(Ok(Committed { feed, at: now }))
}

fn refusal(sql: &Connection, scope: i64, batch: &Batch, now: Timestamp) -> Result<Option<StoreError>> {
    if let Some(shown) = &batch.lease {
        let held = lease(sql, scope, &batch.scope, &shown.name)?;
        if !held.is_some_and(|held| held.is_held_as(shown, now)) {
            return Ok(Some(shown.lost()));
        }
    }
    for precondition in &batch.preconditions {
        let (key, wanted) = match precondition {
            Precondition::Absent(key) => (key, 0),
            Precondition::Version(key, version) => (key, *version),
        };
        if record_version(sql, scope, key)? != wanted {
            return Ok(Some(StoreError::Conflict {
                what: format!("the record `{}/{}`", key.kind, key.id),
            }));
        }
    }
    for append in &batch.appends {
        let version: i64 = sql
            .prepare_cached("SELECT coalesce(max(version), 0) FROM event WHERE scope = ?1 AND stream = ?2")?
            .query_row(params![scope, append.stream], |row| row.get(0))?;
        if number(version) != append.expected {
            return Ok(Some(StoreError::Conflict {
                what: format!("the stream `{}`", append.stream),
            }));
        }
    }
    Ok(None)
}

fn record_version(sql: &Connection, scope: i64, key: &RecordKey) -> Result<u64> {
    let version: Option<i64> = sql
        .prepare_cached("SELECT version FROM record WHERE scope = ?1 AND kind = ?2 AND id = ?3")?
        .query_row(params![scope, key.kind, key.id], |row| row.get(0))
        .optional()?;
    Ok(version.map_or(0, number))
}

/// Appends all events and gives the feed number after them.
fn append(sql: &Connection, scope: i64, batch: &Batch, now: Timestamp) -> Result<u64> {
    let mut feed: i64 = sql
        .prepare_cached("SELECT feed FROM scope WHERE id = ?1")?
        .query_row([scope], |row| row.get(0))?;
    let before = feed;
    for append in &batch.appends {
        let mut version = i64::try_from(append.expected).unwrap_or(i64::MAX);
        for value in &append.events {
            feed += 1;
            version += 1;
            sql.prepare_cached(
                "INSERT INTO event (scope, feed, stream, version, at, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                scope,
                feed,
                append.stream,
                version,
                micros(now),
                &value[..]
            ])?;
        }
    }
    if feed != before {
        sql.prepare_cached("UPDATE scope SET feed = ?2 WHERE id = ?1")?
            .execute(params![scope, feed])?;
    }
    Ok(number(feed))
}

/// Takes a lease, or says who holds it.
pub(super) fn acquire(
    sql: &Connection,
    scope: &Scope,
    name: &str,
    holder: &str,
    ttl: Duration,
    now: Timestamp,
) -> Written<Lease> {
    let id = scope_for_writing(sql, scope)?;
    if let Some(held) = lease(sql, id, scope, name)?
        && held.until > now
        && held.holder != holder
    {
        return Ok(Err(StoreError::Held {
            name: held.name,
            holder: held.holder,
            until: held.until,
        }));
    }
    let last: i64 = sql
        .prepare_cached("SELECT fence FROM scope WHERE id = ?1")?
        .query_row([id], |row| row.get(0))?;
    let fence = Lease::next_fence(number(last), now);
    let taken = Lease {
        scope: scope.clone(),
        name: name.to_owned(),
        holder: holder.to_owned(),
        fence,
        until: Lease::end(now, ttl),
    };
    // 292 thousand years of microseconds fit.
    let fence = i64::try_from(fence).unwrap_or(i64::MAX);
    sql.prepare_cached("UPDATE scope SET fence = ?2 WHERE id = ?1")?
        .execute(params![id, fence])?;
    sql.prepare_cached(
        "INSERT INTO lease (scope, name, holder, fence, until) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (scope, name)
         DO UPDATE SET holder = excluded.holder, fence = excluded.fence, until = excluded.until",
    )?
    .execute(params![id, name, holder, fence, micros(taken.until)])?;
    Ok(Ok(taken))
}

/// Prolongs a lease that is held.
pub(super) fn renew(sql: &Connection, shown: &Lease, ttl: Duration, now: Timestamp) -> Written<Lease> {
    let Some(id) = scope_id(sql, &shown.scope)? else {
        return Ok(Err(shown.lost()));
    };
    let held = lease(sql, id, &shown.scope, &shown.name)?;
    let Some(mut held) = held.filter(|held| held.is_held_as(shown, now)) else {
        return Ok(Err(shown.lost()));
    };
    held.until = Lease::end(now, ttl);
    sql.prepare_cached("UPDATE lease SET until = ?3 WHERE scope = ?1 AND name = ?2")?
        .execute(params![id, held.name, micros(held.until)])?;
    Ok(Ok(held))
}

/// Gives a lease up, if it is still that one.
pub(super) fn release(sql: &Connection, shown: &Lease) -> Written<()> {
    if let Some(id) = scope_id(sql, &shown.scope)?
        && let Some(held) = lease(sql, id, &shown.scope, &shown.name)?
        && held.fence == shown.fence
    {
        sql.prepare_cached("DELETE FROM lease WHERE scope = ?1 AND name = ?2")?
            .execute(params![id, shown.name])?;
    }
    Ok(Ok(()))
}

/// Keeps a body under its digest.
pub(super) fn put_blob(sql: &Connection, scope: &Scope, digest: &Digest, body: &[u8]) -> Written<()> {
    let id = scope_for_writing(sql, scope)?;
    sql.prepare_cached("INSERT INTO blob (scope, digest, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![id, &digest.as_bytes()[..], body])?;
    Ok(Ok(()))
}

fn lease(sql: &Connection, id: i64, scope: &Scope, name: &str) -> Result<Option<Lease>> {
    sql.prepare_cached("SELECT holder, fence, until FROM lease WHERE scope = ?1 AND name = ?2")?
        .query_row(params![id, name], |row| {
            Ok(Lease {
                scope: scope.clone(),
                name: name.to_owned(),
                holder: row.get(0)?,
                fence: number(row.get(1)?),
                until: time(row.get(2)?),
            })
        })
        .optional()
}

fn scope_for_writing(sql: &Connection, scope: &Scope) -> Result<i64> {
    if let Some(id) = scope_id(sql, scope)? {
        return Ok(id);
    }
    sql.execute("INSERT INTO scope (name) VALUES (?1)", [scope.as_text()])?;
    Ok(sql.last_insert_rowid())
}
