//! The cookie domains that people sign in to, and what holds for sessions in each of them.
//!
//! Values are checked here and nowhere after: a [`CookieDomain`] can carry a cookie, a [`PortalUrl`] can
//! be redirected to, and in [`Sites`] no entry hides another. Nothing here knows of files or requests.
//!
//! Cookie domains and their scope are those of RFC 6265 section 5.1.3 (domain matching).

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::{Host, Url};

use crate::fault::Fault;

/// The domain that a session cookie is set for: a host name that is no public suffix, or an IP address.
///
/// Lower case, without dot or port around it; IPv6 addresses without brackets. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CookieDomain(Arc<str>);

impl CookieDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is an IP address: its cookie is bound to that one host and carries no `Domain`.
    pub fn is_address(&self) -> bool {
        self.0.parse::<IpAddr>().is_ok()
    }

    /// Whether `host` (lower case, without port or brackets) is this domain or lies below it.
    pub fn covers(&self, host: &str) -> bool {
        match host.strip_suffix(&*self.0) {
            Some("") => true,
            // Nothing lies below an address, and no host name ends in one.
            Some(below) => below.ends_with('.') && !self.is_address(),
            None => false,
        }
    }
}

impl FromStr for CookieDomain {
    type Err = Fault;

    /// Reads a cookie domain.
    ///
    /// # Errors
    ///
    /// A pattern, a leading dot, a port, anything that is not a lower-case host name of two labels or more,
    /// and a public suffix, for which browsers take no cookie.
    fn from_str(text: &str) -> Result<CookieDomain, Fault> {
        if text.is_empty() {
            return Err(Fault::new("an empty cookie domain").help("Write the domain of the applications: example.com"));
        }
        let address = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = address.and_then(|text| text.parse::<Ipv6Addr>().ok()) {
            return Ok(CookieDomain(address.to_string().into()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(CookieDomain(address.to_string().into()));
        }
        if let Some(rest) = text.strip_prefix("*.") {
            return Err(Fault::new(format!("cookie domain `{text}` is a pattern"))
                .help(format!("A cookie domain covers what is below it: write `{rest}`.")));
        }
        if let Some(rest) = text.strip_prefix('.') {
            return Err(Fault::new(format!("cookie domain `{text}` begins with a dot"))
                .help(format!("A cookie domain covers what is below it: write `{rest}`.")));
        }
        if let Some((host, port)) = text.split_once(':')
            && port.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(Fault::new(format!("cookie domain `{text}` has a port"))
                .help(format!("Cookies know no ports: write `{host}`.")));
        }
        if let Some(at) = text.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '-' | '.')) {
            let end = text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |c| at + c.len_utf8());
            return Err(Fault::new(format!("cookie domain `{text}` is not a lower-case host name"))
                .help("Use lower-case letters, digits, hyphens and dots; write other letters as punycode (xn--…).")
                .at(at..end));
        }
        let sound = |label: &str| (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
        if text.len() > 253 || !text.split('.').all(sound) {
            return Err(Fault::new(format!("cookie domain `{text}` is not a host name"))
                .help("Labels have 1 to 63 characters and neither begin nor end with a hyphen."));
        }
        let Some((_, last)) = text.rsplit_once('.') else {
            return Err(Fault::new(format!("cookie domain `{text}` has a single label"))
                .help("Browsers want two labels or more, as in example.com or house.home.arpa."));
        };
        // What ends in a number, browsers read as an IPv4 address, hexadecimal included (WHATWG URL section 3.5).
        let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::new(format!("cookie domain `{text}` is neither a host name nor an IP address")));
        }
        if psl::suffix_str(text) == Some(text) {
            return Err(Fault::new(format!("cookie domain `{text}` is a public suffix"))
                .help("Browsers refuse cookies for it, as strangers live below it: use a name of your own below it."));
        }
        Ok(CookieDomain(text.into()))
    }
}

impl fmt::Display for CookieDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CookieDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// An address that people are sent to: absolute, `https` (or `wss`), without user name or password.
///
/// The path ends in `/`, so that names of pages can be joined to it; [`PortalUrl::as_written`] undoes that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalUrl {
    url: Url,
    slash_added: bool,
}

impl PortalUrl {
    /// The address, parsed.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The host: lower case, without port, IPv6 without brackets.
    pub fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        }
    }

    /// The same address without the `/` that was put at the end of its path, as an application expects it.
    pub fn as_written(mut self) -> PortalUrl {
        if self.slash_added {
            let path = self.url.path().trim_end_matches('/').to_owned();
            self.url.set_path(&path);
            self.slash_added = false;
        }
        self
    }
}

impl FromStr for PortalUrl {
    type Err = Fault;

    /// Reads an address and ends its path in `/`.
    ///
    /// # Errors
    ///
    /// What is not an absolute URL, another scheme than `https` or `wss`, no host, user name or password.
    fn from_str(text: &str) -> Result<PortalUrl, Fault> {
        let help = "Write the whole address, as in https://auth.example.com/";
        let mut url = Url::parse(text)
            .map_err(|error| Fault::new(format!("`{text}` is not an absolute URL: {error}")).help(help))?;
        if !matches!(url.scheme(), "https" | "wss") {
            return Err(Fault::new(format!("`{text}` is not an https URL"))
                .help("The session cookie is sent over TLS only: use an https address."));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(Fault::new(format!("`{text}` names no host")).help(help));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Fault::new("a user name or password in a URL").help(help));
        }
        let slash_added = !url.path().ends_with('/');
        if slash_added {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(PortalUrl { url, slash_added })
    }
}

impl fmt::Display for PortalUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When browsers send the cookie with requests that another site caused (RFC 6265bis section 5.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Always.
    None,
    /// When somebody follows a link; the default.
    #[default]
    Lax,
    /// Never.
    Strict,
}

impl SameSite {
    /// The value of the cookie's attribute.
    pub const fn attribute(self) -> &'static str {
        match self {
            SameSite::None => "None",
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
        }
    }
}

impl FromStr for SameSite {
    type Err = Fault;

    fn from_str(text: &str) -> Result<SameSite, Fault> {
        match text {
            "none" => Ok(SameSite::None),
            "lax" => Ok(SameSite::Lax),
            "strict" => Ok(SameSite::Strict),
            _ => Err(Fault::new(format!("unknown same_site `{text}`")).help("The values are none, lax and strict.")),
        }
    }
}

/// One cookie domain and what holds for sessions in it.
#[derive(Clone, Debug)]
pub struct Site {
    /// The domain that the cookie is set for.
    pub domain: CookieDomain,
    /// Where people sign in; `None` where only the proxy knows.
    pub portal: Option<PortalUrl>,
    /// Where people go who signed in without having asked for a page.
    pub default_redirection: Option<PortalUrl>,
    /// The cookie's name; `authelia_session` by default, as people who move over have it.
    pub cookie_name: String,
    /// When browsers send the cookie with requests that another site caused.
    pub same_site: SameSite,
    /// How long a session lives without a request; 5 minutes by default, zero for no limit. Does not apply to
    /// sessions with remember-me.
    pub inactivity: Duration,
    /// How long a session lives from sign-in, whatever happens; 1 hour by default.
    pub expiration: Duration,
    /// The same with remember-me; 30 days by default. `None`: remember-me is switched off.
    pub remember_me: Option<Duration>,
}

impl Site {
    /// Whether browsers take a cookie of this name over TLS only, and so none that somebody on the way, or another
    /// host below the domain, sets by plain http (RFC 6265bis section 4.1.3).
    pub fn cookie_needs_tls(&self) -> bool {
        ["__Secure-", "__Host-"].iter().any(|prefix| self.cookie_name.starts_with(prefix))
    }

    /// `domain` with defaults for all else and no portal.
    pub fn new(domain: CookieDomain) -> Site {
        Site {
            domain,
            portal: None,
            default_redirection: None,
            cookie_name: String::from("authelia_session"),
            same_site: SameSite::Lax,
            inactivity: Duration::from_secs(5 * 60),
            expiration: Duration::from_secs(60 * 60),
            remember_me: Some(Duration::from_secs(30 * 24 * 60 * 60)),
        }
    }
}

/// All sites, in the order of the file, none of which hides another.
#[derive(Clone, Debug)]
pub struct Sites(Box<[Site]>);

impl Sites {
    /// Takes the sites in the order of the file and checks what holds between their values.
    ///
    /// The `/` that [`PortalUrl`] puts at the end of a path is taken away again from `default_redirection`.
    ///
    /// # Errors
    ///
    /// Every fault, each with the index of the site and the name of its key in the configuration: no site at all, a
    /// domain equal to or below an earlier one, an address outside the domain, equal addresses, a cookie name that
    /// no browser would take.
    pub fn new(mut sites: Vec<Site>) -> Result<Sites, Vec<(usize, &'static str, Fault)>> {
        let mut faults = Vec::new();
        if sites.is_empty() {
            faults.push((
                0,
                "domain",
                Fault::new("no cookie domain").help("Name at least one under `session.cookies`."),
            ));
        }
        for (n, site) in sites.iter().enumerate() {
            if let Err(fault) = check_name(&site.cookie_name, &site.domain) {
                faults.push((n, "name", fault));
            }
            if let Some(earlier) = sites.iter().take(n).find(|earlier| earlier.domain.covers(site.domain.as_str())) {
                let message = format!("cookie domain `{}` is covered by `{}` above it", site.domain, earlier.domain);
                faults.push((n, "domain", Fault::new(message).help("Put it before that one, or leave it out.")));
            }
            for (key, url) in [("authelia_url", &site.portal), ("default_redirection_url", &site.default_redirection)] {
                if let Some(url) = url
                    && !site.domain.covers(&url.host())
                {
                    let message = format!("`{url}` is outside the cookie domain `{}`", site.domain);
                    faults.push((n, key, Fault::new(message).help("The session cookie would not reach it.")));
                }
            }
            if let (Some(portal), Some(target)) = (&site.portal, &site.default_redirection)
                && portal.url == target.url
            {
                let fault = Fault::new("`default_redirection_url` is the portal itself");
                faults.push((n, "default_redirection_url", fault.help("Name an application, or leave it out.")));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        for site in &mut sites {
            site.default_redirection = site.default_redirection.take().map(PortalUrl::as_written);
        }
        Ok(Sites(sites.into()))
    }

    /// The site that `host` (lower case, no port, no trailing dot) belongs to: the first whose domain covers it.
    pub fn of(&self, host: &str) -> Option<&Site> {
        self.0.iter().find(|site| site.domain.covers(host))
    }

    /// All sites, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Site> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Sites {
    type Item = &'a Site;
    type IntoIter = std::slice::Iter<'a, Site>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Checks that `name` is a token (RFC 9110 section 5.6.2), and that browsers take it for `domain`.
fn check_name(name: &str, domain: &CookieDomain) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::new("an empty cookie name"));
    }
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if let Some(at) = name.bytes().position(|b| !token(b)) {
        return Err(Fault::new(format!("cookie name `{name}` holds a character that cookie names cannot"))
            .help("Use letters, digits, `-` and `_`.")
            .at(at..at + 1));
    }
    // The cookie of an address has no `Domain`, and may be called so.
    if name.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("__host-")) && !domain.is_address() {
        return Err(Fault::new(format!("cookie name `{name}` forbids a domain")).help(
            "Browsers bind `__Host-` cookies to one host; the session must reach them all. `__Secure-` is fine.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CookieDomain, PortalUrl, SameSite, Site, Sites};

    fn site(domain: &str) -> Site {
        Site::new(domain.parse().unwrap())
    }

    fn keys_at_fault(sites: Vec<Site>) -> Vec<(usize, &'static str)> {
        Sites::new(sites).unwrap_err().into_iter().map(|(n, key, _)| (n, key)).collect()
    }

    #[test]
    fn a_cookie_domain_is_one_that_browsers_take() {
        #[rustfmt::skip]
        let table = [
            ("the usual",                     "example.com",            true),
            ("deeper",                        "a.b-c.example.com",      true),
            ("a name below a public suffix",  "x.duckdns.org",          true),
            ("punycode",                      "xn--bcher-kva.example",  true),
            ("a home network",                "house.home.arpa",        true),
            ("an address",                    "192.0.2.1",              true),
            ("an IPv6 address",               "2001:db8::1",            true),
            ("an IPv6 address as in URLs",    "[2001:db8::1]",          true),
            ("empty",                         "",                       false),
            ("a pattern",                     "*.example.com",          false),
            ("a leading dot",                 ".example.com",           false),
            ("a trailing dot",                "example.com.",           false),
            ("a port",                        "example.com:8080",       false),
            ("A67: a public suffix",          "duckdns.org",            false),
            ("A67: another",                  "co.uk",                  false),
            ("one label",                     "localhost",              false),
            ("upper case",                    "Example.com",            false),
            ("not ASCII",                     "bücher.example",         false),
            ("a hyphen at the edge",          "-a.example.com",         false),
            ("an empty label",                "a..example.com",         false),
            ("an underscore",                 "a_b.example.com",        false),
            ("a URL",                         "https://example.com",    false),
            ("half an address",               "192.0.2",                false),
            ("an address in disguise",        "127.0.0.0x1",            false),
            ("attributes of a cookie",        "example.com; Path=/x",   false),
        ];
        for (because, text, good) in table {
            assert_eq!(text.parse::<CookieDomain>().is_ok(), good, "{because}: {text}");
        }
        let fault = "bü.example".parse::<CookieDomain>().unwrap_err();
        assert_eq!(fault.at, Some(1..3), "points at the whole letter");
    }

    #[test]
    fn a_domain_covers_itself_and_what_is_below_it() {
        let domain: CookieDomain = "example.com".parse().unwrap();
        for (host, covered) in [
            ("example.com", true),
            ("a.b.example.com", true),
            ("badexample.com", false),
            ("example.com.evil.org", false),
            ("com", false),
            ("", false),
        ] {
            assert_eq!(domain.covers(host), covered, "{host}");
        }
        let address: CookieDomain = "[2001:db8::1]".parse().unwrap();
        assert!(address.covers("2001:db8::1") && address.is_address());
        let address: CookieDomain = "192.0.2.1".parse().unwrap();
        assert!(address.covers("192.0.2.1") && !address.covers("a.192.0.2.1"));
    }

    #[test]
    fn the_first_site_that_covers_a_host_is_its_site() {
        let sites = Sites::new(vec![site("a.example.com"), site("example.com"), site("example.org")]).unwrap();
        let of = |host| sites.of(host).map(|site| site.domain.as_str());
        assert_eq!(of("x.a.example.com"), Some("a.example.com"));
        assert_eq!(of("xa.example.com"), Some("example.com"));
        assert_eq!(of("example.org"), Some("example.org"));
        assert_eq!(of("example.net"), None);
    }

    #[test]
    fn sites_that_contradict_each_other_are_refused() {
        assert_eq!(keys_at_fault(vec![]), [(0, "domain")]);
        assert_eq!(keys_at_fault(vec![site("example.com"), site("example.com")]), [(1, "domain")]);
        assert_eq!(keys_at_fault(vec![site("example.com"), site("a.example.com")]), [(1, "domain")]);

        let mut outside = site("example.com");
        outside.portal = Some("https://auth.example.org".parse().unwrap());
        outside.default_redirection = Some("https://example.com.evil.org/".parse().unwrap());
        assert_eq!(keys_at_fault(vec![outside]), [(0, "authelia_url"), (0, "default_redirection_url")]);

        let mut same = site("example.com");
        same.portal = Some("https://auth.example.com/x".parse().unwrap());
        same.default_redirection = Some("HTTPS://AUTH.example.com:443/x/".parse().unwrap());
        assert_eq!(keys_at_fault(vec![same]), [(0, "default_redirection_url")]);

        for name in ["", "a b", "a;b", "a=b", "ä", "__Host-sid", "__host-sid"] {
            let mut bad = site("example.com");
            bad.cookie_name = name.to_owned();
            assert_eq!(keys_at_fault(vec![bad]), [(0, "name")], "{name}");
        }
    }

    #[test]
    fn a134_a_cookie_name_with_a_prefix_is_one_that_browsers_take() {
        #[rustfmt::skip]
        let table = [
            // because                                       domain          name               good   over TLS only
            ("kept out of plain http",                       "example.com",  "__Secure-sid",    true,  true),
            ("no prefix",                                    "example.com",  "sid",             true,  false),
            ("not every browser knows it in lower case",     "example.com",  "__secure-sid",    true,  false),
            ("bound to one host, and the domain has many",   "example.com",  "__Host-sid",      false, true),
            ("bound to one host, and there is no other",     "192.0.2.1",    "__Host-sid",      true,  true),
            ("a longer prefix of the same kind",             "example.com",  "__Host-Http-sid", false, true),
        ];
        for (because, domain, name, good, over_tls) in table {
            let site = Site { cookie_name: name.to_owned(), ..site(domain) };
            assert_eq!(site.cookie_needs_tls(), over_tls, "{because}");
            assert_eq!(Sites::new(vec![site]).is_ok(), good, "{because}");
        }
    }

    #[test]
    fn only_the_portals_path_gets_a_slash() {
        let mut site = site("example.com");
        site.portal = Some("https://example.com/auth".parse().unwrap());
        site.default_redirection = Some("https://example.com/start.html?x=1".parse().unwrap());
        let sites = Sites::new(vec![site]).unwrap();
        let site = sites.iter().next().unwrap();
        assert_eq!(site.portal.as_ref().unwrap().as_str(), "https://example.com/auth/");
        assert_eq!(site.default_redirection.as_ref().unwrap().as_str(), "https://example.com/start.html?x=1");
    }

    #[test]
    fn a_portal_is_reached_over_tls() {
        #[rustfmt::skip]
        let table = [
            ("https",                 "https://auth.example.com",        true),
            ("wss",                   "wss://auth.example.com",          true),
            ("an IPv6 address",       "https://[2001:db8::1]:9091/",     true),
            ("http",                  "http://auth.example.com",         false),
            ("no scheme",             "auth.example.com",                false),
            ("a path",                "/auth",                           false),
            ("a user",                "https://me@auth.example.com",     false),
            ("a password",            "https://:x@auth.example.com",     false),
            ("no host",               "https://",                        false),
            ("a script",              "javascript:alert(1)",             false),
        ];
        for (because, text, good) in table {
            assert_eq!(text.parse::<PortalUrl>().is_ok(), good, "{because}: {text}");
        }
        assert_eq!("https://[2001:db8::1]/".parse::<PortalUrl>().unwrap().host(), "2001:db8::1");
        assert_eq!("https://Auth.example.com./".parse::<PortalUrl>().unwrap().host(), "auth.example.com");
    }

    #[test]
    fn same_site_is_written_in_lower_case() {
        assert_eq!("strict".parse::<SameSite>().unwrap().attribute(), "Strict");
        assert!("Lax".parse::<SameSite>().is_err());
    }
}
