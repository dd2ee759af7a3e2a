//! Corpora as they are kept: a file for each target, a line for each input, whatever is not printable
//! ASCII written as an escape, so that they can be read and compared.

/// Reads a packed corpus.
pub fn unpack(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(unescape).collect()
}

/// Writes one: shortest first, each input once.
pub fn pack(mut inputs: Vec<Vec<u8>>) -> String {
    inputs.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    inputs.dedup();
    inputs.iter().map(|input| format!("{}\n", input.escape_ascii())).collect()
}

/// Undoes `escape_ascii`. What is no escape of that kind stands for itself.
fn unescape(line: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(line.len()), line.as_bytes());
    while let [byte, after @ ..] = rest {
        let (value, used) = match (byte, after) {
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [quoted @ (b'\\' | b'\'' | b'"'), ..]) => (*quoted, 1),
            (b'\\', [b'x', high, low, ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16).unwrap_or(0) as u8;
                (digit(high) * 16 + digit(low), 3)
            }
            _ => (*byte, 0),
        };
        bytes.push(value);
        rest = &after[used..];
    }
    bytes
}
