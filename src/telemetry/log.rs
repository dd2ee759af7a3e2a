//! Structured logs, as text or JSON, written off the request's path.
//!
//! Lines wait in a bounded queue for one writer; when it is full they are dropped and counted, so a
//! slow disk never slows an answer. Values that strangers sent go out in their `Debug` form, whose
//! control characters are escaped (A105); secrets have no other form than `***`.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};

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

/// The running writer; what is still queued is written when this is dropped.
pub struct Writer {
    _guard: WorkerGuard,
    dropped: ErrorCounter,
}

impl Writer {
    /// How many lines were dropped because the queue was full.
    pub fn lines_dropped(&self) -> u64 {
        self.dropped.dropped_lines() as u64
    }
}

/// Starts the writer and makes it the destination of every event of this process.
///
/// Standard output is left alone: it carries the ready line.
///
/// # Errors
///
/// If the file can't be opened, or logging was started before.
pub fn start(settings: &Settings) -> io::Result<Writer> {
    let (sink, to_console): (Box<dyn io::Write + Send>, bool) = match &settings.file {
        Some(path) => (Box::new(OpenOptions::new().create(true).append(true).open(path)?), settings.keep_console),
        None => (Box::new(io::stderr()), false),
    };
    let (queue, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(8_192).finish(sink);
    let dropped = queue.error_counter();
    let writer = if to_console { BoxMakeWriter::new(queue.and(io::stderr)) } else { BoxMakeWriter::new(queue) };
    let lines = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer);
    let started = match settings.format {
        Format::Text => tracing::subscriber::set_global_default(lines.finish()),
        Format::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
    };
    started.map_err(io::Error::other)?;
    Ok(Writer { _guard: guard, dropped })
}
