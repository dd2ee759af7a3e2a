//! Address ranges: parse one, match one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::fault::Fault;

/// An address, or a range of them in CIDR notation (RFC 4632, RFC 4291 §2.3).
///
/// Bits behind the prefix don't count: `10.1.2.3/8` is `10.0.0.0/8`. A range of IPv4 addresses written
/// as IPv6 (`::ffff:10.0.0.0/104`) is the IPv4 range, as the addresses of requests are unmapped too (A26).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether every address of `other` is in this range.
    pub(crate) fn covers(&self, other: &Network) -> bool {
        self.0.contains(&other.0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Network, Fault> {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            Fault::new(format!("`{text}` is neither a network that is defined, nor an address, nor a range"))
                .help("Write it as `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`, or define the name under `definitions.network`.")
        })?;
        let network = network.trunc();
        let unmapped = match network {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => v6
                .addr()
                .to_ipv4_mapped()
                .and_then(|address| IpNet::new(IpAddr::V4(address), v6.prefix_len() - 96).ok()),
            _ => None,
        };
        Ok(Network(unmapped.unwrap_or(network)))
    }
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn a26_a_range_holds_its_addresses_however_they_are_written() {
        #[rustfmt::skip]
        let table = [
            // network                 address               inside
            ("10.0.0.0/8",             "10.255.0.1",         true),
            ("10.1.2.3/8",             "10.9.9.9",           true),
            ("10.0.0.0/8",             "::ffff:10.0.0.1",    true),
            ("::ffff:10.0.0.0/104",    "10.0.0.1",           true),
            ("192.168.2.20",           "192.168.2.20",       true),
            ("192.168.2.20",           "192.168.2.21",       false),
            ("fec0::1/64",             "fec0::ffff",         true),
            ("2001:db8::1",            "2001:db8::2",        false),
            ("0.0.0.0/0",              "192.0.2.1",          true),
            ("0.0.0.0/0",              "2001:db8::1",        false),
            ("::/0",                   "2001:db8::1",        true),
            ("::/0",                   "10.0.0.1",           false),
        ];
        for (network, address, inside) in table {
            let parsed = network.parse::<Network>().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{address} in {network}");
        }
        for bad in ["", "internal", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "0x7f.1", "010.0.0.1", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
