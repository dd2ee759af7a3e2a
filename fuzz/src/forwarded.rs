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

    let named: Vec<IpAddr> = lines.join(&b","[..]).split(|&byte| byte == b',').filter_map(address).collect();
    if let Some(client) = client {
        assert!(peer.address() == Some(client) || named.contains(&client), "{client} is named nowhere");
        assert_eq!(client, client.to_canonical(), "an IPv4 address is IPv4");
    }
}

fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = String::from_utf8(hop.to_vec()).ok()?;
    let address: IpAddr = text.trim_matches(|c| c == ' ' || c == '\t').parse().ok()?;
    Some(address.to_canonical())
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
        speaker = Some(address(hop)?);
        if !speaker.is_some_and(is_ours) {
            break;
        }
    }
    speaker
}
