//! Where a person may be sent: a return address that was checked against our cookie domains.
//!
//! A [`SafeRedirect`] has no public constructor, so whatever sends somebody somewhere has had the
//! address checked, in the same request (A66). The address is parsed by the rules that browsers
//! follow (the WHATWG URL standard), and what is sent out is the parsed form written anew: what the
//! check saw is what the browser sees (A64). It is decoded once, by the form or query parser that
//! brought it here, and never again (A65). Pure.

use url::Url;

use crate::session::Sites;

/// The longest address that is looked at, in bytes, and the longest that is sent out.
const LONGEST: usize = 8 * 1024;

/// Evidence that an address lies inside a cookie domain and is reached over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafeRedirect(Url);

impl SafeRedirect {
    /// The address, written anew: ASCII, absolute, without user information.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The part that a server gets to see.
    pub fn without_fragment(&self) -> &str {
        self.as_str().split('#').next().unwrap_or_default()
    }

    /// The host, for the person to read; IPv6 in brackets.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether a browser can go there: `wss` is safe, but no page.
    pub fn is_page(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// What somebody asked to be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nowhere.
    Absent,
    /// Something that is no address at all: control characters, a broken host, too long.
    Unreadable,
    /// An address that is not ours, or is not reached over TLS.
    Unsafe,
    /// An address of ours.
    Safe(SafeRedirect),
}

impl Target {
    /// Reads and checks an address, decoded once; an empty one is absent.
    pub fn read(raw: &str, sites: &Sites) -> Target {
        Target::within(raw, |host| sites.of(host).is_some())
    }

    /// The address, if it is safe.
    pub fn safe(&self) -> Option<&SafeRedirect> {
        match self {
            Target::Safe(redirect) => Some(redirect),
            Target::Absent | Target::Unreadable | Target::Unsafe => None,
        }
    }

    fn within(raw: &str, is_ours: impl Fn(&str) -> bool) -> Target {
        if raw.is_empty() {
            return Target::Absent;
        }
        // A browser drops tabs and newlines, trims spaces and reads `\` as `/` before it parses. No
        // honest address needs any of that, so nothing that relies on it gets as far as the parser.
        let smuggled = |c: char| c.is_control() || c == '\\';
        if raw.len() > LONGEST || raw.contains(smuggled) || raw.trim() != raw {
            return Target::Unreadable;
        }
        let url = match Url::parse(raw) {
            Ok(url) => url,
            Err(url::ParseError::RelativeUrlWithoutBase) => return Target::Unsafe,
            Err(_) => return Target::Unreadable,
        };
        if !matches!(url.scheme(), "https" | "wss") || !has_plain_authority(raw) {
            return Target::Unsafe;
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Target::Unsafe;
        }
        let Some(host) = url.host_str() else { return Target::Unsafe };
        if !is_ours(host.trim_start_matches('[').trim_end_matches(']')) {
            return Target::Unsafe;
        }
        // Writing it anew may make it longer: each byte beyond ASCII becomes three.
        if url.as_str().len() > LONGEST {
            return Target::Unreadable;
        }
        Target::Safe(SafeRedirect(url))
    }
}

/// Whether the address says `scheme://host`, with exactly two slashes and no `@` before the path.
///
/// Browsers also take `https:host` and `https:////host`, and drop an empty user name; an address
/// that is written like that was written to be read in two ways.
fn has_plain_authority(raw: &str) -> bool {
    let Some((_, rest)) = raw.split_once(':') else { return false };
    let Some(rest) = rest.strip_prefix("//") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !authority.is_empty() && !authority.contains('@')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::{LONGEST, Target};

    const DOMAINS: [&str; 3] = ["example.com", "example.org", "2001:db8::7"];

    fn is_ours(host: &str) -> bool {
        DOMAINS.iter().any(|domain| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || (rest.ends_with('.') && rest.len() > 1))
        })
    }

    fn target(raw: &str) -> Target {
        Target::within(raw, is_ours)
    }

    /// Where a browser that is sent `location` by a page on the portal ends up: asked of the parser
    /// anew, with nothing but the text to go by.
    fn a_browser_ends_on_one_of_our_hosts(location: &str) -> bool {
        let portal = Url::parse("https://auth.example.com/").unwrap();
        let Ok(url) = portal.join(location) else { return false };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        matches!(url.scheme(), "https" | "wss") && is_ours(&host) && url.username().is_empty()
    }

    #[test]
    fn an_honest_address_is_sent_out_as_it_came() {
        for good in [
            "https://app.example.com/",
            "https://example.com/",
            "https://example.org/a/b?c=d&e=%2F#f",
            "https://a.b.c.example.com:8443/x",
            "wss://app.example.com/socket",
            "https://[2001:db8::7]/",
            "https://auth.example.com/?rd=https%3A%2F%2Fapp.example.com%2F",
        ] {
            let Target::Safe(redirect) = target(good) else { panic!("{good} is refused") };
            assert_eq!(redirect.as_str(), good);
        }
    }

    #[test]
    fn what_is_sent_out_is_the_form_that_was_checked() {
        #[rustfmt::skip]
        let table = [
            // because                              sent                                    sent out
            ("a path is never empty",               "https://app.example.com",              "https://app.example.com/"),
            ("hosts have no case",                  "HTTPS://APP.Example.COM/A",            "https://app.example.com/A"),
            ("the usual port goes unsaid",          "https://app.example.com:443/",         "https://app.example.com/"),
            ("dot segments are resolved",           "https://app.example.com/a/../b",       "https://app.example.com/b"),
            ("letters beyond ASCII are escaped",    "https://app.example.com/é",            "https://app.example.com/%C3%A9"),
            ("a full stop of another script",       "https://app。example.com/",             "https://app.example.com/"),
            ("an escaped host is a host",           "https://app%2eexample.com/",           "https://app.example.com/"),
        ];
        for (because, raw, expected) in table {
            let Target::Safe(redirect) = target(raw) else { panic!("{because}: {raw}") };
            assert_eq!(redirect.as_str(), expected, "{because}");
            assert!(redirect.as_str().is_ascii());
        }
    }

    #[test]
    fn a64_an_address_that_is_not_ours_is_refused() {
        #[rustfmt::skip]
        let table = [
            // because                              raw                                             expected
            ("nothing was asked for",               "",                                             Target::Absent),
            ("scheme-relative",                     "//evil.com",                                   Target::Unsafe),
            ("a backslash is a slash",              "/\\evil.com",                                  Target::Unreadable),
            ("an escaped tab",                      "/%09/evil.com",                                Target::Unsafe),
            ("a raw tab",                           "/\t/evil.com",                                 Target::Unreadable),
            ("dot and backslash",                   "/./\\evil.com",                                Target::Unreadable),
            ("no slashes",                          "https:evil.com",                               Target::Unsafe),
            ("no slashes, our host",                "https:app.example.com",                        Target::Unsafe),
            ("three slashes",                       "https:///app.example.com/",                    Target::Unsafe),
            ("one slash",                           "https:/app.example.com/",                      Target::Unsafe),
            ("user information",                    "https://app.example.com@evil.com",             Target::Unsafe),
            ("user information, our host",          "https://evil.com@app.example.com",             Target::Unsafe),
            ("a user name and a password",          "https://a:b@app.example.com",                  Target::Unsafe),
            ("an empty user name",                  "https://@app.example.com",                     Target::Unsafe),
            ("backslash before the at sign",        "https://evil.com\\@app.example.com",           Target::Unreadable),
            ("our name in the fragment",            "https://evil.com#.example.com",                Target::Unsafe),
            ("our name in the query",               "https://evil.com?.example.com",                Target::Unsafe),
            ("our name in the path",                "https://evil.com/.example.com",                Target::Unsafe),
            ("our name as a label",                 "https://app.example.com.evil.com",             Target::Unsafe),
            ("no label boundary",                   "https://evilexample.com",                      Target::Unsafe),
            ("an empty label before our name",      "https://.example.com",                         Target::Unsafe),
            ("a name that ends in a dot",           "https://app.example.com./",                    Target::Unsafe),
            ("a script",                            "javascript:alert(1)",                          Target::Unsafe),
            ("a script that looks like a host",     "javascript://app.example.com/%0aalert(1)",     Target::Unsafe),
            ("data",                                "data:text/html,<script>alert(1)</script>",     Target::Unsafe),
            ("another script's slash",              "〵evil.com",                                    Target::Unsafe),
            ("no TLS",                              "http://app.example.com/",                      Target::Unsafe),
            ("no TLS, socket",                      "ws://app.example.com/",                        Target::Unsafe),
            ("another protocol",                    "ftp://app.example.com/",                       Target::Unsafe),
            ("a path",                              "/settings",                                    Target::Unsafe),
            ("a word",                              "settings",                                     Target::Unsafe),
            ("no host",                             "https://",                                     Target::Unreadable),
            ("a newline in the scheme",             "java\nscript:alert(1)",                        Target::Unreadable),
            ("a tab in the scheme",                 "ht\ttps://app.example.com",                    Target::Unreadable),
            ("a header",                            "https://app.example.com/\r\nSet-Cookie: a=b",  Target::Unreadable),
            ("NUL",                                 "https://app.example.com/\0",                   Target::Unreadable),
            ("DEL",                                 "https://app.example.com/\x7f",                 Target::Unreadable),
            ("a leading space",                     " https://app.example.com/",                    Target::Unreadable),
            ("a leading wide space",                "\u{a0}https://app.example.com/",               Target::Unreadable),
            ("a trailing space",                    "https://app.example.com/ ",                    Target::Unreadable),
            ("a port that is none",                 "https://app.example.com:99999/",               Target::Unreadable),
            ("a port that is a host",               "https://app.example.com:@evil.com/",           Target::Unsafe),
            ("an address in octal",                 "https://0177.0.0.1/",                          Target::Unsafe),
            ("a64 in brackets",                     "https://[::1]/",                               Target::Unsafe),
        ];
        for (because, raw, expected) in table {
            assert_eq!(target(raw), expected, "{because}: {raw:?}");
        }
    }

    #[test]
    fn a65_an_address_is_decoded_once() {
        for encoded in ["https%3A%2F%2Fevil.com", "https%253A%252F%252Fevil.com", "https%3A%2F%2Fapp.example.com"] {
            assert_eq!(target(encoded), Target::Unsafe, "{encoded}");
        }
        // Escapes inside stay as they are, for whoever they are meant for.
        let nested = "https://auth.example.com/?rd=https%3A%2F%2Fevil.com";
        assert_eq!(target(nested).safe().unwrap().as_str(), nested);
    }

    #[test]
    fn a64_hundreds_of_generated_addresses_end_on_our_hosts_or_nowhere() {
        let schemes =
            ["https", "HTTPS", "wss", "http", "javascript", "data", "", "https ", "h\tttps", "view-source:https"];
        let joins =
            ["://", ":", ":/", ":///", "://///", ":\\\\", ":/\\", "//", "/%09/", ":%2f%2f", "://@", "://x@", "://x:y@"];
        let hosts = [
            "evil.com",
            "app.example.com",
            "app.example.com.evil.com",
            "evilexample.com",
            "evil.com%00.example.com",
            "evil.com%2f.example.com",
            "evil.com%5c.example.com",
            "evil.com#.example.com",
            "evil.com?.example.com",
            "evil.com\\.example.com",
            "evil.com\\@app.example.com",
            "app.example.com@evil.com",
            "app.example.com%40evil.com",
            "evil.com/.example.com",
            "evil.com:443.example.com",
            "evil。com",
            "evil.com．example.com",
            "[::1].example.com",
            "evil.com;.example.com",
            "evil.com,.example.com",
            "evil.com\u{ff0f}.example.com",
            "evil.com\u{2044}.example.com",
            "ex\u{ad}ample.com",
            "exаmple.com",
            "app.example.com.",
            ".example.com",
            "evil.com\t.example.com",
            "1.2.3.4",
            "0x7f.1",
        ];
        let tails = ["", "/", "/a", "?b", "#c", ":8443/", ":/", "\\", "@evil.com", "/@evil.com", "/\\evil.com"];
        let (mut tried, mut safe) = (0, 0);
        for scheme in schemes {
            for join in joins {
                for host in hosts {
                    for tail in tails {
                        let raw = format!("{scheme}{join}{host}{tail}");
                        tried += 1;
                        if let Target::Safe(redirect) = target(&raw) {
                            safe += 1;
                            let out = redirect.as_str();
                            assert!(a_browser_ends_on_one_of_our_hosts(out), "{raw:?} was sent out as {out:?}");
                            assert!(a_browser_ends_on_one_of_our_hosts(&raw), "{raw:?} means something else");
                        }
                    }
                }
            }
        }
        assert!(tried > 40_000 && safe > 50, "{safe} of {tried}");
    }

    #[test]
    fn an_address_has_an_end() {
        let at_most = |path: usize| format!("https://app.example.com/{}", "a".repeat(path));
        assert!(target(&at_most(LONGEST - 24)).safe().is_some());
        assert_eq!(target(&at_most(LONGEST - 23)), Target::Unreadable);
        let grows = format!("https://app.example.com/{}", "é".repeat(LONGEST / 4));
        assert_eq!(target(&grows), Target::Unreadable, "escapes make it longer than it may be");
    }

    proptest! {
        #[test]
        fn whatever_is_safe_parses_back_to_itself(raw in "(https|wss|http)?(:|://|:/|//)?[a-z.@:\\[\\]\\\\/?#%0-9 \t]{0,24}(example\\.com)?[/?#@.:a-z%]{0,12}") {
            if let Target::Safe(redirect) = target(&raw) {
                let out = redirect.as_str();
                prop_assert!(a_browser_ends_on_one_of_our_hosts(out));
                prop_assert_eq!(target(out), Target::Safe(redirect.clone()));
            }
        }

        #[test]
        fn nothing_panics(raw in any::<String>()) {
            let _ = target(&raw);
        }
    }
}
