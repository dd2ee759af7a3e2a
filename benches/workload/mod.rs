//! Rules and requests for benchmarks: the same on every machine, for every run.

use portcullis::object::Object;
use portcullis::policy::{Criteria, HostPattern, Requirement, Rule};

/// A small generator (Vigna's SplitMix64): benchmarks need the same numbers each time, not good ones.
pub struct Seeded(u64);

impl Seeded {
    /// Numbers that follow from `seed`.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap_or(0)
    }
}

/// A rule of one host, perhaps one resource pattern and one group.
pub fn rule(host: &str, resource: Option<&str>, group: Option<&str>, requirement: Requirement) -> Rule {
    let criteria = Criteria {
        hosts: vec![HostPattern::domain(host).expect("a host")],
        resources: resource.map(|text| text.parse().expect("a pattern")).into_iter().collect(),
        subjects: group.map(|name| vec![format!("group:{name}").parse().expect("a subject")]).into_iter().collect(),
        ..Criteria::default()
    };
    Rule::new(criteria, requirement).expect("a rule")
}

/// One question and its answer.
pub struct Question {
    /// Host of the request.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// Position of the rule that decides; `None` for the default policy.
    pub rule: Option<u32>,
}

impl Question {
    /// The question as the policy is asked it.
    pub fn object(&self) -> Object<'_> {
        Object::from_parts(b"GET", b"https", self.host.as_bytes(), self.target.as_bytes()).expect("well-formed")
    }
}

/// What an installation of many applications looks like: mostly hosts of their own, some with a public
/// path before them, some wildcards, some expressions. Each rule comes with a question it decides.
pub fn mixed(count: usize) -> (Vec<Rule>, Vec<Question>) {
    let mut seeded = Seeded::new(7);
    let mut rules = Vec::with_capacity(count);
    let mut questions = Vec::with_capacity(count);
    for n in 0..count {
        let app = format!("app{n}.example.com");
        let (host, resource, group, asked, target) = match seeded.below(10) {
            0 => (app.clone(), Some("^/api([/?].*)?$"), None, app, "/api/v1/items?page=2"),
            1 => (app.clone(), Some("^/static/.*$"), None, app, "/static/main.css"),
            2 => (app.clone(), Some(r"^/(items|users)/\d+(/edit)?$"), None, app, "/items/1234/edit"),
            3 => (format!("*.team{n}.example.com"), None, None, format!("wiki.team{n}.example.com"), "/"),
            4 => (app.clone(), None, Some("dev"), app, "/dashboard"),
            _ => (app.clone(), None, None, app, "/index.html?lang=en"),
        };
        let requirement = if n % 3 == 0 { Requirement::TwoFactor } else { Requirement::OneFactor };
        rules.push(rule(&host, resource, group, requirement));
        questions.push(Question { host: asked, target: target.to_owned(), rule: u32::try_from(n).ok() });
    }
    (rules, questions)
}

/// Many services under one host, told apart by their path.
pub fn prefixes(count: usize) -> (Vec<Rule>, Vec<Question>) {
    (0..count)
        .map(|n| {
            let pattern = format!("^/svc{n}/.*$");
            let question = Question {
                host: "one.example.com".to_owned(),
                target: format!("/svc{n}/x"),
                rule: u32::try_from(n).ok(),
            };
            (rule("one.example.com", Some(&pattern), None, Requirement::OneFactor), question)
        })
        .unzip()
}
