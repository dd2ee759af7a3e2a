//! Making a new digest: with which parameters, and how it is written down. What would be weak is refused, and what
//! could not be read again.

use argon2::{Algorithm, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64ct::{Base64ShaCrypt, Encoding};
use ring::rand::SecureRandom;
use sha_crypt::ShaCrypt;

use super::{
    BCRYPT_BASE64, MAX_BCRYPT_COST, MAX_PASSWORD_BYTES, MAX_PBKDF2_ROUNDS, PasswordHash, Pbkdf2Variant, Scheme,
    Scratch, Sha2CryptVariant, no_randomness, within,
};
use crate::fault::Fault;

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
