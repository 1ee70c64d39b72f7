//! The master key, which is stored in a file and never leaves the machine.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use josekit::jwe::{self, JweHeader};
use zeroize::Zeroizing;

use super::Error;
use crate::{clock::Rng, storage::files};

/// Of an authentication tag of 16 bytes, in base64url.
const TAG_LENGTH: usize = 22;

/// The key that encrypts all other keys: 32 random bytes.
pub(super) struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Reads the file. With `may_create`, a missing file is created with mode 0600.
    pub(super) fn load(path: &Path, may_create: bool, rng: &Rng) -> Result<Self, Error> {
        let shown = path.display();
        match fs::read(path).map(Zeroizing::new) {
            Ok(bytes) => {
                let key: [u8; 32] = bytes[..].try_into().map_err(|_| {
                    Error::MasterKey(format!(
                        "the master key {shown} has {} bytes, not 32: create one with `head -c 32 /dev/urandom > FILE` \
                         (an existing deployment needs its original key)",
                        bytes.len()
                    ))
                })?;
                Ok(Self(Zeroizing::new(key)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => {
                let key = Zeroizing::new(rng.bytes::<32>());
                let written = write_once(path, &key, rng);
                match written {
                    Ok(()) => Ok(Self(key)),
                    // Another process that starts at the same time created it first.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Self::load(path, false, rng)
                    }
                    Err(error) => Err(Error::MasterKey(format!(
                        "the master key {shown} cannot be written ({error}): make its folder writable for this user, \
                         or set secrets.master_key_file"
                    ))),
                }
            }
            Err(error) => Err(Error::MasterKey(format!(
                "the master key {shown} cannot be read ({error}): the keys in the database are encrypted under it; \
                 restore it, or set secrets.master_key_file"
            ))),
        }
    }

    pub(super) fn seal(&self, id: &str, secret: &[u8]) -> Result<String, Error> {
        let mut header = JweHeader::new();
        header.set_content_encryption("A256GCM");
        header.set_key_id(id); // authenticated: a row's ciphertext cannot be moved to another row
        let encrypter = jwe::Dir.encrypter_from_bytes(*self.0)?;
        Ok(jwe::serialize_compact(secret, &header, &encrypter)?)
    }

    pub(super) fn open(&self, id: &str, jwe: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = |_| {
            Error::MasterKey(format!(
                "the key {id} in the database was encrypted under another master key: \
                 set secrets.master_key_file to the key that this deployment was created with"
            ))
        };
        // RFC 7518 §5.3: 128 bits. OpenSSL would compare as many as there are.
        if jwe.rsplit('.').next().is_none_or(|tag| tag.len() != TAG_LENGTH) {
            return Err(Error::MasterKey("the authentication tag has another length".to_owned()));
        }
        let decrypter = jwe::Dir.decrypter_from_bytes(*self.0)?;
        let (secret, header) = jwe::deserialize_compact(jwe, &decrypter).map_err(wrong)?;
        if header.key_id() != Some(id) {
            return Err(Error::MasterKey(format!(
                "the key {id} in the database has the ciphertext of another key"
            )));
        }
        Ok(Zeroizing::new(secret))
    }
}

/// Creates the file atomically, and only if it does not exist: it is linked to its name after its
/// bytes are synced to disk, so that a process that starts at the same time never reads a partial
/// key.
fn write_once(path: &Path, key: &[u8; 32], rng: &Rng) -> io::Result<()> {
    files::create_folder(path.parent().unwrap_or(Path::new(".")))?;
    let temporary = path.with_extension(format!("{:08x}.tmp", u32::from_ne_bytes(rng.bytes())));
    let mut file = files::create(&temporary)?;
    let written = file.write_all(key).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    fs::remove_file(&temporary)?;
    linked
}
