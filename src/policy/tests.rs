//! What the policy decides, as tables; and that the compiled matcher agrees with the obvious one.

use proptest::prelude::*;

use super::reference::Reference;
use super::{Criteria, HostPattern, Policy, QueryTerm, Requirement, Rule, Verdict};
use crate::object::{Malformed, Object};
use crate::subject::{AssuranceLevel, Groups, Subject};

/// A rule in a line: `requirement host[,host] [key=value …]`, lists separated by commas.
pub(super) fn rule(line: &str) -> Rule {
    let mut words = line.split_whitespace();
    let requirement: Requirement = words.next().unwrap().parse().unwrap();
    let mut criteria = Criteria::default();
    for host in words.next().unwrap().split(',') {
        let regex = host.starts_with('^') || host.contains('\\') || host.contains('(');
        criteria.hosts.push(if regex { HostPattern::regex(host) } else { HostPattern::domain(host) }.unwrap());
    }
    for word in words {
        let (key, values) = word.split_once('=').unwrap();
        match key {
            "resources" => criteria.resources.push(values.parse().unwrap()),
            "methods" => criteria.methods = values.split(',').map(|value| value.parse().unwrap()).collect(),
            "networks" => criteria.networks = values.split(',').map(|value| value.parse().unwrap()).collect(),
            // Commas for or, plus for and.
            "subject" => {
                criteria.subjects =
                    values.split(',').map(|all| all.split('+').map(|term| term.parse().unwrap()).collect()).collect();
            }
            "query" => {
                let term = |text: &str| {
                    let mut parts = text.split(':');
                    let key = parts.next();
                    let operator = parts.next().map(|operator| operator.replace('_', " "));
                    QueryTerm::new(key, operator.as_deref(), parts.next()).unwrap()
                };
                criteria.query = values.split(',').map(|all| all.split('+').map(term).collect()).collect();
            }
            _ => panic!("unknown key {key}"),
        }
    }
    Rule::new(criteria, requirement).unwrap()
}

/// Both engines over the same rules; every question is put to both.
struct Both(Policy, Reference);

impl Both {
    fn new(default: &str, rules: &[&str]) -> Both {
        Both::of(rules.iter().map(|line| rule(line)).collect(), default.parse().unwrap())
    }

    fn of(rules: Vec<Rule>, default: Requirement) -> Both {
        let reference = Reference::new(&rules, default);
        Both(Policy::compile(rules, default), reference)
    }

    fn ask(&self, subject: &Subject<'_>, method: &str, url: &str) -> Result<Verdict, Malformed> {
        self.ask_about(subject, &Object::from_url(method.as_bytes(), url.as_bytes())?)
    }

    fn ask_about(&self, subject: &Subject<'_>, object: &Object<'_>) -> Result<Verdict, Malformed> {
        let verdict = self.0.decide(subject, object)?;
        assert_eq!(self.1.decide(subject, object), verdict, "the engines disagree on {object:?} for {subject:?}");
        assert_eq!(self.0.explain(subject, object).map(|explanation| explanation.verdict), Ok(verdict), "{object:?}");
        Ok(verdict)
    }

    /// The level that an anonymous GET requires, or the label of what is wrong with it.
    fn get(&self, url: &str) -> String {
        match self.ask(&Subject::default(), "GET", url) {
            Ok(verdict) => verdict.requirement.to_string(),
            Err(malformed) => malformed.label().to_owned(),
        }
    }
}

fn user<'a>(name: &'a str, groups: &'a str) -> Subject<'a> {
    Subject {
        username: Some(name),
        groups: Groups::new(groups),
        level: AssuranceLevel::OneFactor,
        ..Subject::default()
    }
}

fn client(id: &str) -> Subject<'_> {
    Subject { client_id: Some(id), ..Subject::default() }
}

#[test]
fn a27_a54_the_first_rule_that_matches_decides() {
    let both = Both::new(
        "deny",
        &[
            "bypass pub.example.com",
            "two_factor *.admin.example.com",
            "one_factor *.example.com resources=^/one",
            "bypass *.example.com methods=OPTIONS",
            "one_factor example.com",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                               method     url                                  required       rule
        ("an exact host",                        "GET",     "https://pub.example.com/",          "bypass",      Some(0)),
        ("a wildcard",                           "GET",     "https://a.admin.example.com/",      "two_factor",  Some(1)),
        ("a wildcard, any depth",                "GET",     "https://a.b.admin.example.com/one", "two_factor",  Some(1)),
        ("a27: not the apex",                    "GET",     "https://admin.example.com/one",     "one_factor",  Some(2)),
        ("a27: not another name",                "GET",     "https://evilexample.com/one",       "deny",        None),
        ("an exact host before a wildcard",      "GET",     "https://example.com/one",           "one_factor",  Some(4)),
        ("a method",                             "OPTIONS", "https://x.example.com/",            "bypass",      Some(3)),
        ("another method",                       "GET",     "https://x.example.com/",            "deny",        None),
        ("a54: one that no rule can name",       "PURGE",   "https://x.example.com/",            "deny",        None),
        ("a54: and yet rules without methods",   "PURGE",   "https://pub.example.com/",          "bypass",      Some(0)),
        ("w15: no path is the root",             "GET",     "https://pub.example.com",           "bypass",      Some(0)),
    ];
    for (because, method, url, required, rule) in table {
        let verdict = both.ask(&Subject::default(), method, url).unwrap();
        assert_eq!((verdict.requirement.as_str(), verdict.rule), (required, rule), "{because}: {url}");
    }
}

#[test]
fn resources_are_matched_against_the_cleaned_path_and_the_raw_query() {
    #[rustfmt::skip]
    let table = [
        // target                           resource in the usual reading
        ("/a/../t",                         "/t"),
        ("/a/..%2ft",                       "/t"),
        ("/a/%2F%2e%2e%2Ft",                "/t"),
        ("/foo//bar",                       "/foo/bar"),
        ("/foo/./bar",                      "/foo/bar"),
        ("/a/",                             "/a/"),
        ("/b/../a/",                        "/a/"),
        ("/a//",                            "/a/"),
        ("/a/.",                            "/a"),
        ("/path%20x?q=%20",                 "/path x?q=%20"),
        ("/a?",                             "/a"),
        ("/%41?b=//../;",                   "/A?b=//../;"),
        ("/.well-known/x..y/...",           "/.well-known/x..y/..."),
        ("/caf%C3%A9",                      "/café"),
        ("/café",                           "/café"),
        ("/100%25",                         "/100%"),
        ("",                                "/"),
    ];
    for (target, resource) in table {
        let object = Object::from_parts(b"GET", b"https", b"h.example.com", target.as_bytes()).unwrap();
        assert_eq!(object.resource(), resource, "{target}");
    }
}

#[test]
fn subjects_match_by_letter_and_strangers_provisionally() {
    let both = Both::new(
        "deny",
        &[
            "deny app.example.com subject=group:banned",
            "two_factor app.example.com resources=^/admin subject=user:john+group:dev,group:admins",
            "one_factor app.example.com subject=oauth2:client:robot",
            "bypass pub.example.com",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                                    subject                   path       required       rule     asks
        ("a stranger meets any subject",              Subject::default(),       "/admin",  "deny",        Some(0), true),
        ("a member of the group",                     user("a", "x,banned"),    "/admin",  "deny",        Some(0), true),
        ("groups have a case",                        user("a", "Banned"),      "/",       "deny",        None,    false),
        ("both of an inner list",                     user("john", "dev"),      "/admin",  "two_factor",  Some(1), true),
        ("one of them is not enough",                 user("john", "ops"),      "/admin",  "deny",        None,    false),
        ("or the other list",                         user("x", "admins"),      "/admin",  "two_factor",  Some(1), true),
        ("a client",                                  client("robot"),          "/",       "one_factor",  Some(2), true),
        ("a client is no stranger",                   client("other"),          "/",       "deny",        None,    false),
    ];
    for (because, subject, path, required, rule, subject_rule) in table {
        let verdict = both.ask(&subject, "GET", &format!("https://app.example.com{path}")).unwrap();
        assert_eq!(
            (verdict.requirement.as_str(), verdict.rule, verdict.subject_rule),
            (required, rule, subject_rule),
            "{because}"
        );
    }
}

#[test]
fn a29_templates_match_one_label_of_the_subjects_own() {
    let both = Both::new(
        "deny",
        &[
            "one_factor {user}.example.com",
            "one_factor {group}.Groups.example.com",
            "two_factor {user}-x.example.org",
            r"one_factor ^(?P<User>\w+)\.(?P<Group>\w+)\.example\.net$",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                                  subject                host                          rule
        ("the user's own host",                     user("John", ""),      "john.example.com",           Some(0)),
        ("someone else's",                          user("john", ""),      "jane.example.com",           None),
        ("a name of two labels is none",            user("a.b", ""),       "a.b.example.com",            None),
        ("nor a wildcard",                          user("*", ""),         "x.example.com",              None),
        ("nor a way up",                            user("..", ""),        "x.example.com",              None),
        ("a group that ends in a delimiter",        user("x", "admins.example.com#"), "admins.groups.example.com", None),
        ("a group with a delimiter in it",          user("x", "dev#"),     "dev.groups.example.com",     None),
        ("the user's own, in capitals",             user("john", ""),      "JOHN.example.com",           Some(0)),
        ("nor nothing at all",                      user("", "g"),         "x.example.com",              None),
        ("a stranger, provisionally",               Subject::default(),    "any.example.com",            Some(0)),
        ("a stranger at the apex",                  Subject::default(),    "example.com",                None),
        ("a group, whatever its case",              user("x", "Dev,ops"),  "dev.groups.example.com",     Some(1)),
        ("no such group",                           user("x", "ops"),      "dev.groups.example.com",     None),
        ("a prefix of the label",                   user("john", ""),      "john-x.example.org",         Some(2)),
        ("named groups",                            user("john", "Dev"),   "john.dev.example.net",       Some(3)),
        ("named groups of someone else",            user("john", "Dev"),   "jane.dev.example.net",       None),
        ("named groups, a stranger",                Subject::default(),    "jane.dev.example.net",       Some(3)),
        ("a client has no name",                    client("x"),           "x.example.com",              None),
        ("a host without a dot",                    user("x", "g"),        "localhost",                  None),
    ];
    for (because, subject, host, rule) in table {
        let verdict = both.ask(&subject, "GET", &format!("https://{host}/")).unwrap();
        assert_eq!(verdict.rule, rule, "{because}: {host}");
    }
}

#[test]
fn networks_match_the_address_and_never_an_unknown_one() {
    let both = Both::new("deny", &["bypass a.example.com networks=10.0.0.0/8,2001:db8::1", "one_factor a.example.com"]);
    for (address, rule) in [
        (Some("10.1.2.3"), 0),
        (Some("192.0.2.1"), 1),
        (Some("2001:db8::1"), 0),
        (Some("::ffff:10.0.0.1"), 0),
        (None, 1),
    ] {
        let subject = Subject::anonymous(address.map(|address| address.parse().unwrap()));
        assert_eq!(both.ask(&subject, "GET", "https://a.example.com/").unwrap().rule, Some(rule), "{address:?}");
    }
}

#[test]
fn a121_an_address_that_is_not_known_turns_no_denial_off() {
    let both = Both::new(
        "one_factor",
        &[
            "deny a.example.com networks=fe80::/10",
            "bypass a.example.com",
            "bypass b.example.com networks=10.0.0.0/8",
            "two_factor c.example.com networks=10.0.0.0/8 resources=^/admin",
            "bypass c.example.com",
            "deny d.example.com networks=10.0.0.0/8 query=debug",
            "bypass d.example.com",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                                  address            url                                  required
        ("a denial for a network",                  Some("fe80::1"),   "https://a.example.com/",            "deny"),
        ("and outside of it",                       Some("192.0.2.1"), "https://a.example.com/",            "bypass"),
        ("a denial that may apply",                 None,              "https://a.example.com/",            "deny"),
        ("nothing is opened",                       None,              "https://b.example.com/",            "one_factor"),
        ("what is stricter inside may apply",       None,              "https://c.example.com/admin",       "two_factor"),
        ("but not to another path",                 None,              "https://c.example.com/x",           "bypass"),
        ("nor without what else the rule asks for", None,              "https://d.example.com/?x=1",        "bypass"),
        ("and with it",                             None,              "https://d.example.com/?debug",      "deny"),
    ];
    for (because, address, url, required) in table {
        let subject = Subject::anonymous(address.map(|address| address.parse().unwrap()));
        assert_eq!(both.ask(&subject, "GET", url).unwrap().requirement.as_str(), required, "{because}");
    }
}

#[test]
fn a121_what_the_proxy_does_not_name_turns_no_denial_off() {
    let both = Both::new(
        "one_factor",
        &[
            "deny a.example.com methods=DELETE",
            "bypass a.example.com",
            "bypass b.example.com methods=GET",
            "deny c.example.com resources=^/admin",
            "deny c.example.com query=debug",
            "bypass c.example.com",
            "bypass d.example.com resources=^/public",
        ],
    );
    let required = |host: &str, change: fn(Object<'_>) -> Object<'_>| {
        let url = format!("https://{host}.example.com/");
        let object = change(Object::from_url(b"GET", url.as_bytes()).unwrap());
        both.ask_about(&Subject::anonymous(None), &object).unwrap().requirement.as_str()
    };
    #[rustfmt::skip]
    let table: [(&str, &str, fn(Object<'_>) -> Object<'_>, &str); 8] = [
        ("a method that is named",             "a", |object| object,                       "bypass"),
        ("one that is not may be denied",      "a", |object| object.with_method_unnamed(), "deny"),
        ("and opens nothing",                  "b", |object| object.with_method_unnamed(), "one_factor"),
        ("a path that is named",               "c", |object| object,                       "bypass"),
        ("one that is not may be denied",      "c", |object| object.with_target_unnamed(), "deny"),
        ("and opens nothing",                  "d", |object| object.with_target_unnamed(), "one_factor"),
        ("a rule that does not ask for it",    "b", |object| object.with_target_unnamed(), "bypass"),
        ("nor for the method",                 "c", |object| object.with_method_unnamed(), "bypass"),
    ];
    for (because, host, change, expected) in table {
        assert_eq!(required(host, change), expected, "{because}");
    }
}

#[test]
fn a115_a_parameter_in_another_spelling_slips_past_no_condition() {
    let both = Both::new(
        "two_factor",
        &[
            "bypass a.example.com query=debug:absent",
            "deny b.example.com query=admin",
            "bypass b.example.com",
            "bypass c.example.com query=role:not_equal:admin",
            "bypass d.example.com query=a_b:absent",
        ],
    );
    for disguised in [
        "debug[]=1",
        "debug[a]=1",
        "debug%00=1",
        "debug%00x=1",
        "%20debug=1",
        "+debug=1",
        "DEBUG=1",
        "debug%5b%5d=1",
        "[debug]=1",
        "debug.x=1",
        "debug[=1",
        "x=1;debug=1",
        "%u0064ebug=1",
        "deb%75g[]=1",
    ] {
        assert_eq!(both.get(&format!("https://a.example.com/?{disguised}")), "two_factor", "{disguised}");
        let admin = disguised.replace("debug", "admin").replace("DEBUG", "ADMIN").replace("deb%75g", "adm%69n");
        assert_eq!(
            both.get(&format!("https://b.example.com/?{}", admin.replace("%u0064ebug", "%u0061dmin"))),
            "deny",
            "{admin}"
        );
    }
    for (url, required) in [
        ("https://a.example.com/?x=1&debugger=2&my_debug=3", "bypass"),
        ("https://b.example.com/?administrator=1", "bypass"),
        ("https://c.example.com/?role[]=admin", "two_factor"),
        ("https://c.example.com/?role=user&ROLE=admin", "two_factor"),
        ("https://c.example.com/?role=user", "bypass"),
        ("https://d.example.com/?a.b=1", "two_factor"),
        ("https://d.example.com/?a+b=1", "two_factor"),
        ("https://d.example.com/?a[b=1", "two_factor"),
        ("https://d.example.com/?ab=1", "bypass"),
    ] {
        assert_eq!(both.get(url), required, "{url}");
    }
}

#[test]
fn a116_a_pattern_that_reaches_the_query_sees_it_decoded_too() {
    let both = Both::new(
        "one_factor",
        &[
            r"deny a.example.com resources=^/index\.php\?(.*&)?page=admin",
            "bypass a.example.com",
            r"bypass b.example.com resources=^/view\?page=[^/]+$",
            r"deny c.example.com resources=secret",
            "bypass c.example.com",
            "bypass d.example.com resources=^/open",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                                      url                                                     required
        ("as it is written",                            "https://a.example.com/index.php?page=admin",           "deny"),
        ("an escape in the value",                      "https://a.example.com/index.php?page=%61dmin",         "deny"),
        ("in the key",                                  "https://a.example.com/index.php?p%61ge=admin",         "deny"),
        ("behind another parameter",                    "https://a.example.com/index.php?x=1&p%61ge=%61dmin",   "deny"),
        ("behind one that holds a line break",          "https://a.example.com/index.php?x=%0a&page=%61dmin",   "deny"),
        ("behind a blank that PHP drops",               "https://a.example.com/index.php?+page=admin",          "deny"),
        ("behind an encoded question mark",             "https://a.example.com/index.php%3fpage=%61dmin",       "deny"),
        ("what else there is",                          "https://a.example.com/index.php?page=%61dm",           "bypass"),
        ("a pattern that opens must hold in both",      "https://b.example.com/view?page=..%2fadmin",           "one_factor"),
        ("as it does here",                             "https://b.example.com/view?page=a%20b",                "bypass"),
        ("a pattern without an anchor",                 "https://c.example.com/?x=s%65cret",                    "deny"),
        ("a pattern for the path alone",                "https://d.example.com/open?x=%2f",                     "bypass"),
    ];
    for (because, url, required) in table {
        assert_eq!(both.get(url), required, "{because}: {url}");
    }
}

#[test]
fn a111_a112_what_costs_too_much_is_refused_and_nothing_honest_is() {
    let expressions = |count: usize| -> Vec<Rule> {
        (0..count).map(|n| rule(&format!("one_factor e.example.com resources=/([a-z%]+/)*[0-9]{{1,8}}x{n}$"))).collect()
    };
    let conditions = (0..200).map(|n| rule(&format!("one_factor q.example.com query=page:pattern:x{n}$")));
    let policy = |rules: Vec<Rule>| Both::of(rules, Requirement::Bypass);
    let (few, many) = (policy(expressions(3)), policy(expressions(200).into_iter().chain(conditions).collect()));
    let long = |bytes: usize| format!("https://e.example.com/{}", "abcdefg/".repeat(bytes / 8));
    #[rustfmt::skip]
    let table = [
        // because                                              policy  url                                                             answer
        ("few expressions, the longest path",                   &few,   long(16_000),                                                   "bypass"),
        ("200 expressions, a long path",                        &many,  long(1_600),                                                    "bypass"),
        ("200 expressions, a very long path",                   &many,  long(4_000),                                                    "too_much_work"),
        ("200 expressions, a path with readings",               &many,  "https://e.example.com/a//b;c/../d%2fe".to_owned(),             "bypass"),
        ("200 expressions, a long path with readings",          &many,  long(700) + "/a//b;c/../d%2fe",                                  "too_much_work"),
        ("200 conditions",                                      &many,  "https://q.example.com/?page=1&x=2&y=3".to_owned(),             "bypass"),
        ("200 conditions, many parameters",                     &many,  format!("https://q.example.com/?{}", "x=1&".repeat(150)),        "bypass"),
        ("200 conditions on a parameter that is repeated",      &many,  format!("https://q.example.com/?{}", "page=1&".repeat(900)),     "too_much_work"),
        ("more parameters than applications read",              &many,  format!("https://q.example.com/?{}", "a&".repeat(1_001)),        "too_many_parameters"),
        ("where no rule asks about them",                       &many,  format!("https://n.example.com/?{}", "a&".repeat(1_001)),        "bypass"),
    ];
    for (because, both, url, answer) in table {
        assert_eq!(both.get(&url), answer, "{because}");
    }
}

#[test]
fn a20_letter_case_of_a_host_changes_nothing() {
    let both = Both::new(
        "deny",
        &[
            "two_factor *.ADMIN.example.com",
            r"two_factor ^secure\.",
            "one_factor {user}.Example.com",
            "bypass *.example.com",
        ],
    );
    for (host, rule) in [
        ("Secure.ADMIN.example.com", 0),
        ("x.admin.EXAMPLE.com", 0),
        ("SECURE.example.com", 1),
        ("a.EXAMPLE.com", 2),
        ("A.example.com.", 2),
    ] {
        assert_eq!(
            both.ask(&Subject::default(), "GET", &format!("https://{host}/")).unwrap().rule,
            Some(rule),
            "{host}"
        );
        let lower = host.to_ascii_lowercase();
        assert_eq!(
            both.ask(&Subject::default(), "GET", &format!("https://{lower}/")).unwrap().rule,
            Some(rule),
            "{lower}"
        );
    }
    let john = user("john", "");
    assert_eq!(both.ask(&john, "GET", "https://JOHN.example.com/").unwrap().rule, Some(2));
}

/// A20: an index is made for many rules and not for one; neither lets the case of a letter decide.
#[test]
fn a20_letter_case_of_a_host_changes_nothing_among_few_rules_or_many() {
    let mut dice = 0x2545_f491_4f6c_dd1d_u64;
    for count in [1, 50, 1_000] {
        let host = |n: usize| format!("h{n}.Zone{n}.example.com");
        let rules: Vec<String> = (0..count)
            .map(|n| match n % 5 {
                0 => format!("two_factor {}", host(n)),
                1 => format!("one_factor *.ZONE{n}.example.com"),
                2 => format!("two_factor {{user}}.zone{n}.Example.com"),
                3 => format!(r"one_factor ^h{n}\.zone{n}\."),
                _ => format!("deny H{n}.zone{n}.EXAMPLE.com"),
            })
            .collect();
        let both = Both::new("bypass", &rules.iter().map(String::as_str).collect::<Vec<_>>());
        for n in (0..count).step_by(count.div_ceil(50)).chain(count.saturating_sub(5)..count) {
            for _ in 0..4 {
                let shuffled: String = host(n)
                    .chars()
                    .map(|letter| {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        if dice >> 63 == 0 { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() }
                    })
                    .collect();
                let verdict = both.ask(&Subject::default(), "GET", &format!("https://{shuffled}/")).unwrap();
                assert_eq!(verdict.rule, Some(u32::try_from(n).unwrap()), "{shuffled} among {count}");
            }
        }
    }
}

/// A public corner in a house that asks for one factor, and a cellar that nobody enters.
fn house() -> Both {
    Both::new(
        "one_factor",
        &[
            "bypass h.example.com resources=^/public/",
            r"bypass h.example.com resources=\.css$",
            "deny h.example.com resources=^/admin([/?].*)?$",
        ],
    )
}

#[test]
fn a01_to_a08_a10_a11_a14_to_a16_ambiguous_paths_get_the_strictest_reading() {
    #[rustfmt::skip]
    let table = [
        // attack                                       target                                       answer
        ("a01: dot segments",                           "/public/../admin",                          "deny"),
        ("a01: and a single dot",                       "/public/./../admin",                        "deny"),
        ("a01: inside",                                 "/public/x/../y",                            "bypass"),
        ("a01: back at the root",                       "/public/..",                                "one_factor"),
        ("a01: above the root",                         "/..",                                       "above_root"),
        ("a01: above the root and on",                  "/../admin",                                 "above_root"),
        ("a01: above the root after a while",           "/a/b/../../../admin",                       "above_root"),
        ("a02: encoded dots",                           "/public/%2e%2e/admin",                      "deny"),
        ("a02: half encoded",                           "/public/.%2E/admin",                        "deny"),
        ("a02: with the slash",                         "/public/%2e%2e%2fadmin",                    "deny"),
        ("a03: in letters of either case",              "/public%2f..%2Fadmin",                      "deny"),
        ("a03: an encoded slash climbs",                "/public%2F..%2fadmin",                      "deny"),
        ("a03: an encoded slash",                       "/admin%2Fusers",                            "deny"),
        ("a03: and leads to a public corner",           "/public%2fx",                               "one_factor"),
        ("a04: two layers",                             "/public/%252e%252e/admin",                  "deny"),
        ("a04: two layers of a letter",                 "/public/x%2561",                            "bypass"),
        ("a04: of a letter that matters",               "/%2561dmin",                                "deny"),
        ("a04: three layers",                           "/public/%25252e%25252e/admin",              "deny"),
        ("a04: four layers",                            "/%25252561dmin",                            "deny"),
        ("a04: five layers",                            "/%2525252561dmin",                          "ambiguous"),
        ("a04: two layers above the root",              "/%252e%252e/admin",                         "deny"),
        ("a05: two slashes are no authority",           "//admin/users",                             "deny"),
        ("a05: nor three",                              "///admin",                                  "deny"),
        ("a05: inside",                                 "/public//admin",                            "bypass"),
        ("a06: a backslash",                            "/public\\..\\admin",                        "deny"),
        ("a06: an encoded backslash",                   "/public%5c..%5Cadmin",                      "deny"),
        ("a07: parameters",                             "/public/..;/admin",                         "deny"),
        ("a07: parameters with values",                 "/admin;x=1/users",                          "deny"),
        ("a07: an extension behind them",               "/admin;.css",                               "deny"),
        ("a07: encoded",                                "/admin%3b.css",                             "deny"),
        ("a08: a fragment",                             "/admin#/public/x",                          "fragment"),
        ("a08: an encoded one",                         "/admin%23.css",                             "deny"),
        ("a08: before a public corner",                 "/admin%23/public/",                         "deny"),
        ("a10: an encoded question mark",               "/admin%3f.css",                             "deny"),
        ("a10: a plain one",                            "/admin?.css",                               "bypass"),
        ("a10: two plain ones",                         "/admin??/public/",                          "deny"),
        ("a10: encoded, before a public corner",        "/admin%3f/public/",                         "deny"),
        ("a11: an extension",                           "/admin/x.css",                              "bypass"),
        ("a11: a NUL before it",                        "/admin/%00.css",                            "control_byte"),
        ("a14: a NUL",                                  "/public%00/../admin",                       "control_byte"),
        ("a14: a line break",                           "/a%0d%0aX:%20y",                            "control_byte"),
        ("a14: in a second layer",                      "/a%250ab",                                  "control_byte"),
        ("a15: a bad escape",                           "/%zz",                                      "escape"),
        ("a15: half an escape",                         "/a%2",                                      "escape"),
        ("a15: in the query it is data",                "/public/?a=%zz",                            "bypass"),
        ("a16: overlong dots",                          "/%c0%ae%c0%ae/",                            "utf8"),
        ("a16: a lone continuation",                    "/%80",                                      "utf8"),
        ("a16: in a second layer",                      "/a%25ffb",                                  "utf8"),
        ("a16: a wide slash is a letter",               "/public/%ef%bc%8f",                         "bypass"),
        ("a16: a Kelvin sign is no K",                  "/public/%e2%84%aa",                         "bypass"),
        ("w19: an escape that ends a line",             "/admin/%0Ax",                               "control_byte"),
        ("a111: all at once has too many readings",      "/public/%2e%2e;x%2f%5c..%252fadmin%3fa//b", "ambiguous"),
        ("most of it has not",                          "/public/%2e%2e;x/..%252fadmin//b",          "deny"),
        ("harmless escapes are one reading",            "/public/a%20b%41",                          "bypass"),
        ("so are hidden files",                         "/public/.x/..y/...",                        "bypass"),
    ];
    let house = house();
    for (because, target, answer) in table {
        assert_eq!(house.get(&format!("https://h.example.com{target}")), answer, "{because}: {target}");
    }
    // A08: an anchored pattern, met only by what stands behind the mark.
    let anchored = Both::new("one_factor", &["bypass h.example.com resources=^/foo/.*/bar$"]);
    for (target, answer) in
        [("/foo/x/bar", "bypass"), ("/foo/secret%23/bar", "one_factor"), ("/foo/secret#/bar", "fragment")]
    {
        assert_eq!(anchored.get(&format!("https://h.example.com{target}")), answer, "{target}");
    }
}

#[test]
fn a01_a02_dots_are_dots_in_every_spelling() {
    #[rustfmt::skip]
    let table = [
        ("/public/../admin",        "deny"),
        ("/public/./../admin",      "deny"),
        ("/public/x/../../admin",   "deny"),
        ("/public/..",              "one_factor"),
        ("/public/x/../y",          "bypass"),
        ("/public/./y",             "bypass"),
        ("/..",                     "above_root"),
        ("/../admin",               "above_root"),
        ("/a/b/../../../admin",     "above_root"),
    ];
    let house = house();
    for (target, answer) in table {
        for two in ["..", "%2e%2e", "%2E%2E", "%2e%2E", "%2E%2e", ".%2e", ".%2E", "%2e.", "%2E."] {
            for one in [".", "%2e", "%2E"] {
                for slash in ["/", "%2f", "%2F", "\\", "%5c", "%5C"] {
                    // The slash behind the dots; the first one stays, or it would be no target.
                    let segments: Vec<&str> = target
                        .split('/')
                        .map(|segment| match segment {
                            ".." => two,
                            "." => one,
                            other => other,
                        })
                        .collect();
                    let spelt = segments.join("/").replace(&format!("{two}/"), &format!("{two}{slash}"));
                    let got = house.get(&format!("https://h.example.com{spelt}"));
                    // What only some readers take for a way up is judged as if it led to the root.
                    assert!(
                        got == answer || (answer, got.as_str()) == ("above_root", "deny"),
                        "{target} as {spelt}: {got}"
                    );
                }
            }
        }
    }
}

/// Paths have a letter case, as in Authelia; an expression says where they have none. It is asked about what was decoded.
#[test]
fn a12_an_expression_may_be_blind_to_letter_case() {
    let both = Both::new(
        "one_factor",
        &["deny a.example.com resources=(?i)^/admin(/|$)", "deny b.example.com resources=^/admin(/|$)"],
    );
    for (target, blind, exact) in [
        ("/admin", "deny", "deny"),
        ("/Admin/x", "deny", "one_factor"),
        ("/ADM%49N", "deny", "one_factor"),
        ("/%41dmin", "deny", "one_factor"),
        ("/x/..;/ADMIN", "deny", "one_factor"),
        ("/adm\u{131}n", "one_factor", "one_factor"),
    ] {
        assert_eq!(both.get(&format!("https://a.example.com{target}")), blind, "{target}");
        assert_eq!(both.get(&format!("https://b.example.com{target}")), exact, "{target}");
    }
}

#[test]
fn a17_a_target_starts_with_a_slash() {
    let house = house();
    for target in ["http://public.example.com/", "@evil.com/", "admin", "*", "?x=1"] {
        let object = Object::from_parts(b"GET", b"https", b"h.example.com", target.as_bytes());
        assert_eq!(object.err(), Some(Malformed::Target), "{target}");
    }
    let object = Object::from_parts(b"OPTIONS", b"https", b"h.example.com", b"*").unwrap();
    assert_eq!(house.0.decide(&Subject::default(), &object).unwrap().requirement, Requirement::OneFactor);
}

#[test]
fn a10_a_query_behind_an_encoded_question_mark_slips_past_nothing() {
    let both = Both::new(
        "one_factor",
        &[
            "deny d.example.com query=admin:present",
            "bypass d.example.com",
            "bypass e.example.com query=level:equal:1",
            "bypass a.example.com query=admin:absent",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                              url                                         required
        ("as it is sent",                       "https://d.example.com/x?admin=1",          "deny"),
        ("decoded once",                        "https://d.example.com/x%3fadmin=1",        "deny"),
        ("decoded twice",                       "https://d.example.com/x%253Fadmin=1",      "deny"),
        ("in front of the one that is sent",    "https://d.example.com/x%3fadmin=1&y=?z=1", "deny"),
        ("behind it, it is a value",            "https://d.example.com/x?y=%3fadmin=1",     "bypass"),
        ("it opens nothing",                    "https://e.example.com/x%3flevel=1",        "one_factor"),
        ("nor does it hide",                    "https://a.example.com/x%3fadmin=1?y=1",    "one_factor"),
        ("elsewhere it is harmless",            "https://a.example.com/x%3fy=1",            "bypass"),
    ];
    for (because, url, required) in table {
        assert_eq!(both.get(url), required, "{because}: {url}");
    }
}

#[test]
fn w18_garbled_and_repeated_parameters_slip_past_nothing() {
    let both = Both::new(
        "one_factor",
        &[
            "deny d.example.com query=admin:present",
            "deny t.example.com query=token:absent",
            "bypass b.example.com query=admin:absent",
            "bypass n.example.com query=level:not_equal:9",
            "bypass e.example.com query=level:equal:1",
            "two_factor e.example.com",
        ],
    );
    #[rustfmt::skip]
    let table = [
        // because                              url                                      required
        ("present",                             "https://d.example.com/?admin=1",        "deny"),
        ("perhaps present",                     "https://d.example.com/?x=1;admin=1",    "deny"),
        ("absent",                              "https://d.example.com/?x=1",            "one_factor"),
        ("a token",                             "https://t.example.com/?token=1",        "one_factor"),
        ("perhaps a token",                     "https://t.example.com/?x;token=1",      "deny"),
        ("a garbled admin is there",            "https://b.example.com/?admin=%zz",      "one_factor"),
        ("perhaps absent",                      "https://b.example.com/?x=1;admin=1",    "one_factor"),
        ("absent, and someone else garbled",    "https://b.example.com/?q=100%",         "bypass"),
        ("first harmless, then not",            "https://n.example.com/?level=1&level=9", "one_factor"),
        ("first right, then not",               "https://e.example.com/?level=1&level=2", "two_factor"),
        ("first wrong, then right",             "https://e.example.com/?level=2&level=1", "two_factor"),
        ("right",                               "https://e.example.com/?level=1",        "bypass"),
    ];
    for (because, url, required) in table {
        assert_eq!(both.get(url), required, "{because}: {url}");
    }
}

#[test]
fn an_explanation_names_the_verdict_of_the_gate_and_every_rule_before_it() {
    let both = Both::new(
        "deny",
        &[
            "two_factor a.example.com query=admin:present",
            "one_factor a.example.com resources=^/x$ methods=POST networks=10.0.0.0/8",
            "bypass a.example.com",
        ],
    );
    let explain = |url: &str| {
        let object = Object::from_url(b"GET", url.as_bytes()).unwrap();
        let explanation = both.0.explain(&Subject::default(), &object).unwrap();
        assert_eq!(Ok(explanation.verdict), both.0.decide(&Subject::default(), &object));
        explanation
    };
    let plain = explain("https://a.example.com/x");
    assert_eq!((plain.verdict.rule, plain.provisional, plain.notes.len()), (Some(2), false, 0));
    let why: Vec<&str> = plain.passed_over.iter().map(|passed| passed.why.as_str()).collect();
    assert_eq!(why, ["the query `` does not have `admin` present", "the method `GET` is not `POST`"]);

    let garbled = explain("https://a.example.com/?x;admin=1");
    assert_eq!(garbled.verdict.rule, Some(0), "it may be there");
    assert!(garbled.notes[0].contains("repeated, garbled"), "{:?}", garbled.notes);

    let ambiguous = explain("https://a.example.com//x");
    assert_eq!((ambiguous.readings, ambiguous.verdict.rule), (2, Some(2)));
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Policy>();
}

#[test]
fn w20_bypass_does_not_ask_who_it_is() {
    let criteria = |line: &str| rule(&format!("one_factor {line}")).criteria().clone();
    for line in [
        "a.example.com subject=user:x",
        "{user}.example.com",
        "{group}.example.com",
        r"^(?P<User>\w+)\.example\.com$",
        "a.example.com resources=^/(?P<Group>x)/",
    ] {
        let faults = Rule::new(criteria(line), Requirement::Bypass).unwrap_err();
        assert_eq!(faults.len(), 1, "{line}: {faults:?}");
        assert!(faults[0].1.message.starts_with("policy `bypass` with "), "{line}: {faults:?}");
        assert!(Rule::new(criteria(line), Requirement::Deny).is_ok());
    }
    assert!(Rule::new(criteria("a.example.com resources=^/(?P<user>x)/"), Requirement::Bypass).is_ok());
}

#[test]
fn everything_wrong_with_a_rule_is_told_at_once() {
    let criteria = Criteria {
        methods: vec!["GET".parse().unwrap(), "GET".parse().unwrap()],
        subjects: vec![vec![]],
        query: vec![vec![]],
        ..Criteria::default()
    };
    let faults = Rule::new(criteria, Requirement::OneFactor).unwrap_err();
    let messages: Vec<_> = faults.iter().map(|(_, fault)| fault.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "a rule without `domain` and `domain_regex`",
            "method `GET` twice",
            "an empty list inside `subject`",
            "an empty list inside `query`",
        ]
    );
}

#[test]
fn a25_names_outside_ascii_are_matched_as_they_are_sent() {
    let both = Both(
        Policy::compile(vec![rule("bypass *.Müller.example"), rule("bypass bücher.example")], Requirement::Deny),
        Reference::new(
            &[rule("bypass *.xn--mller-kva.example"), rule("bypass xn--bcher-kva.example")],
            Requirement::Deny,
        ),
    );
    assert_eq!(both.get("https://a.xn--mller-kva.example/"), "bypass");
    assert_eq!(both.get("https://xn--bcher-kva.example/"), "bypass");
    assert_eq!(both.get("https://bücher.example/"), "host");
}

// The same small words in rules and requests, so that they meet often.

fn host_text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a.x.y", "b.x.y", "x.y", "a.b.x.y", "c.z", "y", "john.x.y", "dev.z", "a-q.x.y", "10.0.0.1",
    ])
    .prop_map(str::to_owned)
}

fn host_pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => host_text(),
        4 => prop::sample::select(vec!["*.x.y", "*.y", "*.b.x.y", "*.z", "{user}.x.y", "{group}.z", "{user}-q.x.y", "{group}.y", "*x.y"])
            .prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            r"^a\.", r"x\.y$", r"^(?P<User>\w+)\.x", r"^(?P<Group>\w+)\.z$", r"^(a|b)\.x\.y$", r"^[^.]+\.y$"
        ]).prop_map(str::to_owned),
    ]
}

fn path_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "a", "b", "ab", "/a", "/a/", "/b", "/a/b", "//", "/..", "/.", "%2f", "%2e", ";x", "\\", "%41", "%252e",
        "%3f", "%3Ba", "/john", "/dev", "7", ".css", "é",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn query_text() -> impl Strategy<Value = String> {
    let pair = prop::sample::select(vec![
        "k=1", "k=2", "k", "l=1", "k=%zz", "x;k=1", "%6b=1", "m=a+b", "l=", "k[]=1", "+k=1", "K=1", "k.a=1", "k%00=1",
        "l=%31", "%6b=%31", "x=%0a", "k=1%00", "[k]=2", "k[l=1",
    ]);
    prop_oneof![
        1 => Just(String::new()),
        1 => prop::collection::vec(pair, 0..4).prop_map(|pairs| format!("?{}", pairs.join("&"))),
    ]
}

fn resource_pattern() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "^/a",
        "^/a$",
        "^/a/",
        "^/a([/?].*)?$",
        "^/a(/|$)",
        "^/b.*$",
        "^/b",
        "^/$",
        "",
        "^",
        "a",
        r"\.css$",
        "^/(a|b)/",
        "^/a/b",
        r"^/\d",
        "^/(?P<User>[a-z]+)",
        "^/(?P<Group>[a-z]+)$",
        "(?i)^/A",
        "^/é",
        "^/[ab]",
        "^/a(/.*)?$",
        "^(/ab)$",
        r"k=1",
        r"\?(.*&)?k=1(&|$)",
        r"^/a.*[?&]m=a[^+]b$",
        r"^/[^?]*b",
        r"l=[^%]+$",
        "^/.*b$",
        "^/a|^/b",
        "^/(ab|a)",
        "^/é?a",
    ])
    .prop_map(str::to_owned)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let some = |words: &'static [&'static str]| {
        prop_oneof![
            3 => Just(String::new()),
            1 => prop::sample::subsequence(words.to_vec(), 1..=2).prop_map(|words| words.join(",")),
        ]
    };
    (
        prop::sample::select(vec!["bypass", "one_factor", "two_factor", "deny"]),
        prop::collection::vec(host_pattern(), 1..3),
        prop::collection::vec(resource_pattern(), 0..3),
        some(&["GET", "POST"]),
        some(&["10.0.0.0/8", "10.0.0.7", "::/0"]),
        some(&["user:john", "group:dev", "user:john+group:dev", "oauth2:client:robot"]),
        some(&["k", "k:absent", "k:equal:1", "k:not_equal:1", "l:pattern:^1", "k:not_pattern:2+l:present"]),
    )
        .prop_filter_map(
            "bypass asks for nobody",
            |(requirement, hosts, resources, methods, networks, subject, query)| {
                let mut line = format!("{requirement} {}", hosts.join(","));
                for resource in resources {
                    line += &format!(" resources={resource}");
                }
                for (key, values) in
                    [("methods", methods), ("networks", networks), ("subject", subject), ("query", query)]
                {
                    if !values.is_empty() {
                        line += &format!(" {key}={values}");
                    }
                }
                let asks = line.contains("subject=") || line.contains('{') || line.contains("(?P<");
                (requirement != "bypass" || !asks).then(|| rule(&line))
            },
        )
}

fn any_subject() -> impl Strategy<Value = Subject<'static>> {
    (
        prop::sample::select(vec![None, None, Some("john"), Some("John"), Some("a.b"), Some("dev")]),
        prop::sample::select(vec!["", "dev", "Dev,ops", "john"]),
        prop::sample::select(vec![None, None, Some("robot")]),
        prop::sample::select(vec![None, Some("10.0.0.7"), Some("10.9.9.9"), Some("2001:db8::1")]),
    )
        .prop_map(|(username, groups, client_id, address)| Subject {
            username,
            groups: Groups::new(groups),
            client_id,
            address: address.map(|address| address.parse().unwrap()),
            level: AssuranceLevel::Anonymous,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// 1,000 policies, asked 100 questions each.
    #[test]
    fn the_compiled_matcher_agrees_with_the_obvious_one(
        rules in prop::collection::vec(any_rule(), 0..24),
        default in prop::sample::select(vec!["bypass", "one_factor", "two_factor", "deny"]),
        hosts in prop::collection::vec(host_text(), 10),
        targets in prop::collection::vec((path_text(), query_text()), 10),
        subjects in prop::collection::vec(any_subject(), 10),
    ) {
        let both = Both::of(rules, default.parse().unwrap());
        for (n, host) in hosts.iter().enumerate() {
            for (m, (path, query)) in targets.iter().enumerate() {
                let method: &[u8] = if (n + m) % 4 == 0 { b"POST" } else { b"GET" };
                let url = format!("https://{host}{path}{query}");
                let Ok(object) = Object::from_url(method, url.as_bytes()) else { continue };
                let object = if (n + m) % 5 == 0 { object.with_method_unnamed() } else { object };
                let object = if (n + m) % 7 == 0 { object.with_target_unnamed() } else { object };
                let _ = both.ask_about(&subjects[(n + m) % subjects.len()], &object);
            }
        }
    }

    #[test]
    fn a29_a_template_matches_nobody_elses_host(name in "[a-cA-C.*_#@{}-]{1,5}", label in "[a-c]([a-c_-]{0,3}[a-c])?") {
        let both = Both::new("deny", &["one_factor {user}.example.com", "two_factor {group}.example.com"]);
        let rule = |subject| both.ask(&subject, "GET", &format!("https://{label}.example.com/")).unwrap().rule;
        let own = name.eq_ignore_ascii_case(&label);
        prop_assert_eq!(rule(user(&name, "")), own.then_some(0));
        prop_assert_eq!(rule(user("nobody", &name)), own.then_some(1));
    }

    /// A detour through a directory and back may only make a decision stricter (A01). A path that holds
    /// one already has a reading in which nothing is resolved, and there another detour is another path.
    #[test]
    fn a01_adding_dot_segments_never_weakens_a_decision(
        rules in prop::collection::vec(any_rule(), 1..12),
        path in path_text(),
        query in query_text(),
        detours in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec!["/./", "/x/../", "/%2e/", "/x/%2E./", "/.;/", "//"])), 1..3),
    ) {
        let plain = format!("https://h{path}");
        let dotless = |reading: &str| !reading.split(['/', '?']).any(|segment| matches!(segment, "." | ".."));
        prop_assume!(Object::from_url(b"GET", plain.as_bytes()).is_ok_and(|object| object.readings().all(dotless)));
        let both = Both::of(rules, Requirement::OneFactor);
        let mut longer = path.clone();
        for (at, detour) in detours {
            let slashes: Vec<usize> = longer.match_indices('/').map(|(at, _)| at).collect();
            let at = slashes[at.index(slashes.len())];
            longer.replace_range(at..=at, detour);
        }
        for host in ["a.x.y", "c.z"] {
            let ask = |path: &str| both.ask(&Subject::default(), "GET", &format!("https://{host}{path}{query}"));
            if let (Ok(short), Ok(long)) = (ask(&path), ask(&longer)) {
                prop_assert!(long.strictness() >= short.strictness(), "{path} {short:?}, {longer} {long:?}");
            }
        }
    }
}
