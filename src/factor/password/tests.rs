use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::{
    Argon2Variant, BcryptVariant, MAX_PASSWORD_BYTES, NewDigest, PasswordHash, Pbkdf2Variant, Scratch, Sha2CryptVariant,
};

/// Written by other implementations: libxcrypt, Python's hashlib, the argon2 reference.
#[rustfmt::skip]
const VECTORS: &[(&str, &str)] = &[
    ("portcullis", "$argon2id$v=19$m=65536,t=3,p=4$MDEyMzQ1Njc4OWFiY2RlZg$53oFtCl2gmrtYIoKxjqKKdHPafO6Gg/7qEPEKkZc4zY"),
    ("password", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA"),
    ("password", "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"),
    ("password", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"),
    ("portcullis", "$2b$12$abcdefghijklmnopqrstuusPZG56Jbz4j3tTdbSHnUzM8OiUL2mSm"),
    ("portcullis", "$2a$05$abcdefghijklmnopqrstuuTLHD9g6X7GmLzel.2Pgs/XnRHeo8Wpu"),
    ("portcullis", "$2x$05$abcdefghijklmnopqrstuuTLHD9g6X7GmLzel.2Pgs/XnRHeo8Wpu"),
    ("portcullis", "$2y$05$abcdefghijklmnopqrstuuTLHD9g6X7GmLzel.2Pgs/XnRHeo8Wpu"),
    ("portcullis", "$bcrypt-sha256$v=2,t=2b,r=12$abcdefghijklmnopqrstuu$zDJ4sk9KPhH5dm6ndV5wBcQFNadtlWi"),
    ("portcullis", "$scrypt$ln=16,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$EJ7oeiuKyJ129IcOmEFgt25TDKREHl6c/B96TkpigxU"),
    ("portcullis", "$pbkdf2-sha512$310000$MDEyMzQ1Njc4OWFiY2RlZg$FXP3qcY0x0h5QetK/02HHfQehiL/xH3arE21PJxRA2U2Qj99vOiS.6iL47fk3MFyf5QwYjOl1W8Mm62TBl4Wvw"),
    ("portcullis", "$pbkdf2-sha256$700000$MDEyMzQ1Njc4OWFiY2RlZg$kzTirJZbzVXycTED1dW0.TCndKA8corJ3ifzDrHejV0"),
    ("portcullis", "$pbkdf2$1600000$MDEyMzQ1Njc4OWFiY2RlZg$Iu4.86fZ.Q3IYaW2awKnDKFO3AU"),
    ("portcullis", "$pbkdf2-sha1$1000$MDEyMzQ1Njc4OWFiY2RlZg$aEU85K17cbS.KXS/vidzjWVc1vk"),
    ("portcullis", "$pbkdf2-sha224$1000$MDEyMzQ1Njc4OWFiY2RlZg$FZwzd8S.WNv79WBH/ooD9N3ZDb9JEyvHslwQ/w"),
    ("portcullis", "$pbkdf2-sha384$1000$MDEyMzQ1Njc4OWFiY2RlZg$QT1rNDiIwesHjXUTMARjg4BsU65t7jAJADtD8QZAwR8qEy198sgXhz1LA/w/mBah"),
    ("portcullis", "$6$rounds=50000$0123456789abcdef$H5Z5fJvy2s3rJ3YcF2tI1N9KUlxencLPvI1viR.oogHp7BTbGUxlCiZ3onpr5V0yDFtyfXsr2W3LavYOlVbKs."),
    ("portcullis", "$5$rounds=50000$0123456789abcdef$skghvi44C4VDPrmu64Sg37nioIffDlmt3DrNJ6Bvrs."),
    ("portcullis", "$6$saltsalt$hm.0yWYXHdsochswPTcG5FKxMlGhTd1Gurmn6fhdUlWWzBsHUCVSYO6E.XVtvMFHVleV74csajGNTNGcuGxUB/"),
    ("portcullis", "$5$saltsalt$qHOZbnAoEc9DTZ0Px7QCZY75UK1NDbTU0irT48X7cZ4"),
    ("portcullis", "$6$rounds=1000$saltsalt$A1KaOKvM47L1TRLzS2Pa9vjVfRrp.Xtrso8BeyHJhnQjRlmNrQ700LowtUl9fS1J4E4yepiMT2qNw9aByQ2hO."),
    ("portcullis", "$y$j9T$MDEyMzQ1Njc4$1nw8th/ZzUodlLc0HD6NCEtnN/hvasZTolICo9epob3"),
    ("portcullis", "$y$j9T$0123456789abcdefghij./$263OHS.gAQjOZnfZn/ThfGt3KMosTJfiO/Q4STy1sv6"),
    ("portcullis", "$y$j75$0123456789ab$f8MV.qnn11.UWy3ZLrd1ZFEEJLZDUijycxv5OsaSrB9"),
];

#[test]
fn digests_of_other_implementations_are_checked() {
    let mut scratch = Scratch::default();
    for (password, digest) in VECTORS {
        let hash: PasswordHash = digest.parse().unwrap_or_else(|fault| panic!("{digest}: {fault}"));
        assert!(hash.verify_with(password.as_bytes(), &mut scratch).is_some(), "{digest}");
        assert!(hash.verify_with(b"portculliS", &mut scratch).is_none(), "{digest}");
    }
}

#[test]
fn markers_of_directories_are_skipped() {
    for (marker, (_, digest)) in [("{CRYPT}", VECTORS[19]), ("{ARGON2}", VECTORS[0])] {
        let marked: PasswordHash = format!("{marker}{digest}").parse().unwrap();
        assert!(marked == digest.parse().unwrap());
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let bcrypt = "abcdefghijklmnopqrstuusPZG56Jbz4j3tTdbSHnUzM8OiUL2mSm";
    let key16 = "MDEyMzQ1Njc4OWFiY2RlZg";
    #[rustfmt::skip]
    let table = [
        // because                       digest                                                            says
        ("plain text",                   "hunter2".to_owned(),                                             "is not a digest"),
        ("nothing",                      String::new(),                                                    "is not a digest"),
        ("MD5",                          "$1$salt$abc".to_owned(),                                         "MD5"),
        ("SHA-1 crypt",                  "$sha1$1$salt$abc".to_owned(),                                    "SHA-1"),
        ("unknown",                      "$new$a$b".to_owned(),                                            "`new`"),
        ("too much memory",              format!("$argon2id$v=19$m=1048577,t=1,p=1${key16}${key16}"),      "at most 1048576"),
        ("too many passes",              format!("$argon2id$v=19$m=1048576,t=9,p=1${key16}${key16}"),      "at most 8388608"),
        ("passes that overflow",         format!("$argon2id$v=19$m=1048576,t=4294967295,p=1${key16}${key16}"), "at most"),
        ("more lanes than memory",       format!("$argon2id$v=19$m=64,t=1,p=9${key16}${key16}"),           "at most 8"),
        ("no lanes",                     format!("$argon2id$v=19$m=64,t=1,p=0${key16}${key16}"),           "at least 1"),
        ("an older version",             format!("$argon2id$v=18$m=64,t=1,p=1${key16}${key16}"),           "can't be read"),
        ("a salt of no length",          format!("$argon2id$v=19$m=64,t=1,p=1$${key16}"),                  "too short"),
        ("a key of no length",           format!("$argon2id$v=19$m=64,t=1,p=1${key16}$"),                  "too short"),
        ("a key cut short",              format!("$argon2id$v=19$m=64,t=1,p=1${key16}$MDEyMzQ1"),          "too short"),
        ("parameters cut",               format!("$argon2id$v=19$m=64,t=1${key16}${key16}"),               "can't be read"),
        ("a sign in a number",           format!("$argon2id$v=19$m=+64,t=1,p=1${key16}${key16}"),          "can't be read"),
        ("a shell ate the dollars",      "=19=65536,t=3,p=4".to_owned(),                                   "is not a digest"),
        ("bcrypt's cost",                format!("$2b$17${bcrypt}"),                                       "at most 16"),
        ("bcrypt's least cost",          format!("$2b$03${bcrypt}"),                                       "at least 4"),
        ("bcrypt cut",                   "$2b$12$abcdefgh".to_owned(),                                     "can't be read"),
        ("A89: bcrypt, not ASCII",       format!("$2b$12$é{}", &bcrypt[2..]),                              "can't be read"),
        ("bcrypt-sha256, version 1",     "$bcrypt-sha256$2b,12$a$b".to_owned(),                            "version 2"),
        ("sha-crypt's rounds",           "$6$rounds=5000001$salt$x".to_owned(),                            "can't be read"),
        ("sha-crypt's rounds, whole",    VECTORS[20].1.replace("1000", "999999999"),                       "at most 5000000"),
        ("sha-crypt's least rounds",     VECTORS[20].1.replace("1000", "999"),                             "at least 1000"),
        ("sha-crypt cut",                VECTORS[20].1[..80].to_owned(),                                   "can't be read"),
        ("PBKDF2's rounds",              format!("$pbkdf2-sha512$10000001${key16}${key16}"),               "at most 10000000"),
        ("PBKDF2 of no rounds",          format!("$pbkdf2-sha512$0${key16}${key16}"),                      "at least 1"),
        ("PBKDF2 of MD5",                format!("$pbkdf2-md5$1000${key16}${key16}"),                      "`pbkdf2-md5`"),
        ("scrypt's memory",              format!("$scrypt$ln=21,r=8,p=1${key16}${key16}"),                 "at most 1048576"),
        ("scrypt's lanes",               format!("$scrypt$ln=20,r=8,p=9${key16}${key16}"),                 "at most 8388608"),
        ("scrypt's overflow",            format!("$scrypt$ln=30,r=65536,p=1024${key16}${key16}"),          "at most"),
        ("scrypt's r",                   format!("$scrypt$ln=1,r=4294967295,p=4294967295${key16}${key16}"), "at most 65536"),
        ("yescrypt's memory",            "$y$jN5$0123456789ab$f8MV.qnn11.UWy3ZLrd1ZFEEJLZDUijycxv5OsaSrB9".to_owned(), "at most"),
        ("yescrypt with more time",      "$y$j9T/.$0123456789ab$f8MV.qnn11.UWy3ZLrd1ZFEEJLZDUijycxv5OsaSrB9".to_owned(), "parameters beyond"),
    ];
    for (because, digest, says) in table {
        let fault = digest.parse::<PasswordHash>().expect_err(because);
        assert!(fault.message.contains(says), "{because}: {fault}");
        assert!(digest.is_empty() || !fault.to_string().contains(&digest), "{because} repeats the digest");
    }
}

#[test]
fn bcrypt_takes_72_bytes_and_no_nul() {
    let digest: PasswordHash = "$2y$05$abcdefghijklmnopqrstuuGUnCqbfgs3htOkLrFduUjAyLBw1Rq/u".parse().unwrap();
    assert!(digest.verify(&[b'a'; 72]).is_some());
    assert!(digest.verify(&[b'a'; 73]).is_none(), "it would fit, as bcrypt reads no further");
    let digest: PasswordHash = VECTORS[5].1.parse().unwrap();
    assert!(digest.verify(b"portcullis\0").is_none(), "the same to bcrypt as without it");
}

#[test]
fn a_nul_is_a_byte_like_others_elsewhere() {
    let digest = NewDigest::Argon2 {
        variant: Argon2Variant::Id,
        memory_kib: 64,
        iterations: 1,
        parallelism: 1,
        key_length: 32,
        salt_length: 16,
    };
    let hash: PasswordHash = digest.hash(b"a\0b", &SystemRandom::new()).unwrap().parse().unwrap();
    assert!(hash.verify(b"a\0b").is_some() && hash.verify(b"a").is_none() && hash.verify(b"a\0c").is_none());
}

#[test]
fn a89_a_password_longer_than_the_limit_is_wrong() {
    let hash: PasswordHash = VECTORS[13].1.parse().unwrap();
    assert!(hash.verify(&vec![b'a'; 1 << 20]).is_none());
    let random = SystemRandom::new();
    assert!(NewDigest::default().hash(&[b'a'; MAX_PASSWORD_BYTES + 1], &random).is_err());
    assert!(NewDigest::default().hash(b"", &random).is_err());
    assert!(NewDigest::named("bcrypt").unwrap().hash(&[b'a'; 73], &random).is_err());
}

#[test]
fn what_is_made_is_read_back() {
    let random = SystemRandom::new();
    let pbkdf2 = |variant| NewDigest::Pbkdf2 { variant, iterations: 100_000, salt_length: 16 };
    let argon2 = |variant| NewDigest::Argon2 {
        variant,
        memory_kib: 64,
        iterations: 1,
        parallelism: 2,
        key_length: 24,
        salt_length: 8,
    };
    let every = [
        argon2(Argon2Variant::Id),
        argon2(Argon2Variant::I),
        argon2(Argon2Variant::D),
        pbkdf2(Pbkdf2Variant::Sha1),
        pbkdf2(Pbkdf2Variant::Sha224),
        pbkdf2(Pbkdf2Variant::Sha256),
        pbkdf2(Pbkdf2Variant::Sha384),
        pbkdf2(Pbkdf2Variant::Sha512),
        NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha256, iterations: 1000 },
        NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha512, iterations: 1000 },
        NewDigest::Bcrypt { variant: BcryptVariant::Standard, cost: 10 },
        NewDigest::Bcrypt { variant: BcryptVariant::Sha256, cost: 10 },
        NewDigest::Scrypt { iterations: 4, block_size: 8, parallelism: 1, key_length: 32, salt_length: 16 },
    ];
    for new in every {
        let digest = new.hash(b"right", &random).unwrap();
        let hash: PasswordHash = digest.parse().unwrap_or_else(|fault| panic!("{digest}: {fault}"));
        assert!(hash.verify(b"right").is_some(), "{digest}");
        assert!(hash.verify(b"wrong").is_none(), "{digest}");
        assert_ne!(digest, new.hash(b"right", &random).unwrap(), "the salt is fresh");
        let decoy = hash.decoy(&random).unwrap();
        assert!(decoy.verify(b"right").is_none(), "no password fits a decoy: {decoy:?}");
        assert_eq!((decoy.work(), new.decoy(&random).unwrap().work()), (hash.work(), hash.work()));
    }
}

#[test]
fn weak_and_ruinous_parameters_are_refused() {
    let table = [
        NewDigest::Bcrypt { variant: BcryptVariant::Standard, cost: 9 },
        NewDigest::Bcrypt { variant: BcryptVariant::Standard, cost: 17 },
        NewDigest::Pbkdf2 { variant: Pbkdf2Variant::Sha512, iterations: 99_999, salt_length: 16 },
        NewDigest::Pbkdf2 { variant: Pbkdf2Variant::Sha512, iterations: 100_000, salt_length: 7 },
        NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha512, iterations: 999 },
        NewDigest::Scrypt { iterations: 64, block_size: 8, parallelism: 1, key_length: 32, salt_length: 16 },
        NewDigest::Scrypt { iterations: 16, block_size: 0, parallelism: 1, key_length: 32, salt_length: 16 },
    ];
    for new in table {
        assert!(new.checked().is_err(), "{new:?}");
    }
    for name in ["argon2", "sha2crypt", "pbkdf2", "bcrypt", "scrypt"] {
        assert!(NewDigest::named(name).and_then(NewDigest::checked).is_ok(), "{name}");
    }
    assert!(NewDigest::named("md5").is_err());
}

#[test]
fn a_digest_does_not_print() {
    let (_, digest) = VECTORS[0];
    let hash: PasswordHash = digest.parse().unwrap();
    assert_eq!(format!("{hash:?}"), "PasswordHash(argon2id m=65536,t=3,p=4)");
    assert_ne!(hash.fingerprint(), hash.decoy(&SystemRandom::new()).unwrap().fingerprint());
}

#[test]
fn memory_is_wiped_and_given_back() {
    let mut scratch = Scratch::default();
    scratch.with_blocks(4, |blocks| blocks.iter_mut().for_each(|block| block.as_mut().fill(7)));
    assert!(scratch.blocks.iter().all(|block| block.as_ref().iter().all(|&word| word == 0)));
    scratch.with_blocks(super::KEPT_BLOCKS + 1, |_| ());
    assert!(scratch.blocks.is_empty());
}

proptest! {
    #[test]
    fn reading_a_digest_never_panics(text in "\\PC{0,120}") {
        let _ = text.parse::<PasswordHash>();
    }

    #[test]
    fn reading_something_like_a_digest_never_panics(
        name in prop::sample::select(vec!["argon2id", "argon2d", "5", "6", "2b", "y", "scrypt", "pbkdf2", "bcrypt-sha256"]),
        fields in prop::collection::vec("(v=19|v=2,t=2b,r=[0-9]{1,3}|m=[0-9]{1,11},t=[0-9]{1,11},p=[0-9]{1,11}|ln=[0-9]{1,3},r=[0-9]{1,11},p=[0-9]{1,11}|rounds=[0-9]{1,11}|j[./0-9A-Za-z]{0,12}|[./+0-9A-Za-z]{0,90})", 0..5),
    ) {
        let _ = format!("${name}${}", fields.join("$")).parse::<PasswordHash>();
    }

    #[test]
    fn one_wrong_byte_in_a_digest_never_panics(which in 0..24usize, at in any::<prop::sample::Index>(), byte in 32u8..127) {
        let (_, digest) = VECTORS[which];
        let mut bytes = digest.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = String::from_utf8(bytes).unwrap().parse::<PasswordHash>();
    }
}
