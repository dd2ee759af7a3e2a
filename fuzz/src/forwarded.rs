//! The forwarded chain: the client is the rightmost hop that is no proxy of ours; an address that nobody
//! named comes out of nowhere, and one that can't be read is nobody (A36, A37).

use std::net::IpAddr;

use portcullis::peer::{Peer, TrustedProxies};

/// The first byte of `data` chooses the peer; the rest are the `X-Forwarded-For` lines.
pub fn run(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let trusted = TrustedProxies::new(
        ["127.0.0.0/8", "10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().expect("a network")).to_vec(),
    );
    let peer = match first % 5 {
        0 => Peer::Unix,
        1 => Peer::at(IpAddr::from([192, 0, 2, 66])),
        2 => Peer::at("::ffff:10.9.9.9".parse().expect("an address")),
        3 => Peer::at("2001:db8:1::5".parse().expect("an address")),
        _ => Peer::at(IpAddr::from([127, 0, 0, 1])),
    };
    let lines: Vec<&[u8]> = if rest.is_empty() { Vec::new() } else { rest.split(|&byte| byte == b'\n').collect() };
    let client = trusted.client_address(peer, lines.iter().copied());
    assert_eq!(client, expected(peer, &lines), "{peer}");

    let named: Vec<IpAddr> = lines.join(&b","[..]).split(|&byte| byte == b',').filter_map(hop).collect();
    if let Some(client) = client {
        assert!(peer.address() == Some(client) || named.contains(&client), "{client} is named nowhere");
        assert_eq!(client, client.to_canonical(), "an IPv4 address is IPv4");
    }
}

/// The address that a hop names: bare or in brackets, with or without a port, an IPv6 one with or without a zone.
pub fn hop(hop: &[u8]) -> Option<IpAddr> {
    let text = String::from_utf8(hop.to_vec()).ok()?;
    let text = text.trim_matches(|c| c == ' ' || c == '\t');
    let port = |text: &str| {
        (1..=5).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_digit())
            && text.parse::<u32>().is_ok_and(|port| port < 65_536)
    };
    let (bracketed, rest) = match text.strip_prefix('[') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mut name, behind) = if bracketed { rest.split_at_checked(rest.find(']')?)? } else { (rest, "") };
    if !matches!(behind, "" | "]") && !behind.strip_prefix("]:").is_some_and(port) {
        return None;
    }
    if !bracketed && name.matches(':').count() == 1 {
        let (before, digits) = name.split_once(':')?;
        name = before;
        if !port(digits) || name.parse::<std::net::Ipv4Addr>().is_err() {
            return None;
        }
    }
    if let Some((before, zone)) = name.split_once('%') {
        let plain = zone.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-'));
        if zone.is_empty() || zone.len() > 64 || !plain || !before.contains(':') {
            return None;
        }
        name = before;
    }
    let address: IpAddr = name.parse().ok()?;
    if bracketed && address.is_ipv4() { None } else { Some(address.to_canonical()) }
}

fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets(), [127 | 10, ..]),
        IpAddr::V6(v6) => matches!(v6.segments(), [0x2001, 0xdb8, 1, ..]),
    }
}

/// The rule in words: as long as who speaks is ours, believe whom it names; of more than 64 hops, none.
fn expected(peer: Peer, lines: &[&[u8]]) -> Option<IpAddr> {
    let mut speaker = peer.address();
    if lines.is_empty() || speaker.is_some_and(|speaker| !is_ours(speaker)) {
        return speaker;
    }
    let chain = lines.join(&b","[..]);
    for (n, hop) in chain.split(|&byte| byte == b',').rev().enumerate() {
        if n == 64 {
            return None;
        }
        speaker = Some(self::hop(hop)?);
        if !speaker.is_some_and(is_ours) {
            break;
        }
    }
    speaker
}
