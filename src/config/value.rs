//! The forms that values take: spans of time, sizes and addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fault;

/// A span of time as it is configured; it may be negative, which some keys give a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    millis: i64,
}

impl Span {
    /// The span, or nothing if it is zero or negative.
    pub fn positive(self) -> Option<Duration> {
        u64::try_from(self.millis).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
    }

    /// The span; `None` if it is negative.
    pub fn duration(self) -> Option<Duration> {
        u64::try_from(self.millis).ok().map(Duration::from_millis)
    }

    /// Whether it is exactly `secs` seconds.
    pub fn is_secs(self, secs: i64) -> bool {
        self.millis == secs.saturating_mul(1000)
    }
}

/// The longest span: a thousand years.
const LONGEST: i64 = 1000 * 365 * 24 * 60 * 60 * 1000;

impl FromStr for Span {
    type Err = Fault;

    /// A whole number of seconds, or numbers with units one after another: `1h30m`, `1 hour and 30
    /// minutes`. A month is 30 days, a year 365. Letter case matters: `M` is months, `m` minutes.
    fn from_str(text: &str) -> Result<Span, Fault> {
        let fault = || {
            Fault::new(format!("`{text}` is not a span of time"))
                .help("Write seconds, as in 90, or numbers with units, as in `1h30m`; the units are y M w d h m s ms.")
        };
        let too_long = || Fault::new(format!("`{text}` is too long a span of time")).help("The longest is 1000 years.");
        let whole = text.strip_prefix('-').unwrap_or(text);
        if !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit()) {
            let secs: i64 = text.parse().map_err(|_| too_long())?;
            let millis = secs.checked_mul(1000).filter(|millis| millis.abs() <= LONGEST).ok_or_else(too_long)?;
            return Ok(Span { millis });
        }
        let mut total: i64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) =
                rest.split_at_checked(digits).filter(|(number, _)| !number.is_empty()).ok_or_else(fault)?;
            let after = after.trim_start_matches(' ');
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, after) = after.split_at_checked(letters).ok_or_else(fault)?;
            let number: i64 = number.parse().map_err(|_| too_long())?;
            let millis = number.checked_mul(unit_millis(unit).ok_or_else(fault)?).ok_or_else(too_long)?;
            total = total.checked_add(millis).filter(|total| *total <= LONGEST).ok_or_else(too_long)?;
            rest = after.trim_start_matches(' ');
            if let Some(further) = rest.strip_prefix("and ") {
                rest = further.trim_start_matches(' ');
                if rest.is_empty() {
                    return Err(fault());
                }
            }
        }
        if text.is_empty() { Err(fault()) } else { Ok(Span { millis: total }) }
    }
}

fn unit_millis(unit: &str) -> Option<i64> {
    const SECOND: i64 = 1000;
    const DAY: i64 = 24 * 60 * 60 * SECOND;
    Some(match unit {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "second" | "seconds" => SECOND,
        "m" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hour" | "hours" => 60 * 60 * SECOND,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "M" | "month" | "months" => 30 * DAY,
        "y" | "year" | "years" => 365 * DAY,
        _ => return None,
    })
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub usize);

impl FromStr for Size {
    type Err = Fault;

    /// A whole number of bytes, or one with a unit: `4096`, `64KiB`, `1 MB`.
    fn from_str(text: &str) -> Result<Size, Fault> {
        let fault = || {
            Fault::new(format!("`{text}` is not a size"))
                .help("Write bytes, as in 4096, or a number with a unit, as in `64KiB`; the units are B kB KiB MB MiB.")
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(fault)?;
        let factor = match unit.trim_start_matches(' ') {
            "" | "B" => 1,
            "kB" | "KB" => 1000,
            "KiB" => 1024,
            "MB" => 1_000_000,
            "MiB" => 1024 * 1024,
            _ => return Err(fault()),
        };
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(fault)?;
        Ok(Size(bytes))
    }
}

/// Where a listener listens, or what it serves below which path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP socket.
    Tcp {
        /// A name or an address without brackets; empty means every interface.
        host: String,
        /// 0 lets the system choose.
        port: u16,
        /// What requests may have in front of their path: empty, or like `/authelia`.
        base_path: String,
    },
    /// A unix socket.
    Unix {
        /// The file; absolute.
        path: PathBuf,
        /// The file's mode, from `umask`; `None` leaves it to the process' own umask.
        mode: Option<u32>,
        /// What requests may have in front of their path: empty, or like `/authelia`.
        base_path: String,
    },
}

impl Address {
    /// What requests may have in front of their path: empty, or like `/authelia`.
    pub fn base_path(&self) -> &str {
        match self {
            Address::Tcp { base_path, .. } | Address::Unix { base_path, .. } => base_path,
        }
    }

    /// Whether only this machine can reach it: a unix socket, or a loopback address.
    pub(super) fn is_of_this_machine(&self) -> bool {
        match self {
            Address::Unix { .. } => true,
            Address::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            }
        }
    }

    /// The same address with `base_path` where it has none.
    pub(super) fn or_base_path(mut self, default: &str) -> Address {
        match &mut self {
            Address::Tcp { base_path, .. } | Address::Unix { base_path, .. } => {
                if base_path.is_empty() {
                    default.clone_into(base_path);
                }
            }
        }
        self
    }

    /// Reads `[tcp://]host[:port][/path]` or `unix:///file?umask=0022&path=auth`; `port` is for
    /// where none is written.
    ///
    /// `tcp4` and `tcp6` keep to one family; without a host that means every interface of it.
    pub(super) fn parse(text: &str, port: u16) -> Result<Address, Fault> {
        let malformed = |what: &str| {
            Fault::new(format!("`{text}` is not an address: {what}"))
                .help("Write `tcp://host:port/`, or `unix:///path/to/socket`.")
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => match text.strip_prefix("unix:") {
                Some(rest) => ("unix", rest),
                None => ("tcp", text),
            },
        };
        match scheme {
            "tcp" | "tcp4" | "tcp6" => tcp(scheme, rest, port).map_err(malformed),
            "unix" => unix(rest).map_err(malformed),
            "fd" => Err(Fault::new(format!("`{text}` is not served yet: sockets can't be inherited"))
                .help("Use `tcp://` or `unix://`.")),
            _ => Err(malformed(&format!("the scheme `{scheme}` is not one of tcp, tcp4, tcp6 and unix"))),
        }
    }
}

fn tcp(scheme: &str, rest: &str, default_port: u16) -> Result<Address, &'static str> {
    if rest.contains(['?', '#', '@']) {
        return Err("`?`, `#` and `@` have no meaning here");
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']').ok_or("the bracket is not closed")?;
            host.parse::<Ipv6Addr>().map_err(|_| "what is in brackets is not an IPv6 address")?;
            let port = match after {
                "" => None,
                _ => Some(after.strip_prefix(':').ok_or("only a port may follow the bracket")?),
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address goes in brackets"),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None => default_port,
        Some(port) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| "the port is larger than 65535")?
        }
        Some(_) => return Err("the port is not a number"),
    };
    let named = |host: &str| {
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            && !host.contains("..")
    };
    let ip = host.parse::<IpAddr>().ok();
    if ip.is_none() && !named(host) {
        return Err("the host is neither a name nor an IP address");
    }
    let host = match (scheme, host, ip) {
        ("tcp4", "", _) => Ipv4Addr::UNSPECIFIED.to_string(),
        ("tcp6", "", _) => Ipv6Addr::UNSPECIFIED.to_string(),
        ("tcp4", _, Some(IpAddr::V6(_))) => return Err("`tcp4` takes no IPv6 address"),
        ("tcp6", _, Some(IpAddr::V4(_))) => return Err("`tcp6` takes no IPv4 address"),
        _ => host.to_owned(),
    };
    Ok(Address::Tcp { host, port, base_path: base_path(path)? })
}

fn unix(rest: &str) -> Result<Address, &'static str> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err("a socket is named by its absolute path, as in `unix:///run/portcullis.sock`");
    }
    let mut mode = None;
    let mut base = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("umask", umask)) => {
                let umask = u32::from_str_radix(umask, 8).ok().filter(|umask| *umask <= 0o777);
                mode = Some(0o777 & !umask.ok_or("`umask` is not an octal number such as 0022")?);
            }
            Some(("path", path)) => base = base_path(&format!("/{}", path.trim_start_matches('/')))?,
            _ => return Err("only `umask` and `path` may follow the `?`"),
        }
    }
    Ok(Address::Unix { path: PathBuf::from(path), mode, base_path: base })
}

/// A path without the slash at its end.
fn base_path(path: &str) -> Result<String, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let segments_good = path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
    if !path.bytes().all(allowed) || !segments_good {
        return Err("a path is letters, digits, `.`, `_`, `-` and single `/`");
    }
    Ok(path.to_owned())
}

impl fmt::Display for Address {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port, base_path } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}{base_path}/")
            }
            Address::Tcp { host, port, base_path } => write!(f, "tcp://{host}:{port}{base_path}/"),
            Address::Unix { path, mode, base_path } => {
                write!(f, "unix://{}", path.display())?;
                let umask = mode.map(|mode| format!("umask={:04o}", 0o777 & !mode));
                let path = (!base_path.is_empty()).then(|| format!("path={}", base_path.trim_start_matches('/')));
                let query: Vec<String> = umask.into_iter().chain(path).collect();
                if query.is_empty() { Ok(()) } else { write!(f, "?{}", query.join("&")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Address, Size, Span};

    #[test]
    fn spans_of_time() {
        #[rustfmt::skip]
        let table = [
            ("90", 90_000), ("0", 0), ("-1", -1_000), ("1h30m", 5_400_000), ("1 hour and 30 minutes", 5_400_000),
            ("1h and 30m", 5_400_000), ("5m", 300_000), ("1M", 30 * 86_400_000), ("1y", 365 * 86_400_000), ("2w", 14 * 86_400_000),
            ("1d", 86_400_000), ("10ms", 10), ("1 year", 365 * 86_400_000), ("2 months", 60 * 86_400_000), ("1s 5ms", 1_005), ("0s", 0),
        ];
        for (text, millis) in table {
            assert_eq!(text.parse::<Span>().map(|span| span.millis), Ok(millis), "{text}");
        }
        for bad in [
            "",
            " ",
            "h",
            "1H",
            "1x",
            "1.5h",
            "5 m and",
            "and 5m",
            "-5m",
            "1h-5m",
            "--1",
            "99999999999999999999",
            "1001y",
            "5m,",
            "５m",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("4096", 4096), ("64KiB", 65536), ("1 MB", 1_000_000), ("2kB", 2000), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "KiB", "-1", "1.5", "1GiB", "99999999999999999999", "1 KiB x"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let table = [
            ("tcp://127.0.0.1:9091/", "tcp://127.0.0.1:9091/"),
            ("tcp://:9091/", "tcp://:9091/"),
            ("tcp://:9091/authelia", "tcp://:9091/authelia/"),
            ("tcp://:9091/authelia/", "tcp://:9091/authelia/"),
            ("tcp://localhost", "tcp://localhost:7/"),
            ("0.0.0.0:80", "tcp://0.0.0.0:80/"),
            (":80", "tcp://:80/"),
            ("tcp://[::1]:80", "tcp://[::1]:80/"),
            ("tcp://[::1]", "tcp://[::1]:7/"),
            ("tcp4://:80", "tcp://0.0.0.0:80/"),
            ("tcp6://:80", "tcp://[::]:80/"),
            ("tcp://a:0/b/c", "tcp://a:0/b/c/"),
            ("unix:///run/p.sock", "unix:///run/p.sock"),
            ("unix:/run/p.sock", "unix:///run/p.sock"),
            ("unix:///run/p.sock?umask=0022&path=auth", "unix:///run/p.sock?umask=0022&path=auth"),
        ];
        for (text, shown) in table {
            let address = Address::parse(text, 7).unwrap_or_else(|fault| panic!("{text}: {fault}"));
            assert_eq!(address.to_string(), shown, "{text}");
        }
        assert!(matches!(Address::parse("unix:///s?umask=0022", 7), Ok(Address::Unix { mode: Some(0o755), .. })));
        for bad in [
            "fd://3",
            "udp://:53",
            "tcp://::1:80",
            "tcp://[::1",
            "tcp://[::1]x",
            "tcp://[a]:1",
            "tcp://h:99999",
            "tcp://h:",
            "tcp://h:x",
            "tcp://u@h:1",
            "tcp://h:1?x",
            "tcp://h:1/a//b",
            "tcp://h:1/../b",
            "tcp://h:1/a b",
            "tcp://h y:1",
            "tcp4://[::1]:1",
            "tcp6://127.0.0.1:1",
            "unix://run/p.sock",
            "unix:///run/",
            "unix:///s?mode=1",
            "unix:///s?umask=9",
            "tcp://h:+1",
        ] {
            assert!(Address::parse(bad, 7).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_an_address_prints_reads_back_the_same(text in "(tcp://|tcp6://|unix://|)[a-z0-9.:\\[\\]/?=&_-]{0,24}") {
            if let Ok(address) = Address::parse(&text, 7) {
                prop_assert_eq!(Address::parse(&address.to_string(), 7), Ok(address));
            }
        }

        #[test]
        fn spans_add_up(hours in 0_i64..1000, minutes in 0_i64..1000) {
            let span = format!("{hours}h {minutes} minutes").parse::<Span>();
            prop_assert_eq!(span.map(|span| span.millis), Ok((hours * 60 + minutes) * 60_000));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Size>();
            let _ = Address::parse(&text, 7);
        }
    }
}
