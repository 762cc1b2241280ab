//! Certificates of servers: from files, or of a certificate authority that was made on the spot.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aurora_core::secret::Secret;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::rebuilt::Rebuilt;
use crate::settings::{Setting, Settings};

/// How long a generated authority is good, in days.
const AUTHORITY_DAYS: i64 = 3650;

/// How long a generated server certificate is good, in days; a new one is made at each start.
const SERVER_DAYS: i64 = 397;

/// The names that a generated certificate always has.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The settings of a server's TLS, to be put into its table.
pub const SETTINGS: [Setting; 5] = [
    Setting::text(
        "tls.certificateFile",
        "FILE",
        "The server's certificate chain, PEM",
    ),
    Setting::text("tls.keyFile", "FILE", "Its private key, PEM"),
    Setting::text(
        "tls.generateIn",
        "DIR",
        "Instead of files: keep a certificate authority here and make a certificate at each start",
    ),
    Setting::list(
        "tls.generateFor",
        "NAMES",
        "Names and addresses in a generated certificate, besides localhost",
    ),
    Setting::switch("tls.off", "Serve without TLS, behind a proxy that adds it"),
];

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// The chain, the server's own first.
    pub certificates: String,
    /// Its private key.
    pub key: Secret,
    /// The authority's certificate, where it was generated: what clients must trust.
    pub authority: Option<String>,
}

/// A certificate authority of our own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority that lives in memory.
    ///
    /// # Errors
    /// When the machine gives no randomness.
    pub fn generate(now: Timestamp) -> Result<Self> {
        let key = KeyPair::generate().context("no key can be made")?;
        let params = authority_params(now)?;
        let certificate = params
            .self_signed(&key)
            .context("the authority cannot be signed")?
            .pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// Reads the authority that is kept in a directory (`ca.pem`, `ca.key`), or makes it there, its key
    /// readable only by its owner.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds something else.
    pub fn kept_in(directory: &Path, now: Timestamp) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
        let key_file = directory.join("ca.key");
        let key = read_or_create(&key_file, || {
            Ok(KeyPair::generate().context("no key can be made")?.serialize_pem())
        })?;
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("{} is not a private key in PEM form", key_file.display()))?;
        // Issuing needs only the name and the key, and the name is always the same.
        let params = authority_params(now)?;
        let certificate = read_or_create(&directory.join("ca.pem"), || {
            Ok(params
                .self_signed(&key)
                .context("the authority cannot be signed")?
                .pem())
        })?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Makes a server's certificate for this machine and these names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<ServerIdentity> {
        let mut all: Vec<String> = LOCAL_NAMES.map(String::from).to_vec();
        all.extend(
            names
                .iter()
                .filter(|name| !LOCAL_NAMES.contains(&name.as_str()))
                .cloned(),
        );
        let mut params = CertificateParams::new(all).context("a name in the certificate is not one")?;
        let name = names.first().map_or(LOCAL_NAMES[0], String::as_str);
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, SERVER_DAYS)?;
        let key = KeyPair::generate().context("no key can be made")?;
        let signed = params
            .signed_by(&key, &self.issuer)
            .context("the certificate cannot be signed")?;
        Ok(ServerIdentity {
            certificates: signed.pem(),
            key: Secret::new(key.serialize_pem()),
            authority: Some(self.certificate.clone()),
        })
    }
}

/// Where a server's certificate comes from.
#[derive(Clone, Debug)]
pub enum TlsConfig {
    /// Files, read again when they change.
    Files {
        /// The chain, PEM.
        certificate: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// An authority in a directory.
    Generated {
        /// The directory.
        directory: PathBuf,
        /// Names besides localhost.
        names: Vec<String>,
    },
    /// None: somebody in front adds it.
    Off,
}

impl TlsConfig {
    /// Reads the [`SETTINGS`]; `None` with a problem written down where nothing sensible is set.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let names = settings.list("tls.generateFor");
        let files = (settings.text("tls.certificateFile"), settings.text("tls.keyFile"));
        match (files, settings.text("tls.generateIn"), settings.switch("tls.off")) {
            ((Some(certificate), Some(key)), None, false) => {
                let (chain, private) = (
                    settings.file_of("tls.certificateFile")?,
                    settings.file_of("tls.keyFile")?,
                );
                if let Err(error) = certified(&chain, &private) {
                    settings.problem("tls.certificateFile", &format!("{error:#}"));
                    return None;
                }
                Some(Self::Files {
                    certificate: certificate.into(),
                    key: key.into(),
                })
            }
            ((None, None), Some(directory), false) => Some(Self::Generated {
                directory: directory.into(),
                names,
            }),
            ((None, None), None, true) => Some(Self::Off),
            _ => {
                settings.note(
                    "tls: give tls.certificateFile and tls.keyFile, or tls.generateIn alone, or tls.off alone".into(),
                );
                None
            }
        }
    }

    /// What an HTTP server serves with, HTTP/2 first; `None` where TLS is off.
    ///
    /// # Errors
    /// When the certificate cannot be read or made.
    pub fn server_config(&self, now: Timestamp) -> Result<Option<Arc<ServerConfig>>> {
        match self {
            Self::Files { certificate, key } => {
                let files = [certificate.clone(), key.clone()];
                let renewed = Rebuilt::new(files, |texts| {
                    let [chain, key] = texts else {
                        anyhow::bail!("two files are read");
                    };
                    certified(chain, key)
                });
                server_config(Arc::new(Renewed(renewed?)), &HTTP).map(Some)
            }
            Self::Generated { directory, names } => {
                let identity = Authority::kept_in(directory, now)?.server(names, now)?;
                identity.server_config(&HTTP).map(Some)
            }
            Self::Off => Ok(None),
        }
    }
}

/// What HTTP servers offer, the preferred one first.
const HTTP: [&str; 2] = ["h2", "http/1.1"];

/// Presents the certificate that the files hold at each handshake.
#[derive(Debug)]
struct Renewed(Rebuilt<CertifiedKey>);

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current())
    }
}

/// Presents one certificate.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server_config(certificates: Arc<dyn ResolvesServerCert>, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no TLS version is left")?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// A chain and its key, which must fit.
fn certified(chain: &str, key: &str) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate chain is not PEM")?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in the chain");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| anyhow::anyhow!("the private key is not PEM"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, key, &provider).context("certificate and key do not fit")
}

impl ServerIdentity {
    /// What rustls serves with, offering these protocols (ALPN).
    ///
    /// # Errors
    /// When the texts are no certificate and its key.
    pub fn server_config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>> {
        let certified = certified(&self.certificates, self.key.expose())?;
        server_config(Arc::new(Fixed(Arc::new(certified))), protocols)
    }
}

fn authority_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).context("no certificate can be described")?;
    params.distinguished_name = common_name("Aurora local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_DAYS)?;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// From yesterday, so that a clock that is behind does not matter, for some days.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) -> Result<()> {
    let today = now.to_zoned(TimeZone::UTC).date();
    let day = |offset: i64| -> Result<_> {
        let date = today
            .checked_add(offset.days())
            .context("the clock is out of range")?;
        let (month, day) = (u8::try_from(date.month())?, u8::try_from(date.day())?);
        Ok(date_time_ymd(date.year().into(), month, day))
    };
    params.not_before = day(-1)?;
    params.not_after = day(days)?;
    Ok(())
}

/// What a file holds; where it is absent, what is made for it. Of several that make it at once one wins, and
/// all get what the winner made, whole.
fn read_or_create(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    let read = || fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    if path.exists() {
        return read();
    }
    // Not the process's id: in containers every process is the first.
    let random = RandomState::new().build_hasher().finish();
    let draft = path.with_extension(format!("{random:016x}.new"));
    write_private(&draft, &make()?)?;
    let linked = fs::hard_link(&draft, path);
    // A draft that stays does no harm.
    let _ = fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} cannot be written", path.display()))
        }
        _ => read(),
    }
}

/// Writes a file that only its owner can read.
///
/// # Errors
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn an_authority_stays_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::kept_in(folder.path(), now()).unwrap();
        let again = Authority::kept_in(folder.path(), now()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(
            first.issuer.key().serialize_pem(),
            again.issuer.key().serialize_pem()
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(folder.path().join("ca.key"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn many_that_start_at_once_keep_one_authority() {
        let folder = tempfile::tempdir().unwrap();
        let kept: Vec<_> = std::thread::scope(|threads| {
            let started: Vec<_> = (0..8)
                .map(|number| {
                    let directory = folder.path();
                    threads.spawn(move || {
                        read_or_create(&directory.join("one"), || Ok(format!("made by {number}"))).unwrap()
                    })
                })
                .collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let held = fs::read_to_string(folder.path().join("one")).unwrap();
        assert!(kept.iter().all(|text| *text == held), "{kept:?}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_certificate_that_is_lost_is_signed_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::kept_in(folder.path(), now()).unwrap();
        fs::remove_file(folder.path().join("ca.pem")).unwrap();
        let again = Authority::kept_in(folder.path(), now()).unwrap();
        assert_eq!(
            first.issuer.key().serialize_pem(),
            again.issuer.key().serialize_pem()
        );
        assert!(folder.path().join("ca.pem").exists());
    }

    #[test]
    fn a_broken_authority_is_an_error_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.key"), "no key").unwrap();
        assert!(Authority::kept_in(folder.path(), now()).is_err());
        assert_eq!(
            fs::read_to_string(folder.path().join("ca.key")).unwrap(),
            "no key"
        );
    }

    #[test]
    fn what_is_no_certificate_and_key_is_refused() {
        let authority = Authority::generate(now()).unwrap();
        let one = authority.server(&[], now()).unwrap();
        let two = authority.server(&[], now()).unwrap();
        assert!(one.server_config(&["h2"]).is_ok());
        let mixed = ServerIdentity {
            key: two.key,
            ..one.clone()
        };
        assert!(mixed.server_config(&[]).is_err());
        let empty = ServerIdentity {
            certificates: String::new(),
            ..one.clone()
        };
        assert!(empty.server_config(&[]).is_err());
        let shown = format!("{one:?} {authority:?}");
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}
