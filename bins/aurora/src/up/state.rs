//! The state directory of `aurora up`: master key, credentials and agent names, made when they are absent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aurora_auth::issue::{ClientConfig, hash_secret, new_secret};
use aurora_bin::tls::write_private;
use aurora_core::account::AgentName;
use aurora_core::authz::ROUTE_COMMANDS;
use aurora_core::secret::Secret;
use aurora_store::sealed::{MasterKey, MasterKeys};
use serde::{Deserialize, Serialize};

use crate::context::local_tenant;

/// What the person at this machine may do.
const CLI_SCOPES: [&str; 3] = ["api:tenant:full", "manage:deploy", "read:infrastructure:data"];

/// What an agent may do.
const AGENT_SCOPES: [&str; 1] = ["connect:agentHub"];

/// The secrets of a state directory, in one file that only its owner can read.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    version: u32,
    master_key: String,
    /// Client ids and their secrets.
    clients: BTreeMap<String, String>,
    /// Agent names that may connect.
    agents: Vec<AgentName>,
}

/// What a state directory holds.
pub(crate) struct State {
    directory: PathBuf,
    kept: Kept,
    /// Held for as long as the process runs: two on one directory would replace each other's keys.
    _lock: fs::File,
}

/// The clients that every Aurora of this kind has.
const CLI: &str = "cli";
const AGENTS: &str = "agents";
const SERVICE: &str = "service";

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Reads a directory, or makes what it lacks; these agents may connect from now on.
    pub(crate) fn open(directory: &Path, agents: &[AgentName]) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let lock = lock(directory)?;
        let path = directory.join("secrets.json");
        let mut kept = if path.exists() {
            let text =
                fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is not what this program wrote", path.display()))?
        } else {
            let clients = [CLI, AGENTS, SERVICE]
                .into_iter()
                .map(|id| Ok((id.to_owned(), secret_for(id)?)));
            Kept {
                version: 1,
                master_key: MasterKey::generate()?.expose_base64(),
                clients: clients.collect::<Result<_>>()?,
                agents: Vec::new(),
            }
        };
        anyhow::ensure!(
            kept.version == 1,
            "{} has version {}, which is newer than this program",
            path.display(),
            kept.version
        );
        for agent in agents {
            if !kept.agents.contains(agent) {
                kept.agents.push(agent.clone());
            }
        }
        let fresh = directory.join("secrets.json.new");
        write_private(&fresh, &serde_json::to_string_pretty(&kept)?)?;
        fs::rename(&fresh, &path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            kept,
            _lock: lock,
        })
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The keys under which stored values are sealed.
    pub(crate) fn master_keys(&self) -> Result<MasterKeys> {
        Ok(MasterKeys::new(MasterKey::from_base64(&self.kept.master_key)?))
    }

    /// The credential of the command line: id and secret.
    pub(crate) fn cli(&self) -> (&'static str, Secret) {
        (CLI, self.secret(CLI))
    }

    /// The credential of agents: id and secret.
    pub(crate) fn agents(&self) -> (&'static str, Secret) {
        (AGENTS, self.secret(AGENTS))
    }

    /// The clients of the token issuer.
    pub(crate) fn clients(&self) -> Result<Vec<ClientConfig>> {
        let client = |id: &str, kind: &str, scopes: &[&str], agents: &[AgentName]| {
            let mut client = serde_json::json!({
                "id": id, "kind": kind, "secretHash": hash_secret(&self.secret(id)), "scopes": scopes, "agents": agents,
            });
            if kind == "machine" {
                client["tenant"] = local_tenant().to_string().into();
            }
            serde_json::from_value(client).context("a built-in client is not one")
        };
        let mut clients = vec![
            client(CLI, "machine", &CLI_SCOPES, &[])?,
            client(SERVICE, "service", &[ROUTE_COMMANDS], &[])?,
        ];
        // A credential that may claim no name at all is refused by the issuer.
        if !self.kept.agents.is_empty() {
            clients.push(client(AGENTS, "machine", &AGENT_SCOPES, &self.kept.agents)?);
        }
        Ok(clients)
    }

    fn secret(&self, id: &str) -> Secret {
        Secret::new(self.kept.clients.get(id).cloned().unwrap_or_default())
    }
}

/// Keeps a second process out of a directory before anything in it is read or written.
fn lock(directory: &Path) -> Result<fs::File> {
    let path = directory.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => anyhow::bail!(
            "another process uses {}: stop it, or name another directory with --state-dir",
            directory.display()
        ),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

fn secret_for(id: &str) -> Result<String> {
    Ok(new_secret(id)?.secret.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_and_agents_add_up() {
        let folder = tempfile::tempdir().unwrap();
        let name = |text: &str| AgentName::new(text).unwrap();
        let first = State::open(folder.path(), &[name("a")]).unwrap();
        let secret = first.cli().1;
        let refused = State::open(folder.path(), &[name("c")]).unwrap_err();
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(first);
        let again = State::open(folder.path(), &[name("b"), name("a")]).unwrap();
        assert_eq!(secret.expose(), again.cli().1.expose());
        assert_eq!(again.kept.agents, [name("a"), name("b")]);
        assert_eq!(again.clients().unwrap().len(), 3);
    }
}
