//! Questions as a hostile stranger asks them: no two alike, and none that may be answered with yes.

/// A small generator (splitmix64), so that a run can be repeated.
pub struct Chance(pub u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A request to the gate with a random host, path, method, cookie, user name, user agent and header name.
///
/// A fifth each of the hosts lie below example.com, wild.example.com and regex.example.com, lie elsewhere, and
/// are app.example.com.
pub fn question(chance: &mut Chance) -> Vec<u8> {
    let (a, b, c) = (chance.next(), chance.next(), chance.next());
    let host = match a % 5 {
        0 => format!("h{a:x}.example.com"),
        1 => format!("h{a:x}.wild.example.com"),
        2 => format!("{}.regex.example.com", format!("{a:x}").replace(|c: char| c.is_ascii_digit(), "z")),
        3 => format!("h{a:x}.example.net"),
        _ => "app.example.com".to_owned(),
    };
    let endpoint = match b % 4 {
        0 => "forward-auth",
        1 => "auth-request",
        2 => "ext-authz/x",
        _ => "nothing",
    };
    // Letters alone, or it would not be read as a method.
    let method: String =
        format!("{b:X}").bytes().map(|digit| char::from(if digit < b'A' { digit + 23 } else { digit })).collect();
    format!(
        "GET /api/authz/{endpoint} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Method: {method}\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: {host}\r\nX-Forwarded-Uri: /{b:x}/{c:x}?{a:x}={b:x}\r\nX-Original-Method: GET\r\n\
         X-Original-URL: https://{host}/{c:x}\r\nCookie: authelia_session={a:016x}{b:016x}{:011x}; x{c:x}=y\r\n\
         Session-Username: {c:x}\r\nUser-Agent: {b:x}\r\nX-{c:x}: {a:x}\r\n\r\n",
        c >> 20,
    )
    .into_bytes()
}
