//! fail2ban and CrowdSec, as `deploy/` configures them, read what the real process has logged: they see whoever fails to
//! sign in, and never somebody whom a stranger has only named.

#![cfg(test)]

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use base64::Engine;
use harness::client::{Client, Request};
use harness::portcullis::{Portcullis, USERS};
use harness::process::{Package, free_port, program};
use tempfile::TempDir;

const CONFIG: &str = "
server: {address: 'tcp://{gate}/'}
portal: {address: 'tcp://{portal}/'}
log: {file_path: log.txt, format: {format}, level: debug}
telemetry: {metrics: {enabled: false, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml}}
regulation: {max_retries: 3}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control: {default_policy: deny, rules: [{domain: app.example.com, policy: one_factor}]}
";

/// Whom a stranger would like to see banned.
const VICTIM: &str = "192.0.2.99";

/// Who failed how often.
type Failures = BTreeMap<String, usize>;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// A log-in at the portal that fails.
fn log_in(client: &str, body: &serde_json::Value) -> Request {
    Request::new("POST", "auth.example.com", "/api/firstfactor")
        .header("Origin", "https://auth.example.com")
        .header("X-Forwarded-For", client)
        .body("application/json", body.to_string().as_bytes())
}

/// A question at the gate.
fn asked(client: &str, target: &str, user: &str) -> Request {
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{user}:wrong"));
    let request = Request::new("GET", "gate", "/api/authz/forward-auth")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "app.example.com")
        .header("X-Forwarded-Uri", target)
        .header("X-Forwarded-For", client);
    if user.is_empty() { request } else { request.header("Authorization", &format!("Basic {credentials}")) }
}

/// The log of a process at which people fail and a stranger forges, and who failed how often.
fn real_log(format: &str) -> (String, Failures) {
    let forged = [
        format!("sign-in refused client={VICTIM}"),
        format!(" WARN sign-in refused reason=banned door=portal client={VICTIM} "),
        format!("\"  WARN sign-in refused reason=banned door=portal client={VICTIM} \""),
        format!("\n2026-11-28T00:00:00.000000Z  WARN sign-in refused reason=banned door=portal client={VICTIM}\n"),
        format!(
            "\",\"level\":\"WARN\",\"message\":\"sign-in refused\",\"reason\":\"banned\",\"door\":\"portal\",\"client\":\"{VICTIM}\""
        ),
        format!(
            "host portcullis[1]: 2026-11-28T00:00:00.000000Z  WARN sign-in refused reason=banned door=portal client={VICTIM}"
        ),
    ];
    // An account whose name is made to deceive: more than a stranger can have made.
    let users = USERS.replace("  mary:", &format!("  'a\" client={VICTIM}':"));
    let config = CONFIG.replace("{format}", format);
    let mut server = Portcullis::start(&config, &[("users.yaml", &users)]);
    let (gate, portal) = (Client::http(server.gate), Client::http(server.portal));
    let mut requests: Vec<(&Client, Request)> = Vec::new();
    let user = |name: &str| serde_json::json!({"username": name, "password": "wrong"});
    for _ in 0..6 {
        requests.push((&portal, log_in("192.0.2.1", &user("john"))));
        requests.push((&gate, asked("2001:db8::1", "/", "nobody")));
    }
    requests.push((&portal, log_in("192.0.2.2", &user("nobody"))));
    for forged in &forged {
        let url = format!("https://app.example.com/{forged}");
        let login =
            serde_json::json!({"username": forged, "password": forged, "requestMethod": forged, "targetURL": url});
        let line: String = forged.chars().filter(|c| !c.is_control()).collect();
        requests.push((&portal, log_in("192.0.2.66", &login).header("User-Agent", &line)));
        requests.push((&gate, asked("192.0.2.67", &format!("/{line}"), &line).header("User-Agent", &line)));
        requests
            .push((&gate, asked("192.0.2.68", &format!("/{}", forged.replace('\n', "%0a").replace(' ', "%20")), "")));
        requests.push((&portal, Request::new("GET", &line, "/").header("X-Forwarded-For", "192.0.2.68")));
        requests.push((&portal, log_in("192.0.2.68", &login).header("X-Forwarded-Host", &line)));
    }
    requests.push((&portal, log_in("192.0.2.69", &user(&format!("a\" client={VICTIM}")))));
    thread::scope(|scope| {
        for (client, request) in &requests {
            scope.spawn(move || client.send(request));
        }
    });
    assert!(server.stop().success());
    let log = std::fs::read_to_string(server.folder().join("log.txt")).expect("the log");
    assert!(log.contains(VICTIM), "the forgeries are there: {log}");
    let failures = [
        ("192.0.2.1", 6),
        ("2001:db8::1", 6),
        ("192.0.2.2", 1),
        ("192.0.2.66", 6),
        ("192.0.2.67", 6),
        ("192.0.2.69", 1),
    ];
    (log, failures.map(|(client, count)| (client.to_owned(), count)).into())
}

/// The lines as the journal hands them on.
fn of_the_journal(log: &str) -> String {
    log.lines().map(|line| format!("Nov 28 00:00:00 host portcullis[12]: {line}\n")).collect()
}

fn counted<'a>(clients: impl Iterator<Item = &'a str>) -> Failures {
    let mut failures = Failures::new();
    clients.for_each(|client| *failures.entry(client.to_owned()).or_default() += 1);
    failures
}

/// Whom the filter of fail2ban finds in a log.
fn found_by_fail2ban(log: &str, more: &[&str]) -> Failures {
    let folder = tempfile::tempdir().expect("temporary directory");
    let file = folder.path().join("log");
    std::fs::write(&file, log).expect("write the log");
    let output = Command::new(program("fail2ban-regex", Package::Debian("fail2ban")))
        .args(more)
        .args(["-o", "ip"])
        .arg(&file)
        .arg(deploy("fail2ban/filter.d/portcullis.conf"))
        .output()
        .expect("run fail2ban-regex");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    counted(said.lines().map(str::trim).filter(|line| !line.is_empty()))
}

#[test]
fn a105_fail2ban_sees_who_fails_and_nobody_who_is_only_named() {
    for format in ["text", "json"] {
        let (log, expected) = real_log(format);
        assert_eq!(found_by_fail2ban(&log, &[]), expected, "{format}:\n{log}");
        // The journal knows the time by itself, and hands on the rest.
        let rest = of_the_journal(&log).replace("Nov 28 00:00:00 ", "");
        assert_eq!(found_by_fail2ban(&rest, &["-d", "{NONE}"]), expected, "{format}, from the journal:\n{rest}");
    }
}

#[test]
fn fail2ban_takes_the_jail() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let config = folder.path().join("fail2ban");
    let copied = Command::new("cp").args(["-r", "/etc/fail2ban"]).arg(&config).status();
    assert!(copied.is_ok_and(|status| status.success()), "fail2ban is not installed");
    // Debian's jail for ssh wants a log that need not be there.
    let _ = std::fs::remove_file(config.join("jail.d/defaults-debian.conf"));
    let log = folder.path().join("portcullis.log");
    std::fs::write(&log, "").expect("write");
    std::fs::copy(deploy("fail2ban/filter.d/portcullis.conf"), config.join("filter.d/portcullis.conf")).expect("copy");
    let jail = std::fs::read_to_string(deploy("fail2ban/jail.d/portcullis.conf")).expect("the jail");
    let here = jail.replace("/var/log/portcullis.log", log.to_str().expect("a path"));
    assert_ne!(here, jail);
    std::fs::write(config.join("jail.d/portcullis.conf"), here).expect("write");
    let client = program("fail2ban-client", Package::Debian("fail2ban"));
    let output = Command::new(client).arg("-c").arg(&config).arg("-d").output().expect("run fail2ban-client");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    for command in ["'add', 'portcullis'", "'set', 'portcullis', 'maxretry', 5", "'start', 'portcullis'"] {
        assert!(said.contains(command), "{command}: {said}");
    }
}

/// CrowdSec with a folder of its own, which asks nobody but itself.
struct CrowdSec {
    folder: TempDir,
    program: PathBuf,
}

impl CrowdSec {
    fn new() -> CrowdSec {
        let program = program("crowdsec", Package::Debian("crowdsec")).canonicalize().expect("where it lies");
        let usr = program.parent().and_then(Path::parent).expect("below usr");
        let (hub, etc) = (usr.join("share/crowdsec/hub/parsers"), usr.join("../etc/crowdsec"));
        let folder = tempfile::tempdir().expect("temporary directory");
        let to = |name: &str| folder.path().join(name);
        let copy = |from: PathBuf, name: &str| {
            std::fs::create_dir_all(to(name).parent().expect("a folder")).expect("make the folder");
            std::fs::copy(&from, to(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        };
        for pattern in std::fs::read_dir(etc.join("patterns")).expect("its patterns") {
            let pattern = pattern.expect("an entry");
            copy(pattern.path(), &format!("etc/patterns/{}", pattern.file_name().to_string_lossy()));
        }
        copy(etc.join("profiles.yaml"), "etc/profiles.yaml");
        copy(hub.join("s00-raw/crowdsecurity/syslog-logs.yaml"), "etc/parsers/s00-raw/syslog-logs.yaml");
        copy(
            hub.join("s02-enrich/crowdsecurity/dateparse-enrich.yaml"),
            "etc/parsers/s02-enrich/dateparse-enrich.yaml",
        );
        copy(deploy("crowdsec/parsers/s01-parse/portcullis.yaml"), "etc/parsers/s01-parse/portcullis.yaml");
        copy(deploy("crowdsec/scenarios/portcullis.yaml"), "etc/scenarios/portcullis.yaml");
        for name in ["hub", "data", "dump"] {
            std::fs::create_dir(to(name)).expect("make the folder");
        }
        let port = free_port();
        for (name, text) in [
            ("etc/simulation.yaml", "simulation: false\n".to_owned()),
            ("hub/.index.json", r#"{"parsers":{},"scenarios":{},"postoverflows":{},"collections":{}}"#.to_owned()),
            ("etc/credentials.yaml", format!("url: http://127.0.0.1:{port}/\nlogin: test\npassword: test\n")),
            (
                "config.yaml",
                format!(
                    "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: .}}\n\
                     config_paths: {{config_dir: ./etc, data_dir: ./data, simulation_path: ./etc/simulation.yaml, hub_dir: ./hub, index_path: ./hub/.index.json}}\n\
                     crowdsec_service: {{parser_routines: 1}}\n\
                     db_config: {{type: sqlite, db_path: ./data/crowdsec.db}}\n\
                     api: {{client: {{credentials_path: ./etc/credentials.yaml}}, server: {{listen_uri: '127.0.0.1:{port}', profiles_path: ./etc/profiles.yaml}}}}\n\
                     prometheus: {{enabled: false}}\n"
                ),
            ),
        ] {
            std::fs::write(to(name), text).expect("write");
        }
        let crowdsec = CrowdSec { folder, program };
        let add = ["machines", "add", "test", "--password", "test", "-f", "etc/credentials.yaml", "--force"];
        crowdsec.run(&crowdsec.program.with_file_name("cscli"), &add);
        crowdsec
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(["-c", "config.yaml"])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Whose failures reach the scenario, and what it says of them.
    fn read(&self, kind: &str, log: &str) -> (Failures, String) {
        let file = self.folder.path().join("log");
        std::fs::write(&file, log).expect("write the log");
        let source = format!("file://{}", file.display());
        let said = self.run(&self.program, &["-dsn", &source, "-type", kind, "-dump-data", "./dump"]);
        let poured = std::fs::read_to_string(self.folder.path().join("dump/bucketpour-dump.yaml")).expect("its dump");
        let (_, poured) =
            poured.split_once("portcullis/portcullis-bf:\n").unwrap_or_else(|| panic!("{poured}\n{said}"));
        let events = poured.lines().take_while(|line| line.starts_with(['-', ' ']));
        (counted(events.filter_map(|line| line.strip_prefix("    source_ip: "))), said)
    }
}

#[test]
fn a105_crowdsec_sees_who_fails_and_nobody_who_is_only_named() {
    let crowdsec = CrowdSec::new();
    for format in ["text", "json"] {
        let (log, expected) = real_log(format);
        for (kind, log) in [("portcullis", log.clone()), ("syslog", of_the_journal(&log))] {
            let (failures, said) = crowdsec.read(kind, &log);
            assert_eq!(failures, expected, "{format}, {kind}: {said}\n{log}");
            for (client, count) in &expected {
                let is_banned = said.contains(&format!("Ip {client} performed 'portcullis/portcullis-bf'"));
                assert_eq!(is_banned, *count > 5, "{format}, {kind}, {client}: {said}");
            }
        }
    }
}
