//! A client that sends exactly what it is given: doubled, odd and forged header lines, uncleaned targets.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::http1::{self, Head};

/// A request, line by line.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, host: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A page view, as a browser's.
    pub fn page(host: &str, target: &str) -> Request {
        Request::new("GET", host, target).header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
    }

    /// A call by a script.
    pub fn script(method: &str, host: &str, target: &str) -> Request {
        Request::new(method, host, target).header("Accept", "application/json")
    }

    /// The same, posted.
    pub fn posted(mut self) -> Request {
        self.method = "POST".to_owned();
        self
    }

    /// Adds a line; what is there already stays.
    pub fn header(self, name: &str, value: &str) -> Request {
        self.header_bytes(name, value.as_bytes())
    }

    /// As [`Request::header`], with a value that need not be text.
    pub fn header_bytes(mut self, name: &str, value: &[u8]) -> Request {
        self.headers.push((name.to_owned(), value.to_vec()));
        self
    }

    pub fn cookie(self, cookie: &str) -> Request {
        self.header("Cookie", cookie)
    }

    /// Adds a body and the lines that go with it.
    pub fn body(self, content_type: &str, body: &[u8]) -> Request {
        let length = body.len().to_string();
        let mut request = self.header("Content-Type", content_type).header("Content-Length", &length);
        request.body = body.to_vec();
        request
    }

    /// Sends `body` after the head, whatever the head says.
    pub fn raw_body(mut self, body: &[u8]) -> Request {
        self.body = body.to_vec();
        self
    }

    /// Adds a body that is sent in chunks.
    pub fn chunked(self, content_type: &str, chunks: &[&[u8]]) -> Request {
        let mut request = self.header("Content-Type", content_type).header("Transfer-Encoding", "chunked");
        for chunk in chunks {
            request.body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.body.extend_from_slice(chunk);
            request.body.extend_from_slice(b"\r\n");
        }
        request.body.extend_from_slice(b"0\r\n\r\n");
        request
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The value of `name`, which must not be there twice.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = http1::values(&self.headers, name);
        let value = values.next();
        assert!(values.next().is_none(), "`{name}` twice in {:?}", self.headers);
        value
    }

    pub fn headers(&self, name: &str) -> Vec<&str> {
        http1::values(&self.headers, name).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Speaks to one address, with or without TLS; each request has a connection of its own.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub fn https(address: SocketAddr, tls: Arc<ClientConfig>) -> Client {
        Client { address, tls: Some(tls) }
    }

    pub fn http(address: SocketAddr) -> Client {
        Client { address, tls: None }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[track_caller]
    pub fn send(&self, request: &Request) -> Response {
        self.try_send(request).unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"))
    }

    pub fn try_send(&self, request: &Request) -> io::Result<Response> {
        self.try_send_as(&request.host, request)
    }

    /// As [`Client::try_send`], with a server name (SNI) that need not be the request's host.
    pub fn try_send_as(&self, server_name: &str, request: &Request) -> io::Result<Response> {
        self.open(server_name, request).map(|(response, _)| response)
    }

    /// Sends, and keeps the connection, for what follows a 101.
    pub fn open(&self, server_name: &str, request: &Request) -> io::Result<(Response, BufReader<Box<dyn Stream>>)> {
        let tcp = TcpStream::connect(self.address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(config) => {
                let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(session, tcp))
            }
            None => Box::new(tcp),
        };
        stream.write_all(&request.bytes())?;
        stream.flush()?;
        let mut reader = BufReader::new(stream);
        loop {
            let head = Head::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let status = head.start_line.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.ok_or(io::ErrorKind::InvalidData)?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = request.method == "HEAD" || matches!(status, 101 | 204 | 304);
            let body = if bodiless { Vec::new() } else { head.read_body(&mut reader, true)? };
            return Ok((Response { status, headers: head.headers, body }, reader));
        }
    }
}

/// Both directions of a connection.
pub trait Stream: io::Read + io::Write {}
impl<T: io::Read + io::Write> Stream for T {}
