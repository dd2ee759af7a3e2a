//! Which authorization endpoints there are, how each speaks, and which credentials each reads
//! (`server.endpoints.authz`).
//!
//! Values only; a set that was made by [`check`] cannot be contradictory.

use std::str::FromStr;
use std::time::Duration;

use crate::fault::Fault;

/// How a kind of proxy asks and wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Implementation {
    /// Traefik, Caddy, HAProxy: `X-Forwarded-*`.
    ForwardAuth,
    /// nginx: `X-Original-*`.
    AuthRequest,
    /// Envoy over HTTP: the request line and `Host`.
    ExtAuthz,
    /// The older `/api/verify`, which takes either header set.
    Legacy,
}

impl Implementation {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Implementation::ForwardAuth => "ForwardAuth",
            Implementation::AuthRequest => "AuthRequest",
            Implementation::ExtAuthz => "ExtAuthz",
            Implementation::Legacy => "Legacy",
        }
    }

    /// Whether paths below the endpoint's are its own too.
    pub const fn takes_sub_paths(self) -> bool {
        matches!(self, Implementation::ExtAuthz | Implementation::Legacy)
    }

    /// What an endpoint reads when its strategies are not listed: a header first, then the cookie.
    pub fn default_strategies(self) -> Vec<Strategy> {
        let header = match self {
            Implementation::Legacy => Strategy::new(StrategyKind::HeaderLegacy),
            Implementation::ForwardAuth | Implementation::AuthRequest | Implementation::ExtAuthz => Strategy {
                schemes: Schemes { basic: true, bearer: false },
                ..Strategy::new(StrategyKind::HeaderAuthorization)
            },
        };
        vec![header, Strategy::new(StrategyKind::CookieSession)]
    }
}

impl FromStr for Implementation {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Implementation, Fault> {
        match text {
            "ForwardAuth" => Ok(Implementation::ForwardAuth),
            "AuthRequest" => Ok(Implementation::AuthRequest),
            "ExtAuthz" => Ok(Implementation::ExtAuthz),
            "Legacy" => Ok(Implementation::Legacy),
            _ => Err(Fault::new(format!("unknown implementation `{text}`"))
                .help("The implementations are ForwardAuth, AuthRequest, ExtAuthz and Legacy.")),
        }
    }
}

/// Where a credential is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StrategyKind {
    /// The session cookie.
    CookieSession,
    /// `Authorization`; a refusal is 401 with `WWW-Authenticate`.
    HeaderAuthorization,
    /// `Proxy-Authorization`; a refusal is 407 with `Proxy-Authenticate`.
    HeaderProxyAuthorization,
    /// `Proxy-Authorization`; a refusal is 401 with `WWW-Authenticate`.
    HeaderAuthRequestProxyAuthorization,
    /// `Proxy-Authorization`, or `Authorization` where the query says `auth=basic`; 401.
    HeaderLegacy,
}

impl StrategyKind {
    /// The name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            StrategyKind::CookieSession => "CookieSession",
            StrategyKind::HeaderAuthorization => "HeaderAuthorization",
            StrategyKind::HeaderProxyAuthorization => "HeaderProxyAuthorization",
            StrategyKind::HeaderAuthRequestProxyAuthorization => "HeaderAuthRequestProxyAuthorization",
            StrategyKind::HeaderLegacy => "HeaderLegacy",
        }
    }

    /// Whether `schemes` may be set: the three header strategies that are not the legacy one.
    pub const fn has_schemes(self) -> bool {
        match self {
            StrategyKind::HeaderAuthorization
            | StrategyKind::HeaderProxyAuthorization
            | StrategyKind::HeaderAuthRequestProxyAuthorization => true,
            StrategyKind::CookieSession | StrategyKind::HeaderLegacy => false,
        }
    }
}

impl FromStr for StrategyKind {
    type Err = Fault;

    fn from_str(text: &str) -> Result<StrategyKind, Fault> {
        match text {
            "CookieSession" => Ok(StrategyKind::CookieSession),
            "HeaderAuthorization" => Ok(StrategyKind::HeaderAuthorization),
            "HeaderProxyAuthorization" => Ok(StrategyKind::HeaderProxyAuthorization),
            "HeaderAuthRequestProxyAuthorization" => Ok(StrategyKind::HeaderAuthRequestProxyAuthorization),
            "HeaderLegacy" => Ok(StrategyKind::HeaderLegacy),
            _ => Err(Fault::new(format!("unknown strategy `{text}`")).help(
                "The strategies are CookieSession, HeaderAuthorization, HeaderProxyAuthorization, \
                 HeaderAuthRequestProxyAuthorization and HeaderLegacy.",
            )),
        }
    }
}

/// The HTTP authentication schemes that a header strategy understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes {
    /// `Basic` (RFC 7617).
    pub basic: bool,
    /// `Bearer` (RFC 6750). None of ours are issued yet, so each such token is somebody else's.
    pub bearer: bool,
}

/// One place to look for a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Where.
    pub kind: StrategyKind,
    /// Which schemes, for those strategies that have any.
    pub schemes: Schemes,
    /// How long a good Basic password is remembered (`scheme_basic_cache_lifespan`); zero is not at all.
    pub basic_cache: Duration,
}

impl Strategy {
    /// A strategy with no schemes and no cache.
    pub fn new(kind: StrategyKind) -> Strategy {
        Strategy { kind, schemes: Schemes::default(), basic_cache: Duration::ZERO }
    }
}

/// One authorization endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, which is also its path below `/api/authz/`; `legacy` lives at `/api/verify`.
    pub name: EndpointName,
    /// How it speaks.
    pub implementation: Implementation,
    /// Where it looks for credentials, in order; none listed means the implementation's defaults.
    pub strategies: Vec<Strategy>,
}

impl Endpoint {
    /// The four endpoints that there are when the configuration names none.
    pub fn defaults() -> Vec<Endpoint> {
        [
            ("forward-auth", Implementation::ForwardAuth),
            ("auth-request", Implementation::AuthRequest),
            ("ext-authz", Implementation::ExtAuthz),
            ("legacy", Implementation::Legacy),
        ]
        .into_iter()
        .map(|(name, implementation)| Endpoint {
            name: EndpointName(name.to_owned()),
            implementation,
            strategies: implementation.default_strategies(),
        })
        .collect()
    }

    /// The path it answers at, without the server's base path.
    pub fn path(&self) -> String {
        match self.name.as_str() {
            "legacy" => "/api/verify".to_owned(),
            name => format!("/api/authz/{name}"),
        }
    }
}

/// The name of an endpoint: letters, digits, `.`, `_`, `-` and `/`, beginning with a letter and
/// ending in a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointName(String);

impl EndpointName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EndpointName {
    type Err = Fault;

    fn from_str(text: &str) -> Result<EndpointName, Fault> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
        let good = text.bytes().all(allowed)
            && text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric())
            && text.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        if !good {
            return Err(Fault::new(format!("`{text}` can't be the name of an endpoint")).help(
                "A name is part of a path: letters, digits, `.`, `_`, `-` and single `/`, beginning with a letter and \
                 ending in a letter or a digit.",
            ));
        }
        Ok(EndpointName(text.to_owned()))
    }
}

/// What is wrong with a set of endpoints taken together: each with the endpoint's index.
///
/// `legacy` must be `Legacy`; no strategy twice; a name may not lie below an endpoint that takes
/// sub-paths, which would swallow it.
pub fn check(endpoints: &[Endpoint]) -> Vec<(usize, Fault)> {
    let mut faults = Vec::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let name = endpoint.name.as_str();
        if name == "legacy" && endpoint.implementation != Implementation::Legacy {
            faults.push((
                index,
                Fault::new(format!("the endpoint `legacy` can't be {}", endpoint.implementation.name()))
                    .help("Give it the implementation `Legacy`, or another name."),
            ));
        }
        for (at, strategy) in endpoint.strategies.iter().enumerate() {
            if endpoint.strategies.iter().take(at).any(|earlier| earlier.kind == strategy.kind) {
                faults.push((
                    index,
                    Fault::new(format!("the endpoint `{name}` lists the strategy `{}` twice", strategy.kind.name()))
                        .help("Remove one of them."),
                ));
            }
        }
        for other in endpoints {
            let below = name.strip_prefix(other.name.as_str()).is_some_and(|rest| rest.starts_with('/'));
            if below && other.implementation.takes_sub_paths() && other.name.as_str() != "legacy" {
                faults.push((
                    index,
                    Fault::new(format!(
                        "the endpoint `{name}` lies below `{}`, which takes every path below it",
                        other.name.as_str()
                    ))
                    .help("Choose a name outside it."),
                ));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointName, Implementation, check};

    fn endpoint(name: &str, implementation: Implementation) -> Endpoint {
        Endpoint { name: name.parse().unwrap(), implementation, strategies: implementation.default_strategies() }
    }

    #[test]
    fn names_are_paths() {
        for good in ["forward-auth", "auth-request/basic", "a", "w30", "a.b_c"] {
            assert!(good.parse::<EndpointName>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "1a", "-a", "a-", "a b", "a%2f"] {
            assert!(bad.parse::<EndpointName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn contradictory_sets_are_refused() {
        assert!(check(&Endpoint::defaults()).is_empty());
        assert_eq!(check(&[endpoint("legacy", Implementation::ForwardAuth)]).len(), 1);
        let swallowed =
            [endpoint("another", Implementation::ExtAuthz), endpoint("another/test", Implementation::ForwardAuth)];
        assert_eq!(check(&swallowed).len(), 1);
        let mut twice = endpoint("a", Implementation::ForwardAuth);
        twice.strategies.extend(Implementation::ForwardAuth.default_strategies());
        assert_eq!(check(&[twice]).len(), 2);
        let beside =
            [endpoint("another", Implementation::ExtAuthz), endpoint("anothertest", Implementation::ForwardAuth)];
        assert!(check(&beside).is_empty());
    }
}
