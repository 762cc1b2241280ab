//! The tables of a file and how an older file becomes a newer one: forward only, one step at a time.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::OpenError;

/// `AURO`: tells our files from other SQLite files.
const APPLICATION_ID: i32 = 0x4155_524f;

/// One step forward. A landed step never changes.
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All steps, in order; the version of a file is how many it has taken.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    name: "streams, records, leases, timers, blobs",
    sql: include_str!("../../migrations/0001_tables.sql"),
}];

/// Takes the steps that a file still lacks, each in a transaction of its own.
///
/// # Errors
/// `Newer` for a file of a later version, `Foreign` for one that is not ours.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
    now: Timestamp,
) -> Result<(), OpenError> {
    let unusable = |source: rusqlite::Error| OpenError::Unusable {
        path: path.to_owned(),
        source: source.into(),
    };
    let found = version(connection).map_err(unusable)?;
    let Some(found) = found else {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    };
    if found > migrations.len() {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: migrations.len(),
        });
    }
    for (index, migration) in migrations.iter().enumerate().skip(found) {
        step(connection, index + 1, migration, now).map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            name: migration.name,
            source: source.into(),
        })?;
        tracing::info!(version = index + 1, name = migration.name, "store migrated");
    }
    Ok(())
}

fn step(
    connection: &mut Connection,
    version: usize,
    migration: &Migration,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration
         (version INTEGER PRIMARY KEY, name TEXT NOT NULL, at INTEGER NOT NULL) STRICT;",
    )?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        "INSERT INTO migration (version, name, at) VALUES (?1, ?2, ?3)",
        params![version as i64, migration.name, now.as_microsecond()],
    )?;
    transaction.commit()
}

/// Whether a file is ours and not of a later version.
pub(super) fn is_known(connection: &Connection) -> rusqlite::Result<bool> {
    let steps = version(connection)?;
    Ok(steps.is_some_and(|steps| (1..=MIGRATIONS.len()).contains(&steps)))
}

/// How many steps a file has taken; `None` for a file that is not ours.
fn version(connection: &Connection) -> rusqlite::Result<Option<usize>> {
    let ours: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let any: Option<String> = connection
        .query_row("SELECT name FROM sqlite_schema LIMIT 1", [], |row| row.get(0))
        .optional()?;
    match (ours, any) {
        (0, None) => Ok(Some(0)),
        (APPLICATION_ID, _) => {
            let version: i64 =
                connection.query_row("SELECT coalesce(max(version), 0) FROM migration", [], |row| {
                    row.get(0)
                })?;
            Ok(usize::try_from(version).ok())
        }
        _ => Ok(None),
    }
}
