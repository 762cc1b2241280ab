//! `aurora doctor`: looks at everything between this command line and its API, one line each.

mod certificate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use aurora_bin::exit::Exit;
use aurora_core::error::ErrorChain;
use aurora_core::port::clock::{Clock as _, SystemClock};
use aurora_core::port::token::TokenSource as _;
use aurora_transport::rest::Me;
use aurora_transport::rest::client::ClientError;
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::Serialize;

use crate::cli::Output;
use crate::context::{self, Context};
use crate::{online, print};

/// How long opening a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A clock that is off by more is worth a warning: times in lists and timers look wrong.
const SKEW_WARNS: SignedDuration = SignedDuration::from_secs(5);
/// A clock that is off by more has tokens refused.
const SKEW_FAILS: SignedDuration = SignedDuration::from_secs(60);
/// A certificate that ends sooner is worth a warning.
const CERTIFICATE_WARNS: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How one check went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Verdict {
    Fail,
    Ok,
    /// Something before it failed, so it cannot be told.
    Skipped,
    Warn,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            text: text.into(),
            mend: None,
        }
    }

    fn warn(name: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Warn,
            mend: Some(mend.into()),
            ..Self::ok(name, text)
        }
    }

    fn fail(name: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Fail,
            mend: Some(mend.into()),
            ..Self::ok(name, text)
        }
    }

    fn skipped(name: &'static str, after: &str) -> Self {
        Self {
            verdict: Verdict::Skipped,
            ..Self::ok(name, format!("not looked at, because {after} failed"))
        }
    }

    fn line(&self) -> String {
        let word = match self.verdict {
            Verdict::Fail => "fail",
            Verdict::Ok => "ok",
            Verdict::Skipped => "-",
            Verdict::Warn => "warn",
        };
        let mend = self.mend.as_ref().map(|mend| format!("\n{:21}→ {mend}", ""));
        format!(
            "{word:5} {:14} {}{}\n",
            self.name,
            self.text,
            mend.unwrap_or_default()
        )
    }
}

/// What was found, in the order in which it was looked at.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Looks at everything; what depends on something that failed is said to be skipped.
pub(crate) async fn run(output: Output, named: Option<&Path>) -> Result<Exit> {
    let checks = look(named).await;
    let ok = checks.iter().all(|check| check.verdict != Verdict::Fail);
    let report = Report { ok, checks };
    print::document(output, &report, |report| {
        let mut text: String = report.checks.iter().map(Check::line).collect();
        let count = |verdict| {
            report
                .checks
                .iter()
                .filter(|check| check.verdict == verdict)
                .count()
        };
        text.push_str(&match (count(Verdict::Fail), count(Verdict::Warn)) {
            (0, 0) => "everything is well\n".to_owned(),
            (failed, warned) => format!("{failed} failed, {warned} to look at\n"),
        });
        text
    })?;
    Ok(if ok { Exit::Succeeded } else { Exit::Failed })
}

async fn look(named: Option<&Path>) -> Vec<Check> {
    let (check, context) = context_file(named);
    let mut checks = vec![check];
    let skip = |checks: &mut Vec<Check>, names: &[&'static str], after: &str| {
        checks.extend(names.iter().map(|name| Check::skipped(name, after)));
    };
    let Some(context) = context else {
        let rest = ["reach", "certificate", "token", "access", "clock", "version"];
        skip(&mut checks, &rest, "context");
        return checks;
    };
    let (check, url) = reach("reach", &context.server).await;
    checks.push(check);
    if context.issuer != context.server {
        checks.push(reach("issuer", &context.issuer).await.0);
    }
    let Some(url) = url else {
        skip(
            &mut checks,
            &["certificate", "token", "access", "clock", "version"],
            "reach",
        );
        return checks;
    };
    let trusted = if url.scheme() == "https" {
        let check = certificate(&url, &context).await;
        let trusted = check.verdict != Verdict::Fail;
        checks.push(check);
        trusted
    } else {
        let mend = "use https unless the API is on this very machine";
        checks.push(Check::warn(
            "certificate",
            "the connection is not encrypted",
            mend,
        ));
        true
    };
    if !trusted {
        skip(
            &mut checks,
            &["token", "access", "clock", "version"],
            "certificate",
        );
        return checks;
    }
    let (check, has_token) = token(&context).await;
    checks.push(check);
    if !has_token {
        skip(&mut checks, &["access", "clock", "version"], "token");
        return checks;
    }
    let asked = SystemClock.now();
    let answer = match online::client_of(&context) {
        Ok(client) => client.me().await,
        Err(error) => {
            checks.push(Check::fail("access", format!("{error:#}"), "mend the context"));
            skip(&mut checks, &["clock", "version"], "access");
            return checks;
        }
    };
    match answer {
        Ok(me) => {
            checks.push(access(&me));
            checks.push(clock(me.now, asked, SystemClock.now()));
            checks.push(version(&me.server_version, env!("CARGO_PKG_VERSION")));
        }
        Err(error) => {
            checks.push(refused(&error));
            skip(&mut checks, &["clock", "version"], "access");
        }
    }
    checks
}

/// The file is there, can be read, and nobody else can.
fn context_file(named: Option<&Path>) -> (Check, Option<Context>) {
    let path: Result<PathBuf> = named.map_or_else(context::default_path, |path| Ok(path.to_owned()));
    let read = path.and_then(|path| Ok((Context::read(Some(&path))?, path)));
    let (context, path) = match read {
        Ok(read) => read,
        Err(error) => {
            let mend =
                "start `aurora up`, which writes one, or name one with --context-file or AURORA_CONTEXT_FILE";
            return (Check::fail("context", format!("{error:#}"), mend), None);
        }
    };
    let text = format!("{}: {} as {}", path.display(), context.server, context.client_id);
    let check = if others_may_read(&path) {
        let mend = format!("it holds a secret: chmod 600 {}", path.display());
        Check::warn(
            "context",
            format!("{text}; others on this machine can read it"),
            mend,
        )
    } else {
        Check::ok("context", text)
    };
    (check, Some(context))
}

#[cfg(unix)]
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn others_may_read(_: &Path) -> bool {
    false
}

/// Something listens there.
async fn reach(name: &'static str, server: &str) -> (Check, Option<Url>) {
    let url = match Url::parse(server) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => url,
        _ => {
            let text = format!("`{server}` is no address of an API");
            return (Check::fail(name, text, "an address begins with https://"), None);
        }
    };
    let (host, port) = (
        url.host_str().unwrap_or_default().trim_matches(['[', ']']),
        url.port_or_known_default().unwrap_or(443),
    );
    let place = format!("{host}:{port}");
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(found) => found.collect(),
        Err(_) => {
            let mend = "check the name in the context, and this machine's DNS";
            return (Check::fail(name, format!("{place} has no address"), mend), None);
        }
    };
    let connecting = tokio::net::TcpStream::connect(addresses.as_slice());
    let problem = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok(_)) => return (Check::ok(name, format!("{place} accepts connections")), Some(url)),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT_WITHIN.as_secs()),
    };
    let mend = "is the server running (`aurora up`), and does a firewall or proxy stand between?";
    (Check::fail(name, format!("{place}: {problem}"), mend), None)
}

/// The certificate is trusted, is for this name, and stays good for a while.
async fn certificate(url: &Url, context: &Context) -> Check {
    const NAME: &str = "certificate";
    match certificate::of(url, context).await {
        Ok(until) => {
            let left = until.duration_since(SystemClock.now());
            let day = until.strftime("%Y-%m-%d");
            if left < CERTIFICATE_WARNS {
                let text = format!("trusted, but good only until {day}");
                return Check::warn(NAME, text, "renew it; `aurora up` makes a new one at each start");
            }
            Check::ok(NAME, format!("trusted, good until {day}"))
        }
        Err(problem) => {
            let mend = if context.certificate_authority.is_empty() {
                "the context names no certificate authority; a server with one of its own writes it into its context"
            } else {
                "take the context that this server wrote: its authority may have been made anew"
            };
            Check::fail(NAME, problem, mend)
        }
    }
}

/// The issuer gives a token for the context's credential.
async fn token(context: &Context) -> (Check, bool) {
    let source = match online::tokens_of(context) {
        Ok(source) => source,
        Err(error) => {
            return (
                Check::fail("token", format!("{error:#}"), "mend the context"),
                false,
            );
        }
    };
    match source.token(SystemClock.now()).await {
        Ok(token) => {
            let left = token.expires_at.duration_since(SystemClock.now());
            let text = format!("given by {}, good for {} min", context.issuer, left.as_mins());
            (Check::ok("token", text), true)
        }
        Err(error) => {
            let mend = "check clientId and clientSecret of the context; `aurora up` writes those it accepts";
            (Check::fail("token", ErrorChain(&error).to_string(), mend), false)
        }
    }
}

/// The API takes the token, and what it opens.
fn access(me: &Me) -> Check {
    const NAME: &str = "access";
    let Some(tenant) = me.tenants.first() else {
        let text = format!("`{}` belongs to no tenant", me.name);
        return Check::fail(NAME, text, "use a credential of a tenant, not of a service");
    };
    let text = format!(
        "`{}` of {} may {}",
        me.name,
        tenant.id,
        tenant.permissions.join(", ")
    );
    if tenant.permissions.is_empty() {
        let text = format!("`{}` of {} may do nothing here", me.name, tenant.id);
        return Check::fail(
            NAME,
            text,
            "give the credential scopes, for example manage:deploy",
        );
    }
    Check::ok(NAME, text)
}

fn refused(error: &ClientError) -> Check {
    let text = ErrorChain(error).to_string();
    let mend = match error.problem().map(|problem| problem.status) {
        Some(401) => {
            "the API does not accept this issuer's tokens: are server and issuer of the context of one Aurora, and are the clocks right?"
        }
        Some(404) => "the API is older than this program, or something else answers there",
        Some(_) => "its log has more under the error_id",
        None => "is it an Aurora API of about this version that answers there?",
    };
    Check::fail("access", text, mend)
}

/// The clocks agree; the answer was written somewhere between asking and hearing.
fn clock(theirs: Timestamp, asked: Timestamp, heard: Timestamp) -> Check {
    const NAME: &str = "clock";
    let off = if theirs < asked {
        asked.duration_since(theirs)
    } else if theirs > heard {
        theirs.duration_since(heard)
    } else {
        SignedDuration::ZERO
    };
    let behind = if theirs < asked { "ahead of" } else { "behind" };
    let seconds = off.as_secs_f64();
    let text = format!("this machine is {seconds:.1} s {behind} the server");
    let mend = "set this machine's clock, or the server's, by NTP";
    if off > SKEW_FAILS {
        Check::fail(NAME, text, mend)
    } else if off > SKEW_WARNS {
        Check::warn(NAME, text, mend)
    } else {
        Check::ok(NAME, "agrees with the server's")
    }
}

fn version(theirs: &str, ours: &str) -> Check {
    if theirs == ours {
        return Check::ok("version", format!("server and command line are {ours}"));
    }
    let text = format!("the server is {theirs}, the command line {ours}");
    Check::warn(
        "version",
        text,
        "install the command line of the server's version",
    )
}

#[cfg(test)]
mod tests {
    use aurora_transport::http::EgressRules;

    use super::*;
    use crate::up::Services;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        for (theirs, verdict) in [
            (0, Verdict::Ok),
            (1, Verdict::Ok),
            (6, Verdict::Ok),
            (-5, Verdict::Ok),
            (-6, Verdict::Warn),
            (8, Verdict::Warn),
            (-61, Verdict::Fail),
            (3600, Verdict::Fail),
        ] {
            let check = clock(at(theirs), at(0), at(1));
            assert_eq!(check.verdict, verdict, "{theirs}: {}", check.text);
            assert_eq!(check.mend.is_some(), verdict != Verdict::Ok);
        }
        assert!(clock(at(100), at(0), at(0)).text.contains("behind the server"));
        assert!(clock(at(-100), at(0), at(0)).text.contains("ahead of the server"));
    }

    #[tokio::test]
    async fn each_thing_that_is_wrong_fails_its_own_check() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let reach = EgressRules::public_only();
        let services = Services::start(folder.path(), listen, &[], reach).await.unwrap();
        let good = services.cli_context();
        let mut secret = good.clone();
        secret.client_secret = "wrong".to_owned();
        let mut authority = good.clone();
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap();
        authority.certificate_authority = other.self_signed(&key).unwrap().pem();
        let mut issuer = good.clone();
        issuer.issuer = "https://localhost:1".to_owned();
        for (name, context, fails) in [
            ("good", good, None),
            ("secret", secret, Some("token")),
            ("authority", authority, Some("certificate")),
            ("issuer", issuer, Some("issuer")),
        ] {
            let path = folder.path().join(format!("{name}-context.json"));
            context.write(&path).unwrap();
            let checks = look(Some(&path)).await;
            let failed = checks.iter().find(|check| check.verdict == Verdict::Fail);
            assert_eq!(failed.map(|check| check.name), fails, "{name}: {checks:#?}");
            assert!(failed.is_none_or(|check| check.mend.is_some()), "{name}");
            if fails.is_none() {
                let ok = checks.iter().all(|check| check.verdict == Verdict::Ok);
                assert!(ok && checks.len() == 7, "{checks:#?}");
            }
        }
        services.stop().await.unwrap();
    }

    #[tokio::test]
    async fn without_a_context_it_says_how_to_get_one_and_skips_the_rest() {
        let checks = look(Some(Path::new("nowhere.json"))).await;
        assert_eq!(checks[0].verdict, Verdict::Fail);
        assert!(checks[0].mend.as_ref().unwrap().contains("aurora up"));
        assert!(checks[1..].iter().all(|check| check.verdict == Verdict::Skipped));
        assert_eq!(checks.len(), 7);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (check, url) = reach("reach", &format!("https://{free}")).await;
        assert_eq!((check.verdict, url), (Verdict::Fail, None));
        assert!(check.text.contains(&free.to_string()), "{}", check.text);
        let (check, _) = reach("reach", "localhost").await;
        assert!(check.text.contains("no address"), "{}", check.text);
    }

    #[cfg(unix)]
    #[test]
    fn a_context_that_others_can_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.json");
        let text = r#"{"version":1,"server":"https://a.test","issuer":"https://a.test","clientId":"c","clientSecret":"hush"}"#;
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (check, context) = context_file(Some(&path));
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.mend.unwrap().contains("chmod 600"));
        assert!(context.is_some() && !check.text.contains("hush"));
    }
}
