//! What is allowed in a policy and yet likely not meant: rules that can never match, rules that an
//! earlier one weakens, and patterns that reach further than they look.
//!
//! A lint speaks only where the rules themselves show the mistake. A rule that carves a path out of a
//! later one is how rules are written, and passes in silence.

use std::collections::HashMap;

use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use ipnet::IpNet;

use crate::fault::Fault;
use crate::object::is_host;
use crate::peer::TrustedProxies;
use crate::policy::pattern::{Form, HostKind, HostPattern, ResourcePattern};
use crate::policy::rule::method_bit;
use crate::policy::{Criteria, Criterion, Network, Policy, Requirement, Rule, syntax};
use crate::subject::Subject;
use crate::work::Budget;

/// Something in a rule that is likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// The position of the rule, counted from 0.
    pub rule: usize,
    /// The part of the rule.
    pub criterion: Criterion,
    /// Which entry of that part, counted from 0, where it is about one entry.
    pub entry: Option<usize>,
    /// What is wrong; other rules are named `rule #N`, counted from 1.
    pub fault: Fault,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a lint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// An error under `check --strict`: it opens what looks shut.
    Strict,
}

/// How many pairs of rules are compared before the search for shadowed rules is given up, so that
/// loading stays fast whatever is loaded.
const MAX_PAIRS: usize = 2_000_000;

/// Everything that is likely not meant, in the order of the rules.
pub(super) fn lints(rules: &[Rule]) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut earlier = Earlier::default();
    for (n, rule) in rules.iter().enumerate() {
        hosts(n, rule, &mut lints);
        if rule.requirement == Requirement::Bypass {
            bypass_patterns(n, rule, &mut lints);
        }
        lints.extend(earlier.shadow(rules, n, rule));
        earlier.add(n, rule);
    }
    lints
}

impl Policy {
    /// Rules for networks that have addresses in common with `trusted`, one lint for each rule.
    ///
    /// Who asks from a trusted network is taken for a proxy: whatever address such a client claims is believed, and a
    /// request without forwarding headers has the address of the proxy that sent it. So a rule for people in such
    /// a network can be slipped by them, and met by everybody if a proxy leaves the headers out.
    pub fn lint_networks(&self, trusted: &TrustedProxies) -> Vec<Lint> {
        let mut lints = Vec::new();
        // Rules so far that deny what comes from a proxy itself.
        let mut denied: Vec<&Rule> = Vec::new();
        let trusted: Vec<(&IpNet, Network)> = trusted
            .networks()
            .iter()
            .filter_map(|proxies| Some((proxies, proxies.to_string().parse().ok()?)))
            .collect();
        for (n, rule) in self.rules().iter().enumerate() {
            let mut shared = rule.criteria.networks.iter().flat_map(|network| {
                let found = trusted.iter().filter(|(_, other)| network.covers(other) || other.covers(network));
                found.map(move |(proxies, other)| (network, *proxies, *other))
            });
            if rule.requirement == Requirement::Deny && shared.clone().next().is_some() {
                denied.push(rule);
            }
            if let Some((network, proxies, _)) = shared.find(|shared| is_risky(rule, *shared, &denied)) {
                lints.push(warning(n, Criterion::Networks, None, shared_network(network, proxies)));
            }
        }
        lints
    }
}

/// Whether it matters that a network of `rule` has addresses in common with one that proxies are believed from, which
/// is given in both forms.
fn is_risky(rule: &Rule, (network, proxies, trusted): (&Network, &IpNet, Network), denied: &[&Rule]) -> bool {
    if network.to_string().ends_with("/0") {
        // Everybody is meant.
        return false;
    }
    // Nobody else is at the address of a proxy itself, or on this machine.
    let proxies_alone = proxies.prefix_len() == proxies.max_prefix_len() || proxies.addr().is_loopback();
    if !proxies_alone || rule.requirement == Requirement::Deny {
        return !proxies_alone;
    }
    let from_proxies = Criteria { networks: vec![trusted], ..rule.criteria.clone() };
    !denied.iter().any(|other| Covered::new(&other.criteria, &from_proxies).everything())
}

fn shared_network(network: &Network, proxies: &IpNet) -> Fault {
    let is_one = proxies.prefix_len() == proxies.max_prefix_len();
    let proxies = if is_one { proxies.addr().to_string() } else { proxies.to_string() };
    let fault = Fault::new(format!(
        "the network `{network}` of this rule and `{proxies}` of `server.trusted_proxies` have addresses in common"
    ));
    if is_one || proxies.starts_with("127.") {
        return fault.help(format!(
            "A request without `X-Forwarded-For` has the proxy's own address, so everybody would count as from \
             there: leave it out of the network, or deny `networks: {proxies}` in a rule above."
        ));
    }
    fault.help(
        "Who asks from there is taken for a proxy and can claim any address, and a request without `X-Forwarded-For` \
         has the proxy's own. List the addresses of your proxies, and nothing wider, as `server.trusted_proxies`.",
    )
}

fn warning(rule: usize, criterion: Criterion, entry: Option<usize>, fault: Fault) -> Lint {
    Lint { rule, criterion, entry, fault, severity: Severity::Warning }
}

/// Hosts that no request has, and expressions in which a dot is any character (A28).
fn hosts(n: usize, rule: &Rule, lints: &mut Vec<Lint>) {
    let (expressions, domains): (Vec<&HostPattern>, Vec<&HostPattern>) =
        rule.criteria.hosts.iter().partition(|pattern| pattern.is_regex());
    for (entry, pattern) in domains.into_iter().enumerate() {
        let example = match &pattern.kind {
            HostKind::Exact(host) => host.to_string(),
            HostKind::Suffix(rest) | HostKind::User(rest) | HostKind::Group(rest) => format!("x{rest}"),
            HostKind::Regex(_) => continue,
        };
        if is_host(&example) {
            continue;
        }
        let fault = Fault::new(format!("domain `{}` matches no host", pattern.as_str()));
        let fault = match pattern.as_str().strip_prefix('*') {
            Some("") => fault.help("A wildcard is `*.` and a domain, as in `*.example.com`."),
            Some(rest) if !rest.starts_with('.') => {
                fault.help(format!("A wildcard is `*.` and a domain: did you mean `*.{rest}`?"))
            }
            None if pattern.as_str().contains('*') => fault
                .help("A wildcard is `*.` and a domain, at the beginning; write anything else under `domain_regex`."),
            _ => fault.help("Write a host name, without scheme, port and path."),
        };
        lints.push(warning(n, Criterion::Domain, Some(entry), fault));
    }
    for (entry, pattern) in expressions.into_iter().enumerate() {
        let text = pattern.as_str();
        if let Some(at) = loose_dot(text) {
            let fault = Fault::new(format!("the dot in domain_regex `{text}` matches any character"))
                .help("Write `\\.` for a dot, or the host under `domain`.")
                .at(at..at + 1);
            lints.push(warning(n, Criterion::DomainRegex, Some(entry), fault));
        }
        if syntax::parse(text).is_ok_and(|parsed| needs_upper_case(&parsed.hir)) {
            let fault = Fault::new(format!("domain_regex `{text}` matches no host")).help(
                "Hosts are compared in lower case, whatever was sent: write it in lower case, or begin with `(?i)`.",
            );
            lints.push(warning(n, Criterion::DomainRegex, Some(entry), fault));
        }
    }
}

/// Whether nothing matches that holds no upper-case letter: no host does (A20).
fn needs_upper_case(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.iter().any(u8::is_ascii_uppercase),
        HirKind::Class(Class::Unicode(class)) => {
            let within = |range: &regex_syntax::hir::ClassUnicodeRange| 'A' <= range.start() && range.end() <= 'Z';
            !class.ranges().is_empty() && class.ranges().iter().all(within)
        }
        HirKind::Capture(capture) => needs_upper_case(&capture.sub),
        HirKind::Repetition(repetition) => repetition.min > 0 && needs_upper_case(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().any(needs_upper_case),
        HirKind::Alternation(parts) => parts.iter().all(needs_upper_case),
        HirKind::Class(Class::Bytes(_)) | HirKind::Empty | HirKind::Look(_) => false,
    }
}

/// The first dot that stands between two letters as if it were one.
fn loose_dot(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_word = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let (mut at, mut in_class) = (0, false);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'.' if !in_class && is_word(at + 1) => {
                let before = at.checked_sub(1).and_then(|at| bytes.get(at));
                if before.is_some_and(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b')' | b']' | b'+' | b'*' | b'}')
                }) {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Patterns of a bypass rule that a query, a suffix or a missing boundary can satisfy.
fn bypass_patterns(n: usize, rule: &Rule, lints: &mut Vec<Lint>) {
    for (entry, pattern) in rule.criteria.resources.iter().enumerate() {
        let text = pattern.as_str();
        let Ok(parsed) = syntax::parse(text) else { continue };
        let lint =
            |severity, fault| Lint { rule: n, criterion: Criterion::Resources, entry: Some(entry), fault, severity };
        let anchored = parsed.hir.properties().look_set_prefix().contains(Look::Start);
        let needs = parsed.hir.properties().minimum_len().unwrap_or(0) > 0;
        if (!anchored && needs) || runs_into_query(&parsed.hir, 0) {
            let example = example_of_query(&parsed.hir);
            let fault = Fault::new(format!("a query can satisfy the bypass pattern `{text}`")).help(format!(
                "`resources` match path and query, so `/anything?{example}` may pass. Begin with `^/`, and write `[^?]*` for `.*`."
            ));
            lints.push(lint(Severity::Strict, fault));
        } else if ends_in_extension(&parsed.hir) && is_open(&parsed.hir) {
            let fault = Fault::new(format!("the bypass pattern `{text}` goes by the extension")).help(
                "Many applications serve `/admin/x.css` as `/admin`: name the directory instead, as in `^/static/`.",
            );
            lints.push(lint(Severity::Warning, fault));
        } else if let Some(word) = open_end(pattern, &parsed.hir) {
            let fault =
                Fault::new(format!("the bypass pattern `{text}` has no boundary, so it matches `{word}-and-more` too"))
                    .help(format!("Write `{}([/?].*)?$`.", text.trim_end_matches(".*$").trim_end_matches(".*")));
            lints.push(lint(Severity::Warning, fault));
        }
    }
}

/// Whether something that takes any character, `?` included, comes before something that must follow:
/// then the one can be the path and the other the query (A09). `after` is the least length of what follows.
fn runs_into_query(hir: &Hir, after: usize) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let takes = |c: char| class.ranges().iter().any(|range| range.start() <= c && c <= range.end());
            after > 0 && takes('?') && takes('a') && takes('0')
        }
        HirKind::Capture(capture) => runs_into_query(&capture.sub, after),
        HirKind::Repetition(repetition) => runs_into_query(&repetition.sub, after),
        HirKind::Alternation(parts) => parts.iter().any(|part| runs_into_query(part, after)),
        HirKind::Concat(parts) => {
            let mut after = after;
            parts.iter().rev().any(|part| {
                let runs = runs_into_query(part, after);
                after += part.properties().minimum_len().unwrap_or(0);
                runs
            })
        }
        HirKind::Class(Class::Bytes(_)) | HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => false,
    }
}

fn suffixes(hir: &Hir) -> Vec<String> {
    let found = Extractor::new().kind(ExtractKind::Suffix).extract(hir);
    let texts = found.literals().unwrap_or_default().iter();
    texts.map(|literal| String::from_utf8_lossy(literal.as_bytes()).into_owned()).collect()
}

fn example_of_query(hir: &Hir) -> String {
    suffixes(hir).into_iter().find(|suffix| !suffix.is_empty()).unwrap_or_else(|| "…".to_owned())
}

/// Whether every match ends in something like `.css`.
fn ends_in_extension(hir: &Hir) -> bool {
    let is_extension = |suffix: &String| {
        suffix.rsplit_once('.').is_some_and(|(_, word)| {
            (1..=5).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    let suffixes = suffixes(hir);
    hir.properties().look_set_suffix().contains(Look::End) && !suffixes.is_empty() && suffixes.iter().all(is_extension)
}

/// Whether matches may be of any length.
fn is_open(hir: &Hir) -> bool {
    hir.properties().maximum_len().is_none()
}

/// The word at the end of a pattern that goes on without a boundary (A13), such as `/api` of `^/api`.
fn open_end(pattern: &ResourcePattern, hir: &Hir) -> Option<String> {
    let is_word = |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric());
    match &pattern.form {
        Form::Prefix(prefix) => is_word(prefix).then(|| prefix.to_string()),
        Form::Equals(_) | Form::Boundary(..) => None,
        Form::Regex(_) => {
            let suffixes = suffixes(hir);
            let open = !hir.properties().look_set_suffix().contains(Look::End);
            let words = suffixes.iter().all(|suffix| suffix.len() > 1 && is_word(suffix));
            if open && words { suffixes.into_iter().next() } else { None }
        }
    }
}

/// The rules seen so far, by the hosts they name.
#[derive(Default)]
struct Earlier {
    /// By the text of a literal host, a suffix or a template.
    named: HashMap<String, Vec<usize>>,
    expressions: Vec<usize>,
    pairs: usize,
}

impl Earlier {
    fn add(&mut self, n: usize, rule: &Rule) {
        for pattern in &rule.criteria.hosts {
            let list = match key(&pattern.kind) {
                Some(key) => self.named.entry(key).or_default(),
                None => &mut self.expressions,
            };
            if list.last() != Some(&n) {
                list.push(n);
            }
        }
    }

    /// What an earlier rule takes away from this one.
    fn shadow(&mut self, rules: &[Rule], n: usize, rule: &Rule) -> Option<Lint> {
        let mut candidates = Vec::new();
        // Whatever takes all of the rule takes its first host.
        for pattern in rule.criteria.hosts.iter().take(1) {
            let mut take = |key: &str| candidates.extend(self.named.get(key).into_iter().flatten().copied());
            take(&key(&pattern.kind).unwrap_or_default());
            if let HostKind::Exact(host) | HostKind::Suffix(host) | HostKind::User(host) | HostKind::Group(host) =
                &pattern.kind
            {
                host.match_indices('.').for_each(|(at, _)| take(host.get(at..).unwrap_or_default()));
            }
            candidates.extend(&self.expressions);
        }
        candidates.sort_unstable();
        candidates.dedup();
        self.pairs += candidates.len();
        if self.pairs > MAX_PAIRS {
            return None;
        }
        let mut weakened = None;
        for (m, other) in candidates.into_iter().filter_map(|m| Some((m, rules.get(m)?))) {
            let covered = Covered::new(&other.criteria, &rule.criteria);
            if !covered.hosts || !covered.resources {
                continue;
            }
            if covered.everything() {
                let fault =
                    Fault::new(format!("this rule can never match: rule #{} takes everything it is about", m + 1));
                let fault = if other.requirement < rule.requirement {
                    fault.help(format!(
                        "The first rule that matches wins, so `{}` applies and not `{}`: move this rule up.",
                        other.requirement, rule.requirement
                    ))
                } else {
                    fault.help("The first rule that matches wins: move this rule up, or take it out.")
                };
                return Some(warning(n, Criterion::Domain, None, fault));
            }
            // Letting preflights through everywhere is a habit, and harmless.
            let preflight = other.methods != 0 && other.methods & !method_bit("OPTIONS") == 0;
            let broader = !Covered::new(&rule.criteria, &other.criteria).hosts_and_resources();
            if weakened.is_none() && other.requirement < rule.requirement && broader && !preflight {
                let fault = Fault::new(format!(
                    "rule #{} is broader, comes first and weakens this rule: it requires `{}` where it matches, and not `{}`",
                    m + 1,
                    other.requirement,
                    rule.requirement
                ))
                .help("Move this rule up if it is meant to hold for everybody.");
                weakened = Some(warning(n, Criterion::Policy, None, fault));
            }
        }
        weakened
    }
}

/// What a host pattern is found under; nothing for an expression.
fn key(kind: &HostKind) -> Option<String> {
    match kind {
        HostKind::Exact(text) | HostKind::Suffix(text) => Some(text.to_string()),
        HostKind::User(rest) => Some(format!("{{user}}{rest}")),
        HostKind::Group(rest) => Some(format!("{{group}}{rest}")),
        HostKind::Regex(_) => None,
    }
}

/// Which of the criteria of one rule are met whenever those of another are.
struct Covered {
    hosts: bool,
    resources: bool,
    others: bool,
}

impl Covered {
    fn new(wide: &Criteria, narrow: &Criteria) -> Covered {
        let hosts = narrow.hosts.iter().all(|host| wide.hosts.iter().any(|other| covers_host(other, host)));
        let resources = wide.resources.is_empty()
            || (!narrow.resources.is_empty()
                && narrow.resources.iter().all(|one| wide.resources.iter().any(|other| covers_resource(other, one))));
        let methods = wide.methods.is_empty()
            || (!narrow.methods.is_empty() && narrow.methods.iter().all(|method| wide.methods.contains(method)));
        let networks = wide.networks.is_empty()
            || (!narrow.networks.is_empty()
                && narrow.networks.iter().all(|one| wide.networks.iter().any(|other| other.covers(one))));
        let subjects = covers_groups(&wide.subjects, &narrow.subjects);
        let query = covers_groups(&wide.query, &narrow.query);
        Covered { hosts, resources, others: methods && networks && subjects && query }
    }

    fn everything(&self) -> bool {
        self.hosts_and_resources() && self.others
    }

    fn hosts_and_resources(&self) -> bool {
        self.hosts && self.resources
    }
}

fn covers_host(wide: &HostPattern, narrow: &HostPattern) -> bool {
    match (&wide.kind, &narrow.kind) {
        (HostKind::Suffix(suffix), HostKind::Exact(host)) => host.len() > suffix.len() && host.ends_with(&**suffix),
        (HostKind::Suffix(suffix), HostKind::Suffix(rest) | HostKind::User(rest) | HostKind::Group(rest)) => {
            rest.ends_with(&**suffix)
        }
        (HostKind::Regex(expression), HostKind::Exact(host)) => {
            !expression.asks_for_subject() && expression.matches(&Subject::default(), host)
        }
        (HostKind::Regex(_), HostKind::Regex(_)) => wide.text == narrow.text,
        (wide, narrow) => key(wide).is_some() && key(wide) == key(narrow),
    }
}

fn covers_resource(wide: &ResourcePattern, narrow: &ResourcePattern) -> bool {
    if wide.text == narrow.text {
        return true;
    }
    let stranger = Subject::default();
    match (&wide.form, &narrow.form) {
        (_, Form::Equals(whole)) => {
            !wide.asks_for_subject() && wide.matches(&stranger, whole, &mut Budget::new()).is_ok_and(|fits| fits)
        }
        (Form::Prefix(prefix), _) => narrow.prefixes.iter().all(|longer| longer.starts_with(&**prefix)),
        (Form::Boundary(one, next), Form::Boundary(other, fewer)) if one == other => {
            fewer.iter().all(|byte| next.contains(byte))
        }
        (Form::Boundary(prefix, next), _) => narrow.prefixes.iter().all(|longer| {
            longer
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.bytes().next().is_some_and(|byte| next.contains(&byte)))
        }),
        _ => false,
    }
}

/// Whether each group of `narrow` asks for all that some group of `wide` asks for.
fn covers_groups<T: std::fmt::Display>(wide: &[Vec<T>], narrow: &[Vec<T>]) -> bool {
    let asks = |terms: &Vec<T>, term: &T| terms.iter().any(|other| other.to_string() == term.to_string());
    wide.is_empty()
        || (!narrow.is_empty()
            && narrow.iter().all(|terms| wide.iter().any(|fewer| fewer.iter().all(|term| asks(terms, term)))))
}

#[cfg(test)]
mod tests {
    use super::{Criteria, HostPattern, Lint, Requirement, Severity, lints};
    use crate::peer::{TrustedNetwork, TrustedProxies};
    use crate::policy::tests::rule;
    use crate::policy::{Policy, Rule};

    fn lint(lines: &[&str]) -> Vec<Lint> {
        let rules: Vec<Rule> = lines.iter().map(|line| rule(line)).collect();
        lints(&rules)
    }

    /// The beginning of what is said about bypass for one pattern, and whether it is strict.
    fn bypass(pattern: &str) -> Option<(Severity, &'static str)> {
        let lints = lint(&[&format!("bypass a.example.com resources={pattern}")]);
        assert!(lints.len() <= 1, "{lints:?}");
        let kinds = ["a query can satisfy", "goes by the extension", "has no boundary"];
        lints.first().map(|lint| {
            let kind = kinds.into_iter().find(|kind| lint.fault.message.contains(kind)).unwrap();
            assert!(lint.fault.message.contains(&format!("`{pattern}`")), "{lint:?}");
            (lint.severity, kind)
        })
    }

    #[test]
    fn a09_a11_a13_bypass_patterns_that_reach_further_than_they_look() {
        let query = Some((Severity::Strict, "a query can satisfy"));
        let extension = Some((Severity::Warning, "goes by the extension"));
        let boundary = Some((Severity::Warning, "has no boundary"));
        #[rustfmt::skip]
        let table = [
            // because                                  pattern                     lint
            ("a09: an extension without a beginning",   r"\.(css|js)$",             query),
            ("a09: a word without a beginning",         "/health",                  query),
            ("a09: `.*` reaches into the query",        r"^/.*\.css$",              query),
            ("a09: so does `[^/]+`",                    "^/[^/]+/public$",          query),
            ("a11: an extension, of the path",          r"^/[^?]*\.css$",           extension),
            ("a13: a word without an end",              "^/api",                    boundary),
            ("a13: spelt out",                          "^/api.*$",                 boundary),
            ("a13: several words",                      "^/(api|static)",           boundary),
            ("a boundary",                              "^/api([/?].*)?$",          None),
            ("a directory",                             "^/api/",                   None),
            ("a directory, spelt out",                  "^/api/.*$",                None),
            ("one file",                                r"^/favicon\.ico$",         None),
            ("one file with any query",                 r"^/favicon\.ico(\?.*)?$",  None),
            ("either boundary",                         "^/api(/|$)",               None),
            ("digits",                                  r"^/items/\d+$",            None),
            ("a segment without a query",               "^/user/[^/?]+/picture$",   None),
            ("everything",                              "^/",                       None),
            ("everything, spelt out",                   "^/.*$",                    None),
            ("a query on purpose",                      r"^/feed\?token=[a-z0-9]+$", None),
        ];
        for (because, pattern, expected) in table {
            assert_eq!(bypass(pattern), expected, "{because}: {pattern}");
        }
        assert_eq!(lint(&[r"one_factor a.example.com resources=\.css$"]), [], "only bypass opens anything");
    }

    #[test]
    fn a28_a_dot_that_is_any_character() {
        let lints = lint(&[r"two_factor ^app\.example.com$"]);
        assert_eq!(lints.len(), 1);
        assert_eq!(lints[0].fault.at, Some(13..14));
        assert!(lints[0].fault.help.as_ref().unwrap().contains(r"`\.`"));
        for fine in [r"^app\.example\.com$", r"^.*\.example\.com$", r"^[a-z.0]+\.example\.com$", r"^x.$", r"^.+\.com$"]
        {
            assert_eq!(lint(&[&format!("two_factor {fine}")]), [], "{fine}");
        }
        assert_eq!(lint(&["two_factor ^(a|b).example$"]).len(), 1);
    }

    #[test]
    fn a133_a_rule_for_a_network_that_proxies_are_believed_from_is_told() {
        const LAN: &str = "bypass a.example.com networks=192.168.0.0/16";
        #[rustfmt::skip]
        let table: [(&str, Option<&[&str]>, &[&str], &[(usize, &str)]); 15] = [
            // because                                      trusted                    rules                                                        told
            ("inside and outside, proxy on loopback",       None,                      &[LAN, "one_factor a.example.com"],                          &[]),
            ("inside and outside, proxy elsewhere",         Some(&["10.0.0.2"]),       &[LAN, "one_factor a.example.com"],                          &[]),
            ("people and proxies in one network",           Some(&["10.0.0.0/8"]),     &["bypass a.example.com networks=10.0.0.0/8"],               &[(0, "nothing wider")]),
            ("people in a part of it",                      Some(&["10.0.0.0/8"]),     &["one_factor a.example.com networks=10.5.0.0/16"],          &[(0, "nothing wider")]),
            ("they could slip a deny",                      Some(&["10.0.0.0/8"]),     &["deny a.example.com networks=10.5.0.0/16"],                &[(0, "nothing wider")]),
            ("a part of theirs is trusted",                 Some(&["192.168.1.0/24"]), &["one_factor a.example.com", LAN],                          &[(1, "nothing wider")]),
            ("the proxy is in the network",                 Some(&["192.168.1.2"]),    &[LAN],                                                      &[(0, "deny `networks: 192.168.1.2`")]),
            ("and what comes from it alone is denied",      Some(&["192.168.1.2"]),    &["deny *.example.com networks=192.168.1.2", LAN],           &[]),
            ("but for some paths only",                     Some(&["192.168.1.2"]),    &["deny *.example.com networks=192.168.1.2 resources=^/x", LAN], &[(1, "deny `networks")]),
            ("or too late",                                 Some(&["192.168.1.2"]),    &[LAN, "deny *.example.com networks=192.168.1.2"],           &[(0, "deny `networks")]),
            ("the default: loopback",                       None,                      &["bypass a.example.com networks=127.0.0.1"],                &[(0, "without `X-Forwarded-For`")]),
            ("loopback, spelt as IPv6",                     None,                      &["bypass a.example.com networks=::ffff:127.0.0.0/104"],     &[(0, "without `X-Forwarded-For`")]),
            ("denying this machine shuts nothing open",     None,                      &["deny a.example.com networks=127.0.0.0/8"],                &[]),
            ("any address there is",                        None,                      &["one_factor a.example.com networks=0.0.0.0/0"],            &[]),
            ("one lint a rule, and each its own",           Some(&["10.0.0.0/8", "fc00::/7"]), &["bypass a.example.com networks=10.0.0.1,10.0.0.2,fd00::1", "bypass b.example.com networks=fd00::/8"], &[(0, "nothing wider"), (1, "nothing wider")]),
        ];
        for (because, trusted, lines, told) in table {
            let trusted = trusted.map_or_else(TrustedProxies::default, |networks| {
                let networks = networks.iter().map(|text| text.parse::<TrustedNetwork>().unwrap().0);
                TrustedProxies::new(networks.collect())
            });
            let policy = Policy::compile(lines.iter().map(|line| rule(line)).collect(), Requirement::Deny);
            let lints = policy.lint_networks(&trusted);
            assert_eq!(lints.len(), told.len(), "{because}: {lints:?}");
            for (lint, (rule, help)) in lints.iter().zip(told) {
                assert_eq!((lint.rule, lint.severity), (*rule, Severity::Warning), "{because}");
                assert!(lint.fault.message.contains("have addresses in common"), "{lint:?}");
                assert!(lint.fault.help.as_ref().unwrap().contains(help), "{because}: {lint:?}");
            }
        }
    }

    #[test]
    fn a20_an_expression_for_upper_case_matches_no_host_and_is_told() {
        #[rustfmt::skip]
        let table = [
            (r"^App\.example\.com$",           true),
            (r"^(?P<x>[A-Z])\.example\.com$",  true),
            (r"^(Admin|ROOT)\.example\.com$",  true),
            (r"^(?i)App\.example\.com$",       false),
            (r"^(Admin|root)\.example\.com$",  false),
            (r"^[A-Za-z]+\.example\.com$",     false),
            (r"^A?pp\.example\.com$",          false),
            (r"^\D\W?app\.example\.com$",     false),
        ];
        for (pattern, told) in table {
            let hosts = vec![HostPattern::regex(pattern).unwrap()];
            let rule = Rule::new(Criteria { hosts, ..Criteria::default() }, Requirement::Deny).unwrap();
            let message = format!("domain_regex `{pattern}` matches no host");
            assert_eq!(lints(&[rule]).iter().any(|lint| lint.fault.message == message), told, "{pattern}");
        }
    }

    #[test]
    fn a_domain_that_no_request_has_is_told() {
        for (domain, help) in [
            ("*example.com", "did you mean `*.example.com`?"),
            ("*", "as in `*.example.com`"),
            ("https://a.example.com", "without scheme"),
            ("a.example.com:8443", "without scheme"),
            ("a.*.example.com", "under `domain_regex`"),
            ("*.", "without scheme"),
        ] {
            let lints = lint(&[&format!("one_factor ok.example.com,{domain}")]);
            assert_eq!((lints.len(), lints[0].entry), (1, Some(1)), "{domain}: {lints:?}");
            assert!(lints[0].fault.help.as_ref().unwrap().contains(help), "{lints:?}");
        }
        for fine in
            ["*.example.com", "{user}.example.com", "{group}-x.example.com", "10.0.0.1", "2001:db8::1", "localhost"]
        {
            assert_eq!(lint(&[&format!("one_factor {fine}")]), [], "{fine}");
        }
    }

    #[test]
    fn a33_a_rule_that_an_earlier_one_takes_or_weakens() {
        #[rustfmt::skip]
        let table: [(&str, &[&str], Option<&str>); 20] = [
            ("a wildcard before a host",      &["bypass *.example.com", "two_factor admin.example.com"], Some("never match: rule #1")),
            ("the same twice",                &["deny a.example.com", "bypass b.example.com", "one_factor a.example.com"], Some("never match: rule #1")),
            ("a wildcard before its own",     &["one_factor *.example.com", "two_factor *.admin.example.com"], Some("never match: rule #1")),
            ("a prefix before a longer one",  &["bypass a.example.com resources=^/api/", "two_factor a.example.com resources=^/api/admin"], Some("never match: rule #1")),
            ("an expression before a host",   &[r"one_factor ^.*\.example\.com$", "two_factor a.example.com"], Some("never match: rule #1")),
            ("more methods before fewer",     &["bypass a.example.com methods=GET,POST", "deny a.example.com methods=GET"], Some("never match: rule #1")),
            ("a range before an address",     &["bypass a.example.com networks=10.0.0.0/8", "deny a.example.com networks=10.1.1.1"], Some("never match: rule #1")),
            ("fewer conditions before more",  &["one_factor a.example.com subject=group:a", "deny a.example.com subject=group:a+group:b"], Some("never match: rule #1")),
            ("a wildcard before a template",  &["one_factor *.example.com", "two_factor {user}.example.com"], Some("never match: rule #1")),
            ("broader, for some addresses",   &["bypass *.example.com networks=10.0.0.0/8", "two_factor admin.example.com"], Some("rule #1 is broader")),
            ("broader, for some methods",     &["one_factor *.example.com methods=GET", "deny a.example.com resources=^/x"], Some("rule #1 is broader")),
            ("a host before a wildcard",      &["bypass a.example.com", "two_factor *.example.com"], None),
            ("a path before its host",        &["bypass a.example.com resources=^/api/", "two_factor a.example.com"], None),
            ("addresses before everyone",     &["bypass a.example.com networks=10.0.0.0/8", "two_factor a.example.com"], None),
            ("preflights everywhere",         &["bypass *.example.com methods=OPTIONS", "two_factor a.example.com"], None),
            ("the apex is not under it",      &["bypass *.example.com", "two_factor example.com"], None),
            ("another name",                  &["bypass *.example.com", "two_factor evilexample.com"], None),
            ("one of two hosts",              &["bypass a.example.com", "two_factor a.example.com,b.example.com"], None),
            ("a path everywhere",             &["bypass *.example.com resources=^/public/", "two_factor a.example.com"], None),
            ("groups one after the other",    &["two_factor a.example.com subject=group:a", "one_factor a.example.com subject=group:b"], None),
        ];
        for (because, lines, expected) in table {
            let lints = lint(lines);
            assert_eq!(lints.len(), usize::from(expected.is_some()), "{because}: {lints:?}");
            if let Some(expected) = expected {
                assert_eq!(lints[0].rule, lines.len() - 1, "{because}");
                assert!(lints[0].fault.message.contains(expected), "{because}: {lints:?}");
            }
        }
    }
}
