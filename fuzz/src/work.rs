//! Work: however a path and a query are written, one question costs no more than its budget, and what the budget covers
//! is what is really done (A111, A112).
//!
//! The target makes libFuzzer look for the most work: each new height of it is a branch of its own.

use std::cell::OnceCell;

use portcullis::object::Object;
use portcullis::policy::{Criteria, HostPattern, Policy, QueryTerm, Requirement, Rule};
use portcullis::subject::Subject;
use portcullis::work::{Budget, MAX_READINGS};

/// How many expressions, or query conditions, each host has.
pub const SIZES: [usize; 3] = [1, 20, 200];

thread_local! {
    static POLICY: OnceCell<Policy> = const { OnceCell::new() };
}

/// A host whose rules have so many expressions; none of them has a literal to look for, and each reads to the end.
pub fn expressions(size: usize) -> String {
    format!("e{size}.example.com")
}

/// A host whose rules have so many conditions on the query.
pub fn conditions(size: usize) -> String {
    format!("q{size}.example.com")
}

/// The rules of all those hosts. None of them is met by what is not made for it.
pub fn rules() -> Vec<Rule> {
    let rule = |host: &str, more: &dyn Fn(&mut Criteria)| {
        let mut criteria = Criteria { hosts: vec![HostPattern::domain(host).expect("a host")], ..Criteria::default() };
        more(&mut criteria);
        Rule::new(criteria, Requirement::OneFactor).expect("a rule")
    };
    let mut rules = Vec::new();
    for size in SIZES {
        for n in 0..size {
            rules.push(rule(&expressions(size), &|criteria| {
                criteria.resources.push(format!("/([a-z%]+/)*[0-9]{{1,8}}x{n}$").parse().expect("a pattern"));
            }));
            rules.push(rule(&conditions(size), &|criteria| {
                let term = match n % 3 {
                    0 => QueryTerm::new(Some(&format!("key{n}")), Some("present"), None),
                    1 => QueryTerm::new(Some("page"), Some("equal"), Some(&format!("admin{n}"))),
                    _ => QueryTerm::new(Some("page"), Some("pattern"), Some(&format!("^[a-z]+[0-9]{{1,8}}x{n}$"))),
                };
                criteria.query.push(vec![term.expect("a condition")]);
            }));
        }
    }
    rules
}

/// The work that reading and deciding `target` takes at `host`, in units; `None` where it can't be read at all.
pub fn units(policy: &Policy, host: &str, target: &[u8]) -> Option<u32> {
    let object = Object::from_parts(b"GET", b"https", host.as_bytes(), target).ok()?;
    assert!(object.readings().count() <= MAX_READINGS, "bounded");
    let mut budget = object.budget();
    assert_eq!(budget.granted(), Budget::BASE);
    // What goes beyond the budget is refused, and has cost no more than that.
    let _ = policy.decide_within(&Subject::anonymous(None), &object, &mut budget);
    let most = Budget::BASE + 4 * 1_024 * u32::try_from(SIZES[SIZES.len() - 1]).expect("few");
    assert!(budget.granted() <= most, "what is granted follows from the rules");
    assert!(budget.spent() <= budget.granted());
    Some(budget.spent())
}

/// `data` is path and query as the client sent them.
pub fn run(data: &[u8]) {
    POLICY.with(|policy| {
        let policy = policy.get_or_init(|| Policy::compile(rules(), Requirement::Bypass));
        for size in SIZES {
            for host in [expressions(size), conditions(size)] {
                if let Some(units) = units(policy, &host, data) {
                    climb(units / 4_096);
                }
            }
        }
    });
}

/// Takes a branch of its own for each height, up to the highest there is.
fn climb(height: u32) {
    macro_rules! steps {
        ($($step:literal)*) => {
            $(if height >= $step { reach::<$step>(); })*
        };
    }
    steps!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);
}

#[inline(never)]
fn reach<const STEP: u32>() {
    std::hint::black_box(STEP);
}
