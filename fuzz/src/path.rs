//! Paths: however an application reads one, the answer is at least as strict as for what it reads, and
//! the URL to come back to is what came (A01 to A17).

use std::cell::OnceCell;

use portcullis::object::{Malformed, Object};
use portcullis::policy::reference::Reference;
use portcullis::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use portcullis::subject::Subject;

const HOST: &[u8] = b"app.example.com";

thread_local! {
    static POLICIES: OnceCell<(Policy, Reference)> = const { OnceCell::new() };
}

/// Rules of each kind that a path could be bent to meet: prefixes, suffixes, whole paths, queries.
fn policies() -> (Policy, Reference) {
    let rule = |resource: &str, requirement| {
        let criteria = Criteria {
            hosts: vec![HostPattern::domain("*.example.com").expect("a host")],
            resources: vec![resource.parse().expect("a pattern")],
            ..Criteria::default()
        };
        Rule::new(criteria, requirement).expect("a rule")
    };
    let rules = vec![
        rule("^/admin(/|$)", Requirement::Deny),
        rule("^/b/secret$", Requirement::TwoFactor),
        rule("^/public(/|$)", Requirement::Bypass),
        rule(r"\.css$", Requirement::Bypass),
        rule(r"^/a\?c=d$", Requirement::Bypass),
        rule("^/(c|d)/", Requirement::OneFactor),
    ];
    let reference = Reference::new(&rules, Requirement::TwoFactor);
    (Policy::compile(rules, Requirement::TwoFactor), reference)
}

/// `data` is path and query as the client sent them.
pub fn run(data: &[u8]) {
    let Ok(object) = Object::from_parts(b"GET", b"https", HOST, data) else { return };
    let readings: Vec<&str> = object.readings().collect();
    assert_eq!(readings[0], object.resource());
    assert!(readings.len() <= portcullis::work::MAX_READINGS, "bounded");
    for reading in &readings {
        assert!(reading.starts_with('/'), "{reading:?}");
        assert!(!reading.bytes().any(|byte| byte < 0x20 || byte == 0x7f), "{reading:?}");
    }

    let (path, query) = split(data);
    let with_query = |path: Vec<u8>| {
        let mut resource = path;
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            resource.push(b'?');
            resource.extend(query);
        }
        String::from_utf8(resource)
    };
    for (application, read) in APPLICATIONS {
        // What an application can't read, it does not serve.
        let Some(Ok(resource)) = read(path).map(with_query) else { continue };
        assert!(readings.contains(&&*resource), "{application} reads {resource:?}, which is not judged: {readings:?}");
    }

    POLICIES.with(|policies_cell| {
        let (policy, reference) = policies_cell.get_or_init(policies);
        let subject = Subject::anonymous(None);
        // What takes too much work is refused.
        let Ok(verdict) = policy.decide(&subject, &object) else { return };
        assert_eq!(verdict, reference.decide(&subject, &object), "{readings:?}");
        comes_back(&object, policy, verdict.requirement);
    });
}

/// The URL that `rd` carries means the same object.
fn comes_back(object: &Object<'_>, policy: &Policy, required: Requirement) {
    let url = object.url();
    assert!(url.bytes().all(|byte| byte.is_ascii_graphic()), "{url:?}");
    let again = match Object::from_url(b"GET", url.as_bytes()) {
        Ok(again) => again,
        // `*` is no path of a URL; and escapes are longer than what they stand for.
        Err(Malformed::Host) if object.target() == "*" => return,
        Err(Malformed::TooLong | Malformed::Exceeds(_)) if url.len() > object.target().len() + 24 => return,
        Err(malformed) => panic!("{url}: {malformed}"),
    };
    assert_eq!(again.url(), url, "it is written as it was read");
    assert_eq!((again.host(), again.scheme(), again.method()), (object.host(), object.scheme(), object.method()));
    // A raw `\\` is sent back as `%5C`, which is another path: what that requires is decided when it is asked for.
    if object.target().contains('\\') {
        return;
    }
    let paths = |object: &Object<'_>| -> Vec<String> {
        let mut paths: Vec<String> = object.readings().map(|reading| without_query(object, reading)).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&again), paths(object), "{url}: the readings of the path are the same");
    if object.query().is_none() {
        match policy.decide(&Subject::anonymous(None), &again) {
            Ok(verdict) => assert_eq!(verdict.requirement, required, "{url}: after and before"),
            Err(exceeded) => assert!(url.len() > object.target().len() + 24, "{url}: {exceeded}"),
        }
    }
}

/// A reading without the query that was sent.
fn without_query(object: &Object<'_>, reading: &str) -> String {
    match object.query().filter(|query| !query.is_empty()) {
        Some(query) => {
            reading.strip_suffix(query).and_then(|path| path.strip_suffix('?')).expect("the query").to_owned()
        }
        None => reading.to_owned(),
    }
}

/// Up to the first raw `?`, and what follows it.
fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    let target = if target.is_empty() { b"/" } else { target };
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

type Read = fn(&[u8]) -> Option<Vec<u8>>;

/// How applications read a path, each in the order in which it does things.
const APPLICATIONS: [(&str, Read); 14] = [
    ("decodes once (WSGI, CGI, Rack)", |path| decode(path)),
    ("decodes, cleans (nginx, Go)", |path| Some(resolved(&merged(&decode(path)?)))),
    ("decodes, resolves, merges nothing (nginx with merge_slashes off)", |path| Some(resolved(&decode(path)?))),
    ("cleans, decodes, cleans (Envoy, then nginx)", |path| {
        Some(resolved(&merged(&decode(&resolved(&merged(&dots_decoded(path))))?)))
    }),
    ("decodes, cleans, decodes, cleans (one nginx behind another)", |path| {
        let first = resolved(&merged(&decode(path)?));
        Some(resolved(&merged(&decode_loosely(&first))))
    }),
    ("drops parameters, cleans, decodes, cleans (a Java proxy)", |path| {
        Some(resolved(&merged(&decode(&resolved(&merged(&without_parameters(&dots_decoded(path)))))?)))
    }),
    ("keeps encoded separators (Express, Rails' segments)", |path| decode_but_separators(path)),
    ("keeps encoded separators, cleans", |path| Some(resolved(&merged(&decode_but_separators(path)?)))),
    ("drops parameters, decodes, cleans (Tomcat)", |path| Some(resolved(&merged(&decode(&without_parameters(path))?)))),
    ("decodes, drops parameters, cleans", |path| Some(resolved(&merged(&without_parameters(&decode(path)?))))),
    ("takes `\\` for `/` (IIS, browsers)", |path| Some(resolved(&merged(&slashes(&decode(path)?))))),
    ("decodes twice, cleans", |path| Some(resolved(&merged(&decode_loosely(&decode(path)?))))),
    ("decodes, cuts at `?` and `#`, cleans", |path| {
        let decoded = decode(path)?;
        let end = decoded.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(decoded.len());
        Some(resolved(&merged(&decoded[..end])))
    }),
    ("does all of it (a Java container on Windows behind another proxy)", |path| {
        Some(resolved(&merged(&without_parameters(&slashes(&decode_loosely(&decode(path)?))))))
    }),
];

fn escape_at(path: &[u8], at: usize) -> Option<u8> {
    let digits = std::str::from_utf8(path.get(at + 1..at + 3)?).ok()?;
    if digits.starts_with('+') { None } else { u8::from_str_radix(digits, 16).ok() }
}

fn decode_where(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < path.len() {
        match escape_at(path, at).filter(|_| path[at] == b'%') {
            Some(byte) if wanted(byte) => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(path[at]);
                at += 1;
            }
        }
    }
    decoded
}

/// One layer; a `%` that begins no escape is an error.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let bad = (0..path.len()).any(|at| path[at] == b'%' && escape_at(path, at).is_none());
    if bad { None } else { Some(decode_where(path, |_| true)) }
}

fn decode_loosely(path: &[u8]) -> Vec<u8> {
    decode_where(path, |_| true)
}

fn decode_but_separators(path: &[u8]) -> Option<Vec<u8>> {
    decode(path)?;
    Some(decode_where(path, |byte| !matches!(byte, b'/' | b'\\' | b'?' | b'#')))
}

fn dots_decoded(path: &[u8]) -> Vec<u8> {
    decode_where(path, |byte| byte == b'.')
}

fn slashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

fn merged(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|a, b| *a == b'/' && *b == b'/');
    merged
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    let cut = |segment: &[u8]| segment.split(|&byte| byte == b';').next().unwrap_or_default().to_vec();
    path.split(|&byte| byte == b'/').map(cut).collect::<Vec<_>>().join(&b'/')
}

/// Dot segments taken out; above the root is the root. No slash is kept after a dot segment at the end.
fn resolved(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in path.split(|&byte| byte == b'/').skip(1) {
        match segment {
            b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    [b"/", &*kept.join(&b'/')].concat()
}
