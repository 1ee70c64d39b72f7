//! Group commit for revocations. Numbers are given in the order of commits, so commits of
//! revocations follow one another; requests that wait for one commit share the next. While a commit
//! is published to the other processes, the next one may run.

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::{model::actor::RequestContext, storage::Committed};

/// A token to be revoked.
#[derive(Debug)]
pub struct TokenRevocation {
    pub jti: String,
    pub subject: String,
    pub context: RequestContext,
}

/// Items that wait to be committed.
#[derive(Debug)]
pub struct Batch<T> {
    waiting: Mutex<Vec<Waiting<T>>>,
    /// Held by the one that commits.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    done: oneshot::Sender<Result<(), String>>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(vec![]), turn: Arc::default() }
    }
}

impl<T> Batch<T> {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits an item together with whatever else waits; returns once the commit is published.
    ///
    /// # Errors
    /// Where the commit failed.
    pub async fn submit<F>(
        &self,
        item: T,
        commit: impl FnOnce(Vec<T>) -> F,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        F: Future<Output = Result<Committed, String>> + Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        self.waiting().push(Waiting { item, done });
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Empty where an earlier commit has included this item.
        let group = std::mem::take(&mut *self.waiting());
        if group.is_empty() {
            drop(turn);
        } else {
            let (items, waiters): (Vec<_>, Vec<_>) =
                group.into_iter().map(|one| (one.item, one.done)).unzip();
            let commit = commit(items);
            // Finished even if this caller is cancelled: others' items are in it.
            tokio::spawn(async move {
                let committed = commit.await;
                drop(turn);
                let outcome = match committed {
                    Ok(committed) => {
                        committed.publish().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                };
                for done in waiters {
                    let _ = done.send(outcome.clone());
                }
            });
        }
        Ok(outcome.await??)
    }
}
