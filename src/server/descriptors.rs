//! How the file descriptors that the process may open are shared out between the listeners.
//!
//! Each connection takes one. Where they run out, nobody new is served, at the gate as little as anywhere, and the session
//! store can't be reached again once a connection breaks. So no listener may take what another needs: each has a
//! share, and the portal, which anybody can reach, gives way to the gate.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors that are kept free for all but connections: standard streams, what two runtimes need, the listening
/// sockets, and files that are open for a moment (users, certificates, the log).
const OWN: usize = 32;

/// Connections of trusted peers, and of others, to the metrics page: scrapers are few.
const METRICS: Places = Places { trusted: 64, untrusted: 16 };

/// Connections that one listener takes at any one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Of trusted peers.
    pub trusted: usize,
    /// Of everybody else.
    pub untrusted: usize,
}

impl Places {
    fn sum(self) -> usize {
        self.trusted.saturating_add(self.untrusted)
    }

    /// The same, but at most `limit` in all, of which others than trusted peers have at most `untrusted`. Each kind of peer
    /// keeps at least one place.
    fn at_most(self, limit: usize, untrusted: usize) -> Places {
        if self.sum() <= limit {
            return self;
        }
        let untrusted = self.untrusted.min(untrusted).max(1);
        Places { trusted: self.trusted.min(limit.saturating_sub(untrusted)).max(1), untrusted }
    }
}

/// The places of each listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of each listener of the gate: over HTTP and, where it is served, over gRPC.
    pub gate: Places,
    pub portal: Places,
    pub metrics: Places,
}

impl Shares {
    /// What is wanted where `connections` is `server.max_connections`.
    fn wanted(connections: usize) -> Shares {
        Shares {
            // Proxies ask the gate; others only probe it, scrape it, or mean it no good.
            gate: Places { trusted: connections, untrusted: (connections / 16).max(16) },
            // People are nobody's trusted proxy, and may come to the portal directly.
            portal: Places { trusted: connections, untrusted: connections },
            metrics: Places { trusted: METRICS.trusted.min(connections), ..METRICS },
        }
    }

    fn sum(self, gates: usize) -> usize {
        gates * self.gate.sum() + self.portal.sum() + self.metrics.sum()
    }

    /// Makes the shares fit into `available` descriptors. The portal gives way first, down to a quarter of them; then the
    /// gate.
    fn fit(self, gates: usize, available: usize) -> Shares {
        if self.sum(gates) <= available {
            return self;
        }
        let metrics = self.metrics.at_most(available / 16, available / 64);
        let left = available.saturating_sub(metrics.sum());
        let limit = left.saturating_sub(gates * self.gate.sum()).max(available / 4);
        let portal = self.portal.at_most(limit, limit / 2);
        let each = left.saturating_sub(portal.sum()) / gates.max(1);
        Shares { gate: self.gate.at_most(each, each / 16), portal, metrics }
    }
}

/// Connections of trusted peers to the gate, and to the portal, where the configuration asks for none.
const CONNECTIONS: usize = 16_384;
/// Fewer descriptors than that are worth a word, whatever is asked for.
const FEW: usize = 4_096;

/// Raises the limit of descriptors as far as the process may, and shares them out between `gates` listeners of the gate,
/// the portal and the metrics page, `store` connections to the session store, and what else is open. Says in the log
/// where there are fewer than the configuration asks for or, where it asks for none, few at all.
pub(super) fn share_out(connections: Option<usize>, gates: usize, store: usize) -> Shares {
    let limit = raise_limit();
    let wanted = Shares::wanted(connections.unwrap_or(CONNECTIONS));
    let besides = OWN.saturating_add(store);
    let shares = wanted.fit(gates, limit.saturating_sub(besides));
    if shares != wanted && (connections.is_some() || limit < FEW) {
        let needed = wanted.sum(gates).saturating_add(besides);
        warn!(
            limit,
            needed,
            gate_connections = shares.gate.sum(),
            portal_connections = shares.portal.sum(),
            help = "raise `LimitNOFILE=` of a systemd unit, `ulimit -n` of a shell or `ulimits` of a container, or lower `server.max_connections`",
            "too few file descriptors for `server.max_connections`: the listeners take fewer connections"
        );
    }
    shares
}

/// Raises the soft limit to the hard one, which needs no privilege, and returns what holds then.
///
/// The soft limit is low for the sake of programs that use `select(2)`; nothing here does.
fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::{Places, Shares};

    #[test]
    fn a120_the_shares_follow_from_what_the_process_may_open() {
        #[rustfmt::skip]
        let table = [
            // because                                           configured  gates  available  gate           portal           metrics
            ("everything fits",                                  16_384,     1,     65_496,    (16_384, 1_024), (16_384, 16_384), (64, 16)),
            ("a small configuration",                            3,          1,     984,       (3, 16),         (3, 3),           (3, 16)),
            ("the portal gives way first",                       16_384,     1,     40_000,    (16_384, 1_024), (11_256, 11_256), (64, 16)),
            ("the usual soft limit, where it is the hard one",   16_384,     1,     984,       (635, 42),       (123, 123),       (46, 15)),
            ("and gRPC",                                         16_384,     2,     984,       (317, 21),       (123, 123),       (46, 15)),
            ("next to nothing",                                  16_384,     1,     24,        (15, 1),         (3, 3),           (1, 1)),
            ("nothing",                                          16_384,     1,     0,         (1, 1),          (1, 1),           (1, 1)),
        ];
        for (because, configured, gates, available, gate, portal, metrics) in table {
            let shares = Shares::wanted(configured).fit(gates, available);
            let places = |places: Places| (places.trusted, places.untrusted);
            let found = (places(shares.gate), places(shares.portal), places(shares.metrics));
            assert_eq!(found, (gate, portal, metrics), "{because}");
            assert!(available < 24 || shares.sum(gates) <= available, "{because}");
        }
    }

    #[test]
    fn a120_the_portal_never_takes_more_than_its_part_of_what_is_scarce() {
        for available in 64..20_000 {
            for gates in [1, 2] {
                let shares = Shares::wanted(16_384).fit(gates, available);
                assert!(shares.sum(gates) <= available, "{available}: {shares:?}");
                assert!(shares.portal.sum() + shares.metrics.sum() <= available * 3 / 8, "{available}: {shares:?}");
                assert!(shares.gate.untrusted <= shares.gate.sum() / 4, "{available}: {shares:?}");
            }
        }
    }
}
