//! Reading the body of a request: at most so many bytes, within so much time, and no more memory for all bodies together
//! than there is set aside.
//!
//! A body counts for as many bytes as have come of it. One address prefix may hold a third of what all the others leave
//! free: alone a quarter of everything, and however many send slowly, whoever comes new finds room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::address::AddressPrefix;

/// Bytes of all bodies that are being read at any one time.
const ROOM: usize = 8 * 1024 * 1024;

/// Why there is no body to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is longer than the limit.
    TooLarge,
    /// It took longer than it may.
    TooSlow,
    /// The connection failed, or the body was badly framed.
    Broken,
    /// Too much is being read at this moment, from this client's addresses or from all together.
    NoRoom,
}

/// Reads bodies.
#[derive(Debug)]
pub struct Bodies {
    limit: usize,
    time: Duration,
    room: Room,
}

impl Bodies {
    /// For bodies of at most `limit` bytes, each of which must be there within `time`.
    pub fn new(limit: usize, time: Duration) -> Bodies {
        // With a large limit, four of the longest fit, so that one of them does for a client that is alone.
        let room = Room { total: ROOM.max(limit.saturating_mul(4)), held: Mutex::default() };
        Bodies { limit, time, room }
    }

    /// Reads the body of a request from `client`; `None` where that is not known.
    ///
    /// # Errors
    ///
    /// [`Unread::TooLarge`], [`Unread::TooSlow`] and [`Unread::NoRoom`] without reading on, [`Unread::Broken`] if the connection
    /// fails.
    pub async fn read<B>(&self, body: B, client: Option<IpAddr>) -> Result<Bytes, Unread>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > self.limit) {
            return Err(Unread::TooLarge);
        }
        tokio::time::timeout(self.time, self.collect(body, client)).await.unwrap_or(Err(Unread::TooSlow))
    }

    async fn collect<B>(&self, body: B, client: Option<IpAddr>) -> Result<Bytes, Unread>
    where
        B: Body<Data = Bytes>,
    {
        let mut body = std::pin::pin!(body);
        let mut place = self.room.place(AddressPrefix::of(client));
        // Copied, as a frame may be one byte of a buffer of sixteen thousand that it keeps.
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            if data.len() > self.limit.saturating_sub(read.len()) {
                return Err(Unread::TooLarge);
            }
            if !place.grow(data.len()) {
                return Err(Unread::NoRoom);
            }
            read.extend_from_slice(&data);
        }
        Ok(Bytes::from(read))
    }
}

/// The memory that is set aside, in bytes.
#[derive(Debug)]
struct Room {
    total: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    sum: usize,
    /// Of each prefix that has a body being read.
    by_prefix: HashMap<AddressPrefix, usize>,
}

impl Room {
    fn place(&self, prefix: AddressPrefix) -> Place<'_> {
        Place { room: self, prefix, bytes: 0 }
    }

    fn held<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one body takes of the room; given back when it is dropped.
struct Place<'a> {
    room: &'a Room,
    prefix: AddressPrefix,
    bytes: usize,
}

impl Place<'_> {
    /// Takes `more` bytes, if this prefix may have them.
    fn grow(&mut self, more: usize) -> bool {
        let granted = self.room.held(|held| {
            let own = held.by_prefix.get(&self.prefix).copied().unwrap_or_default().saturating_add(more);
            let free = self.room.total.saturating_sub(held.sum.saturating_add(more));
            let granted = own <= free / 3;
            if granted {
                held.sum += more;
                held.by_prefix.insert(self.prefix, own);
            }
            granted
        });
        if granted {
            self.bytes += more;
        }
        granted
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.held(|held| {
            held.sum = held.sum.saturating_sub(self.bytes);
            if let Some(own) = held.by_prefix.get_mut(&self.prefix) {
                *own = own.saturating_sub(self.bytes);
                if *own == 0 {
                    held.by_prefix.remove(&self.prefix);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::{Body, Frame};

    use super::{Bodies, Place, ROOM, Unread};
    use crate::address::AddressPrefix;

    const TIME: Duration = Duration::from_secs(6);

    #[tokio::test]
    async fn a89_a_body_is_read_up_to_its_limit() {
        let bodies = Bodies::new(16, TIME);
        let of = |length: usize| Full::new(Bytes::from(vec![b'x'; length]));
        assert_eq!(bodies.read(of(16), None).await.unwrap().len(), 16);
        assert_eq!(bodies.read(of(17), None).await, Err(Unread::TooLarge), "announced");

        assert_eq!(bodies.read(Unannounced(2), None).await.unwrap().len(), 16);
        assert_eq!(bodies.read(Unannounced(3), None).await, Err(Unread::TooLarge), "not announced");
    }

    #[tokio::test(start_paused = true)]
    async fn a102_a_body_that_never_ends_is_given_up() {
        let begun = tokio::time::Instant::now();
        assert_eq!(Bodies::new(16, TIME).read(Stalled, None).await, Err(Unread::TooSlow));
        assert_eq!(begun.elapsed().as_secs(), 6);
    }

    #[tokio::test]
    async fn a122_bodies_that_do_not_end_leave_room_for_everybody_else() {
        let bodies = Bodies::new(16 * 1024, TIME);
        let fill = |address: &str| {
            let prefix = AddressPrefix::of(address.parse().ok());
            let mut places: Vec<Place<'_>> = Vec::new();
            let mut refused = false;
            while !refused {
                let mut place = bodies.room.place(prefix);
                refused = !place.grow(16 * 1024);
                places.push(place);
            }
            places.pop(); // the one that was refused
            places
        };
        let alone = fill("192.0.2.1");
        assert_eq!(alone.len() * 16 * 1024, ROOM / 4, "one address has a quarter");
        let address = |text: &str| Some(text.parse().unwrap());
        let sign_in = || Full::new(Bytes::from_static(&[b'x'; 200]));
        assert_eq!(bodies.read(sign_in(), address("192.0.2.1")).await, Err(Unread::NoRoom));
        assert!(bodies.read(sign_in(), address("192.0.2.2")).await.is_ok(), "somebody else");
        assert!(bodies.read(sign_in(), None).await.is_ok(), "an address that is not known is one more");

        let network = fill("2001:db8::1");
        assert_eq!(bodies.read(sign_in(), address("2001:db8::ffff")).await, Err(Unread::NoRoom), "of the same /64");
        assert!(bodies.read(sign_in(), address("2001:db8:0:1::1")).await.is_ok(), "of another");

        let many: Vec<_> = (0..100).map(|n| fill(&format!("198.51.100.{n}"))).collect();
        assert!(bodies.read(sign_in(), address("203.0.113.1")).await.is_ok(), "whoever comes new");
        let held = bodies.room.held(|held| held.sum);
        assert!(held <= ROOM, "{held}");

        drop((alone, network, many));
        assert_eq!(bodies.room.held(|held| (held.sum, held.by_prefix.len())), (0, 0), "all of it is given back");
        assert!(bodies.read(sign_in(), address("192.0.2.1")).await.is_ok());
    }

    /// A body that was announced and never comes.
    struct Stalled;

    impl Body for Stalled {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    /// A body of so many chunks of eight bytes, which does not say beforehand how long it is.
    struct Unannounced(usize);

    impl Body for Unannounced {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"01234567")))))
        }
    }
}
