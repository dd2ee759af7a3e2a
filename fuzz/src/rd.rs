//! Return addresses: whatever the portal would send somebody to lies inside a cookie domain and is
//! reached over TLS, however a browser reads it (A64 to A66).

use portcullis::portal::redirect::Target;
use portcullis::session::Sites;
use url::Url;

thread_local! {
    static SITES: Sites = super::sites();
}

/// `data` is the value of `rd`, decoded once.
pub fn run(data: &[u8]) {
    let raw = String::from_utf8_lossy(data);
    SITES.with(|sites| check(&raw, sites));
}

fn check(raw: &str, sites: &Sites) {
    let target = Target::read(raw, sites);
    let Some(safe) = target.safe() else { return };
    let sent = safe.as_str();
    assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{sent:?} can stand in a header");
    assert!(!sent.contains('\\'), "{sent}");

    let portal = Url::parse("https://auth.example.com/login/").expect("a portal");
    for read in [Url::parse(sent), portal.join(sent)] {
        let read = read.expect("what is sent out can be read");
        assert!(matches!(read.scheme(), "https" | "wss"), "{sent}");
        assert!(read.username().is_empty() && read.password().is_none(), "{sent}");
        let host = read.host_str().expect("a host").trim_matches(['[', ']']);
        assert!(super::is_ours(host), "{sent}: {host} is not ours");
        assert_eq!(read.as_str(), sent, "it reads as itself");
    }
    // A reader that knows no standard: what stands between `//` and the next delimiter is the host.
    let authority = sent.split_once("://").expect("absolute").1;
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    assert!(!authority.contains('@'), "{sent}");
    let bare = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    assert!(super::is_ours(bare), "{sent}: {bare} is not ours");

    assert_eq!(Target::read(sent, sites), target, "what is sent out is accepted again, as the same");
    assert_eq!(safe.is_page(), sent.starts_with("https://"));
    assert!(!safe.without_fragment().contains('#'));
}
