//! Durable, sealed stores for Aurora: one SQLite file per role, values encrypted before they reach it.
//!
//! ```text
//!  use cases ──Store──▶ SealedStore (AES-256-GCM, a data key per tenant) ──Store──▶ SqliteStore
//!                                                                              one writer, group commit
//! ```
//!
//! ```
//! # use std::sync::Arc;
//! use aurora_core::port::clock::SystemClock;
//! use aurora_core::port::store::{Batch, RecordKey, Scope, Store};
//! use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
//! use aurora_store::sqlite::SqliteStore;
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("api.sqlite");
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let file = SqliteStore::open(path, Arc::new(SystemClock)).await?;
//! let store = SealedStore::new(file, MasterKeys::new(MasterKey::generate()?));
//! let mut batch = Batch::new(Scope::Global);
//! batch.puts.push((RecordKey::new("greeting", "first"), "hello".into()));
//! store.commit(batch).await?;
//! let kept = store.get(&Scope::Global, &RecordKey::new("greeting", "first")).await?;
//! assert_eq!(kept.map(|record| record.value), Some("hello".into()));
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`sealed`] | encryption of values, data keys and their rotation |
//! | `sqlite` | the file: one process, one writer, a few readers, migrations, copies while it is in use |
//!
//! | feature | gives |
//! |---|---|
//! | `sqlite` (default) | `sqlite`, and with it SQLite itself; without it only [`sealed`] is there |

pub mod sealed;
#[cfg(feature = "sqlite")]
pub mod sqlite;
