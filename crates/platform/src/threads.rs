//! The one thread pool.
//!
//! A training step is one batch shard a thread with serial kernels inside it, so the pool's main verb is
//! [`Pool::map`]. Two pools fight over the cores: the first [`Pool`] turns candle's own off, by [`disable_candle_pools`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// How often [`Pool::map_including_caller`] looks whether all is done before it sleeps: about as long as going to sleep and waking takes.
const SPINS: usize = 1 << 12;

/// A fixed number of worker threads.
#[derive(Debug)]
pub struct Pool(Workers);

#[derive(Debug)]
enum Workers {
    Own(rayon::ThreadPool),
    /// Those of rayon's global pool: what is computed outside of any pool is computed there, too.
    Global(usize),
    /// The calling thread works alone, where the system gives no other.
    Caller,
}

impl Pool {
    /// Starts `threads` workers (at least one). Where the operating system gives no thread at all, one worker is the
    /// calling thread.
    ///
    /// The first call of a process sets an environment variable: see [`disable_candle_pools`].
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        disable_candle_pools();
        let threads = threads.max(1);
        match builder(threads).build() {
            Ok(pool) => Ok(Self(Workers::Own(pool))),
            Err(_) if threads == 1 => Ok(Self(Workers::Caller)),
            Err(error) => Err(PoolError { threads, reason: error.to_string() }),
        }
    }

    /// The pool of a program, once for the process: rayon's global one, so that what is computed outside of any pool is computed
    /// by the same threads. A process that has such a pool already, with whatever threads, gets one of its own.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn global(threads: usize) -> Result<Self, PoolError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.swap(true, Ordering::SeqCst) {
            return Self::new(threads);
        }
        disable_candle_pools();
        let threads = threads.max(1);
        let error = |error: rayon::ThreadPoolBuildError| PoolError { threads, reason: error.to_string() };
        // Tried first: rayon has no second try. Where the system gives no thread at all, what would be computed by others is
        // computed by the caller, this thread.
        if threads == 1 && std::thread::Builder::new().spawn(|| {}).is_err() {
            builder(1).use_current_thread().build_global().map_err(error)?;
            return Ok(Self(Workers::Caller));
        }
        builder(threads).build_global().map_err(error)?;
        Ok(Self(Workers::Global(threads)))
    }

    /// How many threads work here.
    pub fn threads(&self) -> usize {
        match &self.0 {
            Workers::Own(pool) => pool.current_num_threads(),
            Workers::Global(threads) => *threads,
            Workers::Caller => 1,
        }
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
    pub fn map_including_caller<I: Send, T: Send>(&self, items: Vec<I>, f: impl Fn(I) -> T + Sync) -> Vec<T> {
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
        self.in_place_scope(|scope| {
            if let Some(scope) = scope {
                for _ in 0..helpers {
                    scope.spawn(|_| {
                        work();
                        at_work.fetch_sub(1, Ordering::Release);
                    });
                }
            }
            work();
            // The others are at their last items: to sleep until they are done would take longer.
            for _ in 0..if scope.is_some() { SPINS } else { 0 } {
                if at_work.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Runs `f` on the calling thread, with a scope in which workers can be given something to do, if there are any.
    fn in_place_scope<'scope, R>(&self, f: impl FnOnce(Option<&rayon::Scope<'scope>>) -> R) -> R {
        match &self.0 {
            Workers::Own(pool) => pool.in_place_scope(|scope| f(Some(scope))),
            Workers::Global(_) => rayon::in_place_scope(|scope| f(Some(scope))),
            Workers::Caller => f(None),
        }
    }

    /// Runs `f` on a worker, so that nested parallel calls stay in this pool.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Workers::Own(pool) => pool.install(f),
            Workers::Global(_) => rayon::scope(|_| f()),
            Workers::Caller => f(),
        }
    }
}

fn builder(threads: usize) -> rayon::ThreadPoolBuilder {
    rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("surprisal-{i}"))
}

/// Turns candle's own threads off for this process, by setting `CANDLE_NUM_THREADS` to 1 unless the environment has it: candle
/// has no other switch. [`Pool::new`] calls this.
///
/// Candle adds gradients up and computes other large elementwise operations on threads that are handed one operation at a
/// time, so the shards of a batch would wait for each other. The numbers are the same bits either way. It reads the variable once,
/// when it first computes 65 536 elements or more: what computes with candle before it has a pool is only slower.
///
/// On Unix, no other thread may read the environment through libc (`getenv`) at the same time; Rust's own readers do no harm.
/// A program in which one could calls this, or sets the variable, before it starts threads.
#[expect(unsafe_code, reason = "the environment is candle's only switch for its threads")]
pub fn disable_candle_pools() {
    const VARIABLE: &str = "CANDLE_NUM_THREADS";
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(VARIABLE).is_none() {
            // SAFETY: Rust's readers and writers of the environment take turns, and `Once` lets this happen once, where a
            // process begins to compute; that nothing reads through libc meanwhile is asked of the caller above.
            unsafe { std::env::set_var(VARIABLE, "1") };
        }
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
            assert_eq!(pool.map_including_caller((0..count).collect(), |i| i * i), squares);
            assert_eq!(pool.install(|| pool.map_including_caller((0..count).collect(), |i| i * i)), squares);
        }
    }

    #[test]
    fn zero_threads_mean_one() {
        assert_eq!(Pool::new(0).unwrap().threads(), 1);
    }
}
