//! Lines that wait for a writer of their own.
//!
//! Whoever has something to say never waits: what does not fit is dropped and counted. The bound is in bytes, because
//! memory is what a slow reader costs.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a queue keeps of its memory once a burst is over.
const KEPT: usize = 64 * 1024;

/// Whole lines, in one block of memory.
#[derive(Debug)]
pub(super) struct Queue {
    bound: usize,
    state: Mutex<State>,
    changed: Condvar,
    full: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes that the writer has taken and is writing.
    writing: usize,
    is_closed: bool,
    has_ended: bool,
}

/// What a writer is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// To write what it was given.
    Write,
    /// To look at its clock.
    Time,
    /// To end: the queue is closed and empty.
    End,
}

impl Queue {
    /// A queue that holds at most `bound` bytes, those included that are being written.
    pub fn new(bound: usize) -> Queue {
        let (full, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Queue { bound, state: Mutex::default(), changed: Condvar::new(), full, failed }
    }

    /// Takes a line, or counts it as dropped.
    pub fn push(&self, line: &str) {
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() + state.writing + line.len() > self.bound {
            self.full.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        drop(state);
        self.changed.notify_all();
    }

    /// Puts all that waits into `batch`, whose last content is written now; waits for it until `until`.
    pub fn next(&self, batch: &mut Vec<u8>, until: Option<Instant>) -> Next {
        batch.clear();
        batch.shrink_to(KEPT);
        let mut state = self.lock();
        state.writing = 0;
        loop {
            if !state.waiting.is_empty() {
                std::mem::swap(&mut state.waiting, batch);
                state.writing = batch.len();
                return Next::Write;
            }
            if state.is_closed {
                state.has_ended = true;
                self.changed.notify_all();
                return Next::End;
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Next::Time,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Counts lines that were taken but could not be written.
    pub fn lost(&self, lines: u64) {
        self.failed.fetch_add(lines, Ordering::Relaxed);
    }

    /// Takes no more; what waits is still written.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits until the writer has ended, at most until `until`.
    pub fn wait_for_the_end(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        // The time being over is an end as well.
        let _ = self.changed.wait_timeout_while(self.lock(), left, |state| !state.has_ended);
    }

    /// Lines that found it full.
    pub fn dropped(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// Lines that could not be written.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines end up. It fails for a while at worst: a disk that is full today has room tomorrow.
pub(super) struct Sink {
    to: Box<dyn Write + Send>,
    /// What was written last is the beginning of a line.
    is_torn: bool,
}

impl Sink {
    pub fn new(to: Box<dyn Write + Send>) -> Sink {
        Sink { to, is_torn: false }
    }

    /// Writes whole lines; answers how many of them are not there as a whole.
    pub fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.write_some(b"\n").1.is_err() {
            return count(lines);
        }
        self.is_torn = false;
        match self.write_some(lines) {
            (_, Ok(())) => 0,
            (written, Err(_)) => {
                let (done, rest) = lines.split_at_checked(written).unwrap_or((lines, &[]));
                self.is_torn = done.last().is_some_and(|byte| *byte != b'\n');
                count(rest)
            }
        }
    }

    /// `write_all`, but it says how far it got.
    fn write_some(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.to.write(rest) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the descriptor made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::{Next, Queue, Sink};

    #[test]
    fn a114_the_queue_is_bounded_in_bytes_with_those_that_are_being_written() {
        let queue = Queue::new(1_000);
        let line = format!("{}\n", "x".repeat(99));
        let mut batch = Vec::new();
        for _ in 0..3 {
            queue.push(&line);
        }
        assert_eq!(queue.next(&mut batch, None), Next::Write);
        assert_eq!(batch.len(), 300);
        // A writer that does not come back, and somebody who has much to say.
        for _ in 0..10_000 {
            queue.push(&line);
        }
        let state = queue.lock();
        assert_eq!((state.waiting.len(), state.writing), (700, 300));
        drop(state);
        assert_eq!(queue.dropped(), 10_000 - 7, "a136: whatever does not fit is counted");
        // It comes back after all, and there is room again.
        assert_eq!(queue.next(&mut batch, None), Next::Write);
        assert_eq!(batch.len(), 700);
        assert_eq!(queue.next(&mut batch, Some(Instant::now())), Next::Time);
        queue.push(&line);
        assert_eq!((queue.dropped(), queue.next(&mut batch, None), batch.len()), (9_993, Next::Write, 100));
    }

    #[test]
    fn a114_memory_is_given_back_after_a_burst() {
        let queue = Queue::new(1 << 20);
        let mut batch = Vec::new();
        for _ in 0..2 {
            while queue.dropped() == 0 {
                queue.push("a line of a burst\n");
            }
            queue.full.store(0, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(queue.next(&mut batch, None), Next::Write);
            assert_eq!(queue.next(&mut batch, Some(Instant::now())), Next::Time);
        }
        assert!(batch.capacity() + queue.lock().waiting.capacity() <= 2 * super::KEPT);
    }

    #[test]
    fn what_waits_is_written_before_the_end() {
        let queue = Queue::new(1_000);
        queue.push("last words\n");
        queue.close();
        queue.push("too late\n");
        let mut batch = Vec::new();
        assert_eq!((queue.next(&mut batch, None), &*batch), (Next::Write, &b"last words\n"[..]));
        queue.wait_for_the_end(Instant::now());
        assert!(!queue.lock().has_ended, "it is not waited for longer than was said");
        assert_eq!((queue.next(&mut batch, None), queue.dropped()), (Next::End, 1));
        assert!(queue.lock().has_ended);
    }

    /// A disk with so many bytes left.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (left, written) = &mut *self.0.lock().unwrap();
            let room = bytes.len().min(*left).min(7);
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend_from_slice(&bytes[..room]);
            *left -= room;
            Ok(room)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a136_lines_that_could_not_be_written_are_counted_and_the_next_begins_a_line() {
        let disk = Disk::default();
        let mut sink = Sink::new(Box::new(disk.clone()));
        let room = |bytes| disk.0.lock().unwrap().0 = bytes;
        let table = [(100, 0), (0, 3), (11, 2), (0, 3), (100, 0), (8, 2), (100, 0)];
        for (n, (left, lost)) in table.into_iter().enumerate() {
            room(left);
            assert_eq!(sink.write(format!("{n} one\n{n} two\n{n} ten\n").as_bytes()), lost, "{n}");
        }
        let written = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
        assert_eq!(
            written.lines().collect::<Vec<_>>(),
            [
                "0 one", "0 two", "0 ten", // all
                "2 one", "2 two", // torn exactly at the end of its text
                "4 one", "4 two", "4 ten", //
                "5 one", "5 ", // torn in the middle
                "6 one", "6 two", "6 ten",
            ]
        );
    }
}
