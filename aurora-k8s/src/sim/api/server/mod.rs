//! A simulated cluster on a TLS socket, with a kubeconfig and a state that survives the process.

mod identity;
mod journal;
mod serve;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aurora_core::error::{BoxError, ErrorKind};
use aurora_core::secret::Secret;
use aurora_core::tasks::{Stuck, Tasks};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::identity::Identity;
use self::journal::{Journal, append_to, read_optional, settle, write_whole};
use self::serve::{Guarded, accept};
use super::KubeApi;

/// The version up to which the state is on disk; an error is final.
type Stored = Result<u64, String>;

const IDENTITY: &str = "identity.json";
const KUBECONFIG: &str = "kubeconfig";
const LOCK: &str = "lock";
const REQUESTS: &str = "requests.jsonl";

/// Serves a [`KubeApi`] over TLS to those who hold the token of its kubeconfig.
///
/// The state directory holds the objects, the certificates, the port, the kubeconfig (readable by its owner
/// only) and the request log. A write is answered once it is on disk.
#[derive(Debug)]
pub struct SimServer {
    api: KubeApi,
    address: SocketAddr,
    kubeconfig: Secret,
    directory: PathBuf,
    tasks: Tasks,
    // Drained after the connections: what they wait for is that the state is on disk.
    storage: Tasks,
    // Held for as long as the server runs.
    _lock: File,
}

/// A simulated cluster that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on; free it or give another address")]
    Bind {
        /// The address that was wanted.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificates cannot be made or read.
    #[error(
        "the certificates of the simulated cluster cannot be used; remove identity.json to make new ones"
    )]
    Certificates {
        /// Why not.
        source: BoxError,
    },
    /// Another process serves from this directory.
    #[error("`{}` is in use by another simulated cluster; stop it or give another directory", directory.display())]
    InUse {
        /// The state directory.
        directory: PathBuf,
    },
    /// The kubeconfig cannot be used by this process.
    #[error("the kubeconfig of the simulated cluster cannot be read")]
    Kubeconfig {
        /// Why not.
        source: BoxError,
    },
    /// A file of the state directory cannot be read or written.
    #[error("`{}` cannot be read or written", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Connections did not end within the grace period.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

impl ServerError {
    /// What a caller can do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Bind { .. } | Self::InUse { .. } => ErrorKind::Conflict,
            Self::Certificates { .. } | Self::Kubeconfig { .. } => ErrorKind::Invalid,
            Self::State { .. } => ErrorKind::Internal,
            Self::Stuck(_) => ErrorKind::Deadline,
        }
    }
}

impl SimServer {
    /// Brings back the cluster that `directory` holds, or starts a new one there, and serves it. `name` is that
    /// of the cluster in the kubeconfig.
    ///
    /// Without an `address` it is loopback, on the port of the run before, or on any free port in a new
    /// directory. Nothing may write the objects of `api` before this returns.
    ///
    /// # Errors
    /// [`ServerError`] when the directory is in use or not usable, or the address is taken.
    ///
    /// # Cancel safety
    /// Dropping the future leaves a directory that can be started from, and nothing running.
    pub async fn start(
        api: KubeApi,
        name: &str,
        directory: &Path,
        address: Option<SocketAddr>,
    ) -> Result<Self, ServerError> {
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        let host = address.map_or_else(|| "127.0.0.1".to_owned(), |address| address.ip().to_string());
        let mut identity = read_identity(directory, &host)?;
        let wanted = address
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, identity.port.unwrap_or_default())));
        let bind = |source| ServerError::Bind {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        identity.port = Some(address.port());
        let path = directory.join(IDENTITY);
        write_whole(&path, identity.encode().to_string().as_bytes()).map_err(at(&path))?;
        let kubeconfig = Secret::new(identity.kubeconfig(name, address));
        let path = directory.join(KUBECONFIG);
        write_whole(&path, kubeconfig.expose().as_bytes()).map_err(at(&path))?;
        let journal = Journal::open(api.objects(), directory)?;
        let path = directory.join(REQUESTS);
        if let Some(version) = journal.recovered() {
            settle(&path, version)?;
        }
        let requests = append_to(&path)?;
        api.log.write_to(requests);
        let tls = TlsAcceptor::from(Arc::new(identity.tls()?));
        let (tasks, storage) = (Tasks::new(), Tasks::new());
        let (durable_to, durable) = watch::channel(Ok(journal.written()));
        let written = api.objects().changed();
        storage.spawn(|stop| keep(journal, written, durable_to, stop));
        let guarded = Guarded::new(api.clone(), identity.token, durable);
        let owner = tasks.clone();
        tasks.spawn(|stop| accept(listener, tls, guarded, owner, stop));
        tracing::info!(%address, "a simulated cluster is served");
        Ok(Self {
            api,
            address,
            kubeconfig,
            directory: directory.to_owned(),
            tasks,
            storage,
            _lock: lock,
        })
    }

    /// The API that is served.
    #[must_use]
    pub const fn api(&self) -> &KubeApi {
        &self.api
    }

    /// The address that is listened on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig for this server; it holds a token.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.expose()
    }

    /// The file that holds the kubeconfig.
    #[must_use]
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.directory.join(KUBECONFIG)
    }

    /// The configuration of a Kubernetes client for this server.
    ///
    /// # Errors
    /// [`ServerError::Kubeconfig`] when the client cannot read it.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn config(&self) -> Result<kube::Config, ServerError> {
        let failed = |source: kube::config::KubeconfigError| ServerError::Kubeconfig {
            source: source.into(),
        };
        let kubeconfig = kube::config::Kubeconfig::from_yaml(self.kubeconfig.expose()).map_err(failed)?;
        let options = kube::config::KubeConfigOptions::default();
        kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .map_err(failed)
    }

    /// Ends watches, lets requests finish, and puts the state on disk. Controllers of the same objects are
    /// stopped before: what they write later is kept in memory only.
    ///
    /// # Errors
    /// [`ServerError::Stuck`] when connections do not end within `grace`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server told to stop; what was answered is on disk in any case.
    pub async fn stop(self, grace: Duration) -> Result<(), ServerError> {
        self.api.end_watches();
        let connections = self.tasks.drain(grace).await;
        self.storage.drain(grace).await?;
        Ok(connections?)
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.tasks.stop_token().cancel();
        self.storage.stop_token().cancel();
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ServerError + use<> {
    let path = path.to_owned();
    move |source| ServerError::State { path, source }
}

fn lock(directory: &Path) -> Result<File, ServerError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::InUse {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(ServerError::State { path, source }),
    }
}

fn read_identity(directory: &Path, host: &str) -> Result<Identity, ServerError> {
    let path = directory.join(IDENTITY);
    let Some(bytes) = read_optional(&path)? else {
        return Identity::generate(host);
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| at(&path)(error.into()))?;
    let identity = Identity::decode(&value).ok_or_else(|| {
        at(&path)(io::Error::other(
            "a part of it is missing; remove the file to make a new one",
        ))
    })?;
    if identity.covers(host) {
        return Ok(identity);
    }
    let source = format!("they are not made for {host}").into();
    Err(ServerError::Certificates { source })
}

/// Puts writes on disk as they come, many at a time when the disk is slower than they are.
async fn keep(
    mut journal: Journal,
    mut written: watch::Receiver<u64>,
    durable: watch::Sender<Stored>,
    stop: tokio_util::sync::CancellationToken,
) {
    loop {
        let stopping = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            changed = written.changed() => changed.is_err(),
        };
        written.borrow_and_update();
        let work = move || {
            let outcome = if stopping {
                journal.compact()
            } else {
                journal.catch_up()
            };
            (journal, outcome)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((kept, Ok(version))) => {
                journal = kept;
                durable.send_modify(|seen| *seen = Ok(version));
            }
            Ok((_, Err(error))) => {
                tracing::error!(%error, "the state of the simulated cluster cannot be stored");
                durable.send_modify(|seen| *seen = Err(error.to_string()));
                return;
            }
            Err(_panicked) => {
                durable.send_modify(|seen| *seen = Err("the journal broke".to_owned()));
                return;
            }
        }
        if stopping {
            return;
        }
    }
}
