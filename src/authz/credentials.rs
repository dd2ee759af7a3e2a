//! What a header of credentials holds (RFC 7617, RFC 6750). Pure: bytes in, an enum out.
//!
//! A scheme that is not ours is no credential at all: the application behind may have its own (W11).
//! Basic that can't be read is one that failed, never one that was not shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::settings::Schemes;
use crate::secret::Secret;

/// What was shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing that is meant for us.
    Nothing,
    /// A user name and a password, neither of them empty.
    Basic {
        /// The name as typed.
        login: String,
        /// The password.
        password: Secret<String>,
    },
    /// Something meant for us that can't be read.
    Unreadable,
}

/// Reads the value of `Authorization` or `Proxy-Authorization`.
pub fn read(value: Option<&[u8]>, schemes: Schemes) -> Shown {
    let Some(value) = value else { return Shown::Nothing };
    let Some((scheme, rest)) = split_at_space(value) else {
        // A bare `Basic` asks for Basic and shows nothing.
        return if schemes.basic && value.eq_ignore_ascii_case(b"Basic") { Shown::Unreadable } else { Shown::Nothing };
    };
    if scheme.eq_ignore_ascii_case(b"Basic") && schemes.basic {
        return basic(rest).unwrap_or(Shown::Unreadable);
    }
    if scheme.eq_ignore_ascii_case(b"Bearer") && schemes.bearer {
        // We issue no tokens, so one that is well formed is meant for somebody else.
        let token68 = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.~+/=-".contains(byte);
        return if !rest.is_empty() && rest.iter().all(token68) { Shown::Nothing } else { Shown::Unreadable };
    }
    Shown::Nothing
}

/// Reads a header in which only Basic may stand, as the legacy endpoint does.
pub fn read_basic_only(value: Option<&[u8]>) -> Shown {
    let Some(value) = value else { return Shown::Nothing };
    match split_at_space(value) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Basic") => basic(rest).unwrap_or(Shown::Unreadable),
        Some(_) | None => Shown::Unreadable,
    }
}

fn split_at_space(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|&byte| byte == b' ')?;
    Some((value.get(..at)?, value.get(at + 1..)?))
}

fn basic(encoded: &[u8]) -> Option<Shown> {
    let decoded = Zeroizing::new(STANDARD.decode(encoded).ok()?);
    let (login, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    if login.is_empty() || password.is_empty() {
        return None;
    }
    Some(Shown::Basic { login: login.to_owned(), password: Secret::new(password.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::{Schemes, Shown, read, read_basic_only};
    use crate::secret::Secret;

    const BASIC: Schemes = Schemes { basic: true, bearer: false };
    const BOTH: Schemes = Schemes { basic: true, bearer: true };
    const NONE: Schemes = Schemes { basic: false, bearer: false };

    fn john(password: &str) -> Shown {
        Shown::Basic { login: "john".to_owned(), password: Secret::new(password.to_owned()) }
    }

    #[test]
    fn w11_only_our_own_schemes_are_credentials() {
        #[rustfmt::skip]
        let table: [(&str, Schemes, &str, Shown); 19] = [
            ("the usual form",                   BASIC, "Basic am9objpzZWNyZXQ=",  john("secret")),
            ("the scheme in any case",           BASIC, "bAsIc am9objpzZWNyZXQ=",  john("secret")),
            ("split at the first colon",         BASIC, "Basic am9objphOmI=",      john("a:b")),
            ("two spaces",                       BASIC, "Basic  am9objpzZWNyZXQ=", Shown::Unreadable),
            ("no padding",                       BASIC, "Basic am9objpzZWNyZXQ",   Shown::Unreadable),
            ("no colon",                         BASIC, "Basic am9obg==",          Shown::Unreadable),
            ("no password",                      BASIC, "Basic am9objo=",          Shown::Unreadable),
            ("no name",                          BASIC, "Basic OnNlY3JldA==",      Shown::Unreadable),
            ("not base64",                       BASIC, "Basic %%%",               Shown::Unreadable),
            ("not text",                         BASIC, "Basic am9objr//w==",      Shown::Unreadable),
            ("nothing behind the scheme",        BASIC, "Basic",                   Shown::Unreadable),
            ("nothing behind the space",         BASIC, "Basic ",                  Shown::Unreadable),
            ("Basic, but not asked for",         NONE,  "Basic am9objpzZWNyZXQ=",  Shown::Nothing),
            ("an application's own scheme",      BASIC, "Digest username=\"john\"", Shown::Nothing),
            ("another one",                      BASIC, "Token",                   Shown::Nothing),
            ("Bearer, not asked for",            BASIC, "Bearer abc",              Shown::Nothing),
            ("somebody else's token",            BOTH,  "Bearer abc.def",          Shown::Nothing),
            ("a token with a space",             BOTH,  "Bearer a b",              Shown::Unreadable),
            ("no token",                         BOTH,  "Bearer ",                 Shown::Unreadable),
        ];
        for (because, schemes, value, expected) in table {
            assert_eq!(read(Some(value.as_bytes()), schemes), expected, "{because}");
        }
        assert_eq!(read(None, BOTH), Shown::Nothing);
    }

    #[test]
    fn the_legacy_header_takes_nothing_but_basic() {
        assert_eq!(read_basic_only(None), Shown::Nothing);
        assert_eq!(read_basic_only(Some(b"Basic am9objpzZWNyZXQ=")), john("secret"));
        assert_eq!(read_basic_only(Some(b"Bearer abc")), Shown::Unreadable);
        assert_eq!(read_basic_only(Some(b"Basic")), Shown::Unreadable);
    }
}
