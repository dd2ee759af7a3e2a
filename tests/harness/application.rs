//! The application behind the proxy: it tells what reached it.
//!
//! Every request is answered with [`Seen`] as JSON. `/own-401` is refused by the application itself. A WebSocket
//! handshake is answered 101; the first line after it is the same JSON, and from then on every byte comes back.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use base64::Engine;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::http1::{self, Head};

/// One request as the application got it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// Its length, and the sum of its bytes.
    pub body: (usize, u64),
}

impl Seen {
    pub fn values(&self, name: &str) -> Vec<&str> {
        http1::values(&self.headers, name).collect()
    }
}

/// Length and sum: whether a body arrived whole.
pub fn fingerprint(body: &[u8]) -> (usize, u64) {
    (body.len(), body.iter().map(|&byte| u64::from(byte)).sum())
}

pub struct Application {
    pub address: SocketAddr,
    served: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Application {
    pub fn start() -> Application {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("an address");
        let served = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (counter, stop) = (Arc::clone(&served), Arc::clone(&stopped));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let counter = Arc::clone(&counter);
                // A connection that breaks off is the proxy's business.
                thread::spawn(move || serve(&stream, &counter).ok());
            }
        });
        Application { address, served, stopped }
    }

    /// How many requests have reached it.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, served: &AtomicUsize) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some(head) = Head::read(&mut reader)? {
        served.fetch_add(1, Ordering::SeqCst);
        let mut words = head.start_line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body = head.read_body(&mut reader, false)?;
        let seen = Seen {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: head.headers.clone(),
            body: fingerprint(&body),
        };
        let json = serde_json::to_string(&seen)?;
        if let Some(key) = head.values("sec-websocket-key").next()
            && head.values("upgrade").any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        {
            return websocket(&mut reader, writer, key, &json);
        }
        let status = if target == "/own-401" { "401 Unauthorized" } else { "200 OK" };
        let length = json.len();
        let json = if method == "HEAD" { "" } else { &json };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
        )?;
    }
    Ok(())
}

fn websocket(reader: &mut impl Read, mut writer: impl Write, key: &str, json: &str) -> io::Result<()> {
    // RFC 6455, section 4.2.2.
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n{json}\n"
    )?;
    let mut buffer = [0; 4096];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..length])?;
    }
}
