//! Secrets that are stored beside what they belong to, encrypted under a derived key. That one
//! derives from a key in the database which the master key encrypts: a copy of the database alone
//! decrypts nothing.

use josekit::jwe::{self, JweHeader};
use zeroize::Zeroizing;

use super::{Error, Keys};

impl Keys {
    /// Encrypts for a purpose. `id` names the row, so that its ciphertext is of no use in another.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn seal(&self, purpose: &str, id: &str, secret: &[u8]) -> Result<String, Error> {
        let key = Zeroizing::new(self.derive(purpose)?);
        let mut header = JweHeader::new();
        header.set_content_encryption("A256GCM");
        header.set_key_id(id); // authenticated
        let encrypter = jwe::Dir.encrypter_from_bytes(&key[..])?;
        Ok(jwe::serialize_compact(secret, &header, &encrypter)?)
    }

    /// Decrypts what [`Keys::seal`] has encrypted for the same purpose and row.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Jose`] where it was not.
    pub fn open_sealed(
        &self,
        purpose: &str,
        id: &str,
        sealed: &str,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let key = Zeroizing::new(self.derive(purpose)?);
        let decrypter = jwe::Dir.decrypter_from_bytes(&key[..])?;
        let (secret, header) = jwe::deserialize_compact(sealed, &decrypter)?;
        let secret = Zeroizing::new(secret);
        if header.key_id() != Some(id) {
            return Err(Error::Refused("the ciphertext is of another row".to_owned()));
        }
        Ok(secret)
    }
}
