//! What a decision costs, compared within this run: the compiled policy with the obvious matcher, and
//! many rules with ten. Each answer is checked before it is timed.
//!
//! Read the ratios; the nanoseconds are there to give the size of a thing. Run it with
//! `cargo bench --bench decide`.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark that can't run has nothing to say")]

mod workload;

use std::hint::black_box;
use std::time::{Duration, Instant};

use portcullis::object::Object;
use portcullis::policy::reference::Reference;
use portcullis::policy::{Policy, Requirement, Rule};
use portcullis::subject::{AssuranceLevel, Groups, Subject};
use workload::{Question, Seeded, mixed, prefixes, rule};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
/// An expression without a literal to look for, and a path that keeps it busy to its end.
const WORST: &str = r"^/([a-z]+/)*[0-9]{1,8}x$";

fn main() {
    let mut table = Table::default();
    for size in SIZES {
        let (rules, questions) = mixed(size);
        let engines = Engines::new(rules);
        let (first, last) = (&questions[..1], &questions[size - 1..]);
        table.row("policy/decide/first", size, &engines, first);
        table.row("policy/decide/last", size, &engines, last);
        table.row("policy/decide/none", size, &engines, &[question("nobody.example.org", "/", None)]);
        let mut seeded = Seeded::new(11);
        // The same kinds of rule at every size, so that sizes can be compared: the first ten name them.
        let mut in_turn = |hosts: usize| -> Vec<Question> {
            let pick = |n: usize, seeded: &mut Seeded| loop {
                let found = &questions[seeded.below(size)];
                if found.target == questions[n % 10].target {
                    return question(&found.host, &found.target, found.rule);
                }
            };
            (0..hosts).map(|n| pick(n, &mut seeded)).collect()
        };
        let (ten, thousands) = (in_turn(10), in_turn(4_096));
        table.row("policy/decide/10 hosts in turn", size, &engines, &ten);
        table.row("policy/decide/4096 hosts in turn", size, &engines, &thousands);

        let (mut rules, _) = mixed(size - 1);
        rules.push(rule("worst.example.com", Some(WORST), None, Requirement::Deny));
        let path = format!("/{}7y", "abcdefgh/".repeat(100));
        table.row(
            "policy/decide/worst regex",
            size,
            &Engines::new(rules),
            &[question("worst.example.com", &path, None)],
        );

        let (rules, questions) = prefixes(size);
        table.row("policy/decide/prefixes on one host", size, &Engines::new(rules), &questions[size - 1..]);
    }
    parsing();
    loading();
}

fn question(host: &str, target: &str, rule: Option<u32>) -> Question {
    Question { host: host.to_owned(), target: target.to_owned(), rule }
}

struct Engines {
    compiled: Policy,
    obvious: Reference,
}

impl Engines {
    fn new(rules: Vec<Rule>) -> Engines {
        let obvious = Reference::new(&rules, Requirement::Deny);
        Engines { compiled: Policy::compile(rules, Requirement::Deny), obvious }
    }
}

/// Prints a row at a time, and remembers what ten rules cost.
#[derive(Default)]
struct Table {
    at_ten: Vec<(&'static str, f64)>,
}

impl Table {
    fn row(&mut self, name: &'static str, size: usize, engines: &Engines, questions: &[Question]) {
        let subject = Subject {
            username: Some("john"),
            groups: Groups::new("dev,ops"),
            level: AssuranceLevel::OneFactor,
            ..Subject::default()
        };
        let objects: Vec<Object<'_>> = questions.iter().map(Question::object).collect();
        for (question, object) in questions.iter().zip(&objects) {
            assert_eq!(
                engines.compiled.decide(&subject, object).expect("within its budget").rule,
                question.rule,
                "{name}/{size}: {}",
                question.host
            );
        }
        // The obvious matcher is slow: it is checked on some, and timed on those.
        let some = &objects[..objects.len().min(64)];
        for (question, object) in questions.iter().zip(some) {
            assert_eq!(
                engines.obvious.decide(&subject, object).rule,
                question.rule,
                "{name}/{size}: {}",
                question.host
            );
        }
        let compiled = nanoseconds(&objects, |object| engines.compiled.decide(black_box(&subject), black_box(object)));
        let obvious = nanoseconds(some, |object| engines.obvious.decide(black_box(&subject), black_box(object)));
        if size == SIZES[0] {
            self.at_ten.push((name, compiled));
        }
        let at_ten = self.at_ten.iter().find(|(known, _)| *known == name).map_or(compiled, |(_, cost)| *cost);
        println!(
            "{name:<36} {size:>6} rules: {:>6.2} x its cost at 10, {:>9.1} x faster than obvious   ({compiled:.0} ns, {obvious:.0} ns)",
            compiled / at_ten,
            obvious / compiled,
        );
    }
}

/// What one call costs, taking the items in turn: the fastest of several runs.
fn nanoseconds<T, R>(items: &[T], mut call: impl FnMut(&T) -> R) -> f64 {
    let mut time = |rounds: usize| {
        let start = Instant::now();
        for _ in 0..rounds {
            for item in items {
                black_box(call(item));
            }
        }
        start.elapsed()
    };
    let mut rounds = 1;
    while time(rounds) < Duration::from_millis(2) {
        rounds *= 2;
    }
    let fastest = (0..9).map(|_| time(rounds)).min().unwrap_or_default();
    fastest.as_nanos() as f64 / (rounds * items.len()) as f64
}

/// What it costs to read a request, by what its path holds.
fn parsing() {
    let read = |host: &'static str, target: &'static str| {
        nanoseconds(&[()], |()| {
            Object::from_parts(b"GET", b"https", black_box(host.as_bytes()), black_box(target.as_bytes()))
        })
    };
    let plain = read("app.example.com", "/api/v1/items?page=2&sort=name");
    println!("object/from_parts/plain: {plain:.0} ns");
    #[rustfmt::skip]
    let table = [
        ("upper-case host",      "App.Example.com", "/api/v1/items?page=2&sort=name"),
        ("harmless escapes",     "app.example.com", "/api/v1/it%65ms?page=2&sort=name"),
        ("two slashes",          "app.example.com", "/api//v1/items?page=2&sort=name"),
        ("dot segments",         "app.example.com", "/api/../v1/items?page=2&sort=name"),
        ("everything ambiguous", "app.example.com", "/a%252f..%255c..;x//b%3fc;y/./%2525"),
    ];
    for (name, host, target) in table {
        println!("object/from_parts/{name}: {:.1} x plain", read(host, target) / plain);
    }
}

/// What it costs to load rules, from text to a policy.
fn loading() {
    for size in SIZES {
        let start = Instant::now();
        let (rules, _) = mixed(size);
        black_box(Policy::compile(rules, Requirement::Deny));
        println!("policy/load/{size}: {:.1} ms", start.elapsed().as_secs_f64() * 1_000.0);
    }
}
