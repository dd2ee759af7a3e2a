//! What every session store promises, asked of each of them; and what Redis alone can do wrong.
//!
//! Each test starts a `redis-server` of its own (Debian: package `redis-server`).

#![cfg(test)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::clock::UnixTime;
use portcullis::secret::Secret;
use portcullis::session::redis::{Endpoint, Redis, Settings as RedisSettings, Tls, TlsVersion};
use portcullis::session::{
    Factors, Found, Key, Memory, SESSIONS_PER_ACCOUNT, Session, Sessions, SetCookie, Settings, Site, Sites, Store,
    StoreSettings,
};
use portcullis::subject::{AssuranceLevel, Identity};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use harness::redis::{RedisServer, Transport};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn after(secs: u64) -> UnixTime {
    NOW + Duration::from_secs(secs)
}

fn identity(username: &str) -> Identity {
    let email = format!("{username}@example.com");
    Identity::new(username, "Some Body", ["dev", "ops"], [email.as_str()]).unwrap()
}

fn site(domain: &str) -> Site {
    let mut site = Site::new(domain.parse().unwrap());
    site.cookie_name = String::from("sid");
    site
}

fn sites() -> Sites {
    Sites::new(vec![site("in.example.com"), site("example.com"), site("example.org")]).unwrap()
}

fn settings(store: StoreSettings) -> Settings {
    Settings { sites: sites(), store, secret: Some(secret("a long secret")) }
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

/// `NAME=VALUE` of a `Set-Cookie`, as a browser sends it back.
fn pair(cookie: &SetCookie) -> &str {
    cookie.as_str().split_once(';').unwrap().0
}

async fn find(sessions: &Sessions, domain: &str, cookies: &[&str], now: UnixTime) -> Option<Found> {
    let site = sessions.sites().of(domain).unwrap();
    sessions.find(site, cookies.iter().map(|cookie| cookie.as_bytes()), now).await.unwrap()
}

async fn sign_in(sessions: &Sessions, username: &str, now: UnixTime) -> SetCookie {
    let site = sessions.sites().of("example.com").unwrap();
    sessions.open(site, identity(username), Factors::PASSWORD, false, now).await.unwrap()
}

/// The contract of [`Store`]: every implementation keeps all of it.
async fn keeps_the_contract(store: &impl Store) {
    let start = || Arc::new(Session::start(&site("example.com"), identity("john"), Factors::PASSWORD, false, NOW));
    let key = Key::new([7; 32]);

    assert!(store.load(&key).await.unwrap().is_none(), "what was never kept is not there");
    assert!(!store.update(&key, start()).await.unwrap(), "there is nothing to change");
    assert!(store.load(&key).await.unwrap().is_none(), "a change brings nothing into being");

    let session = start();
    store.insert(&key, session.clone()).await.unwrap();
    let loaded = store.load(&key).await.unwrap().unwrap();
    assert_eq!(format!("{loaded:?}"), format!("{session:?}"), "what was kept is found");
    assert_eq!(loaded.identity.header_values(), session.identity.header_values());
    let mut other = [7; 32];
    other[31] = 8;
    assert!(store.load(&Key::new(other)).await.unwrap().is_none(), "keys are compared whole");

    assert!(store.update(&key, Arc::new(session.with_identity(identity("johnny")))).await.unwrap());
    assert_eq!(store.load(&key).await.unwrap().unwrap().identity.username(), "johnny");

    store.touch(&key, &session);
    store.flush().await;
    assert!(store.load(&key).await.unwrap().is_some(), "a note of activity ends nothing");

    let another = Key::new(other);
    store.insert(&another, Arc::new(start().with_identity(identity("mary")))).await.unwrap();
    let loaded = store.load_all(&[another, Key::new([9; 32]), key, another]).await.unwrap();
    let initials = loaded.iter().map(|found| found.as_ref().map(|found| &found.identity.username()[..1]));
    assert_eq!(initials.collect::<Vec<_>>(), [Some("m"), None, Some("j"), Some("m")], "each in its place");
    assert!(store.load_all(&[]).await.unwrap().is_empty());
    assert_eq!(store.remove_all(&[another, Key::new([9; 32])]).await.unwrap(), 1, "one of them was there");
    assert_eq!(store.remove_all(&[another]).await.unwrap(), 0);
    assert_eq!(store.remove_all(&[]).await.unwrap(), 0);
    assert!(store.load(&another).await.unwrap().is_none());

    assert!(store.remove(&key).await.unwrap());
    assert!(!store.remove(&key).await.unwrap(), "it was there only once");
    store.touch(&key, &session);
    store.flush().await;
    assert!(store.load(&key).await.unwrap().is_none(), "a80: a late note of activity brings nothing back");
    assert!(!store.update(&key, session).await.unwrap(), "a80: neither does a change");
    assert!(store.load(&key).await.unwrap().is_none());
}

/// The sessions of each account are bounded (A129).
async fn bounds_each_account(store: &impl Store) {
    let key = |n: usize| {
        let mut key = [0x5a; 32];
        key[..8].copy_from_slice(&n.to_be_bytes()); // what spreads them in a table
        Key::new(key)
    };
    let insert = async |n: usize, name: &str, domain: &str| {
        let began = after(n as u64);
        let session = Session::start(&site(domain), identity(name), Factors::PASSWORD, false, began);
        store.insert(&key(n), Arc::new(session)).await.unwrap();
    };
    let live = async |range: std::ops::Range<usize>| {
        let keys: Vec<Key> = range.clone().map(key).collect();
        let found = store.load_all(&keys).await.unwrap();
        range.zip(found).filter_map(|(n, found)| found.map(|_| n)).collect::<Vec<_>>()
    };
    let most = SESSIONS_PER_ACCOUNT;
    for n in 0..most {
        insert(n, "insider", "example.com").await;
    }
    assert_eq!(live(0..most).await.len(), most, "so many there may be");
    insert(1_000, "john", "example.com").await;
    insert(1_001, "insider", "example.org").await;
    for n in most..2 * most + 6 {
        insert(n, "insider", "example.com").await;
        assert!(store.load(&key(n)).await.unwrap().is_some(), "the new one is good");
    }
    let expected: Vec<usize> = (most + 6..2 * most + 6).collect();
    assert_eq!(live(0..2 * most + 6).await, expected, "those that began first have ended");
    assert_eq!(live(1_000..1_002).await, [1_000, 1_001], "another account's live, and those at another domain");

    // Sessions that ended otherwise take no place.
    let ended: Vec<Key> = (most + 6..most + 26).map(key).collect();
    assert_eq!(store.remove_all(&ended).await.unwrap(), 20);
    for n in 300..320 {
        insert(n, "insider", "example.com").await;
    }
    assert_eq!(live(most + 26..2 * most + 6).await.len(), most - 20, "nothing ended for them");
    insert(320, "insider", "example.com").await;
    assert_eq!(live(most + 26..2 * most + 6).await.first(), Some(&(most + 27)), "and now the oldest did");
    assert_eq!(live(300..321).await.len(), 21);
}

/// What holds for sessions whichever store keeps them.
async fn keeps_sessions(sessions: &Sessions) {
    let john = sign_in(sessions, "john", NOW).await;
    let found = find(sessions, "example.com", &[pair(&john)], NOW).await.unwrap();
    assert_eq!((found.identity.username(), found.level()), ("john", AssuranceLevel::OneFactor));
    assert!(!found.remember);

    // W12: an id that we did not make is not taken up.
    let planted = format!("sid={}", "A".repeat(43));
    assert!(find(sessions, "example.com", &[&planted], NOW).await.is_none());
    // W13, A73: junk beside the session hides it in no order; two people do.
    let mary = sign_in(sessions, "mary", NOW).await;
    for cookies in [[planted.as_str(), pair(&john)], [pair(&john), planted.as_str()]] {
        let found = find(sessions, "example.com", &[&cookies.join("; ")], NOW).await.unwrap();
        assert_eq!(found.identity.username(), "john", "a73");
        assert!(find(sessions, "example.com", &cookies, NOW).await.is_some(), "a73, in two headers");
    }
    for cookies in [[pair(&mary), pair(&john)], [pair(&john), pair(&mary)]] {
        assert!(find(sessions, "example.com", &cookies, NOW).await.is_none(), "a73: two people");
    }
    let second = sign_in(sessions, "john", NOW).await;
    assert_ne!(pair(&second), pair(&john), "a72: every sign-in has an id of its own");
    let found = find(sessions, "example.com", &[pair(&second), pair(&john)], NOW).await.unwrap();
    assert_eq!(found.identity.username(), "john", "the same person twice is one person");

    // Activity moves the inactivity, and not the absolute end (A83).
    for at in [200, 400] {
        assert!(find(sessions, "example.com", &[pair(&john)], after(at)).await.is_some());
        sessions.flush().await;
    }
    let used = find(sessions, "example.com", &[pair(&john)], after(401)).await.unwrap().last_active();
    assert!((after(400)..=after(401)).contains(&used), "noted to within an interval");
    assert!(find(sessions, "example.com", &[pair(&mary)], after(301)).await.is_none(), "unused for too long");
    assert!(find(sessions, "example.com", &[pair(&mary)], NOW).await.is_none(), "and ended for good");

    // Changed details are taken over, and an ended session is not brought back (A80).
    let found = find(sessions, "example.com", &[pair(&john)], after(402)).await.unwrap();
    assert!(found.refresh_due(after(402)));
    sessions.refreshed(&found, None, after(500)).await.unwrap();
    sessions.flush().await;
    let found = find(sessions, "example.com", &[pair(&john)], after(403)).await.unwrap();
    assert!(!found.refresh_due(after(403)) && found.refresh_due(after(500)));
    let renamed = sessions.refreshed(&found, Some(identity("john2")), after(600)).await.unwrap().unwrap();
    assert_eq!(renamed.identity.username(), "john2");
    let found = find(sessions, "example.com", &[pair(&john)], after(404)).await.unwrap();
    assert_eq!(found.identity.username(), "john2");
    assert!(!found.refresh_due(after(599)));
    let shown = [pair(&john).as_bytes()].into_iter();
    let gone = sessions.close(sessions.sites().of("example.com").unwrap(), shown).await.unwrap();
    assert!(gone.as_str().starts_with("sid=; ") && gone.as_str().contains("; Domain=example.com; "));
    assert!(find(sessions, "example.com", &[pair(&john)], after(405)).await.is_none());
    sessions.refreshed(&found, None, after(700)).await.unwrap();
    sessions.flush().await;
    assert!(sessions.refreshed(&found, Some(identity("john3")), after(700)).await.unwrap().is_none(), "a80");
    assert!(find(sessions, "example.com", &[pair(&john)], after(405)).await.is_none(), "a80");

    // A128: values that somebody planted hide a session only in great number, and two people always.
    let (john, mary) = (sign_in(sessions, "john", NOW).await, sign_in(sessions, "mary", NOW).await);
    let planted: Vec<String> = ('A'..='Q').map(|c| format!("sid={}", c.to_string().repeat(42) + "A")).collect();
    let few = planted.iter().take(15).map(String::as_str);
    for shown in [few.clone().chain([pair(&john)]).collect::<Vec<_>>(), [pair(&john)].into_iter().chain(few).collect()]
    {
        let found = find(sessions, "example.com", &[&shown.join("; ")], NOW).await;
        assert_eq!(found.expect("a128: among sixteen").identity.username(), "john");
        let shown = [&shown[..15], &[pair(&mary), pair(&john)]].concat()[1..].join("; ");
        assert!(find(sessions, "example.com", &[&shown], NOW).await.is_none(), "a73: two people among them");
    }
    // A73: signing out ends the session among however many values somebody has planted.
    let shown = [planted.join("; "), pair(&john).to_owned()].join("; ");
    let site = sessions.sites().of("example.com").unwrap();
    assert!(find(sessions, "example.com", &[&shown], NOW).await.is_none(), "a73: more than sixteen");
    sessions.close(site, [shown.as_bytes()].into_iter()).await.unwrap();
    assert!(find(sessions, "example.com", &[pair(&john)], NOW).await.is_none(), "a73: signed out is signed out");

    // Browsers send the cookie of `example.com` to a cookie domain below it too: nobody there, and no theft.
    let john = sign_in(sessions, "john", NOW).await;
    assert!(find(sessions, "in.example.com", &[pair(&john)], NOW).await.is_none());
    assert!(find(sessions, "example.com", &[pair(&john)], NOW).await.is_some(), "it lives");

    // A cookie that is shown at another cookie domain ends.
    let beside = sign_in(sessions, "john", NOW).await;
    let shown = [pair(&beside), &planted[0]].join("; ");
    assert!(find(sessions, "example.org", &[&shown], NOW).await.is_none());
    assert!(find(sessions, "example.com", &[pair(&beside)], NOW).await.is_none(), "among others too");
    let john = sign_in(sessions, "john", NOW).await;
    assert!(find(sessions, "example.org", &[pair(&john)], NOW).await.is_none());
    assert!(find(sessions, "example.com", &[pair(&john)], NOW).await.is_none());

    // Remember-me: no inactivity, a later end.
    let site = sessions.sites().of("example.com").unwrap();
    let both = Factors::PASSWORD.and(Factors::TOTP);
    let kept = sessions.open(site, identity("john"), both, true, NOW).await.unwrap();
    let found = find(sessions, "example.com", &[pair(&kept)], after(29 * 24 * 3600)).await.unwrap();
    assert_eq!((found.level(), found.second_factor_at), (AssuranceLevel::TwoFactor, Some(NOW)));
    assert!(find(sessions, "example.com", &[pair(&kept)], after(30 * 24 * 3600)).await.is_none());

    assert_eq!(sessions.stats().touches_dropped, 0);
    assert_eq!(sessions.stats().store_errors, 0);
    assert_eq!(sessions.stats().unreadable, 0);
}

async fn keeps_all_promises(redis: RedisSettings) {
    let store = Redis::open(&redis, &secret("another secret"), &sites()).await.unwrap();
    keeps_the_contract(&store).await;
    bounds_each_account(&store).await;
    keeps_sessions(&open(redis).await).await;
}

async fn open(redis: RedisSettings) -> Sessions {
    Sessions::open_store(&settings(StoreSettings::Redis(redis))).await.unwrap()
}

fn tcp(server: &RedisServer) -> RedisSettings {
    RedisSettings::new(Endpoint::Tcp { host: String::from("127.0.0.1"), port: server.port() })
}

/// A connection of the test's own, to look behind the store's back.
fn look_inside(server: &RedisServer) -> redis::Connection {
    redis::Client::open(format!("redis://127.0.0.1:{}/", server.port())).unwrap().get_connection().unwrap()
}

/// All sessions that the server holds.
fn dump(connection: &mut redis::Connection) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<String> = redis::cmd("KEYS").arg("portcullis:s:*").query(connection).unwrap();
    let value = |name: &String| redis::cmd("GET").arg(name).query(connection).unwrap();
    let values: Vec<Vec<u8>> = names.iter().map(value).collect();
    names.into_iter().zip(values).collect()
}

#[tokio::test]
async fn memory_keeps_all_promises() {
    keeps_the_contract(&Memory::new(100)).await;
    bounds_each_account(&Memory::new(1_000)).await;
    keeps_sessions(&Sessions::open_store(&settings(StoreSettings::Memory { capacity: 100 })).await.unwrap()).await;
}

#[tokio::test]
async fn redis_keeps_all_promises_with_a_password() {
    let server = RedisServer::start(Transport::Tcp, &["--requirepass", "hunter2"]);
    keeps_all_promises(RedisSettings { password: Some(secret("hunter2")), ..tcp(&server) }).await;

    let wrong = open(RedisSettings { password: Some(secret("hunter3")), ..tcp(&server) }).await;
    let error = wrong.find(&site("example.com"), [b"sid=".as_slice()].into_iter(), NOW).await;
    assert!(error.unwrap().is_none(), "no id, no question");
    let planted = format!("sid={}", "A".repeat(43));
    let error = wrong.find(&site("example.com"), [planted.as_bytes()].into_iter(), NOW).await.unwrap_err();
    assert!(!error.to_string().contains("hunter3"), "{error}");
    assert_eq!(wrong.stats().store_errors, 1);
}

#[tokio::test]
async fn redis_keeps_all_promises_as_an_acl_user_in_another_database() {
    // All that the store needs, and nothing else.
    let user = "--user gate on >s3cret ~portcullis:s:* ~portcullis:u:* -@all +get +mget +set +del +exists +expire +zadd +zcard \
                +zrange +zrem +ping +select";
    let server = RedisServer::start(Transport::Tcp, &user.split(' ').collect::<Vec<_>>());
    let login = RedisSettings {
        username: Some(String::from("gate")),
        password: Some(secret("s3cret")),
        database_index: 5,
        ..tcp(&server)
    };
    keeps_all_promises(login.clone()).await;
    sign_in(&open(login).await, "john", NOW).await;
    let mut inside = look_inside(&server);
    assert_eq!(dump(&mut inside).len(), 0, "nothing is in database 0");
    redis::cmd("SELECT").arg(5).exec(&mut inside).unwrap();
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut inside).unwrap();
    let ours = |name: &String| ["portcullis:s:", "portcullis:u:"].iter().any(|prefix| name.starts_with(prefix));
    assert!(!names.is_empty() && names.iter().all(|name| ours(name) && name.len() == 13 + 64), "{names:?}");
}

#[tokio::test]
async fn redis_keeps_all_promises_over_a_unix_socket() {
    let server = RedisServer::start(Transport::Unix, &[]);
    keeps_all_promises(RedisSettings::new(Endpoint::Unix(server.socket()))).await;
}

/// Certificates for one server and one client, and the authority above them, in a directory for the server.
struct Certificates {
    directory: tempfile::TempDir,
    client: String,
    client_key: String,
}

fn certificates() -> Certificates {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let issue = |name: &str, purpose| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        // With the authority's own name it would look self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let directory = tempfile::tempdir().unwrap();
    let (server, server_key) = issue("redis.test", ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = issue("gate.test", ExtendedKeyUsagePurpose::ClientAuth);
    for (name, text) in [("server.pem", &server), ("server.key", &server_key), ("ca.pem", &authority_pem)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    Certificates { directory, client, client_key }
}

#[tokio::test]
async fn redis_keeps_all_promises_over_tls_with_a_client_certificate() {
    let Certificates { directory, client, client_key } = certificates();
    let server = RedisServer::start_in(directory, Transport::Tls, &["--tls-auth-clients", "yes"]);
    let tls = Tls {
        server_name: Some(String::from("redis.test")),
        ca: Some(server.directory().join("ca.pem")),
        certificate_chain: Some(client),
        private_key: Some(secret(&client_key)),
        ..Tls::default()
    };
    keeps_all_promises(RedisSettings { tls: Some(tls.clone()), ..tcp(&server) }).await;

    let stranger = Tls { certificate_chain: None, private_key: None, ..tls };
    assert!(!answers(RedisSettings { tls: Some(stranger), ..tcp(&server) }).await, "it wants a certificate");
}

/// Whether a store with these settings can be asked.
async fn answers(settings: RedisSettings) -> bool {
    let store = Redis::open(&settings, &secret("s"), &sites()).await.unwrap();
    store.load(&Key::new([0; 32])).await.is_ok()
}

#[tokio::test]
async fn the_certificate_of_redis_is_checked_unless_told_otherwise() {
    let server = RedisServer::start_in(
        certificates().directory,
        Transport::Tls,
        &["--tls-auth-clients", "no", "--tls-protocols", "TLSv1.2"],
    );
    let ca = Some(server.directory().join("ca.pem"));
    let name = Some(String::from("redis.test"));
    let base = Tls { server_name: name, ca, ..Tls::default() };
    #[rustfmt::skip]
    let table = [
        ("right name, right authority",     base.clone(),                                                          true),
        ("another authority",               Tls { ca: None, ..base.clone() },                                      false),
        ("another name",                    Tls { server_name: None, ..base.clone() },                             false),
        ("told not to look",                Tls { skip_verify: true, ca: None, ..Tls::default() },                 true),
        ("the version that it speaks",      Tls { maximum_version: Some(TlsVersion::Tls12), ..base.clone() },      true),
        ("one that it doesn't speak",       Tls { minimum_version: Some(TlsVersion::Tls13), ..base.clone() },      false),
    ];
    for (because, tls, expected) in table {
        assert_eq!(answers(RedisSettings { tls: Some(tls), ..tcp(&server) }).await, expected, "{because}");
    }
    assert!(!answers(tcp(&server)).await, "without TLS nothing is understood");
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_start() {
    let endpoint = Endpoint::Tcp { host: String::from("127.0.0.1"), port: 1 };
    let broken = |tls: Tls| RedisSettings { tls: Some(tls), ..RedisSettings::new(endpoint.clone()) };
    let versions =
        Tls { minimum_version: Some(TlsVersion::Tls13), maximum_version: Some(TlsVersion::Tls12), ..Tls::default() };
    #[rustfmt::skip]
    let table = [
        ("no such file",          broken(Tls { ca: Some("/nonexistent/ca.pem".into()), ..Tls::default() })),
        ("no certificate in it",  broken(Tls { ca: Some("/dev/null".into()), ..Tls::default() })),
        ("half a client",         broken(Tls { certificate_chain: Some(String::new()), ..Tls::default() })),
        ("no version",            broken(versions)),
        ("TLS to a socket",       RedisSettings { tls: Some(Tls::default()), ..RedisSettings::new(Endpoint::Unix("/x".into())) }),
    ];
    for (because, redis) in table {
        assert!(Redis::open(&redis, &secret("s"), &sites()).await.is_err(), "{because}");
    }
    let without = Settings { secret: None, ..settings(StoreSettings::Redis(RedisSettings::new(endpoint))) };
    assert!(Sessions::open_store(&without).await.unwrap_err().message.contains("session.secret"));
}

#[tokio::test]
async fn redis_that_dies_is_unavailable_at_once_and_works_when_it_is_back() {
    let mut server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let site = sessions.sites().of("example.com").unwrap();
    let cookie = sign_in(&sessions, "john", NOW).await;
    for round in 0..3 {
        server.kill();
        for _ in 0..5 {
            let asked = Instant::now();
            let answer = sessions.find(site, [pair(&cookie).as_bytes()].into_iter(), NOW).await;
            assert!(answer.is_err(), "w6: not knowing is not `nobody`");
            assert!(asked.elapsed() < Duration::from_secs(4), "long before the deadline of 5 s: {:?}", asked.elapsed());
        }
        let refused = sessions.open(site, identity("mary"), Factors::PASSWORD, false, NOW).await;
        assert!(refused.is_err(), "nobody is signed in meanwhile");
        server.restart();
        assert!(find(&sessions, "example.com", &[pair(&cookie)], NOW).await.is_none(), "it came back empty");
        let cookie = sign_in(&sessions, "john", NOW).await;
        assert!(find(&sessions, "example.com", &[pair(&cookie)], NOW).await.is_some(), "round {round}");
    }
    assert_eq!(sessions.stats().store_errors, 18);
}

#[tokio::test]
async fn redis_that_hangs_is_unavailable_when_the_deadline_passes() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(RedisSettings { timeout: Duration::from_secs(1), ..tcp(&server) }).await;
    let site = sessions.sites().of("example.com").unwrap();
    let cookie = sign_in(&sessions, "john", NOW).await;
    server.freeze();
    for _ in 0..2 {
        let asked = Instant::now();
        assert!(sessions.find(site, [pair(&cookie).as_bytes()].into_iter(), NOW).await.is_err());
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    let found = {
        server.thaw();
        find(&sessions, "example.com", &[pair(&cookie)], NOW).await
    };
    assert_eq!(found.unwrap().identity.username(), "john");
}

#[tokio::test]
async fn redis_need_not_be_up_at_start() {
    let mut server = RedisServer::start(Transport::Tcp, &[]);
    server.kill();
    // Connections that are kept ready must not hand out an old failure.
    let sessions = open(RedisSettings { min_idle: 2, ..tcp(&server) }).await;
    let planted = format!("sid={}", "A".repeat(43));
    let site = sessions.sites().of("example.com").unwrap();
    assert!(sessions.find(site, [planted.as_bytes()].into_iter(), NOW).await.is_err());
    assert!(
        sessions.find(site, [b"a=b".as_slice()].into_iter(), NOW).await.unwrap().is_none(),
        "no cookie, no question"
    );
    server.restart();
    assert!(sessions.find(site, [planted.as_bytes()].into_iter(), NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn a77_a_dump_of_redis_signs_nobody_in_and_names_nobody() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let cookie = sign_in(&sessions, "johnathan", NOW).await;
    find(&sessions, "example.com", &[pair(&cookie)], after(100)).await.unwrap();
    sessions.flush().await;
    let dump = dump(&mut look_inside(&server));
    assert_eq!(dump.len(), 1);
    let value = pair(&cookie).strip_prefix("sid=").unwrap();
    for (name, stored) in &dump {
        for secret in [value, "johnathan", "example.com", "dev"] {
            let held = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!held(name.as_bytes()) && !held(stored), "{secret}");
        }
        let digits = name.strip_prefix("portcullis:s:").unwrap();
        for replay in [digits, &digits[..43]] {
            let shown = format!("sid={replay}");
            assert!(find(&sessions, "example.com", &[&shown], NOW).await.is_none(), "the name is no cookie");
        }
    }
}

#[tokio::test]
async fn a81_values_are_bound_to_their_place_and_to_the_secret() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let (john, mary) = (sign_in(&sessions, "john", NOW).await, sign_in(&sessions, "mary", NOW).await);
    let mut inside = look_inside(&server);
    let stored = dump(&mut inside);
    let mut put = |name: &str, value: &[u8]| redis::cmd("SET").arg(name).arg(value).exec(&mut inside).unwrap();

    let values: Vec<&Vec<u8>> = stored.values().rev().collect();
    for (name, value) in stored.keys().zip(values) {
        put(name, value);
    }
    for cookie in [&john, &mary] {
        assert!(find(&sessions, "example.com", &[pair(cookie)], NOW).await.is_none(), "swapped");
    }
    for (n, spoil) in [(0, vec![]), (1, vec![1]), (2, vec![2; 200]), (3, vec![1; 13]), (4, b"{}".to_vec())] {
        stored.keys().for_each(|name| put(name, &spoil));
        assert!(find(&sessions, "example.com", &[pair(&john)], NOW).await.is_none(), "spoilt {n}");
    }
    for at in [0, 5, 20, stored.values().next().unwrap().len() - 1] {
        for (name, value) in &stored {
            let mut bent = value.clone();
            bent[at] ^= 1;
            put(name, &bent);
        }
        assert!(find(&sessions, "example.com", &[pair(&john)], NOW).await.is_none(), "one bit of byte {at}");
    }
    assert_eq!(sessions.stats().unreadable, 2 + 5 + 4);
    assert_eq!(sessions.stats().store_errors, 0, "an unreadable value is no error");

    stored.iter().for_each(|(name, value)| put(name, value));
    assert!(find(&sessions, "example.com", &[pair(&john)], NOW).await.is_some(), "as it was");
    let other = Settings { secret: Some(secret("another")), ..settings(StoreSettings::Redis(tcp(&server))) };
    let other = Sessions::open_store(&other).await.unwrap();
    assert!(find(&other, "example.com", &[pair(&john)], NOW).await.is_none(), "another secret signs everybody out");
}

/// How often the server has been asked for `command`.
fn asked(inside: &mut redis::Connection, command: &str) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(inside).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a124_a_sign_out_with_hundreds_of_cookies_is_one_command_and_ends_what_there_is() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let john = sign_in(&sessions, "john", NOW).await;
    let value = |n: usize| format!("sid={n:A>42}A");
    let made_up: Vec<String> = (0..250).map(value).collect();
    let shown = [made_up.join("; "), pair(&john).to_owned()].join("; ");
    let mut inside = look_inside(&server);
    let before = asked(&mut inside, "del");
    sessions.close(sessions.sites().of("example.com").unwrap(), [shown.as_bytes()].into_iter()).await.unwrap();
    assert_eq!(asked(&mut inside, "del") - before, 1);
    assert!(find(&sessions, "example.com", &[pair(&john)], NOW).await.is_none(), "a73: it has ended");
    let before = asked(&mut inside, "del");
    sessions.close(sessions.sites().of("example.com").unwrap(), [b"sid=junk".as_slice()].into_iter()).await.unwrap();
    assert_eq!(asked(&mut inside, "del"), before, "and none where there is no id");
}

#[tokio::test]
async fn a128_planted_cookies_are_one_question() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let john = sign_in(&sessions, "john", NOW).await;
    let planted: Vec<String> = (0..15).map(|n| format!("sid={n:A>42}A")).collect();
    let shown = [planted.join("; "), pair(&john).to_owned()].join("; ");
    let mut inside = look_inside(&server);
    for _ in 0..3 {
        assert!(find(&sessions, "example.com", &[&shown], NOW).await.is_some());
    }
    assert_eq!((asked(&mut inside, "mget"), asked(&mut inside, "get")), (3, 0));
}

#[tokio::test]
async fn a129_an_insider_pushes_nobody_out_of_memory() {
    bounds_each_account(&Memory::new(1_000)).await;
    let sessions = Sessions::open_store(&settings(StoreSettings::Memory { capacity: 1_000 })).await.unwrap();
    let mut others = Vec::new();
    for n in 0..100 {
        others.push(sign_in(&sessions, &format!("user{n}"), NOW).await);
    }
    for _ in 0..5_000 {
        sign_in(&sessions, "insider", NOW).await;
    }
    for cookie in &others {
        assert!(find(&sessions, "example.com", &[pair(cookie)], NOW).await.is_some(), "signed in before all that");
    }
    assert_eq!(sessions.stats().active, Some(100 + SESSIONS_PER_ACCOUNT as u64));
    assert_eq!(sessions.stats().evicted, 0);
    sessions.sweep(after(3_600));
    assert_eq!(sessions.stats().active, Some(0));
}

#[tokio::test]
async fn a129_an_account_has_as_many_sessions_in_redis_and_its_name_is_not_there() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    bounds_each_account(&Redis::open(&tcp(&server), &secret("s"), &sites()).await.unwrap()).await;
    let mut inside = look_inside(&server);
    let names: Vec<String> = redis::cmd("KEYS").arg("portcullis:u:*").query(&mut inside).unwrap();
    assert_eq!(names.len(), 3, "two people, one of them at two domains");
    let counts = names.iter().map(|name| redis::cmd("ZCARD").arg(name).query::<usize>(&mut inside).unwrap());
    assert!(counts.max().is_some_and(|count| count <= SESSIONS_PER_ACCOUNT), "what has ended is forgotten");
    for name in &names {
        let left: u64 = redis::cmd("TTL").arg(name).query(&mut inside).unwrap();
        assert!(left > 29 * 24 * 3_600, "as long as the longest session may live: {left} s");
    }
}

#[tokio::test]
async fn a78_sign_out_on_one_replica_is_seen_by_the_other() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let (one, two) = (open(tcp(&server)).await, open(tcp(&server)).await);
    let cookie = sign_in(&one, "john", NOW).await;
    let found = find(&two, "example.com", &[pair(&cookie)], after(100)).await.unwrap();
    one.end(&found).await.unwrap();
    two.flush().await;
    assert!(find(&two, "example.com", &[pair(&cookie)], after(100)).await.is_none());
    assert_eq!(dump(&mut look_inside(&server)).len(), 0, "a80: what the other had noted brought nothing back");
}

#[tokio::test]
async fn a80_activity_that_races_with_sign_out_brings_nothing_back() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let (one, two) = (open(tcp(&server)).await, open(tcp(&server)).await);
    for _ in 0..100 {
        let cookie = sign_in(&one, "john", NOW).await;
        let found = find(&one, "example.com", &[pair(&cookie)], NOW).await.unwrap();
        let cookies = [pair(&cookie)];
        tokio::join!(
            find(&two, "example.com", &cookies, after(100)),
            async { one.end(&found).await.unwrap() },
            two.flush(),
            find(&one, "example.com", &cookies, after(150)),
        );
    }
    one.flush().await;
    two.flush().await;
    assert_eq!(dump(&mut look_inside(&server)).len(), 0);
}

#[tokio::test]
async fn notes_of_activity_that_find_no_room_are_dropped_and_counted() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let store = Redis::open(&tcp(&server), &secret("s"), &sites()).await.unwrap();
    let session = Arc::new(Session::start(&site("example.com"), identity("john"), Factors::PASSWORD, false, NOW));
    // The task that writes them has no turn in between.
    for _ in 0..5000 {
        store.touch(&Key::new([1; 32]), &session);
    }
    assert_eq!(store.touches_dropped(), 5000 - 4096);
    store.flush().await;
    store.touch(&Key::new([1; 32]), &session);
    store.flush().await;
    assert_eq!(store.touches_dropped(), 5000 - 4096, "there is room again");
}

#[tokio::test]
async fn redis_forgets_a_session_when_it_expires() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let sessions = open(tcp(&server)).await;
    let cookie = sign_in(&sessions, "john", NOW).await;
    find(&sessions, "example.com", &[pair(&cookie)], after(200)).await.unwrap();
    sessions.flush().await;
    let mut inside = look_inside(&server);
    let names: Vec<String> = dump(&mut inside).into_keys().collect();
    let left: i64 = redis::cmd("TTL").arg(&names).query(&mut inside).unwrap();
    assert!((3500..=3600).contains(&left), "a83: activity left the end where it was: {left} s");
}

#[test]
fn connections_live_on_the_runtime_that_opened_the_store() {
    let server = RedisServer::start(Transport::Tcp, &[]);
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (home, visitor) = (runtime(), runtime());
    let sessions = home.block_on(open(tcp(&server)));
    let cookie = visitor.block_on(sign_in(&sessions, "john", NOW));
    drop(visitor);
    assert!(home.block_on(find(&sessions, "example.com", &[pair(&cookie)], NOW)).is_some());
    assert_eq!(sessions.stats().store_errors, 0);
}

#[tokio::test]
async fn the_sweep_takes_what_has_ended_and_nothing_else() {
    let sessions = Sessions::open_store(&settings(StoreSettings::Memory { capacity: 100 })).await.unwrap();
    let idle = sign_in(&sessions, "john", NOW).await;
    let used = sign_in(&sessions, "mary", NOW).await;
    find(&sessions, "example.com", &[pair(&used)], after(200)).await.unwrap();
    assert_eq!(sessions.stats().active, Some(2));
    sessions.sweep(after(301));
    assert_eq!(sessions.stats().active, Some(1));
    assert!(find(&sessions, "example.com", &[pair(&idle)], NOW).await.is_none());
    assert!(find(&sessions, "example.com", &[pair(&used)], after(301)).await.is_some());
    sessions.sweep(after(3600));
    assert_eq!(sessions.stats().active, Some(0));
}

#[tokio::test]
async fn a103_strangers_leave_nothing_and_the_table_is_bounded() {
    let sessions = Sessions::open_store(&settings(StoreSettings::Memory { capacity: 1000 })).await.unwrap();
    for n in 0..10_000 {
        let planted = format!("sid={n:A>43}");
        assert!(find(&sessions, "example.com", &[&planted], NOW).await.is_none());
    }
    assert_eq!(sessions.stats().active, Some(0), "w14");
    for n in 0..1000 {
        sign_in(&sessions, &format!("user{n}"), NOW).await;
    }
    let kept = sessions.stats().active.unwrap();
    assert_eq!(kept, 1000, "as many as it was made for");
    for n in 0..5000 {
        sign_in(&sessions, &format!("further{n}"), NOW).await;
    }
    let stats = sessions.stats();
    assert!(stats.active.unwrap() <= 1020 && stats.evicted >= 4980, "{stats:?}");
}
