//! Threads of the engine's work, and long work that listens to signals.

use std::cell::RefCell;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use surprisal_engine::{Context, Control, Result, Silent, config};
use surprisal_platform::threads::Pool;

use crate::errors::raised;

/// Time between looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// The pool of a process. Threads do not survive a fork, so a child starts its own.
struct Own {
    process: u32,
    pool: Arc<Pool>,
}

impl Own {
    /// The pool in `slot` with `threads` threads, which replaces another.
    fn of(slot: &mut Option<Self>, threads: usize) -> PyResult<Arc<Pool>> {
        let process = std::process::id();
        if let Some(own) = slot.as_ref().filter(|own| own.process == process && own.pool.threads() == threads)
        {
            return Ok(own.pool.clone());
        }
        let pool = Arc::new(Pool::new(threads).map_err(raised)?);
        let old = slot.replace(Self { process, pool: pool.clone() });
        // Ending threads that a fork has left behind would wait for them.
        if let Some(left) = old.filter(|old| old.process != process) {
            std::mem::forget(left);
        }
        Ok(pool)
    }
}

/// The pool of the process, or one of `threads` threads for the calling thread alone.
pub(crate) fn pool(_: Python<'_>, threads: Option<usize>) -> PyResult<Arc<Pool>> {
    static SHARED: Mutex<Option<Own>> = Mutex::new(None);
    thread_local!(static ALONE: RefCell<Option<Own>> = const { RefCell::new(None) });
    let count = config::threads("threads", threads).map_err(raised)?;
    match threads {
        // Held only with the GIL, so never during a fork.
        None => Own::of(&mut SHARED.lock().unwrap_or_else(PoisonError::into_inner), count),
        Some(_) => ALONE.with_borrow_mut(|slot| Own::of(slot, count)),
    }
}

/// The result of `work` on the pool, without the GIL and in a context without a subscriber.
pub(crate) fn compute<T: Send>(
    py: Python<'_>,
    threads: Option<usize>,
    work: impl FnOnce(&Context<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let pool = pool(py, threads)?;
    py.detach(|| {
        let control = Control::new();
        let ctx = Context::new(&pool, &Silent, &control);
        pool.install(|| work(&ctx))
    })
    .map_err(raised)
}

/// The result of `work` on a thread of its own, and the exception of the first signal, after which
/// `control` stops it. The exception of a second signal is raised at once.
pub(crate) fn watch<T: Send + 'static>(
    py: Python<'_>,
    control: &Control,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<(T, Option<PyErr>)> {
    let (send, mut done) = sync_channel(1);
    let run = move || drop(send.send(work()));
    std::thread::Builder::new()
        .name("surprisal-work".into())
        .spawn(run)
        .map_err(|error| PyRuntimeError::new_err(format!("cannot start a thread: {error}")))?;
    let mut interrupted = None;
    loop {
        let received;
        (done, received) = py.detach(move || {
            let received = done.recv_timeout(LOOK);
            (done, received)
        });
        match received {
            Ok(result) => return Ok((result, interrupted)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err(
                    "the work ended with a panic, which is a bug of surprisal",
                ));
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Err(exception) = py.check_signals() {
                    if interrupted.is_some() {
                        return Err(exception);
                    }
                    control.stop();
                    interrupted = Some(exception);
                }
            }
        }
    }
}
