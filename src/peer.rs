//! Who speaks to us on the wire, and for whom: which peers' forwarded facts are believed, and which
//! address a request really came from.
//!
//! Pure: an address and a header in, an address or a refusal out. It knows no sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::fault::Fault;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP connection from this address, IPv4 unmapped from IPv6.
    Address(IpAddr),
    /// The same, and it has shown a client certificate that our authorities vouch for.
    Certified(IpAddr),
    /// A unix socket: whoever may open the file. It has no address.
    Unix,
}

impl Peer {
    /// The peer at `address`; an IPv4 address written as IPv6 becomes IPv4.
    pub fn at(address: IpAddr) -> Peer {
        Peer::Address(address.to_canonical())
    }

    /// The address, where there is one.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Peer::Address(address) | Peer::Certified(address) => Some(address),
            Peer::Unix => None,
        }
    }

    /// The same peer, now that its certificate was found good.
    #[must_use]
    pub fn certified(self) -> Peer {
        match self {
            Peer::Address(address) | Peer::Certified(address) => Peer::Certified(address),
            Peer::Unix => Peer::Unix,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Address(address) | Peer::Certified(address) => address.fmt(f),
            Peer::Unix => f.write_str("a unix socket"),
        }
    }
}

/// The proxies whose forwarded facts are believed (`server.trusted_proxies`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl Default for TrustedProxies {
    /// Loopback; unix sockets and peers with a good certificate are trusted whatever is listed.
    fn default() -> TrustedProxies {
        TrustedProxies(vec![
            IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8),
            IpNet::new_assert(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), 128),
        ])
    }
}

impl TrustedProxies {
    /// Trusts `networks`, unix sockets and peers with a good certificate, and nothing else, not even loopback.
    pub fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(networks)
    }

    /// The networks that are listed, or loopback.
    pub fn networks(&self) -> &[IpNet] {
        &self.0
    }

    /// Whether forwarded facts from `peer` are believed.
    pub fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Unix | Peer::Certified(_) => true,
            Peer::Address(address) => self.covers(address),
        }
    }

    /// Where a request that arrived from `peer` came from: the rightmost hop that is not a trusted
    /// proxy (`spec` rule: never the leftmost, which anyone can write).
    ///
    /// `chain` holds the values of every `X-Forwarded-For` line, in order. Without one the peer
    /// itself asked. `None` where a hop can't be read, the peer is a unix socket that names no one,
    /// or the chain is longer than 64 hops: then the address is not known, and rules by network are unclear.
    pub fn client_address<'a>(&self, peer: Peer, chain: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<IpAddr> {
        let mut client = peer.address();
        if !self.trusts(peer) {
            return client;
        }
        let mut hops = 0;
        for line in chain.rev() {
            for hop in line.rsplit(|&byte| byte == b',') {
                hops += 1;
                if hops > 64 {
                    return None;
                }
                let address = hop_address(std::str::from_utf8(hop).ok()?)?;
                client = Some(address);
                if !self.covers(address) {
                    return client;
                }
            }
        }
        client
    }

    fn covers(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The address of one hop: bare, in brackets, or with a port behind it, as proxies write them. The zone of an IPv6 address
/// (RFC 4007 §11) means something on the proxy's own links alone and is left out; an IPv4 address written as IPv6 is IPv4.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_matches([' ', '\t']);
    let is_port =
        |text: &str| text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let without_zone = |text: &'_ str| {
        let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
        let is_zone = |zone: &str| {
            (1..=64).contains(&zone.len())
                && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
        };
        zone.is_none_or(is_zone).then(|| address.parse::<Ipv6Addr>().ok()).flatten()
    };
    let address = if let Some(rest) = hop.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
            return None;
        }
        IpAddr::V6(without_zone(address)?)
    } else if let Some((address, port)) = hop.split_once(':').filter(|(_, port)| !port.contains(':')) {
        IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?)
    } else {
        hop.parse::<Ipv4Addr>().ok().map(IpAddr::V4).or_else(|| without_zone(hop).map(IpAddr::V6))?
    };
    Some(address.to_canonical())
}

/// One entry of `server.trusted_proxies`: an address or a range, never everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedNetwork(pub IpNet);

impl FromStr for TrustedNetwork {
    type Err = Fault;

    fn from_str(text: &str) -> Result<TrustedNetwork, Fault> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            Fault::new(format!("`{text}` is neither an address nor a range"))
                .help("Write it as `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`.")
        })?;
        if network.prefix_len() == 0 {
            return Err(Fault::new(format!("`{text}` trusts everybody"))
                .help("Anyone could then say who they are: list the addresses of your proxies."));
        }
        Ok(TrustedNetwork(network.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Peer, TrustedNetwork, TrustedProxies};

    fn client(peer: &str, chain: &[&str]) -> Option<String> {
        let trusted = TrustedProxies::new(vec!["127.0.0.1/32".parse().unwrap(), "10.0.0.0/8".parse().unwrap()]);
        let peer = match peer.strip_prefix("certified ") {
            _ if peer == "unix" => Peer::Unix,
            None => Peer::at(peer.parse().unwrap()),
            Some(address) => Peer::at(address.parse().unwrap()).certified(),
        };
        trusted.client_address(peer, chain.iter().map(|line| line.as_bytes())).map(|address| address.to_string())
    }

    #[test]
    fn a36_the_rightmost_untrusted_hop_is_the_client() {
        #[rustfmt::skip]
        let table: [(&str, &str, &[&str], Option<&str>); 17] = [
            // because                                  peer           chain                                    client
            ("one proxy, one hop",                      "127.0.0.1",   &["192.0.2.1"],                          Some("192.0.2.1")),
            ("the client wrote the left part",          "127.0.0.1",   &["10.0.0.5, 192.0.2.1"],                Some("192.0.2.1")),
            ("two lines are one chain",                 "127.0.0.1",   &["10.0.0.5", "192.0.2.1"],              Some("192.0.2.1")),
            ("two trusted proxies",                     "127.0.0.1",   &["192.0.2.9, 192.0.2.1, 10.1.1.1"],     Some("192.0.2.1")),
            ("three, in several lines",                 "127.0.0.1",   &["192.0.2.9, 192.0.2.1", "10.1.1.1, 10.2.2.2"], Some("192.0.2.1")),
            ("the client wrote lines of its own",       "127.0.0.1",   &["10.0.0.5", "10.0.0.6", "192.0.2.1", "10.1.1.1"], Some("192.0.2.1")),
            ("what stands behind the rightmost",        "127.0.0.1",   &["a, ,unknown", "192.0.2.1"],           Some("192.0.2.1")),
            ("an empty line is a hop",                  "127.0.0.1",   &["192.0.2.1", ""],                      None),
            ("no chain: the peer asks for itself",      "127.0.0.1",   &[],                                     Some("127.0.0.1")),
            ("an untrusted peer is believed nothing",   "192.0.2.66",  &["192.0.2.1"],                          Some("192.0.2.66")),
            ("a certificate stands for an address",     "certified 192.0.2.66", &["192.0.2.1"],                 Some("192.0.2.1")),
            ("and without a chain it asks for itself",  "certified 192.0.2.66", &[],                            Some("192.0.2.66")),
            ("a unix socket names no one",              "unix",        &[],                                     None),
            ("a unix socket with a chain",              "unix",        &["192.0.2.1"],                          Some("192.0.2.1")),
            ("only trusted hops: the outermost",        "127.0.0.1",   &["10.0.0.7"],                           Some("10.0.0.7")),
            ("IPv4 written as IPv6",                    "127.0.0.1",   &["::ffff:192.0.2.1"],                   Some("192.0.2.1")),
            ("IPv6",                                    "127.0.0.1",   &["2001:db8::1"],                        Some("2001:db8::1")),
        ];
        for (because, peer, chain, expected) in table {
            assert_eq!(client(peer, chain).as_deref(), expected, "{because}");
        }
    }

    #[test]
    fn a37_a_hop_that_cannot_be_read_is_nobody() {
        for hop in [
            "a",
            "\"\"",
            "1.2.3.4:99999",
            "for=\"[::1],x\"",
            "unknown",
            "",
            "010.0.0.1",
            "0x7f.1",
            "1.2.3",
            "for=\"[::1]\"",
            "192.0.2.1:",
            "192.0.2.1:+80",
            "192.0.2.1%eth0",
            "[192.0.2.1]",
            "[::1",
            "::1]",
            "[::1]80",
            "[::1]:",
            "[::1]:65536",
            "[::1]:80:80",
            "[]",
            "fe80::1%",
            "fe80::1%a b",
            "fe80::1%eth0%1",
            "192.0.2.1 192.0.2.2",
            "192.0.2.1\u{a0}",
            "::ffff:192.0.2",
            "localhost",
        ] {
            assert_eq!(client("127.0.0.1", &[hop]), None, "{hop}");
            assert_eq!(client("127.0.0.1", &[&format!("192.0.2.1, {hop}")]), None, "{hop}");
        }
        let long = vec!["10.0.0.1"; 100].join(",");
        assert_eq!(client("127.0.0.1", &[&long]), None, "a chain without end");
    }

    #[test]
    fn a121_a_hop_is_read_in_every_form_that_proxies_write() {
        #[rustfmt::skip]
        let table = [
            // because                              hop                             client
            ("a port",                              "192.0.2.1:443",                "192.0.2.1"),
            ("brackets",                            "[2001:db8::1]",                "2001:db8::1"),
            ("brackets and a port",                 "[2001:db8::1]:50000",          "2001:db8::1"),
            ("Traefik: a link-local peer's zone",   "fe80::1%eth0",                 "fe80::1"),
            ("Envoy: the zone's number",            "fe80::1%4",                    "fe80::1"),
            ("with brackets",                       "[fe80::1%eth0.10]",            "fe80::1"),
            ("and a port",                          "[fe80::1%eth0]:80",            "fe80::1"),
            ("IPv4 written as IPv6",                "[::ffff:192.0.2.1]:80",        "192.0.2.1"),
            ("blanks around it",                    " \t192.0.2.1:80 ",             "192.0.2.1"),
            ("behind a proxy of ours with a port",  "192.0.2.1, 10.0.0.1:9000",     "192.0.2.1"),
            ("or with brackets",                    "192.0.2.1,[::ffff:10.0.0.1]",  "192.0.2.1"),
        ];
        for (because, hop, expected) in table {
            assert_eq!(client("127.0.0.1", &[hop]).as_deref(), Some(expected), "{because}: {hop}");
        }
    }

    #[test]
    fn a44_trusting_everybody_is_refused() {
        for bad in ["0.0.0.0/0", "::/0", "10.0.0.0/0", "anyone", "10.0.0.0/33", ""] {
            assert!(bad.parse::<TrustedNetwork>().is_err(), "{bad}");
        }
        assert_eq!("10.1.2.3/8".parse::<TrustedNetwork>().unwrap().0.to_string(), "10.0.0.0/8");
        let default = TrustedProxies::default();
        assert!(default.trusts(Peer::Unix) && default.trusts(Peer::at(IpAddr::from([127, 9, 9, 9]))));
        let stranger = Peer::at(IpAddr::from([10, 0, 0, 1]));
        assert!(!default.trusts(stranger) && default.trusts(stranger.certified()));
        assert!(default.trusts(Peer::at("::ffff:127.0.0.1".parse().unwrap())));
    }
}
