//! The master key, which never leaves the machine it lies on.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use josekit::jwe::{self, JweHeader};
use zeroize::Zeroizing;

use super::Error;
use crate::{clock::Rng, model::key::KeyRecord};

/// The key that all other keys are encrypted under: 32 random bytes in a file of its own.
pub(super) struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Reads the file; where there is none and nothing has been encrypted yet, it is made for the owner alone.
    pub(super) fn load(path: &Path, may_make: bool, rng: &Rng) -> Result<Self, Error> {
        let shown = path.display();
        match fs::read(path).map(Zeroizing::new) {
            Ok(bytes) => {
                let key: [u8; 32] = bytes[..].try_into().map_err(|_| {
                    Error::MasterKey(format!(
                        "the master key {shown} has {} bytes, not 32: make one with `head -c 32 /dev/urandom > FILE` \
                         (an existing installation needs its own one back)",
                        bytes.len()
                    ))
                })?;
                if fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0) {
                    tracing::warn!(file = %shown, "the master key can be read by every user of this machine: chmod 600 it");
                }
                Ok(Self(Zeroizing::new(key)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {
                let key = Zeroizing::new(rng.bytes::<32>());
                let written = write_once(path, &key, rng);
                match written {
                    Ok(()) => Ok(Self(key)),
                    // Another process that starts at this moment made it first.
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
                 put it back, or set secrets.master_key_file"
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

    pub(super) fn open(&self, record: &KeyRecord) -> Result<Zeroizing<Vec<u8>>, Error> {
        let wrong = |_| {
            Error::MasterKey(format!(
                "the key {} in the database was encrypted under another master key: \
                 point secrets.master_key_file at the one this installation was made with",
                record.id
            ))
        };
        let decrypter = jwe::Dir.decrypter_from_bytes(*self.0)?;
        let (secret, header) =
            jwe::deserialize_compact(&record.private_jwe, &decrypter).map_err(wrong)?;
        if header.key_id() != Some(&record.id) {
            return Err(Error::MasterKey(format!(
                "the key {} in the database is not the one it claims to be",
                record.id
            )));
        }
        Ok(Zeroizing::new(secret))
    }
}

/// Writes the file whole or not at all, and only where there is none: it is linked to its name once its bytes
/// are on the disk, so that no process that starts at the same moment reads half a key.
fn write_once(path: &Path, key: &[u8; 32], rng: &Rng) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let unfinished = path.with_extension(format!("{:08x}.tmp", u32::from_ne_bytes(rng.bytes())));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let written = file.write_all(key).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    linked
}
