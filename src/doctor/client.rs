//! The client's side: bytes as they stand, over TCP or TLS, to one address and no other. It follows no redirect and
//! keeps no connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::wire::Head;
use crate::fault::Fault;
use crate::trust::{self, Trust};

/// How long the proxy may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The proxy's address.
pub struct Door {
    /// `host:port`.
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Door {
    /// A door at `address` (`host:port`); over TLS to `server_name` where there is one.
    ///
    /// # Errors
    ///
    /// A file of authorities that can't be read, or a name that no certificate can carry.
    pub fn new(address: String, server_name: Option<&str>, trust: &Trust) -> Result<Door, Fault> {
        let Some(name) = server_name else { return Ok(Door { address, tls: None }) };
        let name = trust::server_name(name)?;
        let config = trust.client(rustls::DEFAULT_VERSIONS)?.with_no_client_auth();
        Ok(Door { address, tls: Some((TlsConnector::from(Arc::new(config)), name)) })
    }

    /// Sends `bytes` and reads the head of the answer.
    ///
    /// # Errors
    ///
    /// What the connection or TLS says; `TimedOut` after 20 seconds; `UnexpectedEof` where no answer comes.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<Head> {
        let exchange = async {
            let tcp = TcpStream::connect(&self.address).await?;
            match &self.tls {
                Some((connector, name)) => speak(connector.connect(name.clone(), tcp).await?, bytes).await,
                None => speak(tcp, bytes).await,
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> io::Result<Head> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = Head::read(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        // An interim answer (RFC 9110 §15.2); 101 is a last one.
        if !head.second_word().starts_with('1') || head.second_word() == "101" {
            return Ok(head);
        }
    }
}
