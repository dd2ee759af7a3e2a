//! Sessions in the memory of this process: nothing to install, and nothing left after a restart.
//!
//! It holds at most as many sessions as it was made for. When it is full, the one that was used least gives
//! way: somebody has to sign in again, and that is counted. So that nobody does this to others by signing in for ever, the
//! sessions of each account are bounded as well.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, UnitWeighter};

use super::model::Session;
use super::store::{Account, BuildKeyHasher, Key, SESSIONS_PER_ACCOUNT, Store, StoreUnavailable};

/// A bounded table of sessions.
#[derive(Debug)]
pub struct Memory {
    table: Cache<Key, Arc<Session>, UnitWeighter, BuildKeyHasher, Evictions>,
    evictions: Evictions,
    /// The keys of each account's sessions, in the order in which they began. Some may be gone from the table. A tree,
    /// because a hash table that has just grown would take twice as much.
    ///
    /// INVARIANT: the table is asked while this is locked, never the other way round.
    accounts: Mutex<BTreeMap<Account, Box<[Key]>>>,
}

impl Memory {
    /// Room for `capacity` sessions. The room is taken as it is needed.
    pub fn new(capacity: usize) -> Memory {
        let evictions = Evictions::default();
        // The table is cut into shards, each with a lock of its own, and the fullest overflows first. Large shards fill
        // evenly: with 8192 sessions or more in each, 2 % more room keeps `capacity` of them in all.
        let room = capacity.saturating_add(capacity / 50).max(1);
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let shards = 1 << (capacity / 8192).clamp(1, threads * 4).ilog2();
        let table = match OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(room)
            .weight_capacity(room as u64)
            .build()
        {
            Ok(options) => Cache::with_options(options, UnitWeighter, BuildKeyHasher::default(), evictions.clone()),
            // Not with these options; it would be the same table with the usual number of shards.
            Err(_) => Cache::with(room, room as u64, UnitWeighter, BuildKeyHasher::default(), evictions.clone()),
        };
        Memory { table, evictions, accounts: Mutex::default() }
    }

    /// How many sessions there are; some may have ended since the last sweep.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// How many sessions had to give way to newer ones.
    pub fn evicted(&self) -> u64 {
        self.evictions.0.load(Ordering::Relaxed)
    }

    /// Keeps only the sessions for which `live` says so.
    pub fn retain(&self, live: impl Fn(&Session) -> bool) {
        self.table.retain(|_, session| live(session));
        self.accounts().retain(|_, keys| {
            let live: Box<[Key]> = self.live(keys).collect();
            if live.len() < keys.len() {
                *keys = live;
            }
            !keys.is_empty()
        });
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<Account, Box<[Key]>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of `keys` that the table still has.
    fn live(&self, keys: &[Key]) -> impl Iterator<Item = Key> {
        keys.iter().copied().filter(|key| self.table.contains_key(key))
    }

    /// Notes that `key` is a session of `account`. Answers with the key of the one that is too many, if one is.
    fn note(&self, account: Account, key: Key) -> Option<Key> {
        let mut accounts = self.accounts();
        let keys = accounts.entry(account).or_default();
        let mut live: Vec<Key> = self.live(keys).collect();
        let oldest = (live.len() >= SESSIONS_PER_ACCOUNT).then(|| live.remove(0));
        live.push(key);
        *keys = live.into(); // without room to spare: most have one session, and there may be a million of them
        oldest
    }
}

impl Store for Memory {
    async fn load(&self, key: &Key) -> Result<Option<Arc<Session>>, StoreUnavailable> {
        Ok(self.table.get(key))
    }

    async fn load_all(&self, keys: &[Key]) -> Result<Vec<Option<Arc<Session>>>, StoreUnavailable> {
        Ok(keys.iter().map(|key| self.table.get(key)).collect())
    }

    async fn insert(&self, key: &Key, session: Arc<Session>) -> Result<(), StoreUnavailable> {
        let account = Account::of(&session);
        self.table.insert(*key, session);
        if let Some(oldest) = self.note(account, *key) {
            self.table.remove(&oldest);
        }
        Ok(())
    }

    async fn update(&self, key: &Key, session: Arc<Session>) -> Result<bool, StoreUnavailable> {
        Ok(self.table.replace(*key, session, true).is_ok())
    }

    async fn remove(&self, key: &Key) -> Result<bool, StoreUnavailable> {
        Ok(self.table.remove(key).is_some())
    }

    async fn remove_all(&self, keys: &[Key]) -> Result<usize, StoreUnavailable> {
        Ok(keys.iter().filter(|key| self.table.remove(*key).is_some()).count())
    }

    /// Nothing to do: the session that was found is the one in the table.
    fn touch(&self, _: &Key, _: &Arc<Session>) {}

    async fn flush(&self) {}
}

/// Counts the sessions that gave way.
#[derive(Clone, Debug, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Arc<Session>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Arc<Session>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
