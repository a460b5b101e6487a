//! The one thread pool.
//!
//! A training step is one batch shard a thread with serial kernels inside it, so the pool's main verb is
//! [`Pool::map`]. Two pools fight over the cores: candle's own is turned off by [`disable_candle_pools`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// A pool could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} worker threads: {reason}")]
pub struct PoolError {
    /// How many threads were asked for.
    pub threads: usize,
    /// What the operating system said.
    pub reason: String,
}

/// How often [`Pool::share`] looks whether all is done before it sleeps: about as long as going to sleep and waking takes.
const SPINS: usize = 1 << 12;

/// A fixed number of worker threads.
#[derive(Debug)]
pub struct Pool {
    /// None: the calling thread works alone, where the system gives no other.
    pool: Option<rayon::ThreadPool>,
}

impl Pool {
    /// Starts `threads` workers (at least one). Where the operating system gives no thread at all, one worker is the
    /// calling thread.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        let threads = threads.max(1);
        match builder(threads).build() {
            Ok(pool) => Ok(Self { pool: Some(pool) }),
            Err(_) if threads == 1 => Ok(Self { pool: None }),
            Err(error) => Err(PoolError { threads, reason: error.to_string() }),
        }
    }

    /// How many threads work here.
    pub fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// `f(0), f(1), … f(n − 1)`, run on the workers, returned in index order.
    pub fn map<T: Send>(&self, n: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        use rayon::prelude::*;
        self.install(|| (0..n).into_par_iter().with_max_len(1).map(&f).collect())
    }

    /// `f` on every item of `items` at once, results in order.
    pub fn map_mut<I: Send, T: Send>(
        &self,
        items: &mut [I],
        f: impl Fn(usize, &mut I) -> T + Sync,
    ) -> Vec<T> {
        use rayon::prelude::*;
        self.install(|| {
            items.par_iter_mut().with_max_len(1).enumerate().map(|(i, item)| f(i, item)).collect()
        })
    }

    /// `f` on every item, results in order, the calling thread at work beside all workers but one: for work so short that
    /// it would end before a worker could have been woken, done it and said so. `f` must not fork: from the calling
    /// thread, that would reach for another pool.
    pub fn share<I: Send, T: Send>(&self, items: Vec<I>, f: impl Fn(I) -> T + Sync) -> Vec<T> {
        let count = items.len();
        let helpers = self.threads().min(count).saturating_sub(1);
        let queue = Mutex::new(items.into_iter().enumerate());
        let done = Mutex::new(Vec::with_capacity(count));
        let at_work = AtomicUsize::new(helpers);
        let work = || {
            loop {
                let Some((i, item)) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else {
                    return;
                };
                let result = f(item);
                done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
            }
        };
        match &self.pool {
            None => work(),
            Some(pool) => pool.in_place_scope(|scope| {
                for _ in 0..helpers {
                    scope.spawn(|_| {
                        work();
                        at_work.fetch_sub(1, Ordering::Release);
                    });
                }
                work();
                // The others are at their last items: to sleep until they are done would take longer.
                for _ in 0..SPINS {
                    if at_work.load(Ordering::Acquire) == 0 {
                        break;
                    }
                    std::hint::spin_loop();
                }
            }),
        }
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Runs `f` on a worker, so that nested parallel calls stay in this pool.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(f),
            None => f(),
        }
    }
}

fn builder(threads: usize) -> rayon::ThreadPoolBuilder {
    rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("surprisal-{i}"))
}

/// Starts the threads that work outside of any [`Pool`], once for the process: rayon would start them when they are first
/// needed, and panic where it cannot. One thread is the calling one, which costs nothing.
///
/// # Errors
/// When the operating system refuses a thread.
pub fn start(threads: usize) -> Result<(), PoolError> {
    let builder = builder(threads);
    let builder = if threads == 1 { builder.use_current_thread() } else { builder };
    builder.build_global().map_err(|error| PoolError { threads, reason: error.to_string() })
}

/// Turns candle's own thread pools off for this process.
///
/// Must run before candle computes anything (it reads the variable once), and before other threads exist.
#[expect(unsafe_code, reason = "the environment is candle's only switch for its threads")]
pub fn disable_candle_pools() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: called first thing in `main` and in tests, before any thread that could read the environment
        // through libc exists; `Once` keeps two of our own calls from racing.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_keeps_index_order() {
        let pool = Pool::new(3).unwrap();
        assert_eq!(pool.threads(), 3);
        assert_eq!(pool.map(100, |i| i * i), (0..100).map(|i| i * i).collect::<Vec<_>>());
    }

    #[test]
    fn map_mut_reaches_every_item() {
        let mut items = vec![1; 50];
        let indices = Pool::new(2).unwrap().map_mut(&mut items, |i, item| {
            *item += i;
            i
        });
        assert_eq!(indices, (0..50).collect::<Vec<_>>());
        assert_eq!(items, (1..51).collect::<Vec<_>>());
    }

    #[test]
    fn share_keeps_the_order_of_items_and_nests_in_a_worker() {
        let pool = Pool::new(3).unwrap();
        for count in [0, 1, 2, 50] {
            let squares: Vec<usize> = (0..count).map(|i| i * i).collect();
            assert_eq!(pool.share((0..count).collect(), |i| i * i), squares);
            assert_eq!(pool.install(|| pool.share((0..count).collect(), |i| i * i)), squares);
        }
    }

    #[test]
    fn zero_threads_mean_one() {
        assert_eq!(Pool::new(0).unwrap().threads(), 1);
    }
}
