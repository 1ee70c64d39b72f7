//! Password hashes that other systems have made, as `propusk user import` stores them. They are
//! verified as they were made, and replaced by Argon2id at the next login.
//!
//! Each is computed over the bytes of the password as sent: other systems do not normalise it. The
//! parameters are bounded, because a guess costs this server what they ask for.

use std::fmt::{self, Display};

use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD,
    },
};
use openssl::{hash::MessageDigest, pkcs5, symm};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Marks a stored Argon2 hash that was imported, and not computed over the NFKC form.
pub(super) const ARGON2_PREFIX: &str = "$imported";

/// bcrypt reads 72 bytes of a password, the terminating NUL included.
const BCRYPT_BYTES: usize = 72;
/// 2^cost key schedules: 14 takes about a second.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=14;
/// HMACs per hash, two compressions each: 6,000,000 take two to five seconds.
const MAX_PBKDF2_HMACS: u64 = 6_000_000;
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
/// Bytes mixed: memory times parallelism.
const MAX_SCRYPT_WORK: u64 = 1 << 30;
const MAX_SALT: usize = 256;
const HASH_LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;

/// With or without padding, canonical or not: other systems differ.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const BCRYPT64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, LENIENT);

/// Why a hash is not imported; says what to do where something can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnusableHash(pub String);

impl From<&str> for UnusableHash {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// The hash function of PBKDF2 (RFC 8018 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    /// By the names of PHC strings, passlib, Django, Keycloak and Auth0: `pbkdf2-sha256`, `sha256`.
    pub fn parse(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let digest = name.strip_prefix("pbkdf2").unwrap_or(&name).trim_start_matches('-');
        match digest {
            "" | "sha1" | "sha-1" => Some(Self::Sha1),
            "sha256" | "sha-256" => Some(Self::Sha256),
            "sha512" | "sha-512" => Some(Self::Sha512),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes of its output.
    const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn of_openssl(self) -> MessageDigest {
        match self {
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// A password hash of another system whose parameters are acceptable. Its text is what is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ImportedHash(Scheme);

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Bcrypt {
        cost: u32,
        salt: [u8; 16],
        /// 23 of the 24 bytes, as every implementation keeps.
        hash: Vec<u8>,
    },
    Pbkdf2 {
        digest: Digest,
        iterations: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Scrypt {
        params: ScryptParams,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// The first 32 bytes that scrypt gives are an AES-256-CTR key; the hash is its key stream.
    FirebaseScrypt {
        params: ScryptParams,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    /// A PHC string.
    Argon2(String),
}

/// The cost of scrypt (RFC 7914 §2): N is 2^`log_n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScryptParams {
    pub log_n: u32,
    pub r: u32,
    pub p: u32,
}

impl ScryptParams {
    fn check(self) -> Result<Self, UnusableHash> {
        let Self { log_n, r, p } = self;
        if !(1..=40).contains(&log_n) || r == 0 || p == 0 {
            return Err("scrypt: the parameters are not valid".into());
        }
        let memory = u64::from(r).saturating_mul(128 << log_n);
        if memory > MAX_SCRYPT_MEMORY {
            return Err("scrypt: excessive memory cost; at most 256 MiB per hash".into());
        }
        if memory.saturating_mul(u64::from(p)) > MAX_SCRYPT_WORK {
            return Err("scrypt: excessive parallelism".into());
        }
        Ok(self)
    }
}

impl ImportedHash {
    /// Parses a hash as other systems write it, and as [`ImportedHash`] prints it: bcrypt's
    /// `$2a$`, `$2b$` and `$2y$`; PHC strings of Argon2, PBKDF2 and scrypt; passlib's and Django's
    /// PBKDF2.
    ///
    /// # Errors
    /// [`UnusableHash`] for another format or excessive parameters; never with the hash in it.
    pub fn parse(text: &str) -> Result<Self, UnusableHash> {
        if text.len() > 1024 || !text.is_ascii() {
            return Err("not a password hash: too long, or not ASCII".into());
        }
        let phc = text.strip_prefix(ARGON2_PREFIX).unwrap_or(text);
        if phc.starts_with("$argon2") {
            return super::check_foreign_argon2(phc)
                .map(|()| Self(Scheme::Argon2(phc.to_owned())))
                .map_err(|reason| UnusableHash(format!("Argon2: {reason}")));
        }
        let parts: Vec<&str> = text.split('$').collect();
        match parts[..] {
            ["", "2a" | "2b" | "2y", cost, rest] => bcrypt(cost, rest),
            ["", "2" | "2x", ..] => {
                Err("bcrypt: $2$ and $2x$ are of faulty implementations".into())
            }
            // PHC and passlib: $pbkdf2-sha256$i=1000,l=32$salt$hash, $pbkdf2-sha256$1000$salt$hash
            ["", name, cost, salt, hash] if name.starts_with("pbkdf2") => {
                let digest = Digest::parse(name).ok_or("PBKDF2: use SHA-1, SHA-256 or SHA-512")?;
                let iterations = parameter(cost, "i").unwrap_or(cost);
                // passlib writes '.' for '+'.
                let (salt, hash) = (salt.replace('.', "+"), hash.replace('.', "+"));
                Self::pbkdf2(digest, number(iterations)?, base64(&salt)?, base64(&hash)?)
            }
            // Django: pbkdf2_sha256$1000$salt$hash, whose salt is a text
            [name, iterations, salt, hash] if name.starts_with("pbkdf2_") => {
                let digest = Digest::parse(name).ok_or("PBKDF2: use SHA-1, SHA-256 or SHA-512")?;
                Self::pbkdf2(digest, number(iterations)?, salt.into(), base64(hash)?)
            }
            ["", "scrypt", cost, salt, hash] => {
                Self::scrypt(scrypt_params(cost)?, base64(salt)?, base64(hash)?)
            }
            ["", "firebase-scrypt", cost, salt, hash] => {
                let (params, salt, hash) = (scrypt_params(cost)?, base64(salt)?, base64(hash)?);
                check_lengths(&salt, &hash)?;
                Ok(Self(Scheme::FirebaseScrypt { params: params.check()?, salt, hash }))
            }
            _ => Err("not a hash by bcrypt, Argon2, PBKDF2 or scrypt".into()),
        }
    }

    /// PBKDF2 with HMAC.
    ///
    /// # Errors
    /// [`UnusableHash`] for excessive parameters.
    pub fn pbkdf2(
        digest: Digest,
        iterations: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    ) -> Result<Self, UnusableHash> {
        check_lengths(&salt, &hash)?;
        let blocks = hash.len().div_ceil(digest.length()) as u64;
        if iterations == 0 || u64::from(iterations) * blocks > MAX_PBKDF2_HMACS {
            return Err(UnusableHash(format!(
                "PBKDF2: excessive iterations; at most {MAX_PBKDF2_HMACS} HMACs per hash"
            )));
        }
        Ok(Self(Scheme::Pbkdf2 { digest, iterations, salt, hash }))
    }

    /// Standard scrypt (RFC 7914).
    ///
    /// # Errors
    /// [`UnusableHash`] for excessive parameters.
    pub fn scrypt(
        params: ScryptParams,
        salt: Vec<u8>,
        hash: Vec<u8>,
    ) -> Result<Self, UnusableHash> {
        check_lengths(&salt, &hash)?;
        Ok(Self(Scheme::Scrypt { params: params.check()?, salt, hash }))
    }

    /// The verdict for a password as sent. `None`: OpenSSL failed, which is logged. Not for Argon2.
    pub(super) fn verify(&self, password: &[u8]) -> Option<bool> {
        let matches = |computed: &[u8], stored: &[u8]| bool::from(computed.ct_eq(stored));
        Some(match &self.0 {
            Scheme::Bcrypt { cost, salt, hash } => {
                // C's implementations stop at a NUL, so that no password with one has a hash.
                let has_nul = password.contains(&0);
                let mut key = Zeroizing::new(Vec::with_capacity(BCRYPT_BYTES + 1));
                key.extend(password.iter().take(BCRYPT_BYTES));
                key.push(0);
                key.truncate(BCRYPT_BYTES);
                let computed = Zeroizing::new(bcrypt::bcrypt(*cost, *salt, &key));
                matches(&computed[..hash.len()], hash) && !has_nul
            }
            Scheme::Pbkdf2 { digest, iterations, salt, hash } => {
                let mut computed = Zeroizing::new(vec![0; hash.len()]);
                let (count, digest) = (*iterations as usize, digest.of_openssl());
                let done = pkcs5::pbkdf2_hmac(password, salt, count, digest, &mut computed);
                logged(done)?;
                matches(&computed, hash)
            }
            Scheme::Scrypt { params, salt, hash } => {
                matches(&scrypt(password, *params, salt, hash.len())?, hash)
            }
            Scheme::FirebaseScrypt { params, salt, hash } => {
                let key = scrypt(password, *params, salt, 64)?;
                matches(&key_stream(&key[..32], hash.len())?, hash)
            }
            Scheme::Argon2(_) => false,
        })
    }

    /// The PHC string of an Argon2 hash.
    pub(super) fn argon2(&self) -> Option<&str> {
        match &self.0 {
            Scheme::Argon2(phc) => Some(phc),
            _ => None,
        }
    }
}

impl Display for ImportedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b64 = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        match &self.0 {
            Scheme::Bcrypt { cost, salt, hash } => {
                write!(f, "$2b${cost:02}${}{}", BCRYPT64.encode(salt), BCRYPT64.encode(hash))
            }
            Scheme::Pbkdf2 { digest, iterations, salt, hash } => {
                let (salt, hash) = (b64(salt), b64(hash));
                write!(f, "$pbkdf2-{}$i={iterations}${salt}${hash}", digest.as_str())
            }
            Scheme::Scrypt { params: ScryptParams { log_n, r, p }, salt, hash } => {
                write!(f, "$scrypt$ln={log_n},r={r},p={p}${}${}", b64(salt), b64(hash))
            }
            Scheme::FirebaseScrypt { params: ScryptParams { log_n, r, p }, salt, hash } => {
                write!(f, "$firebase-scrypt$ln={log_n},r={r},p={p}${}${}", b64(salt), b64(hash))
            }
            Scheme::Argon2(phc) => write!(f, "{ARGON2_PREFIX}{phc}"),
        }
    }
}

/// Without the hash.
impl fmt::Debug for ImportedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedHash")
    }
}

/// The parameters of a Firebase project's password hashes (its console, "Password hash
/// parameters").
#[derive(Clone)]
pub struct FirebaseParameters {
    signer_key: Zeroizing<Vec<u8>>,
    salt_separator: Vec<u8>,
    params: ScryptParams,
}

impl FirebaseParameters {
    /// Reads the text that the console shows, `hash_config { algorithm: SCRYPT, base64_signer_key:
    /// …, base64_salt_separator: …, rounds: 8, mem_cost: 14, }`, or the same as JSON.
    ///
    /// # Errors
    /// What is missing or not valid, without its value.
    pub fn parse(text: &str) -> Result<Self, UnusableHash> {
        let fields: Vec<(String, Zeroizing<String>)> = if text.trim_start().starts_with('{') {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)
                .map_err(|_| UnusableHash::from("neither a hash_config text nor a JSON object"))?;
            let text = |value: serde_json::Value| match value {
                serde_json::Value::String(text) => text,
                other => other.to_string(),
            };
            object.into_iter().map(|(key, value)| (key, text(value).into())).collect()
        } else {
            let lines = text.split(['{', '}', ',', '\n']).filter_map(|line| line.split_once(':'));
            lines.map(|(key, value)| (key.trim().into(), value.trim().to_owned().into())).collect()
        };
        let value = |name: &str| {
            let found = fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            found.ok_or_else(|| UnusableHash(format!("`{name}` is missing")))
        };
        if !value("algorithm").is_ok_and(|name| name.eq_ignore_ascii_case("SCRYPT")) {
            return Err("`algorithm` must be SCRYPT".into());
        }
        let bytes = |name: &str| {
            base64(value(name)?).map_err(|_| UnusableHash(format!("`{name}` is not base64")))
        };
        let signer_key = Zeroizing::new(bytes("base64_signer_key")?);
        let salt_separator = bytes("base64_salt_separator")?;
        let number = |name: &str| {
            value(name)?.parse().map_err(|_| UnusableHash(format!("`{name}` is not a number")))
        };
        let params = ScryptParams { log_n: number("mem_cost")?, r: number("rounds")?, p: 1 };
        if !HASH_LENGTHS.contains(&signer_key.len()) {
            return Err("`base64_signer_key` must have 16 to 128 bytes".into());
        }
        Ok(Self { signer_key, salt_separator, params: params.check()? })
    }

    /// A user's hash. Firebase encrypts the signer key by the key stream that the password gives;
    /// the key stream is kept, so that the signer key is needed by the import only.
    ///
    /// # Errors
    /// [`UnusableHash`] where hash and signer key differ in length.
    pub fn hash(&self, salt: &[u8], hash: &[u8]) -> Result<ImportedHash, UnusableHash> {
        if hash.len() != self.signer_key.len() {
            return Err("the hash has another length than the signer key: not made with it".into());
        }
        let salt = [salt, self.salt_separator.as_slice()].concat();
        let stream: Vec<u8> = hash.iter().zip(&*self.signer_key).map(|(a, b)| a ^ b).collect();
        check_lengths(&salt, &stream)?;
        Ok(ImportedHash(Scheme::FirebaseScrypt { params: self.params, salt, hash: stream }))
    }
}

impl fmt::Debug for FirebaseParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirebaseParameters({:?})", self.params)
    }
}

/// Decodes base64 of either alphabet, with or without padding.
///
/// # Errors
/// [`UnusableHash`].
pub fn base64(text: &str) -> Result<Vec<u8>, UnusableHash> {
    let url = text.contains(['-', '_']);
    let decoded = if url { BASE64_URL.decode(text) } else { BASE64.decode(text) };
    decoded.map_err(|_| "salt or hash is not base64".into())
}

fn bcrypt(cost: &str, rest: &str) -> Result<ImportedHash, UnusableHash> {
    let malformed = || UnusableHash::from("bcrypt: malformed hash");
    let cost = Some(cost).filter(|cost| cost.len() == 2).and_then(|cost| cost.parse().ok());
    let cost: u32 = cost.ok_or_else(malformed)?;
    if !BCRYPT_COSTS.contains(&cost) {
        return Err(UnusableHash(format!("bcrypt: excessive or invalid cost {cost}; 4 to 14")));
    }
    if rest.len() != 53 {
        return Err(malformed());
    }
    let (salt, hash) = rest.split_at(22);
    let decode = |text| BCRYPT64.decode(text).map_err(|_| malformed());
    let salt = decode(salt)?.try_into().map_err(|_| malformed())?;
    Ok(ImportedHash(Scheme::Bcrypt { cost, salt, hash: decode(hash)? }))
}

/// The value of `name` in `name=value,…`.
fn parameter<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.split(',').find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
}

fn scrypt_params(list: &str) -> Result<ScryptParams, UnusableHash> {
    let value = |name| number(parameter(list, name).unwrap_or_default());
    Ok(ScryptParams { log_n: value("ln")?, r: value("r")?, p: value("p")? })
}

fn number(text: &str) -> Result<u32, UnusableHash> {
    text.parse().map_err(|_| "a parameter of the hash is not a number in range".into())
}

fn check_lengths(salt: &[u8], hash: &[u8]) -> Result<(), UnusableHash> {
    if salt.len() > MAX_SALT {
        return Err("the salt is too long".into());
    }
    if !HASH_LENGTHS.contains(&hash.len()) {
        return Err("the hash must have 16 to 128 bytes".into());
    }
    Ok(())
}

fn scrypt(
    password: &[u8],
    ScryptParams { log_n, r, p }: ScryptParams,
    salt: &[u8],
    length: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut computed = Zeroizing::new(vec![0; length]);
    // OpenSSL counts more than the 128·N·r bytes of the algorithm.
    let memory = 2 * MAX_SCRYPT_MEMORY;
    let done = pkcs5::scrypt(password, salt, 1 << log_n, r.into(), p.into(), memory, &mut computed);
    logged(done)?;
    Some(computed)
}

fn key_stream(key: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
    let zeros = vec![0; length];
    let stream = symm::encrypt(symm::Cipher::aes_256_ctr(), key, Some(&[0; 16]), &zeros);
    logged(stream).map(Zeroizing::new)
}

fn logged<T>(result: Result<T, openssl::error::ErrorStack>) -> Option<T> {
    result.inspect_err(|error| tracing::error!(%error, "verifying an imported hash failed")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verifies(hash: &str, password: &str) -> bool {
        let parsed = ImportedHash::parse(hash).unwrap();
        let stored = parsed.to_string();
        assert_eq!(ImportedHash::parse(&stored).unwrap().to_string(), stored);
        ImportedHash::parse(&stored).unwrap().verify(password.as_bytes()).unwrap()
    }

    #[test]
    fn known_vectors_verify() {
        for (hash, password) in [
            // Openwall's crypt_blowfish, wrapper.c
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"),
            ("$2y$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", ""),
            // RFC 6070 §2 and its counterpart for SHA-256
            ("$pbkdf2$i=4096$c2FsdA$SwB5AbdlSJq+rUnZJvch0GWkKcE", "password"),
            ("$pbkdf2-sha256$4096$c2FsdA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o", "password"),
            // Django's documentation of the format
            ("pbkdf2_sha256$4096$salt$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o=", "password"),
            // RFC 7914 §12
            (
                "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA",
                "password",
            ),
        ] {
            assert!(verifies(hash, password), "{hash}");
            assert!(!verifies(hash, "wrong"), "{hash}");
        }
    }

    #[test]
    fn firebase_verifies_by_its_published_vector() {
        // github.com/firebase/scrypt, README
        let config = "hash_config {\n  algorithm: SCRYPT,\n  base64_signer_key: jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==,\n  base64_salt_separator: Bw==,\n  rounds: 8,\n  mem_cost: 14,\n}\n";
        let json = r#"{"algorithm":"SCRYPT","base64_signer_key":"jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==","base64_salt_separator":"Bw==","rounds":8,"mem_cost": 14}"#;
        for config in [config, json] {
            let parameters = FirebaseParameters::parse(config).unwrap();
            let hash = base64("lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==").unwrap();
            let stored =
                parameters.hash(&base64("42xEC+ixf3L2lw==").unwrap(), &hash).unwrap().to_string();
            assert!(verifies(&stored, "user1password"));
            assert!(!verifies(&stored, "user2password"));
            assert!(!stored.contains("jxspr8Ki0RYycVU8"), "the signer key is not stored");
        }
        for wrong in ["", "hash_config { algorithm: SCRYPT }", "algorithm: BCRYPT"] {
            FirebaseParameters::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn t157_only_bcrypt_cuts_a_password_at_72_bytes() {
        // Cost 4, salt of zeros; computed with a password of exactly 72 bytes.
        let password = "0123456789abcdef".repeat(5);
        let hash = bcrypt::bcrypt(4, [0; 16], &password.as_bytes()[..72]);
        let stored =
            ImportedHash(Scheme::Bcrypt { cost: 4, salt: [0; 16], hash: hash[..23].to_vec() });
        assert!(stored.verify(&password.as_bytes()[..72]).unwrap());
        assert!(stored.verify(password.as_bytes()).unwrap(), "cut like every implementation");
        assert!(!stored.verify(&password.as_bytes()[..71]).unwrap());
        assert!(!stored.verify(&[&password.as_bytes()[..72], b"\0"].concat()).unwrap());
        let mut long = vec![0; 32];
        pkcs5::pbkdf2_hmac(password.as_bytes(), b"salt", 1, MessageDigest::sha256(), &mut long)
            .unwrap();
        let other = ImportedHash::pbkdf2(Digest::Sha256, 1, b"salt".to_vec(), long).unwrap();
        assert!(other.verify(password.as_bytes()).unwrap());
        assert!(!other.verify(&password.as_bytes()[..72]).unwrap());
    }

    #[test]
    fn t156_excessive_or_unknown_hashes_are_refused() {
        for (hash, reason) in [
            ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "excessive"),
            ("$2b$15$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "excessive"),
            ("$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "faulty"),
            ("$2b$05$short", "malformed"),
            (
                "$pbkdf2-sha256$i=1000000000$c2FsdA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o",
                "excessive",
            ),
            ("$pbkdf2-sha256$i=0$c2FsdA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o", "excessive"),
            ("$pbkdf2-md5$i=1$c2FsdA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o", "SHA-256"),
            ("$pbkdf2-sha256$i=9$c2FsdA$xeR4", "16 to 128"),
            (
                "$scrypt$ln=30,r=8,p=1$TmFDbA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o",
                "excessive",
            ),
            (
                "$scrypt$ln=17,r=8,p=99$TmFDbA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o",
                "excessive",
            ),
            (
                "$scrypt$ln=99,r=8,p=1$TmFDbA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o",
                "not valid",
            ),
            (
                "$argon2id$v=19$m=67108864,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
                "excessive",
            ),
            (
                "$argon2id$v=19$m=262144,t=4000000000,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
                "excessive",
            ),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "not a hash by"),
            ("", "not a hash by"),
            ("correct horse", "not a hash by"),
        ] {
            let error = ImportedHash::parse(hash).unwrap_err().to_string();
            assert!(error.contains(reason), "{hash}: {error}");
        }
    }
}
