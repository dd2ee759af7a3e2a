//! `doctor`: examines a proxy's configuration from both sides and says what to mend.
//!
//! Findings go to standard output, so a sound proxy prints nothing there. Exit code 0 for nothing found, 1 for findings
//! (with `--strict` for warnings, too), 2 when it could not be found out.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use url::Url;

use crate::doctor::{self, Found, Proxy, Report, Settings, Severity};
use crate::fault::Fault;
use crate::trust::Trust;

/// How much evidence of one kind is shown to people; JSON has all of it.
const SHOWN: usize = 6;

/// What to examine, and how to tell.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// A page behind the proxy, as in https://app.example.com/
    #[arg(long)]
    url: Url,
    /// Where the proxy is, if not where the URL says; nothing else is spoken to
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,
    /// Another path to try, below that of the URL, as a `location` or a router has one; repeats
    #[arg(long, value_name = "PATH")]
    also: Vec<String>,
    /// Where to listen in place of the gate
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9191")]
    listen_auth: SocketAddr,
    /// Where to listen in place of the application
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9181")]
    listen_app: SocketAddr,
    /// Believe the authorities in this PEM file, and no other
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
    /// The kind of proxy, if it is not recognised
    #[arg(long, value_enum)]
    proxy: Option<Proxy>,
    /// Take warnings for findings
    #[arg(long)]
    strict: bool,
    /// Show notes, too
    #[arg(long)]
    notes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Examines and tells; what goes wrong goes to `faults`.
pub fn run(args: &DoctorArgs, out: &mut dyn Write, faults: &mut dyn Write) -> io::Result<ExitCode> {
    let trust = match &args.ca {
        Some(path) => Trust::File(path.clone()),
        None if args.insecure => Trust::Anybody,
        None => Trust::Public,
    };
    let settings = Settings {
        url: args.url.clone(),
        connect: args.connect.clone(),
        trust,
        gate: args.listen_auth,
        application: args.listen_app,
        proxy: args.proxy,
        also: args.also.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match runtime.block_on(doctor::examine(&settings)) {
        Ok(report) => report,
        Err(Fault { message, help, .. }) => {
            writeln!(faults, "error: {message}")?;
            if let Some(help) = help {
                writeln!(faults, "  help: {help}")?;
            }
            return Ok(ExitCode::from(2));
        }
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &as_json(&args.url, &report))?;
        writeln!(out)?;
    } else {
        for found in report.found.iter().filter(|found| args.notes || found.check.severity > Severity::Note) {
            show(found, report.proxy, out)?;
        }
        writeln!(faults, "{}", summary(&report))?;
    }
    let bad = report.count(Severity::Finding) > 0 || args.strict && report.count(Severity::Warning) > 0;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(found: &Found, proxy: Option<Proxy>, out: &mut dyn Write) -> io::Result<()> {
    let check = found.check;
    let severity = match check.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Finding => "finding",
    };
    writeln!(out, "{severity} {}: {}", check.id, check.what)?;
    for line in found.evidence.iter().take(SHOWN) {
        writeln!(out, "  seen: {line}")?;
    }
    if found.evidence.len() > SHOWN {
        writeln!(out, "  seen: {} more like these", found.evidence.len() - SHOWN)?;
    }
    let attacks = if check.attacks.is_empty() { String::new() } else { format!(" ({})", check.attacks.join(", ")) };
    writeln!(out, "  why:  {}{attacks}", check.why)?;
    for proxy in proxy.map_or_else(|| Proxy::ALL.to_vec(), |proxy| vec![proxy]) {
        for line in check.mend(proxy).lines() {
            writeln!(out, "  mend, {}: {line}", proxy.name())?;
        }
    }
    writeln!(out)
}

fn summary(report: &Report) -> String {
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let proxy = report.proxy.map_or("a proxy that does not say which (see `--proxy`)", Proxy::name);
    format!(
        "{}, {} by {} to {proxy}, which asks as {}",
        plural(report.count(Severity::Finding), "finding"),
        plural(report.count(Severity::Warning), "warning"),
        plural(report.requests, "request"),
        report.dialect.name()
    )
}

#[derive(Serialize)]
struct Json<'a> {
    url: &'a str,
    proxy: Option<Proxy>,
    dialect: &'static str,
    requests: usize,
    found: Vec<JsonFound<'a>>,
}

#[derive(Serialize)]
struct JsonFound<'a> {
    id: &'static str,
    severity: Severity,
    attacks: &'static [&'static str],
    what: &'static str,
    seen: &'a [String],
    why: &'static str,
    /// By proxy; of all five where it is not known which it is.
    mend: std::collections::BTreeMap<&'static str, Vec<&'static str>>,
}

fn as_json<'a>(url: &'a Url, report: &'a Report) -> Json<'a> {
    let proxies = report.proxy.map_or_else(|| Proxy::ALL.to_vec(), |proxy| vec![proxy]);
    let found = report.found.iter().map(|found| JsonFound {
        id: found.check.id,
        severity: found.check.severity,
        attacks: found.check.attacks,
        what: found.check.what,
        seen: &found.evidence,
        why: found.check.why,
        mend: proxies.iter().map(|proxy| (proxy.name(), found.check.mend(*proxy).lines().collect())).collect(),
    });
    Json {
        url: url.as_str(),
        proxy: report.proxy,
        dialect: report.dialect.name(),
        requests: report.requests,
        found: found.collect(),
    }
}
