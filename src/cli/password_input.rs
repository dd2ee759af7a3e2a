//! Getting a password from a person or a pipe; never from an argument, which every user of the machine can read.

use std::io::Read;

use zeroize::Zeroize;

use crate::factor::password::MAX_PASSWORD_BYTES;
use crate::fault::Fault;
use crate::secret::Secret;

/// Where a command gets a password from; a parameter, so that tests can answer.
pub type Ask<'a> = &'a dyn Fn() -> Result<Secret<String>, Fault>;

/// Asks at the terminal, twice and without echo, or reads standard input.
///
/// # Errors
///
/// There is no terminal, the two differ, or what came is no text.
pub fn ask(from_stdin: bool) -> Result<Secret<String>, Fault> {
    if from_stdin {
        return read(&mut std::io::stdin().lock());
    }
    let prompt = |text| {
        rpassword::prompt_password(text).map(Secret::new).map_err(|error| {
            Fault::new(format!("can't ask for a password: {error}"))
                .help("Pipe it in with `--password-stdin` where there is no terminal.")
        })
    };
    let password = prompt("Password: ")?;
    if password != prompt("Again: ")? {
        return Err(Fault::new("the two passwords differ"));
    }
    Ok(password)
}

/// Reads a password to the end of `input`; one line end after it is not part of it.
fn read(input: &mut dyn Read) -> Result<Secret<String>, Fault> {
    let mut bytes = Vec::with_capacity(MAX_PASSWORD_BYTES + 4);
    // Two more than the longest, for the line end, and one to see that there is more.
    let read = input.take(MAX_PASSWORD_BYTES as u64 + 3).read_to_end(&mut bytes);
    let password = String::from_utf8(bytes).map_err(|error| {
        error.into_bytes().zeroize();
        Fault::new("the password on standard input is not UTF-8 text")
    });
    let mut password = Secret::new(password?);
    read.map_err(|error| Fault::new(format!("can't read standard input: {error}")))?;
    let text = password.expose();
    let kept = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if kept.len() < text.len() {
        password = Secret::new(kept.to_owned());
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn one_line_end_is_not_part_of_a_password() {
        let table = [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("two\nlines\n", "two\nlines"),
            ("spaces \n\n", "spaces \n"),
            ("", ""),
        ];
        for (input, password) in table {
            assert_eq!(read(&mut input.as_bytes()).unwrap().expose(), password, "{input:?}");
        }
        assert!(read(&mut &b"\xff"[..]).is_err());
        let long = "a".repeat(5000);
        assert!(read(&mut long.as_bytes()).unwrap().expose().len() > super::MAX_PASSWORD_BYTES, "and so refused later");
    }
}
