//! The real binary, started on a configuration of the benchmark's and stopped when it is dropped.

#![allow(dead_code, reason = "each benchmark uses some of it")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Server {
    child: Child,
    pub gate: String,
    pub portal: String,
    /// `off` where there are none.
    pub metrics: String,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it in a folder of its own, on one core only where `core` names one (with `taskset`, Debian: util-linux).
    pub fn start(config: &str, users: &str, core: Option<&str>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users.yaml"), users).unwrap();
        std::fs::write(folder.path().join("portcullis.yaml"), config).unwrap();
        let binary = env!("CARGO_BIN_EXE_portcullis");
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", core, binary]);
                command
            }
            None => Command::new(binary),
        };
        let mut child = command
            .args(["serve", "--config", "portcullis.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = |name: &str| {
            let found = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("it is not ready: {ready:?}")).to_owned()
        };
        let (gate, portal, metrics) = (address("gate="), address("portal="), address("metrics="));
        Server { child, gate, portal, metrics, _folder: folder }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The CPU time of all its threads so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}
