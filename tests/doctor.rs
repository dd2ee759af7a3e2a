//! `portcullis doctor` through real proxies: silent about the files in `deploy/`, and naming every fault that is planted
//! in `tests/data/doctor`.

#![cfg(test)]

mod harness;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use harness::application::Application;
use harness::certificates::Certificates;
use harness::process::free_port;
use harness::proxy::{
    CADDY, CARELESS_NGINX, CARELESS_TRAEFIK, ENVOY, HAPROXY, NGINX, Proxy, RunningProxy, TRAEFIK, Upstreams,
};

/// A proxy that points at addresses where `doctor` will listen. Fields drop in this order.
struct Clinic {
    proxy: RunningProxy,
    gate: SocketAddr,
    application: SocketAddr,
    certificates: Certificates,
    _portal: Application,
    _folder: TempDir,
}

impl Clinic {
    #[track_caller]
    fn open(proxy: Proxy) -> Clinic {
        let folder = tempfile::tempdir().expect("temporary directory");
        let certificates = Certificates::new(folder.path());
        let portal = Application::start();
        let free = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (gate, application) = (free(), free());
        let upstreams = Upstreams { gate, grpc: gate, portal: portal.address, application };
        let proxy = proxy.start(folder.path(), &certificates, upstreams);
        Clinic { proxy, gate, application, certificates, _portal: portal, _folder: folder }
    }

    /// Runs `doctor` on `url`, with `more` arguments.
    #[track_caller]
    fn examine(&self, url: &str, more: &[&str]) -> Output {
        self.command(url, self.gate, self.application).args(more).output().expect("run doctor")
    }

    fn command(&self, url: &str, gate: SocketAddr, application: SocketAddr) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .env_clear()
            .args(["doctor", "--url", url, "--connect", &self.proxy.https.address().to_string()])
            .args(["--listen-auth", &gate.to_string(), "--listen-app", &application.to_string()])
            .arg("--ca")
            .arg(&self.certificates.authority);
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the files say is planted in them.
fn planted(files: &[&str]) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doctor");
    let texts = files.iter().map(|file| std::fs::read_to_string(folder.join(file)).expect("a careless file"));
    let planted: BTreeSet<_> = texts
        .flat_map(|text| {
            let named = text.lines().filter_map(|line| line.trim().strip_prefix("# planted: ").map(str::to_owned));
            named.collect::<Vec<_>>()
        })
        .collect();
    assert!(planted.len() > 5, "{planted:?}");
    planted
}

/// The names of what was found.
#[track_caller]
fn found(output: &Output) -> BTreeSet<String> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    let found = report["found"].as_array().expect("a list").iter();
    let named =
        found.filter(|found| found["severity"] != "note").map(|found| found["id"].as_str().expect("a name").to_owned());
    named.collect()
}

#[track_caller]
fn silent_about(proxy: Proxy, name: &str, dialect: &str) {
    let output = Clinic::open(proxy).examine("https://app.example.com/", &["--strict"]);
    assert_eq!(text(&output.stdout), "", "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = text(&output.stderr);
    assert!(summary.starts_with("0 findings, 0 warnings by "), "{summary}");
    assert!(summary.ends_with(&format!(" to {name}, which asks as {dialect}\n")), "{summary}");
}

#[test]
fn the_shipped_nginx_is_sound() {
    silent_about(NGINX, "nginx", "auth-request");
}

#[test]
fn the_shipped_traefik_is_sound() {
    silent_about(TRAEFIK, "Traefik", "forward-auth");
}

#[test]
fn the_shipped_caddy_is_sound() {
    silent_about(CADDY, "Caddy", "forward-auth");
}

#[test]
fn the_shipped_envoy_is_sound() {
    silent_about(ENVOY, "Envoy", "ext-authz");
}

#[test]
fn the_shipped_haproxy_is_sound() {
    silent_about(HAPROXY, "HAProxy", "forward-auth");
}

#[test]
fn every_fault_of_the_careless_nginx_is_named() {
    let output = Clinic::open(CARELESS_NGINX).examine("https://app.example.com/", &["--json"]);
    assert_eq!(found(&output), planted(&["nginx.conf"]), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn every_fault_of_the_careless_traefik_is_named() {
    let output = Clinic::open(CARELESS_TRAEFIK).examine("https://app.example.com/shop", &["--json"]);
    assert_eq!(found(&output), planted(&["traefik/traefik.yml", "traefik/dynamic.yml"]), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(1));
}

/// Single lines of the shipped files, changed as people change them, and what must then be found.
#[test]
fn a_line_less_is_named_too() {
    type Case = (&'static str, Proxy, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let table: [Case; 13] = [
        ("the gate's own query", CADDY, &[("/forward-auth?\n", "/forward-auth\n")], &["query-leaks"]),
        (
            "nothing is stripped before the question",
            CADDY,
            &[("\t\timport strip_forged_headers\n\t\trequest_header", "\t\trequest_header")],
            &["facts-foreign", "way-forged"],
        ),
        (
            "it lets pass when it can't ask",
            ENVOY,
            &[("failure_mode_allow: false", "failure_mode_allow: true")],
            &["fails-open"],
        ),
        (
            "it knows no address",
            ENVOY,
            &[("- {key: X-Forwarded-For, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\"}", "")],
            &["address-missing"],
        ),
        (
            "the last line of defence",
            HAPROXY,
            &[("http-request deny deny_status 503 if !is_portal !{", "# {")],
            &["denial-passes", "fails-open"],
        ),
        ("no query", HAPROXY, &[("X-Forwarded-URI %[pathq]", "X-Forwarded-URI %[path]")], &["query-lost"]),
        (
            "a path behind the name",
            NGINX,
            &[("proxy_pass http://application;", "proxy_pass http://application/;")],
            &["path-differs"],
        ),
        (
            "a part of the site that is not asked about",
            NGINX,
            &[(
                "    location @sign_in {",
                "    location /static/ { proxy_pass http://application; }\n    location @sign_in {",
            )],
            &["unasked"],
        ),
        (
            "a part of the site without the header lines, which nginx does not inherit from another `location`",
            NGINX,
            &[(
                "    location @sign_in {",
                "    location /api/ { auth_request /.portcullis/authz; proxy_pass http://application; }\n    location @sign_in {",
            )],
            &["identity-forged"],
        ),
        (
            "the client's own address alone",
            NGINX,
            &[("X-Forwarded-For $remote_addr", "X-Forwarded-For $http_x_forwarded_for")],
            &["address-forged", "address-missing", "way-forged"],
        ),
        (
            "a sign-in page under 200",
            NGINX,
            &[
                ("error_page 401 = @sign_in", "error_page 401 =200 @sign_in"),
                ("        if ($keep_401) { return 401; }", "        return 200 'please sign in';"),
            ],
            &["sign-in-lost"],
        ),
        (
            "everybody on a private address is a proxy",
            CADDY,
            &[
                (
                    "\tauto_https disable_certs",
                    "\tauto_https disable_certs\n\tservers {\n\t\ttrusted_proxies static private_ranges\n\t}",
                ),
                ("\t\timport strip_forged_headers\n\t\trequest_header", "\t\trequest_header"),
            ],
            &["facts-forged", "facts-foreign", "address-appended", "way-forged"],
        ),
        (
            "Traefik drops forged X-Forwarded-* by itself, and the first middleware the rest",
            TRAEFIK,
            &[("authRequestHeaders: [Accept, Authorization, Cookie, X-Requested-With]", "")],
            &[],
        ),
    ];
    for (because, proxy, edits, expected) in table {
        let output = Clinic::open(proxy.edited(edits)).examine("https://app.example.com/", &["--json"]);
        let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(found(&output), expected, "{because}: {}", text(&output.stdout));
    }
}

/// What people read, of the careless nginx: what is wrong, what was seen, why it matters, and the line that mends it.
#[test]
fn a_finding_says_what_got_through_and_how_to_mend_it() {
    let output = Clinic::open(CARELESS_NGINX).examine("https://app.example.com/", &[]);
    let report = text(&output.stdout);
    println!("{report}{}", text(&output.stderr));
    let part = report.split("\n\n").find(|part| part.starts_with("warning address-appended: ")).expect("it is found");
    assert_eq!(
        part.lines().skip(1).collect::<Vec<_>>(),
        [
            "  seen: `X-Forwarded-For: 198.51.100.66, 127.0.0.1`",
            "  why:  the gate counts from the right, so this holds as long as the client's own address is in no trusted \
             network (A36)",
            "  mend, nginx: proxy_set_header X-Forwarded-For $remote_addr;   # not `$proxy_add_x_forwarded_for`",
        ],
        "{report}"
    );
    assert!(!report.contains("note "), "{report}");
    assert!(report.find("warning ") > report.rfind("\nfinding "), "the gravest come first: {report}");
}

/// Each case: because, what `doctor` is told, and words of its message.
#[test]
fn what_could_not_be_found_out_is_no_clean_bill() {
    let clinic = Clinic::open(NGINX);
    let url = "https://app.example.com/";
    let elsewhere = || SocketAddr::from(([127, 0, 0, 1], free_port()));
    let fails = |because: &str, mut command: Command, words: &[&str]| {
        let output = command.output().expect("run doctor");
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{because}: {message}");
        assert_eq!(text(&output.stdout), "", "{because}");
        assert!(words.iter().all(|word| message.contains(word)), "{because}: {message}");
        assert!(message.contains("  help: "), "{because}: {message}");
    };

    let command = clinic.command(url, elsewhere(), elsewhere());
    fails("neither probe is where the proxy looks", command, &["reached neither probe", "answered `500`"]);
    let command = clinic.command(url, clinic.gate, elsewhere());
    fails("no application", command, &["did not reach the application's", "answered `502`"]);
    let portal = "https://auth.example.com/";
    let command = clinic.command(portal, elsewhere(), clinic.application);
    fails("nothing that is protected", command, &["reached neither probe", "answered `200`"]);
    let command = clinic.command(url, clinic.proxy.https.address(), clinic.application);
    fails("a port that is taken", command, &["can't listen on", "in place of the gate", "--listen-auth"]);
    let command = clinic.command("https://app.example.org/", clinic.gate, clinic.application);
    fails("a host that nothing is served for", command, &["can't reach the proxy"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let address = clinic.proxy.https.address().to_string();
    command.env_clear().args(["doctor", "--url", url, "--connect", &address]);
    command.args(["--listen-auth", "127.0.0.1:0", "--listen-app", "127.0.0.1:0"]);
    fails(
        "an authority that nobody knows",
        command,
        &["certificate is not believed: its issuer", "--ca FILE", "--insecure"],
    );
    let command = clinic.command("ftp://app.example.com/", clinic.gate, clinic.application);
    fails("no web address", command, &["`ftp://app.example.com/` is no web address"]);
}

#[test]
fn a_part_of_the_site_can_be_named() {
    let open = &[(
        "    location @sign_in {",
        "    location /shared/ { proxy_pass http://application; }\n    location @sign_in {",
    )];
    let clinic = Clinic::open(NGINX.edited(open));
    let url = "https://app.example.com/";
    assert!(found(&clinic.examine(url, &["--json"])).is_empty(), "nobody has named it");
    let output = clinic.examine(url, &["--also", "/shared/"]);
    let report = text(&output.stdout);
    assert!(report.starts_with("finding unasked: "), "{report}{}", text(&output.stderr));
    assert!(report.contains("  seen: `GET /shared/…`\n"), "{report}");
    let output = clinic.examine(url, &["--also", "shared?x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`shared?x` is no path"), "{}", text(&output.stderr));
}

#[test]
fn a_self_signed_certificate_can_be_accepted() {
    let clinic = Clinic::open(NGINX);
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let (address, gate, application) = (clinic.proxy.https.address(), clinic.gate, clinic.application);
    command.env_clear().args(["doctor", "--insecure", "--url", "https://app.example.com/"]);
    command.args(["--connect", &address.to_string(), "--listen-auth", &gate.to_string()]);
    command.args(["--listen-app", &application.to_string()]);
    let output = command.output().expect("run doctor");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()), "{}", text(&output.stderr));
}
