//! Time as the rooms see it: whole seconds since 1970, read here and nowhere else.
//!
//! Everything that depends on time takes a [`UnixTime`] as an argument, so that a test can say what
//! time it is. Spans are [`Duration`]s. `clippy.toml` forbids reading the wall clock elsewhere.

use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment, in whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The wall clock's reading.
    ///
    /// A clock set before 1970 reads as 1970: everything with an end has then not reached it, and
    /// nothing that was stored under a sane clock is taken for new.
    #[expect(clippy::disallowed_methods, reason = "the one file that reads the wall clock")]
    pub fn now() -> UnixTime {
        UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    /// The moment `secs` seconds after 1970.
    pub const fn from_secs(secs: u64) -> UnixTime {
        UnixTime(secs)
    }

    /// Whole seconds since 1970.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is not after it.
    pub fn saturating_since(self, earlier: UnixTime) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }
}

/// The wall clock's reading with its parts of a second, for what people read. Nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "the one file that reads the wall clock")]
pub fn stamp() -> SystemTime {
    SystemTime::now()
}

impl Add<Duration> for UnixTime {
    type Output = UnixTime;

    /// Whole seconds only; a part of a second is dropped, and the end of time is never passed.
    fn add(self, span: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(span.as_secs()))
    }
}
