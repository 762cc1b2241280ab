//! Tests of the adapter over real sockets on loopback.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

#[cfg(feature = "grpc")]
use rcgen::{CertificateParams, Issuer, KeyPair};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

use aurora_core::error::{ErrorChain, ErrorKind};
use aurora_core::port::http::laws::{HttpFixture, Served, Site};

use super::*;

/// Three sites on loopback; the rules allow 127.0.0.1 and refuse 127.0.0.2, which would answer.
#[derive(Debug)]
struct Sites {
    caller: ReqwestCaller,
    home: MockServer,
    away: MockServer,
    refused: MockServer,
    served: Arc<Table>,
}

#[derive(Debug, Default)]
struct Table {
    routes: Mutex<BTreeMap<String, Served>>,
    received: Mutex<Vec<HttpCall>>,
}

/// Answers from the table and writes down what came.
struct FromTable {
    base: String,
    table: Arc<Table>,
}

impl Respond for FromTable {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        // The server's own idea of its host is not the one that was called.
        let url = format!("{}{}", self.base, request.url.path());
        let mut received = self.table.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.push(HttpCall {
            method: request.method.to_string(),
            headers: request
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
                .collect(),
            body: request.body.clone().into(),
            ..HttpCall::fetch(url.clone())
        });
        let routes = self.table.routes.lock().unwrap_or_else(PoisonError::into_inner);
        match routes.get(&url) {
            Some(Served::Answer {
                status,
                headers,
                body,
            }) => headers.iter().fold(
                ResponseTemplate::new(*status).set_body_bytes(body.to_vec()),
                |answer, (name, value)| answer.insert_header(name.as_str(), value.as_str()),
            ),
            Some(Served::Silence) => ResponseTemplate::new(200).set_delay(Duration::from_secs(3600)),
            None => ResponseTemplate::new(404),
        }
    }
}

async fn site(address: &str, table: &Arc<Table>) -> MockServer {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let server = MockServer::builder().listener(listener).start().await;
    Mock::given(matchers::any())
        .respond_with(FromTable {
            base: server.uri(),
            table: Arc::clone(table),
        })
        .mount(&server)
        .await;
    server
}

impl Sites {
    async fn start() -> Self {
        let served = Arc::new(Table::default());
        Self {
            caller: ReqwestCaller::new(home_only(), Roots::System).unwrap(),
            home: site("127.0.0.1", &served).await,
            away: site("127.0.0.1", &served).await,
            refused: site("127.0.0.2", &served).await,
            served,
        }
    }
}

#[async_trait]
impl HttpFixture for Sites {
    fn caller(&self) -> &dyn HttpCaller {
        &self.caller
    }

    async fn serve(&self, site: Site, path: &str, served: Served) -> String {
        let server = match site {
            Site::Home => &self.home,
            Site::Away => &self.away,
            Site::Refused => &self.refused,
        };
        let url = format!("{}{path}", server.uri());
        let mut routes = self.served.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(url.clone(), served);
        url
    }

    async fn received(&self) -> Vec<HttpCall> {
        let received = self
            .served
            .received
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        received.clone()
    }
}

fn home_only() -> EgressRules {
    EgressRules::public_only().with_allowed("127.0.0.1".parse().unwrap())
}

/// A lookup that gives the addresses of each call in turn, and counts.
fn scripted(answers: &'static [&'static [&'static str]]) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_host| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let found = answers[turn.min(answers.len() - 1)];
        Box::pin(async move { Ok(found.iter().map(|text| text.parse().unwrap()).collect()) })
    });
    (lookup, asked)
}

aurora_core::http_laws!(Sites::start());

#[tokio::test]
async fn addresses_in_every_spelling_are_refused_before_a_byte_is_sent() {
    let caller = ReqwestCaller::new(EgressRules::public_only(), Roots::System).unwrap();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "0xa9fea9fe",
        "10.0.0.1",
        "0",
    ] {
        let answer = caller.call(HttpCall::fetch(format!("http://{host}:9/"))).await;
        let kind = answer.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Denied), "{host}");
    }
}

#[tokio::test]
async fn a_name_at_a_refused_address_is_refused_also_beside_a_good_one() {
    let table = Arc::new(Table::default());
    let server = site("127.0.0.1", &table).await;
    let port = server.address().port();
    for found in [
        &["127.0.0.2"][..],
        &["127.0.0.1", "127.0.0.2"],
        &["::ffff:127.0.0.2"],
    ] {
        let answers: &'static [&'static [&'static str]] = Box::leak(Box::new([found]));
        let (lookup, _) = scripted(answers);
        let caller = ReqwestCaller::with_lookup(home_only(), Roots::System, lookup).unwrap();
        let answer = caller
            .call(HttpCall::fetch(format!("http://rebind.example:{port}/")))
            .await;
        assert!(
            matches!(&answer, Err(HttpError::Forbidden { destination }) if destination == "rebind.example"),
            "{answer:?}"
        );
    }
    assert_eq!(server.received_requests().await.map(|all| all.len()), Some(0));
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_asked_once_and_reached_where_it_was_checked() {
    let table = Arc::new(Table::default());
    let good = site("127.0.0.1", &table).await;
    let port = good.address().port();
    let (lookup, asked) = scripted(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let caller = ReqwestCaller::with_lookup(home_only(), Roots::System, lookup).unwrap();
    let url = format!("http://rebind.example:{port}/");
    let answer = caller.call(HttpCall::fetch(&url)).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "one lookup decides and connects");
    // The open connection goes to the checked address; a new one is checked anew.
    let other = format!("http://rebind.example:{}/", port.wrapping_add(1).max(1));
    let answer = caller.call(HttpCall::fetch(other)).await;
    assert!(matches!(answer, Err(HttpError::Forbidden { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_relative_redirect_stays_on_its_site() {
    let sites = Sites::start().await;
    sites
        .serve(Site::Home, "/a/end", Served::answer(200, "here"))
        .await;
    let start = sites
        .serve(Site::Home, "/a/start", Served::redirect(302, "end"))
        .await;
    let call = HttpCall {
        max_redirects: 1,
        ..HttpCall::fetch(start)
    };
    assert_eq!(sites.caller.call(call).await.unwrap().body, "here");
}

#[tokio::test]
async fn a_redirect_to_another_scheme_is_no_call() {
    let sites = Sites::start().await;
    let start = sites
        .serve(Site::Home, "/start", Served::redirect(302, "file:///etc/passwd"))
        .await;
    let call = HttpCall {
        max_redirects: 1,
        ..HttpCall::fetch(start)
    };
    let answer = sites.caller.call(call).await;
    assert!(matches!(answer, Err(HttpError::Invalid { .. })), "{answer:?}");
}

#[tokio::test]
async fn https_only_refuses_http_also_after_a_redirect() {
    let caller = ReqwestCaller::new(home_only().with_https_only(), Roots::System).unwrap();
    let answer = caller.call(HttpCall::fetch("http://127.0.0.1:9/")).await;
    assert!(matches!(answer, Err(HttpError::Forbidden { .. })), "{answer:?}");
}

#[tokio::test]
async fn headers_that_belong_to_the_connection_are_refused() {
    let caller = ReqwestCaller::new(home_only(), Roots::System).unwrap();
    for (name, value) in [
        ("Host", "other.example"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("bad name", "x"),
        ("x-bad", "line\r\nbreak"),
    ] {
        let call = HttpCall::fetch("http://127.0.0.1:9/").with_header(name, value);
        let answer = caller.call(call).await;
        assert!(
            matches!(answer, Err(HttpError::Invalid { .. })),
            "{name}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn an_error_shows_neither_path_nor_query() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let caller = ReqwestCaller::new(home_only(), Roots::System).unwrap();
    let call = HttpCall::fetch(format!("http://127.0.0.1:{port}/hunter2?key=hunter2"));
    let error = caller.call(call).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let shown = format!("{} {error:?}", ErrorChain(&error));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn only_a_certificate_of_a_trusted_root_is_accepted() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.clone().self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let other_key = KeyPair::generate().unwrap();
    let other_pem = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&other_key)
        .unwrap()
        .pem();
    let url = serve_tls(leaf.der().clone(), &key).await;
    for (roots, works) in [
        (Roots::Only(ca_pem.clone().into()), true),
        (Roots::SystemAnd(ca_pem.into()), true),
        (Roots::Only(other_pem.into()), false),
        (Roots::System, false),
    ] {
        let caller = ReqwestCaller::new(home_only(), roots).unwrap();
        let answer = caller.call(HttpCall::fetch(&url)).await;
        assert_eq!(answer.is_ok(), works, "{answer:?}");
    }
}

#[test]
fn roots_that_are_no_certificates_are_an_error() {
    for pem in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let built = ReqwestCaller::new(EgressRules::public_only(), Roots::Only(pem.into()));
        assert!(built.is_err(), "{pem}");
    }
}

#[cfg(feature = "grpc")]
/// Answers every TLS connection with one fixed answer for as long as the test runs.
async fn serve_tls(leaf: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
    let tasks = aurora_core::tasks::Tasks::new();
    let owner = tasks.clone();
    tasks.spawn(move |_stop| async move {
        let _owner = owner;
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .await;
            let _ = stream.shutdown().await;
        }
    });
    url
}
