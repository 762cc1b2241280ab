//! The CLI context: which Aurora to talk to, and as whom.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aurora_core::secret::Secret;
use aurora_core::tenant::Tenant;
use serde::{Deserialize, Serialize};

/// The tenant of an Aurora that was set up without configuration.
pub(crate) fn local_tenant() -> Tenant {
    Tenant::new("local", "main").expect("both names are lower-case words")
}

/// A context or a credentials file: both say where Aurora is and who one is there.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Context {
    /// The format's version; 1.
    pub version: u32,
    /// The API's and the hub's origin.
    pub server: String,
    /// The token issuer's origin.
    pub issuer: String,
    /// The certificate authority of all of them, as PEM; empty for the public ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate_authority: String,
    /// The client credential.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            server,
            issuer,
            client_id,
            ..
        } = self;
        write!(
            f,
            "Context {{ server: {server:?}, issuer: {issuer:?}, client_id: {client_id:?}, .. }}"
        )
    }
}

impl Context {
    /// The secret, wrapped.
    pub(crate) fn secret(&self) -> Secret {
        Secret::new(self.client_secret.clone())
    }

    /// Reads the context that the user named, or the default one.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "there is no context at {}: start `aurora up` first, or name one with --context-file",
                path.display()
            ),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let context: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a context file", path.display()))?;
        if context.version != 1 {
            bail!(
                "{} has version {}; this program knows version 1",
                path.display(),
                context.version
            );
        }
        Ok(context)
    }

    /// Writes it so that only its owner can read it, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let fresh = path.with_extension("new");
        let written = (|| {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&fresh)?;
            file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            anyhow::Ok(())
        })();
        written.with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Where the context lies unless the user names another place.
pub(crate) fn default_path() -> Result<PathBuf> {
    Ok(folder("XDG_CONFIG_HOME", ".config")?.join("context.json"))
}

/// Where `aurora up` keeps its state unless the user names another place.
pub(crate) fn default_state_dir() -> Result<PathBuf> {
    folder("XDG_STATE_HOME", ".local/state")
}

fn folder(variable: &str, below_home: &str) -> Result<PathBuf> {
    let named = variable_of(variable).map(PathBuf::from);
    let base = match named {
        Some(base) => base,
        None => match variable_of("HOME") {
            Some(home) => PathBuf::from(home).join(below_home),
            None => bail!("neither {variable} nor HOME is set: name the place with a flag"),
        },
    };
    Ok(base.join("aurora"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program's main may read its environment"
)]
fn variable_of(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context {
            version: 1,
            server: "https://127.0.0.1:8443".into(),
            issuer: "https://127.0.0.1:8443".into(),
            certificate_authority: String::new(),
            client_id: "cli".into(),
            client_secret: "hush".into(),
        }
    }

    #[test]
    fn a_context_is_private_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deeper/context.json");
        context().write(&path).unwrap();
        assert_eq!(Context::read(Some(&path)).unwrap().client_secret, "hush");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", context()).contains("hush"));
    }

    #[test]
    fn an_absent_context_says_what_to_do() {
        let error = Context::read(Some(Path::new("nowhere.json"))).unwrap_err();
        assert!(error.to_string().contains("aurora up"), "{error}");
    }
}
