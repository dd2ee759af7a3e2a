//! The log: a line for each event, as text or JSON, that hurts neither who reads it nor who writes it.
//!
//! * Lines and what stands in them are bounded and escaped (`line.rs`): nothing a stranger sends makes more than
//!   2 KiB of log, forges a line, or hides in one. Secrets have no other form than `***`.
//! * Lines that say the same are counted after the first few (`repeats.rs`).
//! * They wait, bounded in bytes, for a thread that writes them (`queue.rs`): no request ever waits for a disk or for
//!   whoever reads standard error. What is lost on the way is counted.
//!
//! What the libraries that we are built on say, in their own words, is written at the level `trace` alone.

mod line;
mod queue;
mod repeats;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use self::line::Fields;
use self::queue::{Next, Queue, Sink};
use self::repeats::{Kind, Repeats, Summary};

/// What may wait for each place that is written to, in bytes: a thousand of the longest lines, and nothing that a
/// server would miss.
const QUEUE: usize = 1 << 20;

/// How long the end of the process waits for what is still queued.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Where lines go and which (`log`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The least important level that is written; the default is info.
    pub level: Level,
    /// How lines look.
    pub format: Format,
    /// A file to append to, in place of standard error.
    pub file: Option<PathBuf>,
    /// Write to standard error as well as to the file (`log.keep_stdout`).
    pub keep_console: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { level: Level::INFO, format: Format::Text, file: None, keep_console: false }
    }
}

/// Lines that were not written, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Too many were waiting.
    pub queue_full: u64,
    /// The file or standard error could not be written, as when the disk is full.
    pub write_failed: u64,
    /// They said what others had said within the same second; a line of its own tells how many.
    pub repeated: u64,
}

/// Reads the counts for as long as anybody wants to know them.
#[derive(Clone)]
pub struct Counter(Arc<Log>);

impl Counter {
    /// The counts by now.
    pub fn counts(&self) -> Counts {
        let sum = |count: fn(&Queue) -> u64| self.0.queues.iter().map(count).sum();
        Counts {
            queue_full: sum(Queue::dropped),
            write_failed: sum(Queue::failed),
            repeated: self.0.repeated.load(Ordering::Relaxed),
        }
    }
}

/// The running log. To be held to the very end: when it is dropped, what is queued is written, and nothing after that.
#[must_use]
pub struct Writer(Arc<Log>);

impl Writer {
    /// Tells how many lines were lost.
    pub fn counter(&self) -> Counter {
        Counter(Arc::clone(&self.0))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let told = self.0.repeats().end();
        self.0.tell(&told);
        self.0.queues.iter().for_each(Queue::close);
        let until = Instant::now() + LAST_WORDS;
        self.0.queues.iter().for_each(|queue| queue.wait_for_the_end(until));
    }
}

/// Starts the log and makes it the destination of every event of this process.
///
/// `clock` gives the time that stands in each line. Standard output is left alone: it carries the ready line.
///
/// # Errors
///
/// If the file can't be opened, a thread can't be started, or logging was started before.
pub fn start(settings: &Settings, clock: fn() -> SystemTime) -> io::Result<Writer> {
    let mut sinks = Vec::new();
    if let Some(path) = &settings.file {
        sinks.push(("log-file", OpenOptions::new().create(true).append(true).open(path)?));
    }
    if settings.file.is_none() || settings.keep_console {
        // A descriptor of our own: the standard library's has a lock, which a slow reader would hold against everybody.
        sinks.push(("log-console", File::from(io::stderr().as_fd().try_clone_to_owned()?)));
    }
    let log = Arc::new(Log::new(settings.format, clock, sinks.len()));
    for ((name, sink), at) in sinks.into_iter().zip(0..) {
        let log = Arc::clone(&log);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || log.write_to(at, Sink::new(Box::new(sink))))?;
    }
    let events = Events { level: settings.level, log: Arc::clone(&log) };
    tracing::subscriber::set_global_default(events).map_err(io::Error::other)?;
    std::panic::set_hook(Box::new(note_panic));
    Ok(Writer(log))
}

/// Logs a panic as everything else is logged. The standard library would write it to standard error itself: it would
/// wait for the reader there, and its message may hold what a stranger sent, line breaks and all.
fn note_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(tracing::field::display);
    tracing::error!(file = place, error = panic.payload_as_str(), "a fault in this program");
}

/// The beginning of a text that is going to be logged, not much longer than a line will show.
///
/// For what may be long, such as a path: whoever hands it on hands on no more than this.
pub fn excerpt(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(512)).0
}

/// What events become.
struct Log {
    format: Format,
    clock: fn() -> SystemTime,
    repeats: Mutex<Repeats>,
    repeated: AtomicU64,
    /// One for each place that is written to, so that a reader who stands still does not stop the others.
    queues: Box<[Queue]>,
}

impl Log {
    fn new(format: Format, clock: fn() -> SystemTime, sinks: usize) -> Log {
        let queues = (0..sinks).map(|_| Queue::new(QUEUE)).collect();
        Log { format, clock, repeats: Mutex::default(), repeated: AtomicU64::new(0), queues }
    }

    fn note(&self, level: Level, fields: Fields, now: Instant) {
        let kind = Kind::of(level, &fields);
        let mut repeats = self.repeats();
        let told = repeats.over(now);
        let is_admitted = repeats.admit(kind, now);
        drop(repeats);
        self.tell(&told);
        if is_admitted {
            self.push(level, fields);
        } else {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell(&self, told: &[Summary]) {
        for summary in told {
            self.push(summary.level(), summary.fields());
        }
    }

    fn push(&self, level: Level, fields: Fields) {
        let stamp = humantime::format_rfc3339_micros((self.clock)()).to_string();
        let line = fields.line(self.format, &stamp, level);
        for queue in &self.queues {
            queue.push(&line);
        }
    }

    /// The life of the thread that writes to the sink at `at`. Each of them looks after what was repeated: another may
    /// be held up by its reader.
    fn write_to(&self, at: usize, mut sink: Sink) {
        let Some(queue) = self.queues.get(at) else { return };
        let mut batch = Vec::new();
        loop {
            let next = self.repeats().next();
            match queue.next(&mut batch, next) {
                Next::Write => queue.lost(sink.write(&batch)),
                Next::Time => {
                    let told = self.repeats().over(Instant::now());
                    self.tell(&told);
                }
                Next::End => return,
            }
        }
    }

    fn repeats(&self) -> MutexGuard<'_, Repeats> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes events from `tracing`. There are no spans.
struct Events {
    level: Level,
    log: Arc<Log>,
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with("portcullis");
        metadata.is_event() && *metadata.level() <= self.level && (is_ours || self.level == Level::TRACE)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn event(&self, event: &Event<'_>) {
        self.log.note(*event.metadata().level(), Fields::of(event), Instant::now());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::{Duration, Instant, SystemTime};

    use tracing::{Level, debug, info, warn};

    use super::line::Fields;
    use super::{Counter, Events, Format, Log, Next, excerpt};

    fn log(format: Format) -> Arc<Log> {
        Arc::new(Log::new(format, || SystemTime::UNIX_EPOCH, 1))
    }

    fn said(log: &Log) -> String {
        let mut batch = Vec::new();
        let _ = log.queues[0].next(&mut batch, Some(Instant::now()));
        String::from_utf8(batch).unwrap()
    }

    /// What is logged at info by `say`.
    fn heard(format: Format, say: impl FnOnce()) -> String {
        let log = log(format);
        tracing::subscriber::with_default(Events { level: Level::INFO, log: Arc::clone(&log) }, say);
        said(&log)
    }

    #[test]
    fn values_of_every_kind_are_written_plainly_and_absent_ones_not_at_all() {
        let say = || {
            let client = Some(tracing::field::display(IpAddr::from([192, 0, 2, 1])));
            let (nobody, user) = (None::<&str>, Some("john"));
            let error = std::io::Error::other("so it is");
            info!(client, user, nobody, %error, number = 7_u64, less = -1, yes = true, half = 0.5, "what {} is", "it");
            debug!("not at this level");
            info!(target: "h2::codec", "not ours");
            let _span = tracing::info_span!("no span").entered();
        };
        assert_eq!(
            heard(Format::Text, say),
            "1970-01-01T00:00:00.000000Z  INFO what it is client=192.0.2.1 user=john error=\"so it is\" number=7 less=-1 \
             yes=true half=0.5\n"
        );
        assert_eq!(
            heard(Format::Json, say),
            "{\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\"level\":\"INFO\",\"message\":\"what it is\",\
             \"client\":\"192.0.2.1\",\"user\":\"john\",\"error\":\"so it is\",\"number\":7,\"less\":-1,\"yes\":true,\
             \"half\":\"0.5\"}\n"
        );
    }

    #[test]
    fn a136_repeated_lines_are_counted_instead() {
        let log = log(Format::Text);
        let counter = Counter(Arc::clone(&log));
        let (start, mut fields) = (Instant::now(), Vec::new());
        for _ in 0..25 {
            let mut said = Fields::new("refused");
            said.push_text("client", "192.0.2.1");
            fields.push(said);
        }
        let last = fields.pop().unwrap();
        fields.into_iter().for_each(|fields| log.note(Level::WARN, fields, start));
        let line = "1970-01-01T00:00:00.000000Z  WARN refused client=192.0.2.1\n";
        assert_eq!((said(&log), counter.counts().repeated), (line.repeat(10), 14));
        log.note(Level::WARN, last, start + Duration::from_secs(1));
        let summary = "1970-01-01T00:00:00.000000Z  WARN refused repeated=14 client=192.0.2.1\n";
        assert_eq!(said(&log), format!("{summary}{line}"), "the count comes before what follows");
        assert_eq!((counter.counts().repeated, counter.counts().queue_full), (14, 0));
    }

    #[test]
    fn a136_what_was_repeated_is_told_when_the_log_ends() {
        let log = log(Format::Text);
        let writer = super::Writer(Arc::clone(&log));
        let thread = std::thread::spawn({
            let log = Arc::clone(&log);
            let (mut batch, mut all) = (Vec::new(), String::new());
            move || {
                while log.queues[0].next(&mut batch, None) != Next::End {
                    all.push_str(std::str::from_utf8(&batch).unwrap());
                }
                all
            }
        });
        let events = Events { level: Level::INFO, log };
        tracing::subscriber::with_default(events, || (0..12).for_each(|_| warn!(reason = "x", "refused")));
        drop(writer);
        let all = thread.join().unwrap();
        assert_eq!(all.lines().count(), 11, "{all}");
        assert!(all.ends_with("WARN refused reason=x repeated=2\n"), "{all}");
    }

    #[test]
    fn a114_an_excerpt_is_the_beginning() {
        assert_eq!(excerpt("/a"), "/a");
        let long = "é".repeat(10_000);
        assert!(excerpt(&format!("x{long}")).len() <= 512 && long.starts_with(excerpt(&long)));
    }
}
