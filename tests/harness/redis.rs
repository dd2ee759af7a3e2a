//! A Redis server for one test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// How clients reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP on a free port.
    Tcp,
    /// A unix socket.
    Unix,
    /// TLS on a free port, with `server.pem`, `server.key` and `ca.pem` from the server's directory.
    Tls,
}

/// A running `redis-server` that keeps nothing on disk. It is killed on drop.
pub struct RedisServer {
    process: Option<(Child, BufReader<ChildStdout>)>,
    directory: TempDir,
    transport: Transport,
    settings: Vec<String>,
    port: u16,
}

impl RedisServer {
    /// Starts a server with `settings`, as on its command line, and returns once it accepts connections.
    #[track_caller]
    pub fn start(transport: Transport, settings: &[&str]) -> RedisServer {
        RedisServer::start_in(tempfile::tempdir().expect("make a directory"), transport, settings)
    }

    /// The same in a directory that was prepared, as with certificates.
    #[track_caller]
    pub fn start_in(directory: TempDir, transport: Transport, settings: &[&str]) -> RedisServer {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = RedisServer { process: None, directory, transport, settings, port: 0 };
        // Between finding a free port and the server's taking it, somebody else may have taken it.
        for _ in 0..10 {
            server.port = free_port();
            if server.spawn().is_ok() {
                return server;
            }
        }
        panic!("redis-server does not start: {}", server.spawn().expect_err("it never started before"));
    }

    /// The port, for [`Transport::Tcp`] and [`Transport::Tls`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket, for [`Transport::Unix`].
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Where the server's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills the server; what it held is gone.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.process.take() {
            child.kill().expect("kill redis-server");
            child.wait().expect("wait for redis-server");
        }
    }

    /// Starts it again, empty, at the same address.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        if let Err(log) = self.spawn() {
            panic!("redis-server does not start again: {log}");
        }
    }

    /// Stops the process without ending it: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let (child, _) = self.process.as_ref().expect("the server runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("run kill");
        assert!(status.success());
    }

    /// Starts the process and waits for its word that it is ready; gives what it said instead if it ends.
    #[track_caller]
    fn spawn(&mut self) -> Result<(), String> {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]);
        match self.transport {
            Transport::Tcp => command.args(["--port", &port]),
            Transport::Unix => command.args(["--port", "0", "--unixsocket", "redis.sock"]),
            Transport::Tls => command.args(["--port", "0", "--tls-port", &port]).args([
                "--tls-cert-file",
                "server.pem",
                "--tls-key-file",
                "server.key",
                "--tls-ca-cert-file",
                "ca.pem",
            ]),
        };
        let mut child = command
            .args(&self.settings)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server can't be run ({error}): install the Debian package redis-server")
            });
        let mut log = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
        let mut said = String::new();
        while log.read_line(&mut said).is_ok_and(|len| len > 0) {
            // The last thing it says: "Ready …" for TCP, "… now ready … at PATH" for unix sockets.
            if said.contains("eady to accept connections") {
                self.process = Some((child, log));
                return Ok(());
            }
        }
        child.wait().expect("wait for redis-server");
        Err(said)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a free port");
    listener.local_addr().expect("the address of a bound socket").port()
}
