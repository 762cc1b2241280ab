//! The issuer's routes, called without a network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::time::advance;

use aurora_auth::issue::{ClientConfig, InProcessHttp, KeySchedule, NewSecret, TokenIssuer, new_secret};
use aurora_auth::verify::{HttpKeys, JwtVerifier};
use aurora_core::port::clock::{Clock as _, InMemoryClock};
use aurora_core::port::http::{HttpAnswer, HttpCall, HttpCaller as _};
use aurora_core::port::store::SharedStore;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::port::token::TokenVerifier as _;
use aurora_core::principal::{Principal, PrincipalKind};
use aurora_core::secret::Secret;

use crate::forge::{AUDIENCE, ISSUER, now, policy};

const FORM: &str = "application/x-www-form-urlencoded";

struct House {
    issuer: TokenIssuer,
    http: InProcessHttp,
    clock: Arc<InMemoryClock>,
    store: SharedStore,
    secret: NewSecret,
    previous: NewSecret,
}

fn client(id: &str, made: &NewSecret, changes: Value) -> ClientConfig {
    let mut config = json!({
        "id": id, "kind": "machine", "tenant": "acme/main", "secretHash": made.hash,
        "scopes": ["manage:deploy", "read:infra:data"],
    });
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

impl House {
    fn new() -> Self {
        let clock = Arc::new(InMemoryClock::starting_at(now()));
        let store: SharedStore = Arc::new(InMemoryStore::new(clock.clone()));
        Self::on(clock, store)
    }

    fn on(clock: Arc<InMemoryClock>, store: SharedStore) -> Self {
        let (secret, previous) = (new_secret("ci").unwrap(), new_secret("ci").unwrap());
        let service = json!({
            "id": "api", "kind": "service", "secretHash": secret.hash, "scopes": ["route:commands"],
        });
        let clients = [
            client(
                "ci",
                &secret,
                json!({
                    "previousSecretHash": previous.hash, "roles": ["Deployer"], "name": "CI runner", "ttlSeconds": 900,
                }),
            ),
            client(
                "agent",
                &secret,
                json!({"scopes": ["connect:agentHub"], "agents": ["prod-eu"]}),
            ),
            client("off", &secret, json!({"disabled": true})),
            client("ended", &secret, json!({"expiresAt": now()})),
            serde_json::from_value(service).unwrap(),
        ];
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE, &clients, Arc::clone(&store), clock.clone()).unwrap();
        Self {
            http: issuer.in_process(),
            issuer,
            clock,
            store,
            secret,
            previous,
        }
    }

    async fn get(&self, path: &str) -> HttpAnswer {
        self.http
            .call(HttpCall::fetch(format!("{ISSUER}{path}")))
            .await
            .unwrap()
    }

    fn post(&self, body: &str) -> HttpCall {
        HttpCall::post(self.issuer.token_endpoint(), FORM, body.to_owned())
    }

    /// A request by HTTP Basic.
    fn basic(&self, id: &str, secret: &NewSecret, body: &str) -> HttpCall {
        let pair = STANDARD.encode(format!("{id}:{}", secret.secret.expose()));
        self.post(body)
            .with_header("authorization", format!("Basic {pair}"))
    }

    async fn ask(&self, call: HttpCall) -> (u16, Value) {
        let answer = self.http.call(call).await.unwrap();
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    async fn error_of(&self, call: HttpCall) -> (u16, String) {
        let (status, body) = self.ask(call).await;
        assert!(body["error_description"].is_string(), "{body}");
        (status, body["error"].as_str().unwrap_or("no error").to_owned())
    }

    async fn token(&self, id: &str) -> String {
        let (status, body) = self
            .ask(self.basic(id, &self.secret, "grant_type=client_credentials"))
            .await;
        assert_eq!(status, 200, "{body}");
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn verifier(&self) -> JwtVerifier {
        JwtVerifier::new(policy(), Arc::new(self.issuer.keys()))
    }

    async fn principal(&self, token: &str) -> Arc<Principal> {
        self.verifier()
            .verify(&Secret::new(token), self.clock.now())
            .await
            .unwrap()
    }
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn metadata_is_the_same_on_both_routes_and_says_only_what_is_true() {
    let house = House::new();
    let openid = house.get("/.well-known/openid-configuration").await;
    let oauth = house.get("/.well-known/oauth-authorization-server").await;
    assert_eq!((openid.status, oauth.status), (200, 200));
    assert_eq!(openid.body, oauth.body);
    assert_eq!(openid.header("content-type"), Some("application/json"));
    let document: Value = serde_json::from_slice(&openid.body).unwrap();
    assert_eq!(document["issuer"], ISSUER);
    assert_eq!(document["grant_types_supported"], json!(["client_credentials"]));
    for url in ["jwks_uri", "token_endpoint"] {
        assert!(
            document[url]
                .as_str()
                .unwrap()
                .starts_with("https://issuer.example/oauth/"),
            "{url}"
        );
    }
    for off in [
        "authorization_endpoint",
        "userinfo_endpoint",
        "registration_endpoint",
        "code_challenge_methods_supported",
    ] {
        assert!(document.get(off).is_none(), "{off}");
    }
}

#[tokio::test]
async fn every_grant_that_is_not_advertised_is_refused() {
    let house = House::new();
    for grant in [
        "authorization_code",
        "refresh_token",
        "password",
        "implicit",
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "CLIENT_CREDENTIALS",
    ] {
        let call = house.basic("ci", &house.secret, &format!("grant_type={grant}"));
        assert_eq!(
            house.error_of(call).await,
            (400, "unsupported_grant_type".into()),
            "{grant}"
        );
    }
}

#[tokio::test]
async fn a_host_header_does_not_change_the_issuer() {
    let house = House::new();
    let call = HttpCall::fetch(format!("{ISSUER}/.well-known/openid-configuration"))
        .with_header("host", "evil.example")
        .with_header("x-forwarded-host", "evil.example")
        .with_header("forwarded", "host=evil.example");
    let answer = house.http.call(call).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer.body).contains("evil"));
}

#[tokio::test]
async fn keys_are_public_distinct_and_may_be_kept() {
    let house = House::new();
    let answer = house.get("/oauth/jwks").await;
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let keys = document["keys"].as_array().unwrap();
    let ids: BTreeSet<_> = keys.iter().map(|key| key["kid"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), keys.len());
    for key in keys {
        assert_eq!((&key["use"], &key["alg"]), (&json!("sig"), &json!("ES256")));
        for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
            assert!(key.get(private).is_none(), "{private}");
        }
    }
    let tag = answer.header("etag").unwrap().to_owned();
    let again = HttpCall::fetch(format!("{ISSUER}/oauth/jwks")).with_header("if-none-match", tag);
    let again = house.http.call(again).await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[tokio::test]
async fn a_client_gets_a_token_by_either_way_of_presenting_itself() {
    let house = House::new();
    let in_body = format!(
        "grant_type=client_credentials&client_id=ci&client_secret={}",
        house.secret.secret.expose()
    );
    for call in [
        house.basic("ci", &house.secret, "grant_type=client_credentials"),
        house.basic(
            "ci",
            &house.previous,
            "grant_type=client_credentials&client_id=ci",
        ),
        house.post(&in_body),
    ] {
        let (status, body) = house.ask(call).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["token_type"], "Bearer");
        assert_eq!(body["expires_in"], 900);
        assert_eq!(body["scope"], "manage:deploy read:infra:data");
        assert!(body.get("refresh_token").is_none() && body.get("id_token").is_none());
        let principal = house.principal(body["access_token"].as_str().unwrap()).await;
        assert_eq!(
            (principal.kind, principal.id.as_str()),
            (PrincipalKind::Machine, "ci")
        );
        assert_eq!(principal.display, "CI runner");
        assert!(principal.has_role("deployer"));
        assert_eq!(principal.expires_at, now() + Duration::from_secs(900));
    }
}

#[tokio::test]
async fn a_token_is_what_rfc_9068_asks_for() {
    let house = House::new();
    let (one, two) = (house.token("ci").await, house.token("ci").await);
    let header = part(&one, 0);
    assert_eq!(
        (&header["typ"], &header["alg"]),
        (&json!("at+jwt"), &json!("ES256"))
    );
    assert_eq!(header.as_object().unwrap().len(), 3, "{header}");
    let claims = part(&one, 1);
    for name in [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "jti",
        "client_id",
        "scope",
        "org",
        "env",
        "kind",
    ] {
        assert!(claims.get(name).is_some(), "{name}");
    }
    assert_ne!(claims["jti"], part(&two, 1)["jti"]);
}

#[tokio::test]
async fn agents_and_services_get_what_they_are_configured_for() {
    let house = House::new();
    let agent = house.principal(&house.token("agent").await).await;
    assert_eq!(
        agent.agents.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["prod-eu"]
    );
    let service = house.principal(&house.token("api").await).await;
    assert_eq!((service.kind, &service.tenant), (PrincipalKind::Service, &None));
    assert!(service.authorize_routing().is_ok());
}

#[tokio::test]
async fn scopes_are_given_as_asked_or_not_at_all() {
    let house = House::new();
    for (asked, given) in [
        ("manage:deploy", Ok("manage:deploy")),
        (
            "read:infra:data+manage:deploy",
            Ok("manage:deploy read:infra:data"),
        ),
        ("manage:deploy+manage:deploy", Ok("manage:deploy")),
        ("", Ok("manage:deploy read:infra:data")),
        ("connect:agentHub", Err("invalid_scope")),
        ("manage:deploy+connect:agentHub", Err("invalid_scope")),
        ("manage", Err("invalid_scope")),
        ("manage:deploy:more", Err("invalid_scope")),
        ("MANAGE:DEPLOY", Err("invalid_scope")),
        ("manage:deploy++read:infra:data", Err("invalid_scope")),
        ("manage:deploy%00", Err("invalid_scope")),
    ] {
        let call = house.basic(
            "ci",
            &house.secret,
            &format!("grant_type=client_credentials&scope={asked}"),
        );
        let (status, body) = house.ask(call).await;
        match given {
            Ok(scope) => assert_eq!((status, body["scope"].as_str()), (200, Some(scope)), "{asked}"),
            Err(error) => assert_eq!((status, body["error"].as_str()), (400, Some(error)), "{asked}"),
        }
    }
}

#[tokio::test]
async fn another_audience_resource_or_tenant_is_refused() {
    let house = House::new();
    for (target, verdict) in [
        ("audience=aurora", 200),
        ("resource=aurora&audience=aurora", 200),
        ("tenant=acme%2Fmain", 200),
        ("audience=other", 400),
        ("resource=https%3A%2F%2Fother.example", 400),
        ("resource=aurora&audience=other", 400),
        ("tenant=acme%2Fother", 400),
        ("tenant=other%2Fmain", 400),
    ] {
        let call = house.basic(
            "ci",
            &house.secret,
            &format!("grant_type=client_credentials&{target}"),
        );
        let (status, body) = house.ask(call).await;
        assert_eq!(status, verdict, "{target}");
        assert!(status == 200 || body["error"] == "invalid_target", "{target}");
    }
    let call = house.basic(
        "api",
        &house.secret,
        "grant_type=client_credentials&tenant=acme%2Fmain",
    );
    assert_eq!(
        house.error_of(call).await,
        (400, "invalid_target".into()),
        "a service has no tenant"
    );
}

#[tokio::test]
async fn a_client_that_is_not_recognised_gets_a_challenge_and_no_reason() {
    let house = House::new();
    let other = new_secret("ci").unwrap();
    let grant = "grant_type=client_credentials";
    let mut bodies = BTreeSet::new();
    for (what, call) in [
        ("a wrong secret", house.basic("ci", &other, grant)),
        ("an unknown client", house.basic("nobody", &house.secret, grant)),
        ("a disabled client", house.basic("off", &house.secret, grant)),
        ("a client that ended", house.basic("ended", &house.secret, grant)),
        ("another case", house.basic("CI", &house.secret, grant)),
        ("an empty client", house.basic("", &house.secret, grant)),
    ] {
        let answer = house.http.call(call).await.unwrap();
        assert_eq!(answer.status, 401, "{what}");
        assert!(
            answer.header("www-authenticate").unwrap().starts_with("Basic "),
            "{what}"
        );
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "one body for all of them");
}

#[tokio::test]
async fn a_request_that_is_no_token_request_says_what_is_wrong() {
    let house = House::new();
    let good = format!(
        "grant_type=client_credentials&client_id=ci&client_secret={}",
        house.secret.secret.expose()
    );
    let secret_in_url = HttpCall {
        url: format!("{}?{good}", house.issuer.token_endpoint()),
        ..house.post("grant_type=client_credentials")
    };
    let json_body = HttpCall::post(house.issuer.token_endpoint(), "application/json", good.clone());
    let no_type = HttpCall {
        headers: Vec::new(),
        ..house.post(&good)
    };
    for (what, call, error) in [
        ("nothing", house.post(""), (401, "invalid_client")),
        (
            "no client",
            house.post("grant_type=client_credentials"),
            (401, "invalid_client"),
        ),
        (
            "a bearer",
            house
                .post("grant_type=client_credentials")
                .with_header("authorization", "Bearer x"),
            (401, "invalid_client"),
        ),
        (
            "an id alone",
            house.post("grant_type=client_credentials&client_id=ci"),
            (401, "invalid_client"),
        ),
        (
            "an empty secret",
            house.post("grant_type=client_credentials&client_id=ci&client_secret="),
            (401, "invalid_client"),
        ),
        (
            "a secret alone",
            house.post("grant_type=client_credentials&client_secret=x"),
            (400, "invalid_request"),
        ),
        (
            "two ways at once",
            house.basic("ci", &house.secret, &good),
            (400, "invalid_request"),
        ),
        (
            "two headers",
            house
                .basic("ci", &house.secret, "grant_type=client_credentials")
                .with_header("authorization", "Basic eA=="),
            (400, "invalid_request"),
        ),
        (
            "two ids",
            house.basic(
                "ci",
                &house.secret,
                "grant_type=client_credentials&client_id=agent",
            ),
            (400, "invalid_request"),
        ),
        (
            "a parameter twice",
            house.post(&format!("{good}&grant_type=client_credentials")),
            (400, "invalid_request"),
        ),
        (
            "a secret twice",
            house.post(&format!("{good}&client_secret=x")),
            (400, "invalid_request"),
        ),
        (
            "no grant",
            house.basic("ci", &house.secret, "scope=manage:deploy"),
            (400, "invalid_request"),
        ),
        ("no form", house.post("%zz=1"), (400, "invalid_request")),
        ("a secret in the URL", secret_in_url, (400, "invalid_request")),
        ("JSON", json_body, (400, "invalid_request")),
        ("no media type", no_type, (400, "invalid_request")),
        (
            "17 KiB",
            house.post(&format!("{good}&x={}", "x".repeat(17 * 1024))),
            (400, "invalid_request"),
        ),
    ] {
        assert_eq!(
            house.error_of(call).await,
            (error.0, error.1.to_owned()),
            "{what}"
        );
    }
}

#[tokio::test]
async fn other_methods_and_paths_are_not_there() {
    let house = House::new();
    for (method, path, status) in [
        ("GET", "/oauth/token", 405),
        ("PUT", "/oauth/token", 405),
        ("POST", "/oauth/jwks", 405),
        ("GET", "/oauth/authorize", 404),
        ("GET", "/", 404),
    ] {
        let call = HttpCall {
            method: method.into(),
            ..HttpCall::fetch(format!("{ISSUER}{path}"))
        };
        let answer = house.http.call(call).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_failures_block_a_client_for_a_minute_and_no_other() {
    let house = House::new();
    let other = new_secret("ci").unwrap();
    let grant = "grant_type=client_credentials";
    for _ in 0..10 {
        assert_eq!(house.ask(house.basic("ci", &other, grant)).await.0, 401);
    }
    let answer = house
        .http
        .call(house.basic("ci", &house.secret, grant))
        .await
        .unwrap();
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(house.ask(house.basic("agent", &house.secret, grant)).await.0, 200);
    advance(Duration::from_secs(61)).await;
    assert_eq!(house.ask(house.basic("ci", &house.secret, grant)).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_invisible_to_a_verifier() {
    let house = House::new();
    let verifier = house.verifier();
    let hour = Duration::from_secs(3600);
    let (mut ids, mut most) = (BTreeSet::new(), 0);
    for _ in 0..(15 * 24) {
        advance(hour).await;
        let token = house.token("ci").await;
        ids.insert(part(&token, 0)["kid"].to_string());
        let verified = verifier.verify(&Secret::new(token), house.clock.now()).await;
        assert!(verified.is_ok(), "{verified:?}");
        let keys: Value = serde_json::from_slice(&house.get("/oauth/jwks").await.body).unwrap();
        most = most.max(keys["keys"].as_array().unwrap().len());
    }
    assert_eq!(ids.len(), 3, "a key signs for a week");
    assert_eq!(most, 2, "two are published around a change");
}

#[tokio::test(start_paused = true)]
async fn a_restart_and_a_replica_use_the_same_keys() {
    let house = House::new();
    let before = house.token("ci").await;
    let restarted = House::on(Arc::clone(&house.clock), Arc::clone(&house.store));
    let after = restarted.token("ci").await;
    assert_eq!(part(&before, 0)["kid"], part(&after, 0)["kid"]);
    assert!(
        restarted
            .verifier()
            .verify(&Secret::new(before), house.clock.now())
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_agree_on_one_key() {
    let clock = Arc::new(InMemoryClock::starting_at(now()));
    let store: SharedStore = Arc::new(InMemoryStore::new(clock.clone()));
    let houses: Vec<_> = (0..5)
        .map(|_| House::on(clock.clone(), Arc::clone(&store)))
        .collect();
    let tokens = futures::future::join_all(houses.iter().map(|house| house.token("ci"))).await;
    let ids: BTreeSet<_> = tokens
        .iter()
        .map(|token| part(token, 0)["kid"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_refused_once_the_verifier_asks_again() {
    let house = House::new();
    let verifier = house.verifier();
    let old = house.token("ci").await;
    let old_key = part(&old, 0)["kid"].as_str().unwrap().to_owned();
    let old = Secret::new(old);
    assert!(verifier.verify(&old, house.clock.now()).await.is_ok());
    assert!(house.issuer.withdraw_key(&old_key).await.unwrap());
    assert!(
        !house.issuer.withdraw_key(&old_key).await.unwrap(),
        "it is gone already"
    );
    advance(Duration::from_secs(30)).await;
    let new = Secret::new(house.token("ci").await);
    assert!(
        verifier.verify(&new, house.clock.now()).await.is_ok(),
        "within a minute"
    );
    assert!(verifier.verify(&old, house.clock.now()).await.is_err());
}

#[tokio::test]
async fn a_verifier_finds_the_keys_through_the_metadata() {
    let house = House::new();
    let keys = HttpKeys::of_issuer(Arc::new(house.http.clone()), ISSUER).unwrap();
    let verifier = JwtVerifier::new(policy(), Arc::new(keys));
    let token = Secret::new(house.token("ci").await);
    assert!(verifier.verify(&token, now()).await.is_ok());
}

#[test]
fn everything_wrong_with_a_configuration_is_said_at_once() {
    let made = new_secret("ci").unwrap();
    let clients = [
        client("a b", &made, json!({"tenant": "acme"})),
        client("m1", &made, json!({"tenant": null, "scopes": ["route:commands"]})),
        client("m2", &made, json!({"scopes": ["connect:agentHub"]})),
        client(
            "m3",
            &made,
            json!({"scopes": ["manage:everything"], "agents": ["-"]}),
        ),
        client(
            "m4",
            &made,
            json!({"scopes": [], "ttlSeconds": 86400, "roles": [""]}),
        ),
        client("s1", &made, json!({"kind": "service", "roles": ["Admin"]})),
        client("ok", &made, json!({})),
        client("ok", &made, json!({})),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _guard = runtime.enter();
    let clock = Arc::new(InMemoryClock::starting_at(now()));
    let store: SharedStore = Arc::new(InMemoryStore::new(clock.clone()));
    let schedule = KeySchedule {
        rotate_every: Duration::from_secs(60),
        ..KeySchedule::default()
    };
    let built = TokenIssuer::with_schedule(
        "https://issuer.example/path/",
        "",
        &clients,
        store,
        clock,
        schedule,
    );
    let problems = built.unwrap_err().problems;
    for expected in [
        "issuer: `https://issuer.example/path/` has a path",
        "audience: is empty",
        "client `a b`: an id has",
        "client `a b`: tenant: ",
        "client `m1`: a machine needs a tenant",
        "client `m1`: only a service may have the scope `route:commands`",
        "client `m2`: a client that connects agents needs the agents",
        "client `m3`: the scope `manage:everything` is unknown",
        "client `m3`: agents: ",
        "client `m4`: scopes are missing",
        "client `m4`: ttlSeconds is 5 to 3600",
        "client `m4`: a role has",
        "client `s1`: a service has no tenant",
        "client `s1`: a service may have only the scope",
        "client `s1`: a service has neither roles nor agents",
        "client `ok`: is there twice",
        "key schedule: ",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(expected)),
            "{expected}\n{problems:#?}"
        );
    }
}

#[test]
fn an_unknown_member_of_a_client_is_refused() {
    let made = new_secret("ci").unwrap();
    let config = json!({"id": "ci", "kind": "machine", "secretHash": made.hash, "scope": "manage:deploy"});
    let error = serde_json::from_value::<ClientConfig>(config).unwrap_err();
    assert!(error.to_string().contains("unknown field `scope`"), "{error}");
    let config = json!({"id": "ci", "kind": "user", "secretHash": made.hash});
    assert!(
        serde_json::from_value::<ClientConfig>(config).is_err(),
        "people are no clients"
    );
}

#[tokio::test]
async fn neither_issuer_nor_its_configuration_shows_a_secret() {
    let house = House::new();
    let token = house.token("ci").await;
    let hash = String::from(house.secret.hash.clone());
    let shown = format!("{:?} {:?}", house.issuer, house.issuer.keys());
    for hidden in [house.secret.secret.expose(), &hash, &token, "pkcs8"] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}
