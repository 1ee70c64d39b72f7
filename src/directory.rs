//! A cache of clients and the catalogue, valid for the last observed version of the clients
//! ([`crate::revocation::RevocationList::sync`] updates it).

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicI64, Ordering},
};

use quick_cache::sync::Cache;

use crate::{
    ids::ClientId,
    model::{
        catalogue::Catalogue,
        client::{Client, DOCS},
    },
    oauth::redirect_uri,
    storage::{self, Db, catalogue, clients},
};

/// Capacity for clients. Unknown ids are not cached, so that untrusted clients cannot fill it.
const CLIENT_CAPACITY: usize = 10_000;

/// The client cache of a process.
#[derive(Debug)]
pub struct Directory {
    issuer: String,
    version: AtomicI64,
    clients: Cache<ClientId, CachedClient>,
    catalogue: RwLock<(i64, Arc<Catalogue>)>,
    /// By origin: the version, and whether a client had registered it.
    origins: Cache<String, (i64, bool)>,
    /// By certificate thumbprint: the version, and the id of its client.
    certificates: Cache<String, (i64, Option<ClientId>)>,
}

/// A client at a version.
#[derive(Clone, Debug)]
pub struct CachedClient {
    pub client: Arc<Client>,
    /// The version of the clients at which it was read.
    pub version: i64,
}

impl Directory {
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            version: AtomicI64::new(-1),
            clients: Cache::new(CLIENT_CAPACITY),
            catalogue: RwLock::new((-2, Arc::default())),
            origins: Cache::new(1_000),
            certificates: Cache::new(1_000),
        }
    }

    /// Records the version of the clients; entries of older versions are not used any more.
    pub fn observe(&self, version: i64) {
        self.version.fetch_max(version, Ordering::AcqRel);
    }

    /// The last observed version of the clients.
    pub fn version(&self) -> i64 {
        self.version.load(Ordering::Acquire)
    }

    /// The client from the cache, valid for the last observed version.
    pub fn cached(&self, id: &ClientId) -> Option<CachedClient> {
        let cached = self.clients.get(id)?;
        (cached.version == self.version.load(Ordering::Acquire)).then_some(cached)
    }

    /// The client at the last observed version.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn client(&self, db: &Db, id: &ClientId) -> storage::Result<Option<CachedClient>> {
        if let Some(cached) = self.cached(id) {
            return Ok(Some(cached));
        }
        // The version is read first: a change in between makes the entry outdated, never too new.
        let version = self.version.load(Ordering::Acquire);
        let Some(mut client) = clients::by_id(db, id).await? else {
            return Ok(None);
        };
        if client.id == DOCS {
            client.metadata.redirect_uris = vec![format!("{}/docs/oauth2-redirect", self.issuer)];
        }
        let cached = CachedClient { client: Arc::new(client), version };
        self.clients.insert(id.to_owned(), cached.clone());
        Ok(Some(cached))
    }

    /// Whether an enabled client has registered this origin, at the last observed version.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn has_origin(&self, db: &Db, origin: &str) -> storage::Result<bool> {
        let version = self.version.load(Ordering::Acquire);
        if let Some((cached, has)) = self.origins.get(origin)
            && cached == version
        {
            return Ok(has);
        }
        let any_port = redirect_uri::any_port(origin);
        let mut has = clients::has_origin(db, origin).await?;
        if let (false, Some(any_port)) = (has, any_port) {
            has = clients::has_origin(db, &any_port).await?;
        }
        self.origins.insert(origin.to_owned(), (version, has));
        Ok(has)
    }

    /// The enabled client that has registered a certificate with this thumbprint (`x5t#S256`), at
    /// the last observed version. `None` if there is none or more than one.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn by_certificate(
        &self,
        db: &Db,
        thumbprint: &str,
    ) -> storage::Result<Option<CachedClient>> {
        let version = self.version.load(Ordering::Acquire);
        let cached = self.certificates.get(thumbprint);
        let id = match cached.filter(|(at, _)| *at == version) {
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
        let cached = self.client(db, &id).await?;
        Ok(cached.filter(|cached| {
            cached.client.disabled_at.is_none() && cached.client.has_certificate(thumbprint)
        }))
    }

    /// The catalogue at the last observed version.
    ///
    /// # Errors
    /// [`storage::Error`].
    pub async fn catalogue(&self, db: &Db) -> storage::Result<Arc<Catalogue>> {
        let version = self.version.load(Ordering::Acquire);
        {
            let cached = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
            if cached.0 == version {
                return Ok(Arc::clone(&cached.1));
            }
        }
        let read = Arc::new(catalogue::all(db).await?);
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) =
            (version, Arc::clone(&read));
        Ok(read)
    }
}
