//! Bodies: reading one up to a limit, and decoding the JSON that the API takes.
//!
//! Unknown members are ignored, as existing clients send some.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use serde::{Deserialize, Deserializer};

use crate::secret::Secret;

/// Why there is no body to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is longer than the limit.
    TooLarge,
    /// It took longer than it may.
    TooSlow,
    /// The connection failed, or the body was badly framed.
    Broken,
}

/// Reads a body of at most `limit` bytes, which must be there within `time`.
///
/// # Errors
///
/// [`Unread::TooLarge`] and [`Unread::TooSlow`] without reading on, [`Unread::Broken`] if the connection fails.
pub async fn read<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if usize::try_from(body.size_hint().lower()).map_or(true, |announced| announced > limit) {
        return Err(Unread::TooLarge);
    }
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::Broken),
        Err(_) => Err(Unread::TooSlow),
    }
}

/// `POST /api/firstfactor`.
#[derive(Debug, Deserialize)]
pub struct FirstFactor {
    /// The log-in name: a user name, or whatever else the back end takes.
    pub username: String,
    /// The password.
    #[serde(deserialize_with = "secret")]
    pub password: Secret<String>,
    /// Whether the session is to outlive the browser.
    #[serde(rename = "keepMeLoggedIn", default, deserialize_with = "or_default")]
    pub remember: bool,
    /// Where to go afterwards.
    #[serde(rename = "targetURL", default, deserialize_with = "or_default")]
    pub target: String,
    /// The method of the request that led here.
    #[serde(rename = "requestMethod", default, deserialize_with = "or_default")]
    pub method: String,
}

/// `POST /api/logout`.
#[derive(Debug, Default, Deserialize)]
pub struct Logout {
    /// Where to go afterwards.
    #[serde(rename = "targetURL", default, deserialize_with = "or_default")]
    pub target: String,
}

/// `POST /api/checks/safe-redirection`.
#[derive(Debug, Deserialize)]
pub struct SafeRedirection {
    /// The address asked about.
    pub uri: String,
}

/// `null` counts as absent, as in the clients' own language.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::{Body, Frame};

    use super::{FirstFactor, Logout, Unread, read};

    #[test]
    fn a_sign_in_is_read_as_existing_clients_write_it() {
        let full = br#"{"username":"john","password":"p","keepMeLoggedIn":true,"targetURL":"https://a.example.com/",
            "requestMethod":"GET","flow":"","userCode":null,"somethingNew":{"a":[1]}}"#;
        let read: FirstFactor = serde_json::from_slice(full).unwrap();
        assert_eq!((read.username.as_str(), read.password.expose().as_str(), read.remember), ("john", "p", true));
        assert_eq!((read.target.as_str(), read.method.as_str()), ("https://a.example.com/", "GET"));

        let bare = br#"{"username":"john","password":"p","targetURL":null,"keepMeLoggedIn":null}"#;
        let read: FirstFactor = serde_json::from_slice(bare).unwrap();
        assert_eq!((read.remember, read.target.as_str(), read.method.as_str()), (false, "", ""));
    }

    #[test]
    fn what_is_no_sign_in_is_refused() {
        for bad in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"username":"john"}"#,
            r#"{"password":"p"}"#,
            r#"{"username":null,"password":"p"}"#,
            r#"{"username":"john","password":["p"]}"#,
            r#"{"username":"john","username":"mary","password":"p"}"#,
            r#"{"username":"john","password":"p"} trailing"#,
            "username=john&password=p",
        ] {
            assert!(serde_json::from_slice::<FirstFactor>(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a105_a_password_does_not_print() {
        let read: FirstFactor = serde_json::from_slice(br#"{"username":"john","password":"hunter2"}"#).unwrap();
        assert!(!format!("{read:?}").contains("hunter2"));
    }

    #[test]
    fn a_log_out_needs_no_target() {
        assert_eq!(serde_json::from_slice::<Logout>(b"{}").unwrap().target, "");
    }

    #[tokio::test]
    async fn a89_a_body_is_read_up_to_its_limit() {
        let of = |length: usize| Full::new(Bytes::from(vec![b'x'; length]));
        let time = Duration::from_secs(6);
        assert_eq!(read(of(16), 16, time).await.unwrap().len(), 16);
        assert_eq!(read(of(17), 16, time).await, Err(Unread::TooLarge), "announced");

        assert_eq!(read(Unannounced(2), 16, time).await.unwrap().len(), 16);
        assert_eq!(read(Unannounced(3), 16, time).await, Err(Unread::TooLarge), "not announced");
    }

    #[tokio::test(start_paused = true)]
    async fn a102_a_body_that_never_ends_is_given_up() {
        let begun = tokio::time::Instant::now();
        assert_eq!(read(Stalled, 16, Duration::from_secs(6)).await, Err(Unread::TooSlow));
        assert_eq!(begun.elapsed().as_secs(), 6);
    }

    /// A body that was announced and never comes.
    struct Stalled;

    impl Body for Stalled {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    /// A body of so many chunks of eight bytes, which does not say beforehand how long it is.
    struct Unannounced(usize);

    impl Body for Unannounced {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"01234567")))))
        }
    }
}
