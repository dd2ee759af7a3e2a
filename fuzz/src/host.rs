//! The host grammar: what is accepted is a name or an address and nothing besides, it re-serialises to
//! itself, and a browser that is sent there goes to that host (A20 to A27).

use std::net::{IpAddr, Ipv6Addr};

use portcullis::object::Object;
use url::{Host, Url};

/// `data` is the value of a `Host` or `X-Forwarded-Host` header.
pub fn run(data: &[u8]) {
    let Ok(object) = Object::from_parts(b"GET", b"https", data, b"/") else { return };
    let host = object.host();
    let address = host.parse::<IpAddr>().ok();
    match address {
        Some(address) => assert_eq!(address.to_canonical().to_string(), host, "an address in its one spelling"),
        None => is_a_name(host),
    }

    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    for same in [bracketed.clone(), bracketed.to_ascii_uppercase(), format!("{bracketed}:8443")] {
        assert_eq!(host_of(&same), Some(host.to_owned()), "{same}: an accepted host re-serialises to itself");
    }
    for other in ["@", "#", "/", "\\", ",", " ", "%", "?", "\0", "\n"] {
        let with = [data, other.as_bytes(), data].concat();
        assert!(Object::from_parts(b"GET", b"https", &with, b"/").is_err(), "{other:?} stands in no host");
    }

    // Where a browser ends that is sent to the URL we would write (WHATWG URL). It may refuse what we take, as
    // labels in bad punycode; it may not go elsewhere.
    let url = object.url();
    if let Ok(parsed) = Url::parse(&url) {
        let theirs = match parsed.host() {
            Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().to_string(),
            None => String::new(),
        };
        assert_eq!(theirs, host, "{url}: a browser goes to another host");
        assert!(parsed.username().is_empty() && parsed.password().is_none(), "{url}");
    }
    let covered = super::sites().of(host).is_some();
    assert_eq!(covered, super::is_ours(host), "{host}: which site it belongs to");
}

fn host_of(authority: &str) -> Option<String> {
    Object::from_parts(b"GET", b"https", authority.as_bytes(), b"/").ok().map(|object| object.host().to_owned())
}

/// Letters, digits, hyphens and underscores in labels of 1 to 63, 253 in all, and nothing a resolver takes
/// for an address.
fn is_a_name(host: &str) {
    assert!((1..=253).contains(&host.len()), "{host}");
    assert!(host.parse::<Ipv6Addr>().is_err());
    for label in host.split('.') {
        assert!((1..=63).contains(&label.len()), "{host}");
        assert!(!label.starts_with('-') && !label.ends_with('-'), "{host}");
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        assert!(label.bytes().all(allowed), "{host}");
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    assert!(!last.bytes().all(|byte| byte.is_ascii_digit()), "{host}: an address, to a resolver");
}
