//! `CheckRequest`s, as Envoy sends them over gRPC: no allow without a named rule (A15, A57 to A59).
//!
//! The messages are written and read here field by field, after the encoding's own description
//! (<https://protobuf.dev/programming-guides/encoding/>); the shapes are those of `attribute_context.proto`
//! and `external_auth.proto`.

use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Version};
use portcullis::peer::Peer;

use super::gate::{self, Allowed, Fixture, IDENTITY};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The first byte of `data` says how the rest becomes a message: `r`, it is one; otherwise it is lines, method,
/// path, host, scheme, query and source, then header fields, put into the map of older Envoys (`m`) or into the list (`l`).
pub fn run(data: &[u8]) {
    let Some((&form, rest)) = data.split_first() else { return };
    gate::with(|fixture| {
        let rest = fixture.with_cookies(rest);
        let message = if form == b'r' { rest } else { written(&rest, form == b'l') };
        fixture.runtime.block_on(ask(fixture, &message));
    });
}

/// The message that lines of text describe.
fn written(text: &[u8], as_list: bool) -> Vec<u8> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let mut http = Vec::new();
    let mut source = Vec::new();
    for field in [2, 4, 5, 6, 7, 0] {
        let line = lines.next().unwrap_or_default();
        match field {
            0 if line == b"pipe" => source = wrapped(1, &wrapped(2, &[])),
            0 if !line.is_empty() => source = wrapped(1, &wrapped(1, &wrapped(2, line))),
            0 => {}
            field if !line.is_empty() => http.extend(wrapped(field, line)),
            _ => {}
        }
    }
    let mut list = Vec::new();
    for line in lines {
        let at = line.iter().skip(1).position(|&byte| byte == b':').map_or(line.len(), |at| at + 1);
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default().trim_ascii_start());
        match as_list {
            true => list.extend(wrapped(1, &[wrapped(1, name), wrapped(3, value)].concat())),
            false => http.extend(wrapped(3, &[wrapped(1, name), wrapped(2, value)].concat())),
        }
    }
    if as_list {
        http.extend(wrapped(13, &list));
    }
    wrapped(1, &[wrapped(1, &source), wrapped(4, &wrapped(2, &http))].concat())
}

fn wrapped(field: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    let mut length = content.len();
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
    out
}

async fn ask(fixture: &Fixture, message: &[u8]) {
    let answer = call(fixture, message, Peer::at(IpAddr::from([127, 0, 0, 1]))).await;
    if let Some(response) = &answer {
        judge(fixture, message, response);
    }
    assert_eq!(call(fixture, message, Peer::at(IpAddr::from([198, 51, 100, 7]))).await, None, "a stranger is heard");
}

/// The response, if the call came to one.
async fn call(fixture: &Fixture, message: &[u8], peer: Peer) -> Option<Vec<u8>> {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    let framed = Bytes::from([&[0], &length[..], message].concat());
    let mut request = Request::new(Full::new(framed));
    *request.method_mut() = "POST".parse().expect("a method");
    *request.uri_mut() = CHECK.parse().expect("a path");
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
    let reply = fixture.gate.check(request, peer).await;
    assert_eq!(reply.status().as_u16(), 200, "gRPC's own status is in the trailers");
    let collected = reply.into_body().collect().await.expect("a body that is there");
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).expect("a status").clone();
    let body = collected.to_bytes();
    if status != "0" {
        assert!(body.is_empty(), "an error says nothing else");
        return None;
    }
    let (prefix, response) = body.split_at(5);
    assert_eq!(prefix[0], 0);
    assert_eq!(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize, response.len());
    Some(response.to_vec())
}

fn judge(fixture: &Fixture, message: &[u8], response: &[u8]) {
    let status = all(response, 1).concat();
    let code = fields(&status).into_iter().filter(|field| field.number == 1).map(|field| field.value).next_back();
    if code.unwrap_or(0) != 0 {
        let denied = all(response, 2).concat();
        let http = fields(&all(&denied, 1).concat()).into_iter().map(|field| field.value).next_back();
        assert!(http.is_some_and(|status| (300..600).contains(&status)), "a no that reads {http:?}");
        assert!(all(response, 3).is_empty(), "a no that is also a yes");
        return;
    }
    let ok = all(response, 3).concat();
    let set: Vec<(Vec<u8>, Vec<u8>)> = all(&ok, 2)
        .into_iter()
        .map(|option| {
            let header = all(&option, 1).concat();
            let action = fields(&option).into_iter().rfind(|field| field.number == 3).map(|field| field.value);
            assert_eq!(action, Some(2), "a header that is added to what the client sent");
            (all(&header, 1).concat(), all(&header, 2).concat())
        })
        .collect();
    let removed = all(&ok, 5);
    let identity = IDENTITY.map(|name| {
        let values: Vec<_> = set.iter().filter(|(key, _)| key == name.as_bytes()).collect();
        let [(_, value)] = values[..] else { panic!("every allow carries every identity header, once: {name}") };
        assert!(!value.is_empty() || removed.iter().any(|key| key == name.as_bytes()), "{name} of the client's");
        String::from_utf8(value.clone()).expect("text")
    });

    let asked = Asked::read(message);
    for (name, _) in &asked.headers {
        let name = name.to_ascii_lowercase();
        let folded: Vec<u8> = name.iter().map(|&c| if c.is_ascii_alphanumeric() { c } else { b'-' }).collect();
        if IDENTITY.iter().any(|identity| folded == identity.as_bytes() && name != identity.as_bytes()) {
            assert!(removed.contains(&name), "an alias reaches the application (A46): {name:?}");
        }
    }
    let host = asked.host.to_ascii_lowercase();
    if asked.holds_our_cookie(fixture) && !host.starts_with(b"auth.") {
        let passed_on = set.iter().rfind(|(key, _)| key == b"cookie").map(|(_, value)| value);
        let taken_away = removed.iter().any(|key| key == b"cookie");
        match passed_on {
            Some(value) => assert!(!names_our_cookie(value), "the session cookie reaches the application (A51)"),
            None => assert!(taken_away, "the session cookie reaches the application (A51)"),
        }
    }
    fixture.judge(Allowed {
        endpoint: "grpc",
        identity,
        facts: asked.facts(),
        named: [true, true],
        address: asked.client(),
        shown: asked.headers.iter().map(|(_, value)| &**value).collect(),
        request: &asked,
    });
}

/// What a message asks, read anew.
#[derive(Debug)]
struct Asked {
    method: Vec<u8>,
    scheme: Vec<u8>,
    host: Vec<u8>,
    path: Vec<u8>,
    elsewhere: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    in_both_forms: bool,
    /// `Some(None)` is a unix socket.
    source: Option<Option<Vec<u8>>>,
}

impl Asked {
    fn read(message: &[u8]) -> Asked {
        // Messages that are given twice are one: their fields count as if they had been written in one go.
        let attributes = all(message, 1).concat();
        let http = all(&all(&attributes, 4).concat(), 2).concat();
        let last = |number| all(&http, number).pop().unwrap_or_default();
        let pair = |entry: Vec<u8>, values: &[u64]| {
            let last = |number| all(&entry, number).pop().unwrap_or_default();
            let value = values.iter().map(|&number| last(number)).find(|value| !value.is_empty());
            (last(1), value.unwrap_or_default())
        };
        let map: Vec<_> = all(&http, 3).into_iter().map(|entry| pair(entry, &[2])).collect();
        let list: Vec<_> = all(&all(&http, 13).concat(), 1).into_iter().map(|entry| pair(entry, &[3, 2])).collect();
        let address = all(&all(&attributes, 1).concat(), 1).concat();
        let mut place: Option<(u64, Vec<u8>)> = None;
        for field in fields(&address).into_iter().filter(|field| matches!(field.number, 1 | 2)) {
            match &mut place {
                Some((number, content)) if *number == field.number => content.extend(field.content),
                _ => place = Some((field.number, field.content)),
            }
        }
        let source = place.map(
            |(number, content)| {
                if number == 1 { Some(all(&content, 2).pop().unwrap_or_default()) } else { None }
            },
        );
        Asked {
            method: last(2),
            scheme: last(6),
            host: last(5),
            path: last(4),
            elsewhere: [last(7), last(8)].concat(),
            in_both_forms: !map.is_empty() && !list.is_empty(),
            headers: [map, list].concat(),
            source,
        }
    }

    fn all(&self, name: &[u8]) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| &**value).collect()
    }

    fn facts(&self) -> Option<[Vec<u8>; 4]> {
        // Names of pseudo-header fields are in lower case, or they are none (RFC 9113 section 8.3).
        let agree = |name: &[u8], same: &dyn Fn(&[u8]) -> bool| {
            self.headers.iter().filter(|(key, _)| key == name).all(|(_, value)| same(value))
        };
        let one_view = agree(b":authority", &|value| value.eq_ignore_ascii_case(&self.host))
            && agree(b":method", &|value| value == self.method)
            && agree(b":path", &|value| value == self.path)
            && agree(b":scheme", &|value| value.eq_ignore_ascii_case(&self.scheme))
            && self.all(b"host").iter().all(|value| value.is_empty() || value.eq_ignore_ascii_case(&self.host))
            && self.all(b"host").len() < 2;
        let whole = [&self.method, &self.scheme, &self.host, &self.path].iter().all(|fact| !fact.is_empty());
        if !one_view || !whole || self.in_both_forms || !self.elsewhere.is_empty() {
            return None;
        }
        Some([self.method.clone(), self.scheme.clone(), self.host.clone(), self.path.clone()])
    }

    fn client(&self) -> Option<IpAddr> {
        let lines = self.all(b"x-forwarded-for");
        match self.source.as_ref()? {
            None => gate::client(None, &lines),
            Some(address) => {
                let address: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
                gate::client(Some(address.to_canonical()), &lines)
            }
        }
    }

    fn holds_our_cookie(&self, fixture: &Fixture) -> bool {
        self.all(b"cookie").iter().any(|value| names_our_cookie(value) && fixture.shows_a_cookie(value))
    }
}

/// Whether a `Cookie` header holds a pair called `sid`.
fn names_our_cookie(value: &[u8]) -> bool {
    value.split(|&byte| byte == b';').any(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=');
        at.is_some_and(|at| pair[..at].trim_ascii() == b"sid")
    })
}

/// One field of a message: the number of a varint, or the content of what has a length.
struct Field {
    number: u64,
    value: u64,
    content: Vec<u8>,
}

/// The contents of every field of this number that has a length.
fn all(message: &[u8], number: u64) -> Vec<Vec<u8>> {
    fields(message).into_iter().filter(|field| field.number == number).map(|field| field.content).collect()
}

/// The fields of a message, in order, up to where it can't be read.
fn fields(mut message: &[u8]) -> Vec<Field> {
    let (mut found, mut groups) = (Vec::new(), 0);
    while let Some(key) = varint(&mut message) {
        let (number, mut field) = (key >> 3, Field { number: key >> 3, value: 0, content: Vec::new() });
        let length = match key & 7 {
            0 => match varint(&mut message) {
                Some(value) => {
                    field.value = value;
                    0
                }
                None => break,
            },
            1 => 8,
            2 => match varint(&mut message) {
                Some(length) => length,
                None => break,
            },
            3 => {
                groups += 1;
                continue;
            }
            4 => {
                groups -= 1;
                continue;
            }
            5 => 4,
            _ => break,
        };
        let Some((content, rest)) = usize::try_from(length).ok().and_then(|length| message.split_at_checked(length))
        else {
            break;
        };
        message = rest;
        if key & 7 == 2 {
            field.content = content.to_vec();
        }
        // What stands in a group is no field of this message.
        if groups == 0 && number != 0 && matches!(key & 7, 0 | 2) {
            found.push(field);
        }
    }
    found
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
