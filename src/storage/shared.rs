//! Calls that share a statement. Those that arrive while others run gather, and one statement that
//! begins after they have arrived answers all of them: a thousand calls cost a handful of
//! statements, and each sees everything that was committed before it. A call on its own is served
//! at once.

use std::sync::Arc;

use tokio::sync::{Mutex, mpsc, oneshot};

/// Calls that may be queued; further callers wait for room in the queue.
const QUEUE: usize = 4096;

/// Initial capacity for the calls of one group.
const GROUP_CAPACITY: usize = 64;

/// Upper bound of yields before a group is served; it is served once two yields add no call.
const MAX_YIELDS: usize = 12;

/// Where calls are served in groups. The tasks that do so end with it.
#[derive(Debug)]
pub struct Shared<T, R> {
    calls: mpsc::Sender<Call<T, R>>,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call<T, R> {
    pub item: T,
    answer: oneshot::Sender<R>,
}

impl<T: Send + 'static, R: Send + 'static> Call<T, R> {
    pub fn answer(self, answer: R) {
        // Its caller may have stopped waiting.
        let _ = self.answer.send(answer);
    }

    /// Answers it by itself, while its server goes on: it may have to wait.
    pub fn answer_alone<F>(self, run: impl FnOnce(T) -> F)
    where
        F: Future<Output = R> + Send + 'static,
    {
        let Self { item, answer } = self;
        let running = run(item);
        tokio::spawn(async move {
            let _ = answer.send(running.await);
        });
    }
}

/// Serves a group of calls.
pub trait Serve<T, R>: Send + 'static {
    /// The most calls of a group.
    const MOST: usize;

    /// Answers all of them. Of one server, groups follow one another.
    fn serve(&mut self, calls: Vec<Call<T, R>>) -> impl Future<Output = ()> + Send;
}

impl<T: Send + 'static, R: Send + 'static> Shared<T, R> {
    /// Starts as many tasks as there are servers. With one, every call would wait for the same
    /// answer.
    pub fn start<S: Serve<T, R>>(servers: impl IntoIterator<Item = S>) -> Self {
        let (calls, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for server in servers {
            tokio::spawn(run(server, Arc::clone(&waiting)));
        }
        Self { calls }
    }

    /// The answer of a group that began after this call; `None` while the process ends.
    pub async fn call(&self, item: T) -> Option<R> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(Call { item, answer }).await.ok()?;
        answered.await.ok()
    }
}

async fn run<T, R, S: Serve<T, R>>(mut server: S, waiting: Arc<Mutex<mpsc::Receiver<Call<T, R>>>>) {
    loop {
        let mut group = gather(&waiting, S::MOST).await;
        if group.is_empty() {
            return;
        }
        // Callers that stopped waiting before they were served.
        group.retain(|call| !call.answer.is_closed());
        if !group.is_empty() {
            server.serve(group).await;
        }
    }
}

/// The calls of the next group; empty once every sender is gone.
async fn gather<C>(waiting: &Mutex<mpsc::Receiver<C>>, most: usize) -> Vec<C> {
    let mut group = Vec::with_capacity(GROUP_CAPACITY.min(most));
    let mut waiting = waiting.lock().await;
    waiting.recv_many(&mut group, most).await;
    // Callers that are about to arrive join the group: one statement for all is cheaper.
    let mut idle_yields = 0;
    for _ in 0..MAX_YIELDS {
        let before = group.len();
        tokio::task::yield_now().await;
        while group.len() < most
            && let Ok(call) = waiting.try_recv()
        {
            group.push(call);
        }
        idle_yields = if group.len() == before { idle_yields + 1 } else { 0 };
        if idle_yields == 2 {
            break;
        }
    }
    group
}
