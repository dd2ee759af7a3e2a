//! What operators do to a running server: the users file changed, broken, mounted; the session cookie renamed.

#![cfg(test)]

mod harness;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use harness::client::{Client, Request, Response};
use harness::portcullis::{Portcullis, USERS};
use harness::process::{Package, Process, program};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

/// `{session}` is more of that section.
const CONFIG: &str = "
server: {address: 'tcp://{gate}/'}
portal: {address: 'tcp://{portal}/'}
telemetry: {metrics: {enabled: true, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml, watch: true}}
session: {{session}cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control: {default_policy: deny, rules: [{domain: app.example.com, policy: one_factor}]}
";

fn config(session: &str) -> String {
    CONFIG.replace("{session}", session)
}

fn start(session: &str) -> Portcullis {
    Portcullis::start(&config(session), &[("users.yaml", USERS)])
}

/// What `portcullis users` says to `arguments`, in `folder`.
fn users(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(PORTCULLIS);
    command.args(["users", "--config", "portcullis.yaml"]).args(arguments).current_dir(folder).env_clear();
    command.output().expect("run portcullis")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn sign_in(portal: SocketAddr) -> Response {
    let body = br#"{"username":"john","password":"password"}"#;
    let request = Request::script("POST", "auth.example.com", "/api/firstfactor").body("application/json", body);
    Client::http(portal).send(&request)
}

/// `name=value` of the session cookie that an answer sets.
fn pair(answer: &Response) -> String {
    let cookies = answer.headers("set-cookie");
    let [cookie] = cookies.as_slice() else { panic!("not one cookie: {cookies:?}") };
    cookie.split(';').next().expect("a pair").to_owned()
}

/// What the gate answers somebody with `cookie`, and as whom.
fn ask(gate: SocketAddr, cookie: &str) -> (u16, String) {
    let request = Request::script("GET", "gate", "/api/authz/forward-auth")
        .header("X-Forwarded-Method", "GET")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "app.example.com")
        .header("X-Forwarded-Uri", "/")
        .cookie(cookie);
    let answer = Client::http(gate).send(&request);
    (answer.status, answer.header("remote-user").unwrap_or_default().to_owned())
}

/// The value of the gauge that says that the users file could not be taken over.
fn stale(metrics: SocketAddr) -> String {
    let page = Client::http(metrics).send(&Request::new("GET", "metrics", "/metrics")).text();
    let line = page.lines().find_map(|line| line.strip_prefix("portcullis_users_file_stale "));
    line.unwrap_or_else(|| panic!("no gauge in {page}")).to_owned()
}

#[test]
fn a118_who_is_disabled_is_out_and_the_server_starts_again() {
    let mut server = start("");
    let path = server.folder().join("users.yaml");
    // As a deployer leaves it: the server reads it as a member of its group, or as anybody.
    std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("change the mode");
    if std::fs::metadata(&path).expect("look").uid() == 0 {
        chown(&path, None, Some(65532)).expect("change the group");
    }
    let before = std::fs::metadata(&path).expect("look");
    let cookie = pair(&sign_in(server.portal));
    assert_eq!(ask(server.gate, &cookie), (200, "john".to_owned()));

    let output = users(server.folder(), &["disable", "john"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("takes this over within seconds"), "{}", said(&output));
    let after = std::fs::metadata(&path).expect("look");
    let access = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid());
    assert_eq!(access(&before), access(&after), "whoever could read it still can");
    let gate = server.gate;
    server.wait_for("john to be out", |_| (ask(gate, &cookie).0 == 401).then_some(()));
    assert_eq!(sign_in(server.portal).status, 401);
    assert_eq!(stale(server.metrics), "0");
    server.stop();
    server.start_again();
    assert_eq!(sign_in(server.portal).status, 401, "and it stays so");
}

#[test]
fn a118_a_users_file_that_cannot_be_taken_over_is_on_the_metrics_page() {
    let mut server = start("");
    let path = server.folder().join("users.yaml");
    let metrics = server.metrics;
    assert_eq!(stale(metrics), "0");
    std::fs::write(&path, "users: {john: {displayname: John}}\n").expect("break it");
    server.wait_for("the gauge", |_| (stale(metrics) == "1").then_some(()));
    assert_eq!(sign_in(server.portal).status, 200, "the accounts stay");
    std::fs::write(&path, USERS).expect("mend it");
    server.wait_for("the gauge", |_| (stale(metrics) == "0").then_some(()));
    std::fs::remove_file(&path).expect("remove it");
    server.wait_for("the gauge", |_| (stale(metrics) == "1").then_some(()));
    assert_eq!(sign_in(server.portal).status, 200, "the accounts stay");
}

/// A shell in which `host.yaml` is mounted on `users.yaml`, as a container's single-file mount is; nothing where this
/// user may not mount.
fn mounted(folder: &Path) -> Option<Command> {
    let unshare = program("unshare", Package::Debian("util-linux"));
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let way = ways.into_iter().find(|way| {
        let tried = Command::new(&unshare).args(*way).args(["mount", "--bind", PORTCULLIS, PORTCULLIS]).output();
        tried.is_ok_and(|output| output.status.success())
    })?;
    let mut command = Command::new(unshare);
    let script = "mount --bind host.yaml users.yaml && exec \"$@\"";
    command.args(way).args(["sh", "-c", script, "sh", PORTCULLIS]).current_dir(folder);
    Some(command)
}

#[test]
fn a118_a_users_file_that_is_mounted_by_itself_is_refused_and_noticed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["host.yaml", "users.yaml"] {
        std::fs::write(dir.path().join(name), USERS).expect("write");
    }
    let any = config("").replace("{gate}", "127.0.0.1:0").replace("{portal}", "127.0.0.1:0");
    std::fs::write(dir.path().join("portcullis.yaml"), any.replace("{metrics}", "127.0.0.1:0")).expect("write");
    let (Some(mut within), Some(mut serving)) = (mounted(dir.path()), mounted(dir.path())) else {
        eprintln!("this user may not mount anything: only the unit test of `replace` shows this");
        return;
    };
    let output = within.args(["users", "--config", "portcullis.yaml", "disable", "john"]).output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("mounted by itself") && said(&output).contains("Mount the folder"),
        "{}",
        said(&output)
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("host.yaml")).expect("read"), USERS);

    let serving = serving.args(["serve", "--config", "portcullis.yaml"]);
    let mut server = Process::start("portcullis", serving, dir.path().join("log"));
    let metrics: SocketAddr = server.wait_for("its ready line", |process| {
        let output = process.output();
        let (_, rest) = output.split_once("ready gate=")?.1.split_once(" metrics=")?;
        rest.split_whitespace().next()?.parse().ok().filter(|_| rest.contains('\n'))
    });
    assert_eq!(stale(metrics), "0");
    // Where it comes from, it is a file like any other.
    let output = users(dir.path(), &["disable", "john", "--file", "host.yaml"]);
    assert!(output.status.success(), "{}", said(&output));
    server.wait_for("the gauge", |_| (stale(metrics) == "1").then_some(()));
    server.wait_for("the log", |process| process.output().contains("mount its folder").then_some(()));
    server.terminate();
}

#[test]
fn a134_a_cookie_of_tls_alone_is_served_whole() {
    let name = "__Secure-portcullis_session";
    let server = start(&format!("name: {name}, "));
    let signed_in = sign_in(server.portal);
    assert_eq!(signed_in.status, 200);
    let set = signed_in.headers("set-cookie").concat();
    // Without these a browser would not take it.
    for part in [&*format!("{name}="), "; Path=/", "; Domain=example.com", "; Secure", "; HttpOnly"] {
        assert!(set.contains(part), "{part} in {set}");
    }
    let cookie = pair(&signed_in);
    assert_eq!(ask(server.gate, &cookie), (200, "john".to_owned()));

    // What plain http can set is not ours, however much of it there is, and doesn't get in the way.
    let (_, id) = cookie.split_once('=').expect("a value");
    let other = pair(&sign_in(server.portal));
    let (_, other) = other.split_once('=').expect("a value");
    for planted in
        ["authelia_session", "__secure-portcullis_session", "portcullis_session", "Secure-portcullis_session"]
    {
        assert_eq!(ask(server.gate, &format!("{planted}={id}")).0, 401, "{planted}");
        let many: String = (0..8).map(|_| format!("{planted}={other}; ")).collect();
        assert_eq!(ask(server.gate, &format!("{many}{cookie}")), (200, "john".to_owned()), "{planted}");
    }

    let state = |cookie: &str| {
        let page = Request::script("GET", "auth.example.com", "/api/state").cookie(cookie);
        Client::http(server.portal).send(&page).text()
    };
    assert!(state(&cookie).contains(r#""username":"john""#), "{}", state(&cookie));
    let sign_out = Request::script("POST", "auth.example.com", "/api/logout").cookie(&cookie);
    let signed_out = Client::http(server.portal).send(&sign_out.body("application/json", b"{}"));
    assert_eq!(signed_out.status, 200);
    let taken = signed_out.headers("set-cookie").concat();
    for part in [&*format!("{name}=;"), "; Path=/", "; Domain=example.com", "1970", "; Secure"] {
        assert!(taken.contains(part), "{part} in {taken}");
    }
    assert_eq!(ask(server.gate, &cookie).0, 401);
}

#[test]
fn a134_a_signed_in_visitor_is_sent_on_and_counted_under_that_name() {
    let server = start("name: __Secure-portcullis_session, ");
    let mut jar = pair(&sign_in(server.portal));
    let session = jar.clone();
    for turn in 1..=3 {
        let page = Request::page("auth.example.com", "/?rd=https%3A%2F%2Fapp.example.com%2F").cookie(&jar);
        let sent_on = Client::http(server.portal).send(&page);
        assert!((300..400).contains(&sent_on.status), "turn {turn}: {}", sent_on.status);
        let count = pair(&sent_on);
        assert!(count.starts_with(&format!("__Host-portcullis_returns={turn}.")), "{count}");
        jar = format!("{session}; {count}");
    }
    let page = Request::page("auth.example.com", "/?rd=https%3A%2F%2Fapp.example.com%2F").cookie(&jar);
    assert_eq!(Client::http(server.portal).send(&page).status, 200, "the circle ends on a page");
}
