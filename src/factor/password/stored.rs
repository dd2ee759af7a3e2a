//! Reading a stored digest: from its text to how it was made, salt and key. What is cut, mistyped or too dear is
//! refused, with a message that never repeats the digest.

use std::str::FromStr;

use argon2::{Algorithm, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64ct::{Base64ShaCrypt, Encoding};

use super::{BCRYPT_BASE64, PasswordHash, Pbkdf2Variant, Scheme, Sha2CryptVariant};
use crate::fault::Fault;

impl FromStr for PasswordHash {
    type Err = Fault;

    /// Reads a stored digest; a leading `{CRYPT}` or `{ARGON2}` is skipped.
    ///
    /// # Errors
    ///
    /// A format that is unknown or unsafe, a digest that is cut or mistyped, or a cost above the ceilings
    /// of this module. The message never repeats the digest.
    fn from_str(text: &str) -> Result<PasswordHash, Fault> {
        let digest = text.strip_prefix("{CRYPT}").or_else(|| text.strip_prefix("{ARGON2}")).unwrap_or(text);
        let fields: Vec<&str> = digest.split('$').collect();
        let (scheme, salt, key) = match *fields.as_slice() {
            ["", name @ ("argon2id" | "argon2i" | "argon2d"), ref rest @ ..] => argon2_fields(name, rest)?,
            ["", id @ ("5" | "6"), ref rest @ ..] => sha_crypt_fields(id, rest)?,
            ["", "2a" | "2b" | "2x" | "2y", cost, rest] => {
                let (salt, key) = rest.split_at_checked(22).ok_or_else(|| mistyped("bcrypt"))?;
                bcrypt_fields("bcrypt", salt, key, Scheme::Bcrypt { cost: two_digits(cost)? })?
            }
            ["", "bcrypt-sha256", params, salt, key] => {
                let cost = params.strip_prefix("v=2,t=2b,r=").ok_or_else(|| {
                    Fault::new("a bcrypt-sha256 digest that is not of version 2 with `t=2b`")
                        .help("Make a new one with `portcullis hash-password`.")
                })?;
                let cost = number("bcrypt-sha256", cost)?;
                bcrypt_fields("bcrypt-sha256", salt, key, Scheme::BcryptSha256 { cost })?
            }
            ["", "scrypt", params, salt, key] => {
                let [log_n, block_size, lanes] = parameters("scrypt", params, ["ln", "r", "p"])?;
                let log_n = u8::try_from(log_n).map_err(|_| mistyped("scrypt"))?;
                (Scheme::Scrypt { log_n, block_size, lanes }, standard("scrypt", salt)?, standard("scrypt", key)?)
            }
            ["", "y", params, salt, key] => yescrypt_fields(params, salt, key)?,
            ["", name, rounds, salt, key] if name.starts_with("pbkdf2") => pbkdf2_fields(name, rounds, salt, key)?,
            ["", "", ..] | ["", _] | ["", _, _] => return Err(mistyped("password")),
            ["", name, ..] => return Err(unknown_format(name)),
            _ => {
                return Err(Fault::new("the password is not a digest")
                    .help("Make one with `portcullis hash-password`; passwords are never stored as they are."));
            }
        };
        let scheme = scheme.affordable()?;
        let (least_salt, least_key) = match scheme {
            Scheme::Argon2 { .. } => (8, 16),
            Scheme::Sha2Crypt { .. } => (0, 32),
            Scheme::Pbkdf2 { .. } | Scheme::Scrypt { .. } | Scheme::Yescrypt { .. } => (0, 16),
            Scheme::Bcrypt { .. } | Scheme::BcryptSha256 { .. } => (16, 23),
        };
        if salt.len() < least_salt || salt.len() > 256 || key.len() < least_key || key.len() > 512 {
            return Err(Fault::new(format!("the salt or the key of a {scheme} digest is too short or too long"))
                .help("The digest may have been cut when it was copied."));
        }
        Ok(PasswordHash { scheme, salt, key })
    }
}

type Fields = (Scheme, Vec<u8>, Vec<u8>);

fn argon2_fields(name: &str, rest: &[&str]) -> Result<Fields, Fault> {
    let (version, params, salt, key) = match *rest {
        ["v=19", params, salt, key] => (Version::V0x13, params, salt, key),
        ["v=16", params, salt, key] | [params, salt, key] => (Version::V0x10, params, salt, key),
        _ => return Err(mistyped("argon2")),
    };
    let algorithm = match name {
        "argon2i" => Algorithm::Argon2i,
        "argon2d" => Algorithm::Argon2d,
        _ => Algorithm::Argon2id,
    };
    let [memory_kib, passes, lanes] = parameters("argon2", params, ["m", "t", "p"])?;
    let scheme = Scheme::Argon2 { algorithm, version, memory_kib, passes, lanes };
    Ok((scheme, standard("argon2", salt)?, standard("argon2", key)?))
}

fn sha_crypt_fields(id: &str, rest: &[&str]) -> Result<Fields, Fault> {
    let (rounds, salt, key) = match *rest {
        [rounds, salt, key] => {
            let rounds = rounds.strip_prefix("rounds=").ok_or_else(|| mistyped("sha-crypt"))?;
            (number("sha-crypt", rounds)?, salt, key)
        }
        [salt, key] => (5000, salt, key),
        _ => return Err(mistyped("sha-crypt")),
    };
    // A salt beyond sixteen characters is cut by every implementation; such a digest is never written.
    if salt.len() > 16 || salt.starts_with("rounds=") {
        return Err(mistyped("sha-crypt"));
    }
    let variant = if id == "5" { Sha2CryptVariant::Sha256 } else { Sha2CryptVariant::Sha512 };
    let key = Base64ShaCrypt::decode_vec(key).ok().filter(|key| key.len() == variant.key_bytes());
    Ok((Scheme::Sha2Crypt { variant, rounds }, salt.into(), key.ok_or_else(|| mistyped("sha-crypt"))?))
}

fn pbkdf2_fields(name: &str, rounds: &str, salt: &str, key: &str) -> Result<Fields, Fault> {
    let variant = match name {
        "pbkdf2" | "pbkdf2-sha1" => Pbkdf2Variant::Sha1,
        "pbkdf2-sha224" => Pbkdf2Variant::Sha224,
        "pbkdf2-sha256" => Pbkdf2Variant::Sha256,
        "pbkdf2-sha384" => Pbkdf2Variant::Sha384,
        "pbkdf2-sha512" => Pbkdf2Variant::Sha512,
        _ => return Err(unknown_format(name)),
    };
    let decode = |text: &str| standard("PBKDF2", &text.replace('.', "+"));
    Ok((Scheme::Pbkdf2 { variant, rounds: number("PBKDF2", rounds)? }, decode(salt)?, decode(key)?))
}

fn bcrypt_fields(name: &str, salt: &str, key: &str, scheme: Scheme) -> Result<Fields, Fault> {
    let decode = |text: &str, length| {
        BCRYPT_BASE64.decode(text).ok().filter(|bytes| bytes.len() == length).ok_or_else(|| mistyped(name))
    };
    Ok((scheme, decode(salt, 16)?, decode(key, 23)?))
}

fn yescrypt_fields(params: &str, salt: &str, key: &str) -> Result<Fields, Fault> {
    let params: yescrypt::Params = params.parse().map_err(|_| mistyped("yescrypt"))?;
    // The time parameter and the other flavours can't be seen from outside, so their cost can't be bounded.
    let plain = yescrypt::Params::new(yescrypt::Mode::default(), params.n(), params.r(), params.p());
    if plain.ok() != Some(params) {
        return Err(Fault::new("a yescrypt digest with parameters beyond `N`, `r` and `p`")
            .help("Make a new digest with `portcullis hash-password`."));
    }
    let decode = |text| Base64ShaCrypt::decode_vec(text).map_err(|_| mistyped("yescrypt"));
    Ok((Scheme::Yescrypt { params }, decode(salt)?, decode(key)?))
}

/// Reads `a=1,b=2,c=3`, each name once, in this order.
fn parameters(kind: &str, text: &str, names: [&str; 3]) -> Result<[u32; 3], Fault> {
    let mut parts = text.split(',');
    let mut values = [0; 3];
    for (value, name) in values.iter_mut().zip(names) {
        let part = parts.next().and_then(|part| part.strip_prefix(name)).and_then(|part| part.strip_prefix('='));
        *value = number(kind, part.ok_or_else(|| mistyped(kind))?)?;
    }
    if parts.next().is_some() { Err(mistyped(kind)) } else { Ok(values) }
}

fn number(kind: &str, text: &str) -> Result<u32, Fault> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| mistyped(kind))
}

fn two_digits(text: &str) -> Result<u32, Fault> {
    if text.len() == 2 { number("bcrypt", text) } else { Err(mistyped("bcrypt")) }
}

fn standard(kind: &str, text: &str) -> Result<Vec<u8>, Fault> {
    STANDARD_NO_PAD.decode(text).map_err(|_| mistyped(kind))
}

fn mistyped(kind: &str) -> Fault {
    Fault::new(format!("the {kind} digest can't be read"))
        .help("It may have been cut, or a shell may have replaced its `$` signs: quote it with single quotes.")
}

fn unknown_format(name: &str) -> Fault {
    let message = match name {
        "1" | "apr1" => "MD5 digests are not safe and are not accepted".to_owned(),
        "sha1" => "SHA-1 digests are not safe and are not accepted".to_owned(),
        "3" => "NT hashes are not safe and are not accepted".to_owned(),
        _ if name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            format!("unknown kind of digest `{name}`, or one that is cut")
        }
        _ => "unknown kind of digest".to_owned(),
    };
    Fault::new(message).help(
        "The kinds are argon2id, argon2i, argon2d, scrypt, pbkdf2, bcrypt (2a, 2b, 2x, 2y), bcrypt-sha256, sha-crypt \
         (5, 6) and yescrypt (y). Make a new digest with `portcullis hash-password`.",
    )
}
