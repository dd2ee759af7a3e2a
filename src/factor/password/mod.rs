//! Passwords: reading stored digests, checking a password against one, making new ones.
//!
//! The formats are those of `crypt(3)` and of the PHC string format that other servers write:
//! argon2 (RFC 9106), scrypt (RFC 7914), PBKDF2 (RFC 8018), bcrypt, sha-crypt and yescrypt. A stored
//! digest carries its own cost, so each kind has a ceiling that is enforced when the digest is read: a
//! users file can't be made to eat the machine at every attempt.
//!
//! Checking is slow on purpose, and nothing here bounds how many run at once: `signin` does.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Block, Version};
use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{NO_PAD, STANDARD, STANDARD_NO_PAD};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64ct::{Base64ShaCrypt, Encoding};
use ring::rand::SecureRandom;
use sha_crypt::{PasswordVerifier, ShaCrypt};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::fault::Fault;

/// The longest password that is looked at, in bytes. A longer one is wrong.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// The most memory that a stored argon2, scrypt or yescrypt digest may ask for, in KiB: 1 GiB.
pub const MAX_MEMORY_KIB: u64 = 1 << 20;
/// The most memory times passes that such a digest may ask for, in KiB: 8 GiB, some seconds of work.
pub const MAX_MEMORY_PASSES_KIB: u64 = 8 << 20;
/// The most rounds of a stored sha-crypt digest, whose format allows 999,999,999.
pub const MAX_SHA_CRYPT_ROUNDS: u32 = 5_000_000;
/// The most rounds of a stored PBKDF2 digest.
pub const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// The highest cost of a stored bcrypt digest.
pub const MAX_BCRYPT_COST: u32 = 16;

/// bcrypt reads no more than this of a password, in bytes.
const BCRYPT_PASSWORD_BYTES: usize = 72;
/// Argon2 memory beyond this is given back after use rather than kept for the next digest, in blocks of 1 KiB.
const KEPT_BLOCKS: usize = 256 * 1024;

/// bcrypt's own base64. The last character of a salt has four bits that mean nothing; some writers set them.
const BCRYPT_BASE64: GeneralPurpose =
    GeneralPurpose::new(&BCRYPT, GeneralPurposeConfig::with_decode_allow_trailing_bits(NO_PAD, true));

/// Evidence that the right password was shown, in this request.
///
/// Only [`PasswordHash::verify`] makes one.
#[must_use]
#[derive(Clone, Debug)]
pub struct PasswordProof(());

/// A stored password digest, read and found affordable.
///
/// Its text comes from [`FromStr`]. It prints as its kind and cost, never as the digest.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    scheme: Scheme,
    salt: Vec<u8>,
    key: Vec<u8>,
}

/// How a key is derived from a password and a salt, all costs included.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Argon2 {
        algorithm: Algorithm,
        version: Version,
        memory_kib: u32,
        passes: u32,
        lanes: u32,
    },
    Sha2Crypt {
        variant: Sha2CryptVariant,
        rounds: u32,
    },
    Pbkdf2 {
        variant: Pbkdf2Variant,
        rounds: u32,
    },
    /// `2a`, `2b`, `2y`, and `2x`, whose writer read bytes above 127 wrongly: such passwords do not fit it.
    Bcrypt {
        cost: u32,
    },
    BcryptSha256 {
        cost: u32,
    },
    Scrypt {
        log_n: u8,
        block_size: u32,
        lanes: u32,
    },
    Yescrypt {
        params: yescrypt::Params,
    },
}

/// Working memory for checking passwords, kept from one to the next: fresh memory for each costs a
/// quarter to a third more time. It is wiped after every use.
#[derive(Default)]
pub struct Scratch {
    blocks: Vec<Block>,
}

impl Scratch {
    fn with_blocks<T>(&mut self, count: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::new());
        }
        let result = work(self.blocks.get_mut(..count).unwrap_or_default());
        self.wipe(count);
        result
    }

    fn wipe(&mut self, count: usize) {
        self.blocks.iter_mut().take(count).for_each(Zeroize::zeroize);
        if self.blocks.len() > KEPT_BLOCKS {
            self.blocks = Vec::new();
        }
    }
}

impl Drop for Scratch {
    /// For the digest whose making was cut short by a panic.
    fn drop(&mut self) {
        self.blocks.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scratch({} KiB)", self.blocks.len())
    }
}

impl PasswordHash {
    /// Checks `password`, with working memory of its own.
    pub fn verify(&self, password: &[u8]) -> Option<PasswordProof> {
        self.verify_with(password, &mut Scratch::default())
    }

    /// Checks `password`, working in `scratch`.
    ///
    /// A password that bcrypt would cut short (over 72 bytes, or with a NUL in it) is wrong for such a
    /// digest, and costs the same work as any other.
    pub fn verify_with(&self, password: &[u8], scratch: &mut Scratch) -> Option<PasswordProof> {
        if password.len() > MAX_PASSWORD_BYTES {
            return None;
        }
        let equal = match self.scheme {
            Scheme::Sha2Crypt { .. } => ShaCrypt::default().verify_password(password, &*self.sha_crypt()).is_ok(),
            _ => {
                let key = self.scheme.derive(password, &self.salt, self.key.len(), scratch)?;
                key.ct_eq(&self.key).into()
            }
        };
        equal.then_some(PasswordProof(()))
    }

    /// The kind and the cost, as in `argon2id m=65536,t=3,p=4`: digests of the same text take the same work.
    pub fn work(&self) -> String {
        self.scheme.to_string()
    }

    /// A digest that costs the same to check and that no password fits.
    ///
    /// Checking it for a user who does not exist hides that (A85).
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn decoy(&self, random: &dyn SecureRandom) -> Result<PasswordHash, Fault> {
        let mut key = vec![0; self.key.len()];
        random.fill(&mut key).map_err(|_| no_randomness())?;
        Ok(PasswordHash { key, ..self.clone() })
    }

    /// Bytes that differ between any two different digests, to tell whether a password was changed.
    ///
    /// They are as secret as the digest.
    pub fn fingerprint(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = self.scheme.to_string().into_bytes();
        for part in [&self.salt, &self.key] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        Zeroizing::new(bytes)
    }

    /// The text that sha-crypt itself reads.
    fn sha_crypt(&self) -> String {
        let Scheme::Sha2Crypt { variant, rounds } = self.scheme else { return String::new() };
        let salt = String::from_utf8_lossy(&self.salt);
        format!("${}$rounds={rounds}${salt}${}", variant.id(), Base64ShaCrypt::encode_string(&self.key))
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({})", self.scheme)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheme::Argon2 { algorithm, version, memory_kib, passes, lanes } => {
                write!(f, "{algorithm} m={memory_kib},t={passes},p={lanes}")?;
                if *version == Version::V0x13 { Ok(()) } else { f.write_str(",v=16") }
            }
            Scheme::Sha2Crypt { variant, rounds } => write!(f, "{} rounds={rounds}", variant.name()),
            Scheme::Pbkdf2 { variant, rounds } => write!(f, "pbkdf2-{} rounds={rounds}", variant.name()),
            Scheme::Bcrypt { cost } => write!(f, "bcrypt cost={cost}"),
            Scheme::BcryptSha256 { cost } => write!(f, "bcrypt-sha256 cost={cost}"),
            Scheme::Scrypt { log_n, block_size, lanes } => write!(f, "scrypt ln={log_n},r={block_size},p={lanes}"),
            Scheme::Yescrypt { params } => write!(f, "yescrypt N={},r={},p={}", params.n(), params.r(), params.p()),
        }
    }
}

impl Scheme {
    /// The key of `length` bytes for `password`; nothing if the password can't be right.
    ///
    /// Not for sha-crypt, whose crate keeps the last step to itself.
    fn derive(self, password: &[u8], salt: &[u8], length: usize, scratch: &mut Scratch) -> Option<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; length]);
        match self {
            Scheme::Argon2 { algorithm, version, memory_kib, passes, lanes } => {
                let params = argon2::Params::new(memory_kib, passes, lanes, Some(length)).ok()?;
                let count = params.block_count();
                let argon2 = Argon2::new(algorithm, version, params);
                scratch
                    .with_blocks(count, |blocks| {
                        argon2.hash_password_into_with_memory(password, salt, &mut key, blocks)
                    })
                    .ok()?;
            }
            Scheme::Pbkdf2 { variant, rounds } => match variant {
                Pbkdf2Variant::Sha1 => pbkdf2::pbkdf2_hmac::<sha1::Sha1>(password, salt, rounds, &mut key),
                Pbkdf2Variant::Sha224 => pbkdf2::pbkdf2_hmac::<sha2::Sha224>(password, salt, rounds, &mut key),
                Pbkdf2Variant::Sha256 => pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password, salt, rounds, &mut key),
                Pbkdf2Variant::Sha384 => pbkdf2::pbkdf2_hmac::<sha2::Sha384>(password, salt, rounds, &mut key),
                Pbkdf2Variant::Sha512 => pbkdf2::pbkdf2_hmac::<sha2::Sha512>(password, salt, rounds, &mut key),
            },
            Scheme::Bcrypt { cost } => {
                let derived = bcrypt_key(cost, salt, password)?;
                if password.len() > BCRYPT_PASSWORD_BYTES || password.contains(&0) {
                    return None;
                }
                key.copy_from_slice(&derived);
            }
            Scheme::BcryptSha256 { cost } => {
                let salt_text = BCRYPT_BASE64.encode(salt);
                let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, salt_text.as_bytes());
                let digest = Zeroizing::new(STANDARD.encode(ring::hmac::sign(&mac, password)));
                key.copy_from_slice(&bcrypt_key(cost, salt, digest.as_bytes())?);
            }
            Scheme::Scrypt { log_n, block_size, lanes } => {
                let params = scrypt::Params::new(log_n, block_size, lanes).ok()?;
                scrypt::scrypt(password, salt, &params, &mut key).ok()?;
            }
            Scheme::Yescrypt { params } => yescrypt::yescrypt(password, salt, &params, &mut key).ok()?,
            Scheme::Sha2Crypt { .. } => return None,
        }
        Some(key)
    }

    /// Refuses what would cost too much to check, and what can't be checked.
    fn affordable(self) -> Result<Scheme, Fault> {
        match self {
            Scheme::Argon2 { memory_kib, passes, lanes, .. } => {
                within("argon2's memory `m` in KiB", u64::from(memory_kib), 8, MAX_MEMORY_KIB)?;
                within("argon2's passes `t`", u64::from(passes), 1, MAX_MEMORY_PASSES_KIB)?;
                within("argon2's lanes `p`", u64::from(lanes), 1, u64::from(memory_kib / 8).min(255))?;
                let total = u64::from(memory_kib).saturating_mul(u64::from(passes));
                within("argon2's memory times passes `m * t` in KiB", total, 1, MAX_MEMORY_PASSES_KIB)?;
            }
            Scheme::Sha2Crypt { rounds, .. } => {
                within("sha-crypt's rounds", u64::from(rounds), 1000, u64::from(MAX_SHA_CRYPT_ROUNDS))?;
            }
            Scheme::Pbkdf2 { rounds, .. } => {
                within("PBKDF2's rounds", u64::from(rounds), 1, u64::from(MAX_PBKDF2_ROUNDS))?;
            }
            Scheme::Bcrypt { cost } | Scheme::BcryptSha256 { cost } => {
                within("bcrypt's cost", u64::from(cost), 4, u64::from(MAX_BCRYPT_COST))?;
            }
            Scheme::Scrypt { log_n, block_size, lanes } => {
                within("scrypt's `ln`", u64::from(log_n), 1, 30)?;
                memory_hard("scrypt", 1 << log_n, block_size, lanes)?;
            }
            Scheme::Yescrypt { params } => memory_hard("yescrypt", params.n(), params.r(), params.p())?,
        }
        Ok(self)
    }
}

/// Bounds what scrypt and its kin need: `128 * N * r` bytes, `p` times.
fn memory_hard(name: &str, n: u64, block_size: u32, lanes: u32) -> Result<(), Fault> {
    within(&format!("{name}'s `r`"), u64::from(block_size), 1, 1 << 16)?;
    within(&format!("{name}'s `p`"), u64::from(lanes), 1, 1 << 10)?;
    let memory_kib = n.saturating_mul(u64::from(block_size)) / 8;
    within(&format!("{name}'s memory `128 * N * r` in KiB"), memory_kib, 0, MAX_MEMORY_KIB)?;
    let total = memory_kib.saturating_mul(u64::from(lanes));
    within(&format!("{name}'s memory times lanes in KiB"), total, 0, MAX_MEMORY_PASSES_KIB)
}

fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), Fault> {
    if value < least {
        return Err(Fault::new(format!("{what} is {value}, and must be at least {least}")));
    }
    if value > most {
        return Err(Fault::new(format!("{what} is {value}, and may be at most {most}"))
            .help("Each attempt to sign in would cost that much: make a new digest with `portcullis hash-password`."));
    }
    Ok(())
}

/// bcrypt of the password and a NUL, cut to 72 bytes as every implementation does.
fn bcrypt_key(cost: u32, salt: &[u8], password: &[u8]) -> Option<[u8; 23]> {
    let mut input = Zeroizing::new([0; BCRYPT_PASSWORD_BYTES]);
    let length = password.len().min(BCRYPT_PASSWORD_BYTES);
    input.get_mut(..length)?.copy_from_slice(password.get(..length)?);
    let used = (length + 1).min(BCRYPT_PASSWORD_BYTES);
    let output = bcrypt::bcrypt(cost, salt.try_into().ok()?, input.get(..used)?);
    output.get(..23)?.try_into().ok()
}

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
            ["", "", ..] | ["", _] => return Err(mistyped("password")),
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

fn no_randomness() -> Fault {
    Fault::new("the system has no randomness to give")
}

/// Which kind of argon2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Argon2Variant {
    /// argon2id, the one that RFC 9106 recommends.
    #[default]
    Id,
    /// argon2i.
    I,
    /// argon2d.
    D,
}

/// Which hash sha-crypt is built on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sha2CryptVariant {
    /// SHA-256, `$5$`.
    Sha256,
    /// SHA-512, `$6$`.
    #[default]
    Sha512,
}

impl Sha2CryptVariant {
    const fn id(self) -> &'static str {
        match self {
            Sha2CryptVariant::Sha256 => "5",
            Sha2CryptVariant::Sha512 => "6",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Sha2CryptVariant::Sha256 => "sha256-crypt",
            Sha2CryptVariant::Sha512 => "sha512-crypt",
        }
    }

    const fn key_bytes(self) -> usize {
        match self {
            Sha2CryptVariant::Sha256 => 32,
            Sha2CryptVariant::Sha512 => 64,
        }
    }
}

/// Which hash PBKDF2 is built on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pbkdf2Variant {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    #[default]
    Sha512,
}

impl Pbkdf2Variant {
    /// The rounds of a new digest where none are configured.
    pub const fn default_rounds(self) -> u32 {
        match self {
            Pbkdf2Variant::Sha1 => 1_600_000,
            Pbkdf2Variant::Sha224 => 900_000,
            Pbkdf2Variant::Sha256 => 700_000,
            Pbkdf2Variant::Sha384 => 280_000,
            Pbkdf2Variant::Sha512 => 310_000,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Pbkdf2Variant::Sha1 => "sha1",
            Pbkdf2Variant::Sha224 => "sha224",
            Pbkdf2Variant::Sha256 => "sha256",
            Pbkdf2Variant::Sha384 => "sha384",
            Pbkdf2Variant::Sha512 => "sha512",
        }
    }

    const fn key_bytes(self) -> usize {
        match self {
            Pbkdf2Variant::Sha1 => 20,
            Pbkdf2Variant::Sha224 => 28,
            Pbkdf2Variant::Sha256 => 32,
            Pbkdf2Variant::Sha384 => 48,
            Pbkdf2Variant::Sha512 => 64,
        }
    }
}

/// Which kind of bcrypt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BcryptVariant {
    /// bcrypt of the password itself, of which it reads 72 bytes.
    #[default]
    Standard,
    /// bcrypt of an HMAC of the password, for any length.
    Sha256,
}

/// How new digests are made (`authentication_backend.file.password`).
///
/// Stored digests are checked with their own parameters; these are only for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewDigest {
    /// argon2 (RFC 9106).
    Argon2 {
        /// Which kind.
        variant: Argon2Variant,
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        iterations: u32,
        /// Lanes.
        parallelism: u32,
        /// Bytes of the key.
        key_length: u32,
        /// Bytes of the salt.
        salt_length: u32,
    },
    /// sha-crypt, with a salt of sixteen characters.
    Sha2Crypt {
        /// Which hash.
        variant: Sha2CryptVariant,
        /// Rounds.
        iterations: u32,
    },
    /// PBKDF2 (RFC 8018).
    Pbkdf2 {
        /// Which hash.
        variant: Pbkdf2Variant,
        /// Rounds.
        iterations: u32,
        /// Bytes of the salt.
        salt_length: u32,
    },
    /// bcrypt.
    Bcrypt {
        /// Which kind.
        variant: BcryptVariant,
        /// The binary logarithm of the rounds.
        cost: u32,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// The binary logarithm of `N`.
        iterations: u8,
        /// `r`.
        block_size: u32,
        /// `p`.
        parallelism: u32,
        /// Bytes of the key.
        key_length: u32,
        /// Bytes of the salt.
        salt_length: u32,
    },
}

impl Default for NewDigest {
    /// argon2id of 64 MiB, three passes and four lanes: RFC 9106's second recommendation.
    fn default() -> NewDigest {
        NewDigest::Argon2 {
            variant: Argon2Variant::Id,
            memory_kib: 65536,
            iterations: 3,
            parallelism: 4,
            key_length: 32,
            salt_length: 16,
        }
    }
}

impl NewDigest {
    /// The defaults of a kind, by the name that the configuration and `hash-password --algorithm` use.
    ///
    /// # Errors
    ///
    /// Another name than `argon2`, `sha2crypt`, `pbkdf2`, `bcrypt` or `scrypt`.
    pub fn named(algorithm: &str) -> Result<NewDigest, Fault> {
        match algorithm {
            "argon2" => Ok(NewDigest::default()),
            "sha2crypt" => Ok(NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha512, iterations: 50_000 }),
            "pbkdf2" => {
                let variant = Pbkdf2Variant::Sha512;
                Ok(NewDigest::Pbkdf2 { variant, iterations: variant.default_rounds(), salt_length: 16 })
            }
            "bcrypt" => Ok(NewDigest::Bcrypt { variant: BcryptVariant::Standard, cost: 12 }),
            "scrypt" => {
                Ok(NewDigest::Scrypt { iterations: 16, block_size: 8, parallelism: 1, key_length: 32, salt_length: 16 })
            }
            _ => Err(Fault::new(format!("unknown algorithm `{algorithm}`"))
                .help("The algorithms are argon2, sha2crypt, pbkdf2, bcrypt and scrypt.")),
        }
    }

    /// The same, if digests made so are neither weak nor more than this module accepts.
    ///
    /// # Errors
    ///
    /// Which parameter is out of which bounds.
    pub fn checked(self) -> Result<NewDigest, Fault> {
        self.scheme().affordable()?;
        let (salt_length, key_length) = self.lengths();
        within("the length of the salt in bytes", salt_length as u64, 8, 256)?;
        within("the length of the key in bytes", key_length as u64, 16, 512)?;
        match self {
            NewDigest::Pbkdf2 { iterations, .. } => {
                within("PBKDF2's `iterations`", u64::from(iterations), 100_000, u64::from(MAX_PBKDF2_ROUNDS))?;
            }
            NewDigest::Bcrypt { cost, .. } => {
                within("bcrypt's `cost`", u64::from(cost), 10, u64::from(MAX_BCRYPT_COST))?;
            }
            NewDigest::Argon2 { .. } | NewDigest::Sha2Crypt { .. } | NewDigest::Scrypt { .. } => {}
        }
        Ok(self)
    }

    /// A digest made in this way that no password fits; see [`PasswordHash::decoy`].
    ///
    /// # Errors
    ///
    /// Parameters that [`checked`](NewDigest::checked) refuses, or a system without randomness.
    pub fn decoy(self, random: &dyn SecureRandom) -> Result<PasswordHash, Fault> {
        let scheme = self.checked()?.scheme();
        let (salt_length, key_length) = self.lengths();
        let mut salt = vec![0; salt_length];
        random.fill(&mut salt).map_err(|_| no_randomness())?;
        if let Scheme::Sha2Crypt { .. } = scheme {
            salt = Base64ShaCrypt::encode_string(&salt).into_bytes();
        }
        PasswordHash { scheme, salt, key: vec![0; key_length] }.decoy(random)
    }

    /// A digest of `password`, with a salt from `random`.
    ///
    /// # Errors
    ///
    /// Parameters that [`checked`](NewDigest::checked) refuses, a password that is empty, longer than
    /// [`MAX_PASSWORD_BYTES`] or, for plain bcrypt, longer than 72 bytes or with a NUL in it, or a system
    /// without randomness.
    pub fn hash(self, password: &[u8], random: &dyn SecureRandom) -> Result<String, Fault> {
        self.checked()?;
        if password.is_empty() {
            return Err(Fault::new("the password is empty"));
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(Fault::new(format!("the password is longer than {MAX_PASSWORD_BYTES} bytes")));
        }
        let (salt_length, key_length) = self.lengths();
        let mut salt = vec![0; salt_length];
        random.fill(&mut salt).map_err(|_| no_randomness())?;
        let scheme = self.scheme();
        if let Scheme::Sha2Crypt { variant, rounds } = scheme {
            return sha_crypt_digest(variant, rounds, password, &salt);
        }
        let key = scheme.derive(password, &salt, key_length, &mut Scratch::default()).ok_or_else(|| {
            Fault::new("bcrypt reads only 72 bytes of a password, and none after a NUL")
                .help("Choose a shorter password, or `argon2`.")
        })?;
        Ok(scheme.render(&salt, &key))
    }

    fn scheme(self) -> Scheme {
        match self {
            NewDigest::Argon2 { variant, memory_kib, iterations, parallelism, .. } => {
                let algorithm = match variant {
                    Argon2Variant::Id => Algorithm::Argon2id,
                    Argon2Variant::I => Algorithm::Argon2i,
                    Argon2Variant::D => Algorithm::Argon2d,
                };
                let version = Version::V0x13;
                Scheme::Argon2 { algorithm, version, memory_kib, passes: iterations, lanes: parallelism }
            }
            NewDigest::Sha2Crypt { variant, iterations } => Scheme::Sha2Crypt { variant, rounds: iterations },
            NewDigest::Pbkdf2 { variant, iterations, .. } => Scheme::Pbkdf2 { variant, rounds: iterations },
            NewDigest::Bcrypt { variant: BcryptVariant::Standard, cost } => Scheme::Bcrypt { cost },
            NewDigest::Bcrypt { variant: BcryptVariant::Sha256, cost } => Scheme::BcryptSha256 { cost },
            NewDigest::Scrypt { iterations, block_size, parallelism, .. } => {
                Scheme::Scrypt { log_n: iterations, block_size, lanes: parallelism }
            }
        }
    }

    /// Bytes of the salt and of the key.
    fn lengths(self) -> (usize, usize) {
        match self {
            NewDigest::Argon2 { salt_length, key_length, .. } | NewDigest::Scrypt { salt_length, key_length, .. } => {
                (salt_length as usize, key_length as usize)
            }
            NewDigest::Pbkdf2 { variant, salt_length, .. } => (salt_length as usize, variant.key_bytes()),
            // Twelve bytes are the sixteen characters that sha-crypt reads.
            NewDigest::Sha2Crypt { variant, .. } => (12, variant.key_bytes()),
            NewDigest::Bcrypt { .. } => (16, 23),
        }
    }
}

impl Scheme {
    /// The digest as text.
    fn render(self, salt: &[u8], key: &[u8]) -> String {
        let standard = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        let dotted = |bytes: &[u8]| standard(bytes).replace('+', ".");
        let bcrypt = |bytes: &[u8]| BCRYPT_BASE64.encode(bytes);
        match self {
            Scheme::Argon2 { algorithm, version, memory_kib, passes, lanes } => format!(
                "${algorithm}$v={}$m={memory_kib},t={passes},p={lanes}${}${}",
                u32::from(version),
                standard(salt),
                standard(key)
            ),
            Scheme::Pbkdf2 { variant: Pbkdf2Variant::Sha1, rounds } => {
                format!("$pbkdf2${rounds}${}${}", dotted(salt), dotted(key))
            }
            Scheme::Pbkdf2 { variant, rounds } => {
                format!("$pbkdf2-{}${rounds}${}${}", variant.name(), dotted(salt), dotted(key))
            }
            Scheme::Bcrypt { cost } => format!("$2b${cost:02}${}{}", bcrypt(salt), bcrypt(key)),
            Scheme::BcryptSha256 { cost } => {
                format!("$bcrypt-sha256$v=2,t=2b,r={cost}${}${}", bcrypt(salt), bcrypt(key))
            }
            Scheme::Scrypt { log_n, block_size, lanes } => {
                format!("$scrypt$ln={log_n},r={block_size},p={lanes}${}${}", standard(salt), standard(key))
            }
            // Never made here; these have writers of their own.
            Scheme::Sha2Crypt { .. } | Scheme::Yescrypt { .. } => String::new(),
        }
    }
}

fn sha_crypt_digest(variant: Sha2CryptVariant, rounds: u32, password: &[u8], salt: &[u8]) -> Result<String, Fault> {
    use sha_crypt::CustomizedPasswordHasher;
    let refused = || Fault::new("sha-crypt can't make a digest of this password");
    let params = sha_crypt::Params::new(rounds).map_err(|_| refused())?;
    let digest = ShaCrypt::default()
        .hash_password_customized(password, salt, Some(variant.id()), None, params)
        .map_err(|_| refused())?;
    Ok(digest.as_str().to_owned())
}

#[cfg(test)]
mod tests;
