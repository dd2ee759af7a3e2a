//! Where passwords are hashed: a few threads of their own behind a fair queue.
//!
//! Hashing is slow on purpose, so it may take neither the runtime's threads nor, while anything else wants
//! to run, the processor. The queue bounds both the memory and the wait: what does not fit is refused
//! before any work is done (A89). Whose turn it is, and who is refused, is `queue`'s to say.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tokio::sync::oneshot;

use super::queue::{Admission, Door, FairQueue, Ticket};
use crate::address::AddressPrefix;
use crate::factor::password::{PasswordHash, PasswordProof, Scratch};
use crate::secret::Secret;

/// How many passwords may wait at all, whoever shows them: 20 to 40 MiB.
const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

/// What is done when a turn comes, or when the place is lost.
type Job = Box<dyn FnOnce(Turn<'_>) + Send>;

enum Turn<'a> {
    Work(&'a mut Scratch),
    Displaced,
}

/// How much may be hashed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many threads hash; `None` is as many as the process may use processors.
    pub threads: Option<NonZeroUsize>,
    /// How many passwords from one address prefix may wait for one of them, at each door.
    pub queue: NonZeroUsize,
}

impl Default for Settings {
    /// A thread for each processor, and 16 passwords waiting from each prefix: an office behind one address fits in,
    /// and the last of them has its turn before a proxy gives up.
    fn default() -> Settings {
        Settings { threads: None, queue: NonZeroUsize::MIN.saturating_add(15) }
    }
}

/// Why a password was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotChecked {
    /// Too many from this prefix are waiting.
    Busy,
    /// The check itself broke down.
    Failed,
}

/// The hashing threads. They end when the pool is dropped.
#[derive(Debug)]
pub struct HashingPool {
    shared: Arc<Shared>,
    checks: Arc<AtomicU64>,
}

struct Shared {
    state: Mutex<State>,
    /// There is work, or none will come any more.
    changed: Condvar,
}

struct State {
    queue: FairQueue<Job>,
    is_closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, once there is one; nothing when the pool has been dropped.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.queue.pop() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// A place in the queue. It is given up when whoever waits goes away.
struct Place<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let abandoned = self.shared.lock().queue.remove(self.ticket);
        // Outside the lock, as it wipes a password.
        drop(abandoned);
    }
}

/// A password that was checked.
#[derive(Debug)]
pub struct Checked {
    /// Evidence, if it was right.
    pub proof: Option<PasswordProof>,
    /// How long the hash took, without the wait for a turn.
    pub took: Duration,
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// A thread can't be started.
    pub fn start(settings: Settings) -> std::io::Result<HashingPool> {
        HashingPool::start_with(settings, CAPACITY)
    }

    fn start_with(settings: Settings, capacity: NonZeroUsize) -> std::io::Result<HashingPool> {
        let threads = settings.threads.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let state = State { queue: FairQueue::new(settings.queue, capacity), is_closed: false };
        let pool = HashingPool {
            shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }),
            checks: Arc::new(AtomicU64::new(0)),
        };
        let warned = Arc::new(AtomicBool::new(false));
        for n in 0..threads.get() {
            let (shared, warned) = (Arc::clone(&pool.shared), Arc::clone(&warned));
            std::thread::Builder::new().name(format!("hash-{n}")).spawn(move || {
                stand_back(&warned);
                work(&shared);
            })?;
        }
        tracing::info!(threads, queue = settings.queue, "hashing threads started");
        Ok(pool)
    }

    /// Checks `password` against `digest` on one of the threads, in the turn of `prefix` at `door`.
    ///
    /// If the caller goes away while the password is waiting, it is not checked at all and leaves its place.
    ///
    /// # Errors
    ///
    /// [`NotChecked`]: too many from this prefix are waiting, or the check broke down.
    pub async fn verify(
        &self,
        door: Door,
        prefix: AddressPrefix,
        digest: PasswordHash,
        password: Secret<String>,
    ) -> Result<Checked, NotChecked> {
        let checks = Arc::clone(&self.checks);
        self.run(door, prefix, move |scratch| {
            checks.fetch_add(1, Ordering::Relaxed);
            let started = Instant::now();
            let proof = digest.verify_with(password.expose().as_bytes(), scratch);
            Checked { proof, took: started.elapsed() }
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
        door: Door,
        prefix: AddressPrefix,
        work: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, NotChecked> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |turn| {
            // Nobody waits any more: that is no failure.
            if !answer.is_closed() {
                let _ = answer.send(match turn {
                    Turn::Work(scratch) => Ok(work(scratch)),
                    Turn::Displaced => Err(NotChecked::Busy),
                });
            }
        });
        let _place = self.enter(door, prefix, job)?;
        // A job that panics drops its end.
        result.await.unwrap_or(Err(NotChecked::Failed))
    }

    fn enter(&self, door: Door, prefix: AddressPrefix, job: Job) -> Result<Place<'_>, NotChecked> {
        // The lock is let go before any job is called or dropped.
        let admission = self.shared.lock().queue.push(door, prefix, job);
        let ticket = match admission {
            Admission::Full(_) => return Err(NotChecked::Busy),
            Admission::Waiting(ticket) => ticket,
            Admission::Displacing(ticket, displaced) => {
                displaced(Turn::Displaced);
                ticket
            }
        };
        self.shared.changed.notify_one();
        Ok(Place { shared: &self.shared, ticket })
    }
}

impl Drop for HashingPool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_all();
    }
}

/// One thread's life: a job after another, with memory that is kept between them.
fn work(shared: &Shared) {
    let mut scratch = Scratch::default();
    while let Some(job) = shared.next() {
        if catch_unwind(AssertUnwindSafe(|| job(Turn::Work(&mut scratch)))).is_err() {
            tracing::error!("checking a password broke down; the attempt was refused");
            scratch = Scratch::default();
        }
    }
}

/// Lets everything else go first: `SCHED_BATCH` at nice 19, which takes no privilege.
pub(super) fn stand_back(warned: &AtomicBool) {
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
    use crate::address::AddressPrefix;
    use crate::secret::Secret;
    use crate::signin::queue::Door;

    const DIGEST: &str = "$5$saltsalt$qHOZbnAoEc9DTZ0Px7QCZY75UK1NDbTU0irT48X7cZ4";

    fn small() -> HashingPool {
        HashingPool::start(Settings { threads: Some(NonZeroUsize::MIN), queue: NonZeroUsize::MIN }).unwrap()
    }

    const PREFIX: AddressPrefix = AddressPrefix::Unknown;

    async fn verifies(pool: &HashingPool) -> Result<bool, NotChecked> {
        verifies_from(pool, PREFIX).await
    }

    async fn verifies_from(pool: &HashingPool, prefix: AddressPrefix) -> Result<bool, NotChecked> {
        let password = Secret::new("portcullis".to_owned());
        let checked = pool.verify(Door::Portal, prefix, DIGEST.parse().unwrap(), password).await;
        checked.map(|checked| checked.proof.is_some())
    }

    #[tokio::test]
    async fn a89_a_full_queue_refuses_before_any_work() {
        let pool = small();
        let (go, gate) = channel::<()>();
        let (begun, started) = channel();
        let running = pool.run(Door::Portal, PREFIX, move |_| {
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
    async fn a113_who_loses_their_place_is_refused_and_nobody_else() {
        let two = NonZeroUsize::MIN.saturating_add(1);
        let pool = HashingPool::start_with(Settings { threads: Some(NonZeroUsize::MIN), queue: two }, two).unwrap();
        let (go, gate) = channel::<()>();
        let (begun, started) = channel();
        let mut running = std::pin::pin!(pool.run(Door::Basic, PREFIX, move |_| {
            begun.send(()).unwrap();
            gate.recv().ok();
        }));
        assert!(poll_once(running.as_mut()).await.is_none());
        started.recv().unwrap();
        let mut first = std::pin::pin!(verifies(&pool));
        let mut second = std::pin::pin!(verifies(&pool));
        assert!(poll_once(first.as_mut()).await.is_none() && poll_once(second.as_mut()).await.is_none());
        let other = AddressPrefix::of(Some([192, 0, 2, 1].into()));
        let mut third = std::pin::pin!(verifies_from(&pool, other));
        assert!(poll_once(third.as_mut()).await.is_none());
        assert_eq!(second.await, Err(NotChecked::Busy), "the newest of those who have the most");
        drop(go);
        running.await.unwrap();
        assert_eq!((first.await, third.await), (Ok(true), Ok(true)));
    }

    #[tokio::test]
    async fn a_check_that_panics_fails_alone() {
        let pool = small();
        let broken = pool.run(Door::Portal, PREFIX, |_| -> () { panic!("on purpose") }).await;
        assert_eq!(broken, Err(NotChecked::Failed));
        assert_eq!(verifies(&pool).await, Ok(true), "the thread goes on");
    }

    #[tokio::test]
    async fn nobody_hashes_for_a_caller_who_has_gone() {
        let pool = small();
        let (go, gate) = channel::<()>();
        let (begun, started) = channel();
        let mut running = Box::pin(pool.run(Door::Portal, PREFIX, move |_| {
            begun.send(()).unwrap();
            gate.recv().ok();
        }));
        assert!(poll_once(running.as_mut()).await.is_none());
        started.recv().unwrap();
        let mut gone = Box::pin(verifies(&pool));
        assert!(poll_once(gone.as_mut()).await.is_none());
        assert_eq!(verifies(&pool).await, Err(NotChecked::Busy));
        drop(gone);
        let mut next = Box::pin(verifies(&pool));
        assert!(poll_once(next.as_mut()).await.is_none(), "the place is free at once");
        drop(go);
        running.await.unwrap();
        assert_eq!(next.await, Ok(true));
        assert_eq!(pool.checks(), 1, "only for the one who waited");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn hashing_stands_back() {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};
        let policy = small().run(Door::Portal, PREFIX, |_| thread_schedule_policy()).await.unwrap().unwrap();
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
