//! What a configuration means: defaults, files over files, variables over files, and the table of keys.

#![cfg(test)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::authz::settings::{Endpoint, Implementation, Schemes, StrategyKind};
use portcullis::config::{self, Address, Diagnostic, Environment, Settings};
use portcullis::identity::Refresh;
use portcullis::peer::{Peer, TrustedProxies};
use portcullis::session::redis::{Endpoint as RedisEndpoint, TlsVersion};
use portcullis::session::{SameSite, StoreSettings};

const BASE: &str = include_str!("data/base.yaml");

/// The files of a case, for as long as it runs.
struct Files(#[expect(dead_code, reason = "kept so that the directory is")] tempfile::TempDir, Vec<PathBuf>);

fn files(texts: &[&str]) -> Files {
    let dir = tempfile::tempdir().unwrap();
    let paths = texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let path = dir.path().join(format!("{n}.yaml"));
            std::fs::write(&path, text).unwrap();
            path
        })
        .collect();
    Files(dir, paths)
}

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))))
}

#[track_caller]
fn load(texts: &[&str], variables: &[(&str, &str)]) -> Settings {
    let files = files(texts);
    match config::load(&files.1, &environment(variables)) {
        Ok(loaded) => loaded.settings,
        Err(said) => panic!("{}", shown(&said)),
    }
}

#[track_caller]
fn over_base(text: &str) -> Settings {
    load(&[BASE, text], &[])
}

fn faults(texts: &[&str]) -> Vec<Diagnostic> {
    let files = files(texts);
    config::load(&files.1, &environment(&[])).err().unwrap_or_default()
}

fn shown(said: &[Diagnostic]) -> String {
    said.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_environment_may_name_the_files() {
    #[rustfmt::skip]
    let table: [(&str, &[&str]); 3] = [
        ("/config/configuration.yml",  &["/config/configuration.yml"]),
        ("/config, /rules.yml,",       &["/config", "/rules.yml"]),
        ("",                           &[]),
    ];
    for (value, paths) in table {
        let expected: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        assert_eq!(environment(&[("X_AUTHELIA_CONFIG", value)]).files(), expected, "{value}");
    }
}

#[test]
fn defaults_are_as_documented() {
    let settings = load(&[BASE], &[]);
    assert_eq!(settings.gate.address.to_string(), "tcp://127.0.0.1:9091/");
    assert_eq!(settings.portal.address.to_string(), "tcp://127.0.0.1:9092/");
    assert_eq!(settings.metrics.unwrap().address.to_string(), "tcp://127.0.0.1:9959/metrics/");
    assert_eq!(settings.trusted_proxies, TrustedProxies::default());
    assert_eq!(settings.endpoints, Endpoint::defaults());
    assert_eq!(settings.limits.read_buffer, 16 * 1024);
    assert_eq!(settings.limits.read_timeout, Duration::from_secs(6));
    assert_eq!(settings.limits.idle_timeout, Duration::from_secs(75));
    assert_eq!(settings.limits.max_connections, None);
    assert_eq!(settings.limits.drain, Duration::from_secs(10));
    assert_eq!(
        (settings.log.level, settings.log.format),
        (tracing::Level::INFO, portcullis::telemetry::log::Format::Text)
    );
    assert_eq!(settings.refresh, Refresh::Every(5 * MINUTE));
    assert_eq!(settings.regulation, portcullis::regulation::Limits::default());
    assert_eq!(settings.hashing, portcullis::factor::password::NewDigest::default());
    assert!(matches!(settings.session.store, StoreSettings::Memory { capacity: 100_000 }));
    let site = settings.session.sites.of("app.example.com").unwrap();
    assert_eq!(site.cookie_name, "authelia_session");
    assert_eq!(site.same_site, SameSite::Lax);
    assert_eq!((site.inactivity, site.expiration), (5 * MINUTE, 60 * MINUTE));
    assert_eq!(site.remember_me, Some(30 * 24 * 60 * MINUTE));
    assert_eq!(settings.policy.rule_count(), 1);
}

#[test]
fn a_later_file_wins_key_by_key_and_lists_are_replaced() {
    let settings = load(
        &[
            BASE,
            "session: {inactivity: 1m, name: one}\nlog: {level: debug}\n",
            "session: {name: two}\naccess_control: {rules: [{domain: a.example.com, policy: deny}, {domain: b.example.com, policy: deny}]}\n",
        ],
        &[],
    );
    let site = settings.session.sites.of("example.com").unwrap();
    assert_eq!((site.cookie_name.as_str(), site.inactivity), ("two", MINUTE));
    assert_eq!(settings.log.level, tracing::Level::DEBUG);
    assert_eq!(settings.policy.rule_count(), 2);
}

#[test]
fn an_entry_of_cookies_has_what_stands_above_unless_it_says_otherwise() {
    let settings = over_base(
        "session:
  name: above
  same_site: strict
  inactivity: 0
  expiration: 2h
  remember_me: -1
  cookies:
    - {domain: a.example.com, authelia_url: 'https://auth.a.example.com'}
    - {domain: example.com, authelia_url: 'https://auth.example.com/x', name: own, same_site: none, expiration: 1 hour and 30 minutes, remember_me: 2w}
",
    );
    let above = settings.session.sites.of("x.a.example.com").unwrap();
    assert_eq!((above.cookie_name.as_str(), above.same_site, above.remember_me), ("above", SameSite::Strict, None));
    assert_eq!((above.inactivity, above.expiration), (5 * MINUTE, 120 * MINUTE), "zero is the default");
    assert_eq!(above.portal.as_ref().unwrap().as_str(), "https://auth.a.example.com/");
    let own = settings.session.sites.of("b.example.com").unwrap();
    assert_eq!((own.cookie_name.as_str(), own.same_site, own.expiration), ("own", SameSite::None, 90 * MINUTE));
    assert_eq!(own.remember_me, Some(14 * 24 * 60 * MINUTE));
    assert_eq!(own.portal.as_ref().unwrap().as_str(), "https://auth.example.com/x/");
}

#[test]
fn redis_is_read_whole() {
    let settings = over_base(
        "session:
  secret: 'a secret that is long enough'
  redis:
    host: '[::1]'
    port: 7000
    timeout: 250ms
    username: u
    password: '0123'
    database_index: 3
    maximum_active_connections: 4
    minimum_idle_connections: 2
    max_retries: 0
    tls: {server_name: redis, minimum_version: TLS1.3, ca: /ca.pem, certificate_chain: PEM, private_key: KEY}
",
    );
    assert!(settings.session.secret.is_some());
    let StoreSettings::Redis(redis) = settings.session.store else { panic!() };
    assert_eq!(redis.endpoint, RedisEndpoint::Tcp { host: "::1".to_owned(), port: 7000 });
    assert_eq!(redis.password.unwrap().expose(), "0123");
    assert_eq!((redis.username.as_deref(), redis.database_index), (Some("u"), 3));
    assert_eq!((redis.timeout, redis.max_connections), (Duration::from_millis(250), 4));
    assert_eq!((redis.min_idle, redis.max_retries), (2, 0));
    let tls = redis.tls.unwrap();
    assert_eq!((tls.server_name.as_deref(), tls.skip_verify), (Some("redis"), false));
    assert_eq!((tls.minimum_version, tls.maximum_version), (Some(TlsVersion::Tls13), None));
    assert_eq!(tls.ca, Some(PathBuf::from("/ca.pem")));
    assert_eq!(tls.certificate_chain.as_deref(), Some("PEM"));
    assert!(tls.private_key.is_some());
}

#[test]
fn a_redis_host_that_is_a_path_is_a_socket_and_an_empty_tls_section_is_tls() {
    let text = "session: {secret: 'a secret that is long enough', redis: {host: /run/redis.sock, tls: {}}}\n";
    let StoreSettings::Redis(redis) = over_base(text).session.store else { panic!() };
    assert_eq!(redis.endpoint, RedisEndpoint::Unix("/run/redis.sock".into()));
    assert!(redis.tls.is_some());
}

#[test]
fn a_variable_wins_over_files_and_ours_over_the_other_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "from a file, and long\r\n\n").unwrap();
    let settings = load(
        &[BASE, "log: {level: info}\nserver: {max_connections: 5}\n"],
        &[
            ("AUTHELIA_LOG_LEVEL", "debug"),
            ("PORTCULLIS_LOG_LEVEL", "debug"),
            ("AUTHELIA_SESSION_NAME", "0123"),
            ("PORTCULLIS_SERVER_MAX_CONNECTIONS", "7"),
            ("PORTCULLIS_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
            ("PORTCULLIS_SERVER_TIMEOUTS_READ", "9"),
            ("PORTCULLIS_TELEMETRY_METRICS_ENABLED", "false"),
            ("PORTCULLIS_SESSION_SECRET_FILE", secret.to_str().unwrap()),
            ("PORTCULLIS_SERVER_TLS_KEY", "/key.pem"),
            ("PORTCULLIS_SERVER_TLS_CERTIFICATE", "/cert.pem"),
            ("PORTCULLIS_PORT_9091_TCP", "tcp://10.0.0.1:9091"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(settings.log.level, tracing::Level::DEBUG);
    assert_eq!(settings.session.sites.of("example.com").unwrap().cookie_name, "0123");
    assert_eq!(settings.limits.max_connections, Some(7));
    assert_eq!(settings.limits.read_timeout, Duration::from_secs(9));
    assert!(settings.metrics.is_none());
    assert!(settings.trusted_proxies.trusts(Peer::at("10.2.3.4".parse().unwrap())));
    assert!(!settings.trusted_proxies.trusts(Peer::at("127.0.0.1".parse().unwrap())), "what is listed, and no more");
    assert_eq!(settings.session.secret.unwrap().expose(), "from a file, and long");
    assert_eq!(settings.gate.tls.unwrap().key, PathBuf::from("/key.pem"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let files = files(&[BASE]);
    let environment = Environment::new([("PORTCULLIS_SESSION_NAME".to_owned(), OsString::from_vec(vec![0xff]))]);
    let said = config::load(&files.1, &environment).unwrap_err();
    assert_eq!(shown(&said), "PORTCULLIS_SESSION_NAME: the value is not UTF-8\n");
}

#[test]
fn a_missing_file_is_all_that_is_said() {
    let said = config::load(&["/nowhere/at/all.yaml".into()], &environment(&[])).unwrap_err();
    let said = shown(&said);
    assert!(said.starts_with("/nowhere/at/all.yaml: the file can't be read: "), "{said}");
    assert_eq!(said.lines().filter(|line| !line.starts_with("  help: ")).count(), 1, "{said}");
}

#[test]
fn every_interface_is_an_empty_host() {
    let settings =
        over_base("server: {address: 'tcp://:9091/authelia'}\nportal: {address: 'unix:///run/p?umask=0117'}\n");
    let tcp = Address::Tcp { host: String::new(), port: 9091, base_path: "/authelia".to_owned() };
    assert_eq!(settings.gate.address, tcp);
    let unix = Address::Unix { path: "/run/p".into(), mode: Some(0o660), base_path: String::new() };
    assert_eq!(settings.portal.address, unix);
}

#[test]
fn grpc_is_off_unless_it_has_an_address() {
    assert_eq!(over_base("server: {address: 'tcp://127.0.0.1:9091/'}\n").grpc, None);
    let listener = over_base("server: {grpc: {address: 'tcp://127.0.0.1'}}\n").grpc.unwrap();
    let tcp = Address::Tcp { host: "127.0.0.1".to_owned(), port: 9093, base_path: String::new() };
    assert_eq!((listener.address, listener.tls), (tcp, None));
    let text = "server: {grpc: {address: 'unix:///run/g', tls: {certificate: c.pem, key: k.pem}}}\n";
    let tls = over_base(text).grpc.unwrap().tls.unwrap();
    assert_eq!((tls.certificate, tls.key), (PathBuf::from("c.pem"), PathBuf::from("k.pem")));
    // The gate of the same file is not touched by it.
    assert_eq!(over_base(text).gate.tls, None);
}

#[test]
fn endpoints_have_the_schemes_that_are_written_or_those_of_their_kind() {
    let settings = over_base(
        "server:
  endpoints:
    authz:
      auth-request/basic:
        implementation: AuthRequest
        authn_strategies:
          - {name: HeaderAuthRequestProxyAuthorization, schemes: [Basic, bearer], scheme_basic_cache_lifespan: 1m}
          - {name: CookieSession}
      forward-auth: {implementation: ForwardAuth, authn_strategies: [{name: HeaderAuthorization, scheme_basic_cache_lifespan: 30}]}
      legacy: {}
",
    );
    let [basic, forward, legacy] = settings.endpoints.as_slice() else { panic!() };
    assert_eq!(basic.path(), "/api/authz/auth-request/basic");
    assert_eq!(basic.strategies[0].kind, StrategyKind::HeaderAuthRequestProxyAuthorization);
    assert_eq!(basic.strategies[0].schemes, Schemes { basic: true, bearer: true });
    assert_eq!(basic.strategies[0].basic_cache, MINUTE);
    assert_eq!(forward.strategies[0].schemes, Schemes { basic: true, bearer: false });
    assert_eq!(forward.strategies[0].basic_cache, Duration::from_secs(30));
    assert_eq!(legacy.implementation, Implementation::Legacy);
    assert_eq!(legacy.strategies, Implementation::Legacy.default_strategies());
}

#[test]
fn w30_a_basic_cache_without_basic_says_so() {
    let text = "server: {endpoints: {authz: {a: {implementation: ForwardAuth, authn_strategies: [{name: CookieSession, scheme_basic_cache_lifespan: 5m}]}}}}\n";
    assert!(shown(&faults(&[BASE, text])).contains("`schemes` has no `basic`"));
}

#[test]
fn w21_an_empty_group_or_an_operator_in_another_case_is_refused() {
    for query in ["[[]]", "[[{key: a, operator: Equal, value: x}]]"] {
        let text = format!("access_control: {{rules: [{{domain: a.example.com, policy: deny, query: {query}}}]}}\n");
        assert_eq!(faults(&[BASE, &text]).len(), 1, "{query}");
    }
}

#[test]
fn a_criterion_with_nothing_in_it_does_not_pass_unnoticed() {
    for blank in ["subject: []", "networks: []", "networks:", "resources: ''", "methods: []", "query: []"] {
        let rule = format!("access_control: {{rules: [{{domain: x.example.com, policy: one_factor, {blank}}}]}}");
        let files = files(&[BASE, &rule]);
        let loaded = config::load(&files.1, &environment(&[])).unwrap_or_else(|said| panic!("{}", shown(&said)));
        let said = shown(&loaded.warnings);
        assert!(said.contains("is empty, so this rule applies"), "{blank}: {said}");
        assert!(loaded.warnings.iter().any(|warning| warning.is_error(true)), "{blank}");
    }
}

#[test]
fn a_watched_users_file_is_looked_at_on_every_request() {
    let users = "authentication_backend: {file: {watch: true, search: {email: true, case_insensitive: true}}}\n";
    let settings = over_base(users);
    assert_eq!(settings.refresh, Refresh::Always);
    assert!(settings.users.watch && settings.users.search_email && settings.users.search_case_insensitive);
    assert_eq!(over_base("authentication_backend: {refresh_interval: disable}\n").refresh, Refresh::Never);
    let settings = over_base("authentication_backend: {refresh_interval: 20m, file: {watch: true}}\n");
    assert_eq!(settings.refresh, Refresh::Every(20 * MINUTE), "what is written counts");
}

#[test]
fn the_older_networks_and_the_definitions_are_one() {
    let settings = over_base(
        "definitions: {network: {a: 10.0.0.0/8, empty: []}}
access_control:
  networks: [{name: b, networks: [192.0.2.1, 'fec0::1/64']}]
  rules: [{domain: x.example.com, networks: [a, b, '203.0.113.0/24'], policy: bypass}]
",
    );
    assert_eq!(settings.policy.rule_count(), 1);
    let named = "definitions: {network: {empty: []}}\naccess_control: {rules: [{domain: x.example.com, networks: empty, policy: bypass}]}\n";
    assert!(shown(&faults(&[BASE, named])).contains("none of these networks holds an address"));
}

#[test]
fn the_policy_alone_needs_no_session_and_no_users() {
    let rules = files(&["access_control: {rules: [{domain: a.example.com, policy: one_factor}]}\n"]);
    let loaded = config::load_policy(&rules.1, &environment(&[])).unwrap();
    assert_eq!(loaded.settings.rule_count(), 1);
    let client = files(&[
        "access_control: {rules: [{domain: a.example.com, policy: one_factor, subject: 'oauth2:client:robot'}]}\n",
    ]);
    assert_eq!(config::load_policy(&client.1, &environment(&[])).unwrap().settings.rule_count(), 1);
    let typo = files(&["acces_control: {}\n"]);
    assert!(config::load_policy(&typo.1, &environment(&[])).is_err());
}

#[test]
fn settings_do_not_print_secrets() {
    let settings = over_base(
        "session: {secret: 'hunter2hunter2hunter2', redis: {host: r, password: hunter2, tls: {certificate_chain: c, private_key: hunter2}}}\n",
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(128))]

    /// Whatever becomes of the file, loading it answers; and where it does not load there is an error that says why.
    #[test]
    fn a_damaged_file_is_told_from_a_good_one(at in 0_usize..10_000, len in 0_usize..40, put in "[a-z0-9:'\"{}\\[\\] \\n*&-]{0,6}") {
        let example = include_str!("../rules.example.yaml");
        let start = at % example.len();
        let end = (start + len).min(example.len());
        let (Some(head), Some(tail)) = (example.get(..start), example.get(end..)) else { return Ok(()) };
        let files = files(&[&format!("{head}{put}{tail}")]);
        match config::load(&files.1, &environment(&[])) {
            Ok(loaded) => proptest::prop_assert!(loaded.warnings.iter().all(|warning| !warning.is_error(false))),
            Err(said) => proptest::prop_assert!(said.iter().any(|fault| fault.is_error(false))),
        }
    }
}

// The table of keys: what it promises, the reader does, and the documentation says.

const KEYS: &str = include_str!("../src/config/known_keys.txt");

fn keys() -> Vec<(&'static str, &'static str)> {
    let lines = KEYS.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(standing, key)| (key.trim(), standing)).collect()
}

/// Whether anything that is read lies below `key`.
fn leads_on(key: &str) -> bool {
    keys().iter().any(|(other, standing)| {
        matches!(*standing, "served" | "ours")
            && other.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']))
    })
}

/// A document in which only `key` is set, to `value`.
fn document(key: &str, value: &str) -> String {
    key.rsplit('.').fold(value.to_owned(), |inner, name| match name.strip_suffix("[]") {
        Some(name) => format!("{{{}: [{inner}]}}", name.replace('*', "x")),
        None => format!("{{{}: {inner}}}", name.replace('*', "x")),
    })
}

#[test]
fn every_key_that_is_served_is_read() {
    for (key, _) in keys().iter().filter(|(key, standing)| matches!(*standing, "served" | "ours") && !leads_on(key)) {
        // No key takes this, so whoever reads the value says so.
        let said = shown(&faults(&[BASE, &document(key, "{nonsense: [1]}")]));
        let name = key.replace('*', "x");
        assert!(said.contains(&format!("`{name}` takes ")) || *key == "session.domain", "{key} is not read: {said}");
    }
}

#[test]
fn every_key_that_is_not_served_is_warned_about_or_refused() {
    for (key, standing) in keys() {
        if matches!(standing, "served" | "ours") || leads_on(key) {
            continue;
        }
        let files = files(&[BASE, &document(key, "{nonsense: [1]}")]);
        let (good, said) = match config::load(&files.1, &environment(&[])) {
            Ok(loaded) => (true, loaded.warnings),
            Err(said) => (false, said),
        };
        // The warning is about the outermost section of which nothing is served.
        let said = shown(&said);
        assert!(said.contains("is not served yet"), "{key}: {said}");
        if !key.contains(['[', '*']) {
            assert_eq!(good, standing == "known", "{key}: {said}");
        }
    }
}

#[test]
fn a_key_of_nobody_is_an_error_wherever_it_stands() {
    let sections = keys().iter().filter(|(key, _)| leads_on(key)).map(|(key, _)| *key).collect::<Vec<_>>();
    assert!(sections.len() > 20);
    for section in sections {
        // Names of networks and endpoints are free.
        if ["definitions.network", "server.endpoints.authz"].contains(&section) {
            continue;
        }
        let list = keys().iter().any(|(key, _)| key.starts_with(&format!("{section}[")));
        let key = if list { format!("{section}[].zzzzzzzz") } else { format!("{section}.zzzzzzzz") };
        let said = shown(&faults(&[BASE, &document(&key, "1")]));
        assert!(said.contains(&format!("unknown key `{}`", key.replace('*', "x"))), "{key}: {said}");
    }
}

#[test]
fn the_documentation_says_what_becomes_of_each_key() {
    let readme = include_str!("../README.md");
    let keys_in_readme = readme.split_once("<!-- keys -->").and_then(|(_, rest)| rest.split_once("<!-- /keys -->"));
    let document = format!("{}{}", keys_in_readme.unwrap().0, include_str!("../docs/configuration.md"));
    let rows: Vec<(&str, &str)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(key, rest)| (key, rest.split(" |").next().unwrap()))
        .collect();
    let documented_whole = ["access_control", "session", "server.endpoints.authz", "authentication_backend.file"];
    for (key, standing) in keys() {
        // Of what is refused the outermost key has a row.
        let above = |other: &str| key.strip_prefix(other).is_some_and(|rest| rest.starts_with(['.', '[']));
        if keys().iter().any(|(other, standing)| *standing == "refused" && above(other)) {
            continue;
        }
        let row = rows.iter().find(|(documented, _)| *documented == key).map(|(_, says)| *says);
        let expected = match standing {
            "ours" if leads_on(key) => continue,
            "ours" => {
                assert!(row.is_some(), "{key} has no row");
                continue;
            }
            _ if leads_on(key) => "served",
            "served" => "served",
            "refused" => "refused",
            _ => "warned about",
        };
        let whole = documented_whole.iter().any(|section| {
            key.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        if whole || (!leads_on(key) && expected != "warned about") {
            assert_eq!(row, Some(expected), "{key}");
        }
    }
    for (key, _) in rows {
        assert!(keys().iter().any(|(known, _)| *known == key), "`{key}` is documented and does not exist");
    }
}
