//! Addresses as they are counted: what one person can be expected to have, so that limits hold for that person.
//!
//! Pure: an address in, a prefix out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The part of an address that limits and bans count by.
///
/// An IPv4 address counts whole (/32), also when it is written as IPv6. Of an IPv6 address the first 64 bits count, as
/// one person usually has all addresses behind them (A88). Whoever's address can't be told shares one prefix with all
/// others of that kind, so that they are counted and limited like everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressPrefix {
    /// The address can't be told.
    Unknown,
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
}

impl AddressPrefix {
    /// The prefix of `address`; `None` is an address that can't be told.
    pub fn of(address: Option<IpAddr>) -> AddressPrefix {
        match address.map(|address| address.to_canonical()) {
            None => AddressPrefix::Unknown,
            Some(IpAddr::V4(address)) => AddressPrefix::V4(address),
            Some(IpAddr::V6(address)) => AddressPrefix::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressPrefix::Unknown => f.write_str("unknown"),
            AddressPrefix::V4(address) => address.fmt(f),
            AddressPrefix::V6(high) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*high) << 64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AddressPrefix;

    #[test]
    fn a113_a_prefix_is_what_one_person_has() {
        #[rustfmt::skip]
        let table = [
            // because                                 address                   prefix
            ("an IPv4 address counts whole",           "192.0.2.1",              "192.0.2.1"),
            ("also when it is written as IPv6",        "::ffff:192.0.2.1",       "192.0.2.1"),
            ("the first half of an IPv6 address",      "2001:db8:1:2:3:4:5:6",   "2001:db8:1:2::/64"),
            ("the other half does not count",          "2001:db8:1:2:ffff::1",   "2001:db8:1:2::/64"),
            ("the next /64 is somebody else",          "2001:db8:1:3::1",        "2001:db8:1:3::/64"),
            ("what can't be read is one prefix",       "fe80::1%eth0",           "unknown"),
        ];
        for (because, address, prefix) in table {
            assert_eq!(AddressPrefix::of(address.parse().ok()).to_string(), prefix, "{because}");
        }
    }
}
