//! The threads that hash passwords.
//!
//! On Linux they take every CPU core that is idle and none that is needed: one thread per core with
//! the scheduling policy `SCHED_IDLE`, which every other thread preempts at once (a high nice value
//! would not do: since Linux 6.6 a thread keeps its core for its whole slice, some milliseconds).
//! While all cores are busy, these threads make no progress. So there is one more, in reserve, of
//! normal priority: it hashes until the others make progress again.
//!
//! Where priorities do not help, the default is fewer threads, of normal priority: one per core
//! less one, which is left to other requests. That is so on other systems, where Linux refuses, and
//! under a CPU quota of a container, which every thread consumes whatever its priority.

use std::{
    collections::VecDeque,
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use argon2::Block;

/// How long memory is kept for the next hash.
const KEEP_MEMORY: Duration = Duration::from_secs(60);

/// Gets memory that is kept for the next job.
pub(super) type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// What the operating system offers.
#[derive(Clone, Copy, Debug)]
struct System {
    cores: usize,
    /// Whether a CPU quota allows less than the cores that are there.
    has_quota: bool,
    /// Whether threads of low priority leave the cores to others.
    has_priorities: bool,
}

/// How many threads there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Of `SCHED_IDLE`, with one more in reserve.
    idle: usize,
    /// Of normal priority, where there are none of the others.
    normal: usize,
}

impl Plan {
    /// For this number of permits; 0 asks for what suits the system best.
    pub(super) fn new(permits: usize) -> Self {
        let refused = match thread::Builder::new().spawn(yield_to_others) {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))).err(),
            Err(error) => Some(error),
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let has_quota = allowed_cores(&status).is_some_and(|allowed| allowed > cores);
        let system = System { cores, has_quota, has_priorities: refused.is_none() };
        let plan = Self::on(system, permits);
        let threads = plan.permits();
        if let Some(error) = refused {
            tracing::warn!(
                %error, threads,
                "threads that hash passwords have normal priority and compete with other requests"
            );
        } else if has_quota && permits == 0 {
            tracing::info!(threads, "a CPU quota limits the threads that hash passwords");
        }
        plan
    }

    fn on(system: System, permits: usize) -> Self {
        let System { cores, has_quota, has_priorities } = system;
        match permits {
            0 if has_priorities && !has_quota => Self { idle: cores, normal: 0 },
            0 => Self { idle: 0, normal: cores.saturating_sub(1).max(1) },
            // It must make progress on a busy machine, too.
            1 => Self { idle: 0, normal: 1 },
            _ if has_priorities => Self { idle: permits - 1, normal: 0 },
            _ => Self { idle: 0, normal: permits },
        }
    }

    /// The largest number of jobs that run at a time.
    pub(super) fn permits(self) -> usize {
        if self.idle > 0 { self.idle + 1 } else { self.normal }
    }
}

/// Gives the calling thread a priority below that of every normal one, for good.
#[cfg(target_os = "linux")]
fn yield_to_others() -> io::Result<()> {
    use thread_priority::{
        NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    let policy = ThreadSchedulePolicy::Normal(Idle);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
        .map_err(io::Error::other)
}

#[cfg(not(target_os = "linux"))]
fn yield_to_others() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The number of cores that this process may use, without regard to quotas: by
/// `/proc/self/status`, which has a mask in groups of 32 bits.
fn allowed_cores(status: &str) -> Option<usize> {
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let groups = mask.trim().split(',').map(|group| u32::from_str_radix(group, 16));
    groups.map(|group| Some(group.ok()?.count_ones() as usize)).sum()
}

/// The threads; they end once this is dropped.
pub(super) struct Workers(Arc<Queue>);

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Signalled for each job, to those who run it.
    job: Condvar,
    /// Signalled for each job, to the reserve.
    watch: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// How many jobs the threads of low priority have begun.
    begun: u64,
    /// Memory for the next jobs, the most recently used last.
    spare: Vec<(Instant, Vec<Block>)>,
    is_closed: bool,
}

impl Workers {
    /// Starts the threads. `reserve_after` is how long a job may wait until the reserve assumes that
    /// the other threads get no core.
    ///
    /// # Errors
    /// Where the operating system starts no thread.
    pub(super) fn start(
        plan: Plan,
        reserve_after: impl Fn() -> Duration + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::<Queue>::default();
        // Those that have been started end if one cannot be.
        let workers = Self(Arc::clone(&queue));
        for number in 0..plan.idle.max(plan.normal) {
            let (queue, is_idle) = (Arc::clone(&queue), plan.idle > 0);
            spawn(format!("argon2-{number}"), move || {
                if is_idle && let Err(error) = yield_to_others() {
                    tracing::warn!(%error, "a thread that hashes passwords has normal priority");
                }
                queue.work();
            })?;
        }
        if plan.idle > 0 {
            spawn("argon2-reserve".to_owned(), move || queue.assist(reserve_after))?;
        }
        Ok(workers)
    }

    /// Adds a job. At most [`Plan::permits`] should be under way.
    pub(super) fn push(&self, job: Job) {
        self.0.lock().jobs.push_back(job);
        self.0.job.notify_one();
        self.0.watch.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.job.notify_all();
        self.0.watch.notify_all();
    }
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(work).map(drop)
}

#[allow(clippy::disallowed_methods)] // measures a duration
fn now() -> Instant {
    Instant::now()
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs one at a time until the queue is closed.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.begun += 1;
                state = self.run(state, job);
            } else if state.is_closed {
                return;
            } else {
                state = self.wait(state);
            }
        }
    }

    /// Waits for a signal. Memory that is not used meanwhile is released.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.spare.is_empty() {
            return self.job.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let waited = self.job.wait_timeout(state, KEEP_MEMORY);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let now = now();
        let is_recent = |used: &Instant| now.duration_since(*used) < KEEP_MEMORY;
        let spare = mem::take(&mut state.spare);
        let (kept, unused): (Vec<_>, Vec<_>) =
            spare.into_iter().partition(|(used, _)| is_recent(used));
        state.spare = kept;
        if unused.is_empty() {
            return state;
        }
        // Not while others wait for the lock: this thread may have to wait for a core.
        drop(state);
        drop(unused);
        self.lock()
    }

    fn run<'a>(&'a self, mut state: MutexGuard<'a, State>, job: Job) -> MutexGuard<'a, State> {
        let mut memory = state.spare.pop().map(|(_, memory)| memory).unwrap_or_default();
        drop(state);
        // The panic hook has reported it; the job has dropped what its caller waits for.
        if catch_unwind(AssertUnwindSafe(|| job(&mut memory))).is_err() {
            memory = Vec::new();
        }
        let mut state = self.lock();
        if !memory.is_empty() {
            state.spare.push((now(), mem::take(&mut memory)));
        }
        state
    }

    /// Runs jobs while the other threads begin none, until the queue is closed.
    fn assist(&self, reserve_after: impl Fn() -> Duration) {
        let mut state = self.lock();
        while !state.is_closed {
            if state.jobs.is_empty() {
                state = self.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let begun = state.begun;
            drop(state);
            thread::sleep(reserve_after());
            state = self.lock();
            while state.begun == begun
                && let Some(job) = state.jobs.pop_front()
            {
                state = self.run(state, job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SYSTEM: System = System { cores: 4, has_quota: false, has_priorities: true };
    const WITHIN: Duration = Duration::from_secs(30);

    fn workers(idle: usize, normal: usize) -> Workers {
        Workers::start(Plan { idle, normal }, || Duration::from_millis(20)).unwrap()
    }

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn all_cores_are_used_where_priorities_protect_other_requests() {
        let plan = |system, permits| {
            let plan = Plan::on(system, permits);
            (plan.idle, plan.normal, plan.permits())
        };
        assert_eq!(plan(SYSTEM, 0), (4, 0, 5));
        assert_eq!(plan(System { cores: 1, ..SYSTEM }, 0), (1, 0, 2));
        assert_eq!(plan(SYSTEM, 1), (0, 1, 1));
        assert_eq!(plan(SYSTEM, 3), (2, 0, 3));
        let refused = System { has_priorities: false, ..SYSTEM };
        assert_eq!(plan(refused, 0), (0, 3, 3));
        assert_eq!(plan(System { cores: 1, ..refused }, 0), (0, 1, 1));
        assert_eq!(plan(refused, 6), (0, 6, 6));
        assert_eq!(plan(System { has_quota: true, ..SYSTEM }, 0), (0, 3, 3));
        assert_eq!(plan(System { has_quota: true, ..SYSTEM }, 3), (2, 0, 3));
    }

    #[test]
    fn the_mask_of_allowed_cores_is_counted() {
        let status = |mask| format!("Name:\tx\nCpus_allowed:\t{mask}\nCpus_allowed_list:\t0-1\n");
        assert_eq!(allowed_cores(&status("3")), Some(2));
        assert_eq!(allowed_cores(&status("ffffffff,ffffffff,0000000f")), Some(68));
        assert_eq!(allowed_cores(&status("")), None);
        assert_eq!(allowed_cores("Name:\tx\n"), None);
    }

    #[test]
    fn the_reserve_runs_what_stalled_threads_do_not_begin() {
        let workers = workers(1, 0);
        let (begun, has_begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let started = begun.clone();
        workers.push(Box::new(move |_| {
            let _ = started.send(name());
            let _ = released.recv();
        }));
        assert_eq!(has_begun.recv_timeout(WITHIN).unwrap(), "argon2-0");
        for _ in 0..2 {
            let begun = begun.clone();
            workers.push(Box::new(move |_| drop(begun.send(name()))));
            assert_eq!(has_begun.recv_timeout(WITHIN).unwrap(), "argon2-reserve");
        }
        drop(release);
    }

    #[test]
    fn threads_end_with_their_owner_and_memory_is_shared() {
        let workers = workers(0, 1);
        let (ended, has_ended) = mpsc::channel();
        workers.push(Box::new(|memory| memory.push(Block::default())));
        workers.push(Box::new(|_| panic!("on purpose")));
        workers.push(Box::new(|memory| memory.push(Block::default())));
        let kept = ended.clone();
        workers.push(Box::new(move |memory| {
            let _ = kept.send(memory.len());
        }));
        assert_eq!(has_ended.recv_timeout(WITHIN), Ok(1), "a panic costs its own memory only");
        let queue = Arc::downgrade(&workers.0);
        drop((workers, ended));
        while queue.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_of_low_priority_have_the_idle_policy() {
        // proc_pid_stat(5): field 41 is the policy; 5 is SCHED_IDLE. The second begins with ')'.
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let fields = stat.rsplit(") ").next().unwrap();
            fields.split(' ').nth(41 - 3).unwrap().to_owned()
        };
        let workers = workers(1, 0);
        let (ended, has_ended) = mpsc::channel();
        workers.push(Box::new(move |_| drop(ended.send((name(), policy())))));
        let expected = ("argon2-0".to_owned(), "5".to_owned());
        assert_eq!(has_ended.recv_timeout(WITHIN), Ok(expected));
    }
}
