//! The counters and histograms, in Prometheus' text format (0.0.4).
//!
//! What the gate touches for each request is an atomic that was looked up beforehand. A series comes
//! into being when it is first counted, so ten thousand rules do not make a long page of zeroes, and
//! there can never be more of them than endpoints × outcomes × (rules + 2).

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::log::Counts;

/// How an authorization request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Allow,
    /// Sent to sign in, or asked for credentials.
    Challenge,
    /// 403 by a rule.
    Forbid,
    /// A request that can't be judged, or a peer that is not trusted.
    Refuse,
    /// The session store, or the hashing queue, could not answer.
    Unavailable,
}

impl Outcome {
    const ALL: [Outcome; 5] =
        [Outcome::Allow, Outcome::Challenge, Outcome::Forbid, Outcome::Refuse, Outcome::Unavailable];

    const fn label(self) -> &'static str {
        match self {
            Outcome::Allow => "allow",
            Outcome::Challenge => "challenge",
            Outcome::Forbid => "forbid",
            Outcome::Refuse => "refuse",
            Outcome::Unavailable => "unavailable",
        }
    }
}

/// Which rule an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy {
    /// The rule at this position, counting from 0.
    Rule(u32),
    /// No rule matched.
    Default,
    /// It never came to the rules.
    Nothing,
}

/// A kind of credential that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A session cookie.
    Session,
    /// Basic credentials in a header.
    Basic,
    /// A password on the sign-in page or its API.
    Password,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Good.
    Accepted,
    /// Not good.
    Rejected,
    /// Too many failures before it.
    Banned,
    /// It could not be checked.
    Unavailable,
}

/// A listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Authorization requests over HTTP.
    Gate,
    /// Authorization requests over gRPC.
    Grpc,
    /// People.
    Portal,
    /// Prometheus.
    Metrics,
}

impl Listener {
    const fn label(self) -> &'static str {
        match self {
            Listener::Gate => "gate",
            Listener::Grpc => "grpc",
            Listener::Portal => "portal",
            Listener::Metrics => "metrics",
        }
    }
}

/// Counts of the session room, read when somebody asks for the page.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionCounts {
    /// Sessions held in memory, where they are.
    pub held: u64,
    /// Store operations that failed.
    pub store_errors: u64,
    /// Activity marks that were dropped because too many were waiting.
    pub touches_dropped: u64,
}

/// Every series there is.
pub struct Metrics {
    registry: Registry,
    decisions: IntCounterVec,
    decision_handles: Box<[OnceLock<IntCounter>]>,
    endpoints: Box<[String]>,
    durations: Box<[Histogram]>,
    credentials: IntCounterVec,
    credential_handles: Box<[IntCounter]>,
    refusals: IntCounterVec,
    requests: IntCounterVec,
    connections: IntGaugeVec,
    turned_away: IntCounterVec,
    cut: IntCounterVec,
    sessions: IntGauge,
    store_errors: IntCounter,
    touches_dropped: IntCounter,
    log_lines_dropped: IntCounterVec,
    log_lines_repeated: IntCounter,
    users_file_stale: IntGauge,
    rules: usize,
}

impl Metrics {
    /// Registers every series for these endpoints and this many rules.
    ///
    /// # Errors
    ///
    /// Only if two series have the same name, which is a fault of this file.
    pub fn new(endpoints: impl IntoIterator<Item = String>, rules: usize) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let endpoints: Box<[String]> = endpoints.into_iter().collect();
        let decisions = IntCounterVec::new(
            Opts::new(
                "portcullis_decisions_total",
                "Authorization requests answered, by endpoint, outcome and deciding rule.",
            ),
            &["endpoint", "outcome", "rule"],
        )?;
        let durations = HistogramVec::new(
            HistogramOpts::new("portcullis_decision_duration_seconds", "Time to answer an authorization request.")
                .buckets(vec![
                    5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.25, 1.0, 5.0,
                ]),
            &["endpoint"],
        )?;
        let credentials = IntCounterVec::new(
            Opts::new("portcullis_credentials_checked_total", "Credentials checked, by kind and result."),
            &["kind", "result"],
        )?;
        let refusals = IntCounterVec::new(
            Opts::new(
                "portcullis_requests_refused_total",
                "Authorization requests that were refused before or while rules were asked, by reason.",
            ),
            &["reason"],
        )?;
        let requests = IntCounterVec::new(
            Opts::new("portcullis_portal_requests_total", "Requests answered by the portal, by class of status."),
            &["status"],
        )?;
        let connections =
            IntGaugeVec::new(Opts::new("portcullis_connections", "Open connections, by listener."), &["listener"])?;
        let turned_away = IntCounterVec::new(
            Opts::new(
                "portcullis_connections_turned_away_total",
                "Connections closed at once because peers that are not trusted had their share, by listener.",
            ),
            &["listener"],
        )?;
        let cut = IntCounterVec::new(
            Opts::new(
                "portcullis_connections_cut_total",
                "Connections closed because they were idle or slow for too long, by listener.",
            ),
            &["listener"],
        )?;
        let sessions = IntGauge::new("portcullis_sessions", "Sessions held in this process.")?;
        let store_errors =
            IntCounter::new("portcullis_session_store_errors_total", "Session store operations that failed.")?;
        let touches_dropped = IntCounter::new(
            "portcullis_session_activity_dropped_total",
            "Activity marks not written because too many were waiting.",
        )?;
        let log_lines_dropped = IntCounterVec::new(
            Opts::new(
                "portcullis_log_lines_dropped_total",
                "Log lines lost: too many were waiting (queue_full), or writing failed, as on a full disk (write_failed).",
            ),
            &["reason"],
        )?;
        let log_lines_repeated = IntCounter::new(
            "portcullis_log_lines_repeated_total",
            "Log lines counted instead of written because they repeated others of the same second.",
        )?;
        let users_file_stale = IntGauge::new(
            "portcullis_users_file_stale",
            "1 while the users file has changed and could not be taken over, else 0.",
        )?;
        let build = IntGaugeVec::new(
            Opts::new("portcullis_build_info", "Always 1; the version that runs is in the label."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(durations.clone()))?;
        registry.register(Box::new(credentials.clone()))?;
        registry.register(Box::new(refusals.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        registry.register(Box::new(turned_away.clone()))?;
        registry.register(Box::new(cut.clone()))?;
        registry.register(Box::new(sessions.clone()))?;
        registry.register(Box::new(store_errors.clone()))?;
        registry.register(Box::new(touches_dropped.clone()))?;
        registry.register(Box::new(log_lines_dropped.clone()))?;
        registry.register(Box::new(log_lines_repeated.clone()))?;
        registry.register(Box::new(users_file_stale.clone()))?;
        registry.register(Box::new(build))?;
        let handles = endpoints.len() * Outcome::ALL.len() * (rules + 2);
        let durations = endpoints.iter().map(|name| durations.with_label_values(&[name])).collect();
        let mut credential_handles = Vec::new();
        for kind in ["session", "basic", "password"] {
            for result in ["accepted", "rejected", "banned", "unavailable"] {
                credential_handles.push(credentials.with_label_values(&[kind, result]));
            }
        }
        Ok(Metrics {
            registry,
            decisions,
            decision_handles: (0..handles).map(|_| OnceLock::new()).collect(),
            endpoints,
            durations,
            credentials,
            credential_handles: credential_handles.into(),
            refusals,
            requests,
            connections,
            turned_away,
            cut,
            sessions,
            store_errors,
            touches_dropped,
            log_lines_dropped,
            log_lines_repeated,
            users_file_stale,
            rules,
        })
    }

    /// Counts an answer of the endpoint at `endpoint` (its index), and how long it took.
    pub fn decided(&self, endpoint: usize, outcome: Outcome, by: DecidedBy, took: Duration) {
        let slot = match by {
            DecidedBy::Nothing => 0,
            DecidedBy::Default => 1,
            DecidedBy::Rule(rule) => 2 + rule as usize,
        };
        let at = (endpoint * Outcome::ALL.len() + outcome as usize) * (self.rules + 2) + slot;
        if let Some(handle) = self.decision_handles.get(at) {
            handle.get_or_init(|| self.decision_series(endpoint, outcome, by)).inc();
        }
        if let Some(histogram) = self.durations.get(endpoint) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts a credential that was checked.
    pub fn checked(&self, kind: Credential, result: Checked) {
        if let Some(handle) = self.credential_handles.get(kind as usize * 4 + result as usize) {
            handle.inc();
        }
    }

    /// Counts an authorization request that was refused; `reason` is one of a closed set.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Counts an answer of the portal.
    pub fn answered(&self, status: u16) {
        let class = match status {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        self.requests.with_label_values(&[class]).inc();
    }

    /// The gauge of open connections of a listener.
    pub fn connections(&self, listener: Listener) -> IntGauge {
        self.connections.with_label_values(&[listener.label()])
    }

    /// Connections of a listener that were closed because strangers had their share.
    pub fn turned_away(&self, listener: Listener) -> IntCounter {
        self.turned_away.with_label_values(&[listener.label()])
    }

    /// Connections of a listener that were closed because they took too long.
    pub fn cut(&self, listener: Listener) -> IntCounter {
        self.cut.with_label_values(&[listener.label()])
    }

    /// Whether the users file has changed and could not be taken over.
    pub fn users_file_is_stale(&self, is_stale: bool) {
        self.users_file_stale.set(i64::from(is_stale));
    }

    /// The page that Prometheus reads, with these counts of the session room and of the log.
    ///
    /// # Errors
    ///
    /// What the encoder says; it has no reason to say anything.
    pub fn render(&self, sessions: SessionCounts, log: Counts) -> Result<Vec<u8>, prometheus::Error> {
        self.sessions.set(i64::try_from(sessions.held).unwrap_or(i64::MAX));
        raise(&self.store_errors, sessions.store_errors);
        raise(&self.touches_dropped, sessions.touches_dropped);
        raise(&self.log_lines_dropped.with_label_values(&["queue_full"]), log.queue_full);
        raise(&self.log_lines_dropped.with_label_values(&["write_failed"]), log.write_failed);
        raise(&self.log_lines_repeated, log.repeated);
        let mut page = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }

    fn decision_series(&self, endpoint: usize, outcome: Outcome, by: DecidedBy) -> IntCounter {
        let rule = match by {
            DecidedBy::Nothing => "none".to_owned(),
            DecidedBy::Default => "default".to_owned(),
            DecidedBy::Rule(rule) => (rule + 1).to_string(),
        };
        let name = self.endpoints.get(endpoint).map_or("", String::as_str);
        self.decisions.with_label_values(&[name, outcome.label(), &rule])
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("endpoints", &self.endpoints)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Brings a counter up to a total that is kept elsewhere.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Checked, Counts, Credential, DecidedBy, Metrics, Outcome, SessionCounts};

    #[test]
    fn a103_series_appear_when_counted_and_not_before() {
        let metrics = Metrics::new(["forward-auth".to_owned(), "legacy".to_owned()], 10_000).unwrap();
        let empty = String::from_utf8(metrics.render(SessionCounts::default(), Counts::default()).unwrap()).unwrap();
        assert!(!empty.contains("portcullis_decisions_total{"), "{empty}");
        metrics.decided(1, Outcome::Forbid, DecidedBy::Rule(9_999), Duration::from_micros(3));
        metrics.decided(0, Outcome::Allow, DecidedBy::Default, Duration::from_micros(3));
        metrics.decided(0, Outcome::Refuse, DecidedBy::Nothing, Duration::from_micros(3));
        metrics.checked(Credential::Basic, Checked::Banned);
        let page = String::from_utf8(
            metrics
                .render(
                    SessionCounts { held: 7, store_errors: 3, touches_dropped: 1 },
                    Counts { queue_full: 2, write_failed: 5, repeated: 4 },
                )
                .unwrap(),
        )
        .unwrap();
        for line in [
            r#"portcullis_decisions_total{endpoint="legacy",outcome="forbid",rule="10000"} 1"#,
            r#"portcullis_decisions_total{endpoint="forward-auth",outcome="allow",rule="default"} 1"#,
            r#"portcullis_decisions_total{endpoint="forward-auth",outcome="refuse",rule="none"} 1"#,
            r#"portcullis_credentials_checked_total{kind="basic",result="banned"} 1"#,
            "portcullis_sessions 7",
            "portcullis_session_store_errors_total 3",
            r#"portcullis_log_lines_dropped_total{reason="queue_full"} 2"#,
            r#"portcullis_log_lines_dropped_total{reason="write_failed"} 5"#,
            "portcullis_log_lines_repeated_total 4",
        ] {
            assert!(page.contains(line), "{line} is missing from\n{page}");
        }
    }
}
