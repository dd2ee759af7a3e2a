//! Passwords: reading stored digests (`stored`), checking a password against one, making new ones (`making`).
//!
//! The formats are those of `crypt(3)` and of the PHC string format that other servers write:
//! argon2 (RFC 9106), scrypt (RFC 7914), PBKDF2 (RFC 8018), bcrypt, sha-crypt and yescrypt. A stored
//! digest carries its own cost, so each kind has a ceiling that is enforced when the digest is read: a
//! users file can't be made to eat the machine at every attempt.
//!
//! Checking is slow on purpose, and nothing here bounds how many run at once: `signin` does.

mod making;
mod stored;

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Version};
use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::general_purpose::{NO_PAD, STANDARD};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use base64ct::{Base64ShaCrypt, Encoding};
use ring::rand::SecureRandom;
use sha_crypt::{PasswordVerifier, ShaCrypt};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::fault::Fault;

pub use making::{Argon2Variant, BcryptVariant, NewDigest};

/// The longest password that is looked at, in bytes. A longer one is wrong.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// The most memory that a stored argon2, scrypt or yescrypt digest may ask for, in KiB: 1 GiB.
const MAX_MEMORY_KIB: u64 = 1 << 20;
/// The most memory times passes that such a digest may ask for, in KiB: 8 GiB, some seconds of work.
const MAX_MEMORY_PASSES_KIB: u64 = 8 << 20;
/// The most rounds of a stored sha-crypt digest, whose format allows 999,999,999.
const MAX_SHA_CRYPT_ROUNDS: u32 = 5_000_000;
/// The most rounds of a stored PBKDF2 digest.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;
/// The highest cost of a stored bcrypt digest.
const MAX_BCRYPT_COST: u32 = 16;

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
/// Its text is read by [`FromStr`](std::str::FromStr). It prints as its kind and cost, never as the digest.
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

fn no_randomness() -> Fault {
    Fault::new("the system has no randomness to give")
}

#[cfg(test)]
mod tests;
