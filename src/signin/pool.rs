//! Where passwords are hashed: a few threads of their own behind a short queue.
//!
//! Hashing is slow on purpose, so it may take neither the runtime's threads nor, while anything else wants
//! to run, the processor. The queue bounds both the memory and the wait: what does not fit is refused
//! before any work is done (A89).

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tokio::sync::oneshot;

use crate::factor::password::{PasswordHash, PasswordProof, Scratch};
use crate::secret::Secret;

type Job = Box<dyn FnOnce(&mut Scratch) + Send>;

/// How much may be hashed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many threads hash; `None` is as many as the process may use processors.
    pub threads: Option<NonZeroUsize>,
    /// How many passwords may wait for one of them.
    pub queue: NonZeroUsize,
}

impl Default for Settings {
    /// A thread for each processor, and 32 passwords waiting.
    fn default() -> Settings {
        Settings { threads: None, queue: NonZeroUsize::MIN.saturating_add(31) }
    }
}

/// Why a password was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChecked {
    /// The queue is full.
    Busy,
    /// The check itself broke down.
    Failed,
}

/// The hashing threads. They end when the pool is dropped.
#[derive(Debug)]
pub struct HashingPool {
    queue: SyncSender<Job>,
    checks: Arc<AtomicU64>,
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// A thread can't be started.
    pub fn start(settings: Settings) -> std::io::Result<HashingPool> {
        let threads = settings.threads.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let (queue, jobs) = sync_channel::<Job>(settings.queue.get());
        let jobs = Arc::new(Mutex::new(jobs));
        let warned = Arc::new(AtomicBool::new(false));
        for n in 0..threads.get() {
            let (jobs, warned) = (Arc::clone(&jobs), Arc::clone(&warned));
            std::thread::Builder::new().name(format!("hash-{n}")).spawn(move || {
                stand_back(&warned);
                work(&jobs);
            })?;
        }
        tracing::info!(threads, queue = settings.queue, "hashing threads started");
        Ok(HashingPool { queue, checks: Arc::new(AtomicU64::new(0)) })
    }

    /// Checks `password` against `digest` on one of the threads.
    ///
    /// If the caller goes away while the password is waiting, it is not checked at all.
    ///
    /// # Errors
    ///
    /// [`NotChecked`]: the queue is full, or the check broke down.
    pub async fn verify(
        &self,
        digest: PasswordHash,
        password: Secret<String>,
    ) -> Result<Option<PasswordProof>, NotChecked> {
        let checks = Arc::clone(&self.checks);
        self.run(move |scratch| {
            checks.fetch_add(1, Ordering::Relaxed);
            digest.verify_with(password.expose().as_bytes(), scratch)
        })
        .await
    }

    /// How many passwords have been checked since the start.
    pub fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    /// Does `work` on one of the threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, NotChecked> {
        let (answer, result) = oneshot::channel();
        let job = move |scratch: &mut Scratch| {
            if !answer.is_closed() {
                // Nobody waits any more: that is no failure.
                let _ = answer.send(work(scratch));
            }
        };
        self.queue.try_send(Box::new(job)).map_err(|refused| match refused {
            TrySendError::Full(_) => NotChecked::Busy,
            TrySendError::Disconnected(_) => NotChecked::Failed,
        })?;
        // A job that panics drops its end.
        result.await.map_err(|_| NotChecked::Failed)
    }
}

/// One thread's life: a job after another, with memory that is kept between them.
fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut scratch = Scratch::default();
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(|| job(&mut scratch))).is_err() {
            tracing::error!("checking a password broke down; the attempt was refused");
            scratch = Scratch::default();
        }
    }
}

/// Lets everything else go first: `SCHED_BATCH` at nice 19, which takes no privilege.
fn stand_back(warned: &AtomicBool) {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let thread = thread_priority::thread_native_id();
    let lowered = thread_priority::set_thread_priority_and_policy(thread, ThreadPriority::Min, policy);
    if let Err(error) = lowered
        && !warned.swap(true, Ordering::Relaxed)
    {
        tracing::warn!(%error, "hashing threads keep their normal priority: decisions may be slower during sign-ins");
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::mpsc::channel;

    use super::{HashingPool, NotChecked, Settings};
    use crate::secret::Secret;

    const DIGEST: &str = "$5$saltsalt$qHOZbnAoEc9DTZ0Px7QCZY75UK1NDbTU0irT48X7cZ4";

    fn small() -> HashingPool {
        HashingPool::start(Settings { threads: Some(NonZeroUsize::MIN), queue: NonZeroUsize::MIN }).unwrap()
    }

    async fn verifies(pool: &HashingPool) -> Result<bool, NotChecked> {
        let checked = pool.verify(DIGEST.parse().unwrap(), Secret::new("portcullis".to_owned())).await;
        checked.map(|proof| proof.is_some())
    }

    #[tokio::test]
    async fn a89_a_full_queue_refuses_before_any_work() {
        let pool = small();
        let (go, gate) = channel::<()>();
        let (begun, started) = channel();
        let running = pool.run(move |_| {
            begun.send(()).unwrap();
            gate.recv().ok();
        });
        let mut running = std::pin::pin!(running);
        assert!(poll_once(running.as_mut()).await.is_none());
        started.recv().unwrap();
        let mut waiting = std::pin::pin!(verifies(&pool));
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(verifies(&pool).await, Err(NotChecked::Busy));
        assert_eq!(pool.checks(), 0);
        drop(go);
        running.await.unwrap();
        assert_eq!(waiting.await, Ok(true));
        assert_eq!(pool.checks(), 1);
    }

    #[tokio::test]
    async fn a_check_that_panics_fails_alone() {
        let pool = small();
        let broken = pool.run(|_| -> () { panic!("on purpose") }).await;
        assert_eq!(broken, Err(NotChecked::Failed));
        assert_eq!(verifies(&pool).await, Ok(true), "the thread goes on");
    }

    #[tokio::test]
    async fn nobody_hashes_for_a_caller_who_has_gone() {
        let pool = small();
        let (go, gate) = channel::<()>();
        let (begun, started) = channel();
        let mut running = Box::pin(pool.run(move |_| {
            begun.send(()).unwrap();
            gate.recv().ok();
        }));
        assert!(poll_once(running.as_mut()).await.is_none());
        started.recv().unwrap();
        let mut gone = Box::pin(verifies(&pool));
        assert!(poll_once(gone.as_mut()).await.is_none());
        drop(gone);
        drop(go);
        running.await.unwrap();
        while verifies(&pool).await == Err(NotChecked::Busy) {}
        assert_eq!(pool.checks(), 1, "only for the one who waited");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_stands_back() {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};
        let policy = small().run(|_| thread_schedule_policy()).await.unwrap().unwrap();
        assert_eq!(policy, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch));
    }

    /// Polls once.
    async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
