//! `healthcheck`: asks the gate of this configuration whether it answers, for probes that can only
//! run a program. A gate that wants certificates of its clients knows no probe; the portal beside it is asked.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, StreamOwned};

use crate::config::{Address, Listener, Settings};
use crate::trust::{self, Trust};

const PATIENCE: Duration = Duration::from_secs(3);

/// Exit code 0 if `GET /api/health` is answered with 200 within three seconds.
pub fn run(settings: &Settings, out: &mut dyn Write) -> io::Result<ExitCode> {
    let wants_certificates = settings.gate.tls.as_ref().is_some_and(|tls| !tls.client_authorities.is_empty());
    let asked = if wants_certificates { &settings.portal } else { &settings.gate };
    match ask(asked) {
        Ok(status) if status.starts_with("HTTP/1.1 200 ") => {
            writeln!(out, "healthy")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(status) => {
            eprintln!("unhealthy: {} answered {status:?}", asked.address);
            Ok(ExitCode::FAILURE)
        }
        Err(error) => {
            eprintln!("unhealthy: {} can't be asked: {error}", asked.address);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn ask(listener: &Listener) -> io::Result<String> {
    match &listener.address {
        Address::Tcp { host, port, .. } => {
            // A server that listens everywhere is asked on loopback.
            let host = match host.as_str() {
                "" | "0.0.0.0" => "127.0.0.1",
                "::" | "[::]" => "::1",
                host => host.trim_matches(['[', ']']),
            };
            let stream = TcpStream::connect((host, *port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            over(listener, stream)
        }
        Address::Unix { path, .. } => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            over(listener, stream)
        }
    }
}

fn over<S: Read + Write>(listener: &Listener, stream: S) -> io::Result<String> {
    let Some(tls) = &listener.tls else { return status_of(stream) };
    let own = CertificateDer::from_pem_file(&tls.certificate).map_err(io::Error::other)?;
    // The probe speaks to an address, so the name proves nothing; the file does.
    let config = Trust::Only(own).client(rustls::DEFAULT_VERSIONS).map_err(io::Error::other)?.with_no_client_auth();
    let name = trust::server_name("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    status_of(StreamOwned::new(connection, stream))
}

fn status_of<S: Read + Write>(mut stream: S) -> io::Result<String> {
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut head = [0; 64];
    let mut read = 0;
    while let Some(rest) = head.get_mut(read..)
        && !rest.is_empty()
    {
        match stream.read(rest)? {
            0 => break,
            n => read += n,
        }
        if head.contains(&b'\n') {
            break;
        }
    }
    let text = String::from_utf8_lossy(head.get(..read).unwrap_or_default()).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
