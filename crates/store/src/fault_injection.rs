//! Fault injection: the n-th write, sync or rename fails, or the process dies there.
//!
//! Every operation of this crate that changes the disk calls `fail_point` first. A test runs a
//! save with a fault at operation 1, 2, 3, … until the save succeeds, and each time checks what is
//! left, as SQLite's tests do (<https://sqlite.org/testing.html>, section 3). There are two ways to
//! inject a fault:
//!
//! - [`inject`], in unit tests: applies to the calling thread until its guard is dropped;
//! - the environment variable [`VARIABLE`], for a process: `SURPRISAL_FAULT=crash:7`, or `full`,
//!   `quota`, `readonly`, `error`.
//!
//! Without a fault, an operation costs one thread-local read and one atomic load.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The environment variable that schedules a fault for the process: `KIND:N`, where KIND is
/// `crash`, `full`, `quota`, `readonly` or `error`.
pub const VARIABLE: &str = "SURPRISAL_FAULT";

/// The effect of an injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails with this error; later ones succeed.
    Error(io::ErrorKind),
    /// The process dies. With [`inject`], this and every later operation of the thread does nothing
    /// and fails, so that no cleanup happens; with [`VARIABLE`], the process aborts.
    Crash,
}

/// The kind of disk operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
}

#[derive(Clone, Copy)]
struct ScheduledFault {
    at: u64,
    seen: u64,
    fault: Fault,
}

thread_local! {
    static SCHEDULED: Cell<Option<ScheduledFault>> = const { Cell::new(None) };
}

/// The guard of a scheduled fault of this thread; dropping it cancels the fault.
#[derive(Debug)]
#[must_use = "dropping the guard cancels the fault"]
pub struct FaultGuard {
    at: u64,
}

/// Schedules `fault` for the `at`-th operation (from 1) of the calling thread.
pub fn inject(at: u64, fault: Fault) -> FaultGuard {
    SCHEDULED.set(Some(ScheduledFault { at, seen: 0, fault }));
    FaultGuard { at }
}

impl FaultGuard {
    /// Whether the scheduled operation was reached.
    pub fn fired(&self) -> bool {
        SCHEDULED.get().is_some_and(|plan| plan.seen >= self.at)
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        SCHEDULED.set(None);
    }
}

/// Runs `work` with `fault` at its `at`-th operation; also returns whether that was reached.
#[cfg(test)]
pub(crate) fn with_fault<T>(at: u64, fault: Fault, work: impl FnOnce() -> T) -> (T, bool) {
    let guard = inject(at, fault);
    let outcome = work();
    (outcome, guard.fired())
}

/// Called before every operation. On an error the operation must not be done.
pub(crate) fn fail_point(operation: Operation) -> io::Result<()> {
    if let Some(mut plan) = SCHEDULED.get() {
        plan.seen += 1;
        SCHEDULED.set(Some(plan));
        let now = match plan.fault {
            // Removals clean up after an error, so only a crash prevents them.
            Fault::Error(_) => plan.seen == plan.at && operation != Operation::Remove,
            Fault::Crash => plan.seen >= plan.at,
        };
        if now {
            let kind = if let Fault::Error(kind) = plan.fault { kind } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, format!("injected at operation {} ({operation:?})", plan.seen)));
        }
    }
    if let Some((fault, at)) = process_fault() {
        static SEEN: AtomicU64 = AtomicU64::new(0);
        if SEEN.fetch_add(1, Ordering::Relaxed) + 1 == *at {
            match fault {
                Fault::Error(kind) => return Err(io::Error::from(*kind)),
                Fault::Crash => std::process::abort(),
            }
        }
    }
    Ok(())
}

fn process_fault() -> Option<&'static (Fault, u64)> {
    static PLANNED: OnceLock<Option<(Fault, u64)>> = OnceLock::new();
    PLANNED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?)).as_ref()
}

fn parse(plan: &str) -> Option<(Fault, u64)> {
    let (fault, at) = plan.split_once(':')?;
    let fault = match fault {
        "crash" => Fault::Crash,
        "full" => Fault::Error(io::ErrorKind::StorageFull),
        "quota" => Fault::Error(io::ErrorKind::QuotaExceeded),
        "readonly" => Fault::Error(io::ErrorKind::ReadOnlyFilesystem),
        "error" => Fault::Error(io::ErrorKind::Other),
        _ => return None,
    };
    Some((fault, at.parse().ok()?))
}

/// A file whose every write is a fail point.
#[derive(Debug)]
pub(crate) struct FailPointFile(pub(crate) File);

impl Write for FailPointFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_checked(&mut self.0, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes all of `bytes`, or half of them if a fault is scheduled here.
///
/// # Errors
/// The system's, or the injected one.
pub fn write_checked(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    match fail_point(Operation::Write) {
        Ok(()) => file.write_all(bytes),
        Err(fault) => {
            file.write_all(&bytes[..bytes.len() / 2])?;
            Err(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_once_and_a_crash_stays() {
        let outcomes = |fault| {
            let _guard = inject(2, fault);
            [(); 4].map(|()| fail_point(Operation::Write).is_ok())
        };
        assert_eq!(outcomes(Fault::Error(io::ErrorKind::StorageFull)), [true, false, true, true]);
        assert_eq!(outcomes(Fault::Crash), [true, false, false, false]);
        assert!(fail_point(Operation::Write).is_ok(), "a dropped guard leaves no fault");
    }

    #[test]
    fn the_variable_has_its_kinds() {
        assert_eq!(parse("crash:7"), Some((Fault::Crash, 7)));
        assert_eq!(parse("full:1"), Some((Fault::Error(io::ErrorKind::StorageFull), 1)));
        assert_eq!(parse("quota:2"), Some((Fault::Error(io::ErrorKind::QuotaExceeded), 2)));
        assert_eq!(parse("readonly:2"), Some((Fault::Error(io::ErrorKind::ReadOnlyFilesystem), 2)));
        assert_eq!(parse("error:3"), Some((Fault::Error(io::ErrorKind::Other), 3)));
        assert_eq!(parse("crash"), None);
        assert_eq!(parse("flood:2"), None);
    }
}
