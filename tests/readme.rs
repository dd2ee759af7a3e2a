//! The README's five minutes, run as they stand: each marked block in one shell, each output compared with what the page
//! says. Only the ports and the path of the binary are replaced.

#![cfg(test)]

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use harness::process::Process;

/// Parts the outputs of the blocks.
const MARK: &str = "=== next ===";

/// The commands and the expected outputs of each marked block.
fn blocks(readme: &str) -> Vec<(&str, &str)> {
    readme
        .split("<!-- run -->\n```sh\n")
        .skip(1)
        .map(|rest| {
            let (commands, rest) = rest.split_once("```\n```text\n").expect("an output behind the commands");
            (commands, rest.split_once("```").expect("the output's end").0)
        })
        .collect()
}

#[test]
fn the_first_five_minutes_go_as_the_readme_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().expect("temporary directory");
    let mut config = std::fs::read_to_string(root.join("rules.example.yaml")).expect("the example");
    for port in ["9091", "9092", "9959"] {
        assert!(config.contains(port), "the example names port {port}");
        config = config.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:0");
    }
    let users = root.join("users.example.yaml");
    std::fs::write(folder.path().join("rules.example.yaml"), config).expect("write the configuration");
    std::fs::copy(users, folder.path().join("users.example.yaml")).expect("copy the users");
    let binary = env!("CARGO_BIN_EXE_portcullis");
    let mut command = Command::new(binary);
    command.args(["serve", "--config", "rules.example.yaml"]).current_dir(folder.path()).env_clear();
    let mut server = Process::start("portcullis", &mut command, folder.path().join("log"));
    let [gate, portal] = server.wait_for("its ready line", |process| {
        let output = process.output();
        let line = output.lines().find(|line| line.starts_with("ready "))?;
        let address = |name: &str| -> SocketAddr {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)).expect("the ready line names it");
            value.parse().expect("an address")
        };
        Some([address("gate="), address("portal=")])
    });

    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 5, "only {} blocks are marked", blocks.len());
    let script: Vec<_> = blocks.iter().map(|(commands, _)| *commands).collect();
    let script = script
        .join(&format!("echo '{MARK}'\n"))
        .replace("127.0.0.1:9091", &gate.to_string())
        .replace("127.0.0.1:9092", &portal.to_string())
        .replace("target/release/portcullis", binary);
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().expect("run bash");
    let said = String::from_utf8_lossy(&output.stdout);
    let outputs: Vec<&str> = said.split(&format!("{MARK}\n")).collect();
    assert_eq!(outputs.len(), blocks.len(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for ((commands, expected), got) in blocks.iter().zip(outputs) {
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(got), trimmed(expected), "after\n{commands}");
    }
}
