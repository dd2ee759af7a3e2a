//! `portcullis hash-password`: a digest for the users file.

use std::io::Write;

use ring::rand::SystemRandom;

use super::password_input::Ask;
use crate::factor::password::NewDigest;
use crate::fault::Fault;

/// What may be said to `hash-password`.
#[derive(Debug, clap::Args)]
pub struct HashPasswordArgs {
    /// Read the password from standard input instead of asking for it.
    #[arg(long)]
    pub password_stdin: bool,
    /// How to make the digest: argon2, sha2crypt, pbkdf2, bcrypt or scrypt.
    #[arg(long, value_name = "NAME", default_value = "argon2")]
    pub algorithm: String,
}

/// Prints a digest of the password that `ask` gives.
///
/// # Errors
///
/// An unknown algorithm, no password, or an output that is closed.
pub fn run(args: &HashPasswordArgs, ask: Ask<'_>, out: &mut dyn Write) -> Result<(), Fault> {
    let digest = NewDigest::named(&args.algorithm)?;
    let digest = digest.hash(ask()?.expose().as_bytes(), &SystemRandom::new())?;
    writeln!(out, "{digest}").map_err(|error| Fault::new(format!("can't write the digest: {error}")))
}

#[cfg(test)]
mod tests {
    use super::{HashPasswordArgs, run};
    use crate::factor::password::PasswordHash;
    use crate::secret::Secret;

    #[test]
    fn what_it_prints_is_a_digest_of_the_password() {
        for algorithm in ["argon2", "sha2crypt"] {
            let args = HashPasswordArgs { password_stdin: true, algorithm: algorithm.to_owned() };
            let mut out = Vec::new();
            run(&args, &|| Ok(Secret::new("portcullis".to_owned())), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let hash: PasswordHash = text.trim_end().parse().unwrap();
            assert!(hash.verify(b"portcullis").is_some());
        }
        let args = HashPasswordArgs { password_stdin: true, algorithm: "md5".to_owned() };
        assert!(run(&args, &|| panic!("asked in vain"), &mut Vec::new()).is_err());
    }
}
