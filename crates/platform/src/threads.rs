//! The thread pool.
//!
//! A training step runs one batch shard per thread, with serial kernels, by [`Pool::map`]. The
//! first [`Pool`] disables candle's, which would compete for the cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// Failure to start a pool.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} worker threads: {reason}")]
pub struct PoolError {
    /// Requested number of threads.
    pub threads: usize,
    /// Message of the operating system.
    pub reason: String,
}

/// Spins of [`Pool::map_including_caller`] before it sleeps: about the cost of a wake-up.
const SPINS: usize = 1 << 12;

/// A fixed number of worker threads.
#[derive(Debug)]
pub struct Pool(Workers);

#[derive(Debug)]
enum Workers {
    Own(rayon::ThreadPool),
    /// rayon's global pool, which also runs rayon calls outside of any pool.
    Global(usize),
    /// The calling thread alone, if the system cannot start another.
    Caller,
}

impl Pool {
    /// Starts `threads` workers, at least one; if a single one cannot be started, the calling
    /// thread replaces it. Calls [`disable_candle_pools`].
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        disable_candle_pools();
        let threads = threads.max(1);
        match builder(threads).build() {
            Ok(pool) => Ok(Self(Workers::Own(pool))),
            Err(_) if threads == 1 => Ok(Self(Workers::Caller)),
            Err(error) => Err(PoolError { threads, reason: error.to_string() }),
        }
    }

    /// The pool of a program: rayon's global pool, so that rayon calls outside of any pool use the
    /// same threads. Later calls in a process return a separate pool.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn global(threads: usize) -> Result<Self, PoolError> {
        static STARTED: AtomicBool = AtomicBool::new(false);
        if STARTED.swap(true, Ordering::SeqCst) {
            return Self::new(threads);
        }
        disable_candle_pools();
        let threads = threads.max(1);
        let error = |error: rayon::ThreadPoolBuildError| PoolError { threads, reason: error.to_string() };
        // Tested first, because rayon's global pool can be built only once. If it fails, this
        // thread is the pool.
        if threads == 1 && std::thread::Builder::new().spawn(|| {}).is_err() {
            builder(1).use_current_thread().build_global().map_err(error)?;
            return Ok(Self(Workers::Caller));
        }
        builder(threads).build_global().map_err(error)?;
        Ok(Self(Workers::Global(threads)))
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        match &self.0 {
            Workers::Own(pool) => pool.current_num_threads(),
            Workers::Global(threads) => *threads,
            Workers::Caller => 1,
        }
    }

    /// Computes `f(0), f(1), … f(n − 1)` on the workers; results in index order.
    pub fn map<T: Send>(&self, n: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let results: Vec<Mutex<Option<T>>> = (0..n).map(|_| Mutex::new(None)).collect();
        self.each_index(n, &|i| {
            let result = f(i);
            *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        });
        let result = |cell: Mutex<Option<T>>| cell.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Every index was called, or its panic was passed on.
        results.into_iter().filter_map(result).collect()
    }

    /// Calls `f` in parallel with the index of and a reference to every item; results in order.
    pub fn map_mut<I: Send, T: Send>(
        &self,
        items: &mut [I],
        f: impl Fn(usize, &mut I) -> T + Sync,
    ) -> Vec<T> {
        let items: Vec<Mutex<&mut I>> = items.iter_mut().map(Mutex::new).collect();
        self.map(items.len(), |i| f(i, &mut items[i].lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Calls `f(0), f(1), … f(n − 1)` on the workers. Not generic: rayon's code, which is long, is
    /// compiled once.
    fn each_index(&self, n: usize, f: &(dyn Fn(usize) + Sync)) {
        use rayon::prelude::*;
        self.install(|| (0..n).into_par_iter().with_max_len(1).for_each(f));
    }

    /// Maps `f` over `items` on the calling thread and all workers but one; results in order. For
    /// tasks so short that waking a worker would take longer. `f` must not use rayon: on the
    /// calling thread, that would use another pool.
    pub fn map_including_caller<I: Send, T: Send>(&self, items: Vec<I>, f: impl Fn(I) -> T + Sync) -> Vec<T> {
        let count = items.len();
        let helpers = self.threads().min(count).saturating_sub(1);
        let queue = Mutex::new(items.into_iter().enumerate());
        let done = Mutex::new(Vec::with_capacity(count));
        let busy = AtomicUsize::new(helpers);
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
                        busy.fetch_sub(1, Ordering::Release);
                    });
                }
            }
            work();
            // The workers are at their last items: sleeping would take longer than they need.
            for _ in 0..if scope.is_some() { SPINS } else { 0 } {
                if busy.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(i, _)| *i);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Runs `f` on the calling thread, with a scope for tasks of the workers, if there are any.
    fn in_place_scope<'scope, R>(&self, f: impl FnOnce(Option<&rayon::Scope<'scope>>) -> R) -> R {
        match &self.0 {
            Workers::Own(pool) => pool.in_place_scope(|scope| f(Some(scope))),
            Workers::Global(_) => rayon::in_place_scope(|scope| f(Some(scope))),
            Workers::Caller => f(None),
        }
    }

    /// Runs `f` on a worker, so that nested parallel calls stay in this pool.
    ///
    /// # Panics
    /// If `f` panics.
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        let (mut f, mut result) = (Some(f), None);
        self.call(&mut || result = f.take().map(|f| f()));
        result.expect("the workers call it once")
    }

    /// [`Self::install`], not generic.
    fn call(&self, f: &mut (dyn FnMut() + Send)) {
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

/// Disables candle's own threads in this process: sets the environment variable
/// `CANDLE_NUM_THREADS` to 1 unless it is set, as candle has no other switch.
///
/// candle computes gradient sums and other large elementwise operations on a pool that runs one
/// operation at a time, so shards of a batch would wait for each other; the bits are the same. It
/// reads the variable once, at the first operation on 65 536 elements or more.
///
/// On Unix, no other thread may read the environment through libc (`getenv`) during the call;
/// Rust's own functions are safe. A program in which that can happen must call this, or set the
/// variable, before it starts threads.
#[expect(unsafe_code, reason = "the environment is candle's only switch for its threads")]
pub fn disable_candle_pools() {
    const VARIABLE: &str = "CANDLE_NUM_THREADS";
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(VARIABLE).is_none() {
            // SAFETY: Rust's environment functions exclude each other, and `Once` runs this once,
            // at the start; the documentation forbids readers through libc.
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
    fn map_including_caller_keeps_order_and_nests_in_a_worker() {
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
