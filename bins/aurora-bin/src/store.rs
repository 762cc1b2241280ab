//! A role's store: one SQLite file, sealed under a master key.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aurora_core::port::clock::Clock;
use aurora_core::port::store::SharedStore;
use aurora_store::sealed::{MasterKey, MasterKeys, SealedStore};
use aurora_store::sqlite::SqliteStore;

use crate::settings::{Setting, Settings};

/// The settings of a store, to be put into a role's table.
pub const SETTINGS: [Setting; 4] = [
    Setting::text(
        "store.file",
        "FILE",
        "The SQLite file that holds this role's state",
    ),
    Setting::secret(
        "store.masterKey",
        "The key that seals the state: 32 bytes in base64",
    ),
    Setting::text(
        "store.masterKeyFile",
        "FILE",
        "A file with that key in its first line",
    ),
    Setting::list(
        "store.olderMasterKeyFiles",
        "FILES",
        "Files with keys that sealed the state before and still open it",
    ),
];

/// Where the state is, and what opens it.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The SQLite file.
    pub file: PathBuf,
    /// The keys.
    pub keys: MasterKeys,
}

impl StoreConfig {
    /// Reads the [`SETTINGS`].
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let file = settings.required("store.file");
        let named = settings
            .text("store.masterKey")
            .or_else(|| settings.text("store.masterKeyFile"));
        if named.is_none() {
            settings.problem(
                "store.masterKey",
                "is missing; make one with `openssl rand -base64 32` and set it by AURORA_STORE_MASTER_KEY \
                 or --store-master-key-file",
            );
        }
        let current = settings.secret("store.masterKey", "store.masterKeyFile");
        let current = current.and_then(|text| key(settings, "store.masterKey", text.expose()));
        let mut older = Vec::new();
        for path in settings.list("store.olderMasterKeyFiles") {
            match std::fs::read_to_string(&path) {
                Ok(text) => older.extend(key(settings, "store.olderMasterKeyFiles", &text)),
                Err(error) => {
                    settings.problem(
                        "store.olderMasterKeyFiles",
                        &format!("{path} cannot be read: {error}"),
                    );
                }
            }
        }
        Some(Self {
            file: file?.into(),
            keys: older
                .into_iter()
                .fold(MasterKeys::new(current?), MasterKeys::with_older),
        })
    }

    /// Opens the store; its folder is made where it is absent.
    ///
    /// # Errors
    /// When the file cannot be used, another process has it, or the key does not fit.
    pub async fn open(self, clock: Arc<dyn Clock>) -> Result<SharedStore> {
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        let file = SqliteStore::open(self.file, clock).await?;
        Ok(Arc::new(SealedStore::new(file, self.keys)))
    }
}

fn key(settings: &mut Settings, setting: &str, text: &str) -> Option<MasterKey> {
    let first = text.lines().next().unwrap_or_default();
    MasterKey::from_base64(first)
        .map_err(|error| settings.problem(setting, &error.to_string()))
        .ok()
}
