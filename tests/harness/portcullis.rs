//! The binary under test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

use super::process::Process;

/// A users file. The password of both is `password`, its digest as cheap as it gets.
pub const USERS: &str = "
users:
  john: {displayname: John Doe, groups: [dev], password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}
  mary: {displayname: Mary, groups: [ops], password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}
";

/// The configuration of a gate and a portal whose listeners are under test; `{more}` follows the gate's address.
pub const CONFIG: &str = "
server: {address: 'tcp://{gate}/'{more}}
portal: {address: 'tcp://{portal}/'}
telemetry: {metrics: {enabled: true, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml}}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control:
  default_policy: deny
  rules:
    - {domain: public.example.com, policy: bypass}
    - {domain: app.example.com, policy: one_factor}
    - {domain: '*.wild.example.com', policy: one_factor}
    - {domain_regex: '^[a-z]+\\.regex\\.example\\.com$', policy: one_factor}
";

/// Starts one with [`CONFIG`], `more` behind the gate's address, and [`USERS`].
#[track_caller]
pub fn start(more: &str) -> Portcullis {
    Portcullis::start(&CONFIG.replace("{more}", more), &[("users.yaml", USERS)])
}

/// A question of Traefik's about `host`, as the bytes on the wire; `more` are header lines.
pub fn question(host: &str, more: &str) -> Vec<u8> {
    format!(
        "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {host}\r\nX-Forwarded-Uri: /\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A running `portcullis serve`, in a directory of its own.
pub struct Portcullis {
    config: String,
    dir: TempDir,
    process: Option<Process>,
    pub gate: SocketAddr,
    pub portal: SocketAddr,
    pub metrics: SocketAddr,
    /// Port 0 unless the configuration asks for it.
    pub grpc: SocketAddr,
}

impl Portcullis {
    /// Starts it with `config`, in which `{gate}`, `{portal}`, `{metrics}` and `{grpc}` stand for addresses, and `files` beside
    /// it, by name; returns when it is ready. It gets ports of its own choice.
    #[track_caller]
    pub fn start(config: &str, files: &[(&str, &str)]) -> Portcullis {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("write a file");
        }
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = config.to_owned();
        let mut portcullis = Portcullis { config, dir, process: None, gate: any, portal: any, metrics: any, grpc: any };
        portcullis.start_again();
        portcullis
    }

    /// Starts it once more, on the ports that it had.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let config = self
            .config
            .replace("{gate}", &self.gate.to_string())
            .replace("{portal}", &self.portal.to_string())
            .replace("{metrics}", &self.metrics.to_string())
            .replace("{grpc}", &self.grpc.to_string());
        std::fs::write(self.dir.path().join("portcullis.yaml"), config).expect("write the configuration");
        let log = self.dir.path().join("portcullis.log");
        // An earlier run's ready line is not this one's.
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["serve", "--config", "portcullis.yaml"]).current_dir(self.dir.path()).env_clear();
        let mut process = Process::start("portcullis", &mut command, log);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ready = process.wait_for("its ready line", |process| {
            let output = process.output();
            let (line, _) = output.split_once("ready gate=")?.1.split_once('\n')?;
            Some(format!("gate={line}"))
        });
        let address = |name: &str| -> SocketAddr {
            let value = ready.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let value = value.unwrap_or_else(|| panic!("no `{name}` in `{ready}`"));
            if value == "off" {
                return any;
            }
            value.parse().unwrap_or_else(|_| panic!("`{value}` is no address"))
        };
        (self.gate, self.portal, self.metrics) = (address("gate"), address("portal"), address("metrics"));
        if self.config.contains("{grpc}") {
            self.grpc = address("grpc");
        }
        self.process = Some(process);
    }

    /// Ends it (SIGTERM).
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("it does not run").terminate()
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it does not run").id()
    }

    /// Its working directory, with `portcullis.yaml` in it.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Asks `ready` until it has an answer.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, ready: impl FnMut(&Process) -> Option<T>) -> T {
        self.process.as_mut().expect("it does not run").wait_for(what, ready)
    }

    /// Ends it and returns all that it has printed. While it runs, its log may lag behind its answers.
    #[track_caller]
    pub fn stop_and_read(&mut self) -> String {
        let status = self.stop();
        assert!(status.success(), "{status}");
        std::fs::read_to_string(self.dir.path().join("portcullis.log")).expect("its log")
    }

    pub fn output(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }
}

/// A105, in every test that starts the process: whatever was done to it, its log holds no session, password or digest.
impl Drop for Portcullis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let log = std::fs::read_to_string(self.dir.path().join("portcullis.log")).unwrap_or_default();
        for secret in
            ["authelia_session=", "portcullis_session=", "Basic am9", "$5$", "$argon2", "not a secret", "correct horse"]
        {
            assert!(!log.contains(secret), "A105: `{secret}` is in the log:\n{log}");
        }
    }
}
