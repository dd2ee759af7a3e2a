//! The two probes that stand in for the gate and the application: they write down what reaches them, and answer as they
//! are told.
//!
//! Every request of a run carries a mark that nobody can guess. What comes without the mark of the request under way is
//! counted and refused, so that other traffic is neither reported nor let in.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wire::{Head, drain_body};

/// What to say to the marked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status with these header lines.
    Status(u16, Vec<(&'static str, String)>),
    /// Bytes that are no HTTP.
    Garbage,
    /// The connection ends without an answer.
    Silence,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: u16) -> Answer {
        Answer::Status(status, Vec::new())
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Answer::Status(status, headers) => {
                let mut text = format!("HTTP/1.1 {status} Probe\r\n");
                for (name, value) in headers {
                    text += &format!("{name}: {value}\r\n");
                }
                // A 204 has no length (RFC 9110 §8.6).
                text += if *status == 204 { "" } else { "Content-Length: 0\r\n" };
                (text + "Connection: close\r\n\r\n").into_bytes()
            }
            Answer::Garbage => b"this is no answer\r\n\r\n".to_vec(),
            Answer::Silence => Vec::new(),
        }
    }
}

#[derive(Default)]
struct Record {
    /// The mark of the request under way, and the answer to it.
    expected: Option<(String, Answer)>,
    received: Vec<Head>,
    strangers: usize,
    spoke_http2: bool,
}

/// One listener.
pub struct Probe {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

impl Probe {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// When that is not possible, as on a port that is taken.
    pub async fn listen(address: SocketAddr) -> io::Result<Probe> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&record)));
        Ok(Probe { address, record, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `answer` is for the requests that hold `mark`.
    pub fn expect(&self, mark: &str, answer: Answer) {
        let mut record = lock(&self.record);
        record.received.clear();
        record.expected = Some((mark.to_owned(), answer));
    }

    /// What has come with the mark since.
    pub fn received(&self) -> Vec<Head> {
        std::mem::take(&mut lock(&self.record).received)
    }

    /// How many requests came without it.
    pub fn strangers(&self) -> usize {
        lock(&self.record).strangers
    }

    /// Whether somebody tried HTTP/2, as gRPC does.
    pub fn spoke_http2(&self) -> bool {
        lock(&self.record).spoke_http2
    }

    /// Stops listening; from here on a connection is refused.
    pub async fn close(self) {
        self.task.abort();
        // Aborted is what it was asked to be.
        let _ = self.task.await;
    }
}

async fn accept(listener: TcpListener, record: Arc<Mutex<Record>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others must end first.
            tokio::task::yield_now().await;
            continue;
        };
        let record = Arc::clone(&record);
        // A connection that breaks off is the proxy's business.
        tokio::spawn(async move { serve(stream, &record).await.ok() });
    }
}

/// One request for each connection: what an unsent body would do to the next request on it is not to be found out here.
async fn serve(stream: TcpStream, record: &Mutex<Record>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(head) = Head::read(&mut stream).await? else { return Ok(()) };
    let answer = note(head.clone(), record);
    drain_body(&head, &mut stream).await;
    stream.write_all(&answer.bytes()).await?;
    stream.shutdown().await
}

fn note(head: Head, record: &Mutex<Record>) -> Answer {
    let mut record = lock(record);
    match &record.expected {
        Some((mark, answer)) if head.holds(mark) => {
            let answer = answer.clone();
            record.received.push(head);
            answer
        }
        _ => {
            record.strangers += 1;
            record.spoke_http2 |= head.start_line == "PRI * HTTP/2.0";
            Answer::status(403)
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    // Each change is whole by itself.
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
