//! Group commit for revocations. Numbers are given in the order of commits, so commits of
//! revocations follow one another; requests that wait for one commit share the next.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::model::actor::RequestContext;

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
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    done: oneshot::Sender<Result<(), String>>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { waiting: Mutex::new(vec![]), turn: tokio::sync::Mutex::default() }
    }
}

impl<T> Batch<T> {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits an item together with whatever else waits; returns after the commit.
    ///
    /// # Errors
    /// Where the commit failed.
    pub async fn submit<F>(
        &self,
        item: T,
        commit: impl FnOnce(Vec<T>) -> F,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (done, outcome) = oneshot::channel();
        self.waiting().push(Waiting { item, done });
        {
            let _turn = self.turn.lock().await;
            // Empty where an earlier commit has included this item.
            let group = std::mem::take(&mut *self.waiting());
            if !group.is_empty() {
                let (items, waiters): (Vec<_>, Vec<_>) =
                    group.into_iter().map(|one| (one.item, one.done)).unzip();
                let commit = commit(items);
                // Finished even if this caller is cancelled: others' items are in it.
                let committed = tokio::spawn(async move {
                    let outcome = commit.await;
                    for done in waiters {
                        let _ = done.send(outcome.clone());
                    }
                });
                committed.await?;
            }
        }
        Ok(outcome.await??)
    }
}
