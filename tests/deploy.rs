//! What `deploy/` ships beside the proxies' files is right, as far as that can be told without a container engine, a
//! cluster or systemd running.
#![cfg(test)]

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::portcullis::Portcullis;
use harness::process::{Package, program};
use portcullis::config::{self, Environment};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const USERS: &str = "
users:
  john:
    displayname: John Doe
    email: john@example.com
    password: '$argon2id$v=19$m=1024,t=1,p=1$m9GwxpvljSMwgeNPGxYxXA$lnNSLJ3KStff3dbzbONhghZfPklpwDeOyrxqq6lO4uo'
";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs `portcullis check --strict` on `config`, with a users file beside it.
fn check(config: &str) -> Output {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("portcullis.yaml"), config).expect("write");
    std::fs::write(dir.path().join("users.yaml"), USERS).expect("write");
    run(Command::new(PORTCULLIS).args(["check", "--strict", "--config", "portcullis.yaml"]).current_dir(dir.path()))
}

/// What a manifest holds under the key `portcullis.yaml`.
fn configuration_in(manifest: &str) -> String {
    let (_, text) = manifest.split_once("  portcullis.yaml: |\n").expect("a configuration");
    let (text, _) = text.split_once("\n---").expect("the end of the document");
    text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_configuration_is_valid() {
    let output = check(&read("portcullis.yaml"));
    assert!(output.status.success() && !said(&output).contains("hint"), "{}", said(&output));
}

#[test]
fn the_configuration_in_the_kubernetes_manifest_is_valid() {
    let config = configuration_in(&read("kubernetes/sidecar.yaml"));
    assert!(config.contains("path: /users/users.yaml"), "{config}");
    let output = check(&config.replace("/users/users.yaml", "users.yaml"));
    assert!(output.status.success() && !said(&output).contains("hint"), "{}", said(&output));
}

#[test]
fn the_kubernetes_manifest_follows_the_schemas_of_the_api() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let validate = |text: &str, version: &str| {
        let file = dir.path().join("manifest.yaml");
        std::fs::write(&file, text).expect("write");
        let tool = program("kubernetes-validate", Package::PyPi("kubernetes-validate"));
        run(Command::new(tool).args(["--strict", "-k", version]).arg(file))
    };
    let manifest = read("kubernetes/sidecar.yaml");
    // The oldest that knows native sidecars, and the newest there is.
    for version in ["1.29.0", "1.37.0"] {
        let output = validate(&manifest, version);
        assert!(output.status.success(), "{version}: {}", said(&output));
        assert_eq!(said(&output).matches("passed for resource").count(), 4, "{}", said(&output));
    }
    // The check can fail.
    for (right, wrong) in [("startupProbe:", "startProbe:"), ("containerPort: 9091", "containerPort: gate")] {
        assert!(manifest.contains(right));
        assert!(!validate(&manifest.replace(right, wrong), "1.37.0").status.success(), "{wrong} passed");
    }
}

#[test]
fn the_gate_has_no_cpu_limit_below_two_cores() {
    for line in read("kubernetes/sidecar.yaml").lines().filter(|line| line.contains("limits:")) {
        assert!(!line.contains("cpu"), "{line}");
    }
}

#[test]
fn the_systemd_unit_is_understood_and_leaves_little_exposed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let unit = dir.path().join("portcullis.service");
    let text = read("portcullis.service");
    assert_eq!(text.matches("=/usr/bin/portcullis ").count(), 2, "both commands");
    std::fs::write(&unit, text.replace("=/usr/bin/portcullis ", &format!("={PORTCULLIS} "))).expect("write");
    let systemd = || Command::new(program("systemd-analyze", Package::Debian("systemd")));

    let verified = run(systemd().arg("verify").arg(&unit));
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));
    // In tenths; a service without any of it has 9.6.
    let exposure = run(systemd().args(["security", "--offline=true", "--threshold=15"]).arg(&unit));
    assert!(exposure.status.success(), "{}", said(&exposure));
}

#[test]
fn compose_mounts_files_that_are_here_or_that_it_says_to_make() {
    let text = read("compose.yaml");
    let compose: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
    let services = compose["services"].as_object().expect("services");
    let (instructions, _) = text.split_once("services:").expect("instructions first");
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let volume = volume.as_str().expect("short syntax");
            let source = volume.strip_prefix("./").and_then(|rest| rest.split(':').next()).expect("a file from here");
            let explained = instructions.contains(&format!("`{source}`"))
                || (source.ends_with(".key") && instructions.contains("`.key`"));
            assert!(path(source).exists() || explained, "{name}: {volume}");
            assert!(volume.ends_with(":ro"), "{name}: {volume}");
        }
        if name != "traefik" {
            assert_eq!(service["network_mode"], "service:traefik", "{name} is reached over loopback");
            assert!(service["ports"].is_null(), "{name} is reached through Traefik only");
        }
    }
}

#[test]
fn a118_compose_mounts_the_folder_of_the_users_file() {
    let compose: serde_json::Value = serde_saphyr::from_str(&read("compose.yaml")).expect("YAML");
    let service = &compose["services"]["portcullis"];
    let variable = "PORTCULLIS_AUTHENTICATION_BACKEND_FILE_PATH";
    let path = service["environment"][variable].as_str().expect("where the users file is");
    let volumes = service["volumes"].as_array().expect("volumes").iter().filter_map(|volume| volume.as_str());
    let targets: Vec<&str> = volumes.filter_map(|volume| volume.split(':').nth(1)).collect();
    let folder = Path::new(path).parent().and_then(Path::to_str).expect("a folder");
    assert!(targets.contains(&folder) && !targets.contains(&path), "{targets:?}");
    // And the variable counts.
    let environment = Environment::new([(variable.to_owned(), path.into())]);
    let loaded = config::load(&[self::path("portcullis.yaml")], &environment).expect("the shipped configuration");
    assert_eq!(loaded.settings.users.path, Path::new(path));
}

#[test]
fn the_image_is_built_with_the_compiler_that_the_package_asks_for() {
    let package =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("Cargo.toml");
    let version = package.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
    let version = version.expect("a rust-version");
    assert!(read("Dockerfile").contains(&format!("FROM rust:{version}-")), "{version}");
}

#[test]
fn the_images_health_check_tells_a_running_server_from_a_stopped_one() {
    let config = read("portcullis.yaml")
        + "
server: {address: 'tcp://{gate}/'}
portal: {address: 'tcp://{portal}/'}
telemetry: {metrics: {enabled: true, address: 'tcp://{metrics}/metrics'}}
";
    let mut portcullis = Portcullis::start(&config, &[("users.yaml", USERS)]);
    // Now on known ports.
    portcullis.stop();
    portcullis.start_again();
    let healthy = |portcullis: &Portcullis| {
        run(Command::new(PORTCULLIS)
            .args(["healthcheck", "--config", "portcullis.yaml"])
            .current_dir(portcullis.folder())
            .env_clear())
    };
    let output = healthy(&portcullis);
    assert!(output.status.success(), "{}", said(&output));
    portcullis.stop();
    let output = healthy(&portcullis);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}
