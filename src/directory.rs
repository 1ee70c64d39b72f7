//! What this process remembers of clients and the catalogue: as fresh as the clients' head number it has heard last
//! ([`crate::revocation::RevocationList::sync`] asks for it).

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, Ordering},
};

use quick_cache::sync::Cache;

use crate::{
    model::{
        catalogue::Catalogue,
        client::{Client, DOCS},
    },
    storage::{self, Db, catalogue, clients},
};

/// Clients that are remembered. Unknown ids are not, so that a stranger cannot fill it.
const REMEMBERED: usize = 10_000;

/// See the module's text.
#[derive(Debug)]
pub struct Directory {
    issuer: String,
    version: AtomicI64,
    clients: Cache<String, CachedClient>,
    catalogue: RwLock<(i64, Arc<Catalogue>)>,
    /// Whether an origin is some client's, and at which version that was so.
    origins: Cache<String, (i64, bool)>,
    /// The client of a certificate, by thumbprint, and at which version that was so.
    certificates: Cache<String, (i64, Option<String>)>,
}

/// A client as it was at a version of the directory.
#[derive(Clone, Debug)]
pub struct CachedClient {
    pub client: Arc<Client>,
    /// The clients' head number it was read at.
    pub version: i64,
}

impl Directory {
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            version: AtomicI64::new(-1),
            clients: Cache::new(REMEMBERED),
            catalogue: RwLock::new((-2, Arc::default())),
            origins: Cache::new(1_000),
            certificates: Cache::new(1_000),
        }
    }

    /// The clients' head number is this: what was read at an older one counts no more.
    pub fn observe(&self, version: i64) {
        self.version.fetch_max(version, Ordering::AcqRel);
    }

    /// The clients' head number heard last.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Acquire)
    }

    /// The client as this process knows it, if it does; it may have changed since.
    pub fn cached(&self, id: &str) -> Option<CachedClient> {
        let known = self.clients.get(id)?;
        (known.version == self.version.load(Ordering::Acquire)).then_some(known)
    }

    /// The client as of the last head number heard.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn client(&self, db: &Db, id: &str) -> storage::Result<Option<CachedClient>> {
        if let Some(known) = self.cached(id) {
            return Ok(Some(known));
        }
        // The number first: a change between the two makes what is read count as old, never as new.
        let version = self.version.load(Ordering::Acquire);
        let Some(mut client) = clients::by_id(db, id).await? else {
            return Ok(None);
        };
        if client.id == DOCS {
            client.metadata.redirect_uris = vec![format!("{}/docs/oauth2-redirect", self.issuer)];
        }
        let known = CachedClient { client: Arc::new(client), version };
        self.clients.insert(id.to_owned(), known.clone());
        Ok(Some(known))
    }

    /// Whether an enabled client has registered this origin, as of the last head number heard.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn has_origin(&self, db: &Db, origin: &str) -> storage::Result<bool> {
        let version = self.version.load(Ordering::Acquire);
        if let Some((known, has)) = self.origins.get(origin)
            && known == version
        {
            return Ok(has);
        }
        let candidates = clients::with_origin(db, origin).await?;
        let has = candidates.iter().any(|client| client.has_origin(origin));
        self.origins.insert(origin.to_owned(), (version, has));
        Ok(has)
    }

    /// The enabled client that has registered a certificate with this thumbprint (`x5t#S256`), as of the last head number
    /// heard. `None` where there is none, or several have.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn by_certificate(
        &self,
        db: &Db,
        thumbprint: &str,
    ) -> storage::Result<Option<CachedClient>> {
        let version = self.version.load(Ordering::Acquire);
        let remembered = self.certificates.get(thumbprint);
        let id = match remembered.filter(|(known, _)| *known == version) {
            Some((_, id)) => id,
            None => {
                let mut owners = clients::with_certificate(db, thumbprint).await?;
                owners.retain(|client| client.has_certificate(thumbprint));
                let owner = owners.pop().filter(|_| owners.is_empty());
                let id = owner.map(|client| client.id);
                self.certificates.insert(thumbprint.to_owned(), (version, id.clone()));
                id
            }
        };
        let Some(id) = id else { return Ok(None) };
        let known = self.client(db, &id).await?;
        Ok(known.filter(|known| {
            known.client.disabled_at.is_none() && known.client.has_certificate(thumbprint)
        }))
    }

    /// The catalogue as of the last head number heard.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn catalogue(&self, db: &Db) -> storage::Result<Arc<Catalogue>> {
        let version = self.version.load(Ordering::Acquire);
        {
            let known = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
            if known.0 == version {
                return Ok(Arc::clone(&known.1));
            }
        }
        let read = Arc::new(catalogue::all(db).await?);
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) =
            (version, Arc::clone(&read));
        Ok(read)
    }
}
