//! Read-only memory-mapped files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A memory-mapped file.
///
/// A page is read at the first page fault, and shared by all processes that map the same file.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
    /// Index in [`MAPS`].
    slot: Option<usize>,
}

/// Address range of a map. The length is 0 for a free slot, and 1 for a reserved one.
struct MapSlot {
    start: AtomicUsize,
    len: AtomicUsize,
}

const MAX_MAPS: usize = 64;
/// The first [`MAX_MAPS`] maps, for the signal handler, which may only read atomics.
static MAPS: [MapSlot; MAX_MAPS] =
    [const { MapSlot { start: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; MAX_MAPS];
static NAMES: Mutex<[Option<PathBuf>; MAX_MAPS]> = Mutex::new([const { None }; MAX_MAPS]);
/// One more than the slot of the map with a missing page; 0 for none.
static TRUNCATED: AtomicUsize = AtomicUsize::new(0);

impl MappedFile {
    /// Maps all of `file`, whose path is `path`, with its present length.
    ///
    /// Only for files that are replaced and never changed in place, such as those that
    /// `surprisal_formats` writes: the map keeps the old contents after a replacement. If the file
    /// is truncated while it is mapped, reading a missing page ends the process, with a message
    /// after [`handle_sigbus`] (Windows forbids it). Changes in place are not detected.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(file: &File, path: &Path) -> io::Result<Self> {
        // SAFETY: the map is private to this value, read-only, as long as the file is now, and
        // unmapped on drop. By the contract above, nobody writes to the file; this cannot be
        // enforced, but writers of this program rename a new file into place. No code relies on two
        // reads of a byte being equal: values are checked against bounds at each use.
        #[expect(unsafe_code, reason = "mapping a file is a promise about other processes")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        let free =
            |slot: &MapSlot| slot.len.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let slot = MAPS.iter().position(free);
        if let Some(i) = slot {
            NAMES.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(path.to_owned());
            MAPS[i].start.store(map.as_ptr() as usize, Ordering::Release);
            MAPS[i].len.store(map.len(), Ordering::Release);
        }
        Ok(Self { map, slot })
    }

    /// The bytes as numbers in the byte order of the machine, without the last few if their number
    /// is not a multiple of four.
    pub fn as_u32s(&self) -> &[u32] {
        // A map starts with a page, so it is aligned.
        bytemuck::cast_slice(&self.map[..self.map.len() / 4 * 4])
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if let Some(i) = self.slot {
            MAPS[i].len.store(0, Ordering::Release);
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The truncated file of which a missing page was read, if there is one. After [`handle_sigbus`],
/// the reading thread waits 5 seconds, so that the program can report it and end.
pub fn truncated_file() -> Option<PathBuf> {
    let i = TRUNCATED.load(Ordering::Acquire).checked_sub(1)?;
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)[i].clone()
}

/// Installs a SIGBUS handler that makes truncation of mapped files visible in [`truncated_file`].
/// Does nothing on systems without this signal.
pub fn handle_sigbus() {
    #[cfg(unix)]
    signal::install();
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "only a signal handler receives the faulting address")]
mod signal {
    use std::ptr;
    use std::sync::atomic::Ordering;

    use super::{MAPS, TRUNCATED};

    pub(super) fn install() {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = missing;
        // SAFETY: a zeroed action is valid, and is then filled in; the handler has the signature
        // that SA_SIGINFO requires, and lives as long as the program.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    /// Runs on the thread that read a missing page. Only calls async-signal-safe functions.
    extern "C" fn missing(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO, the system passes a valid record.
        let address = unsafe { (*info).si_addr() } as usize;
        let within = |start: usize, len: usize| len > 1 && (start..start + len).contains(&address);
        for (i, map) in MAPS.iter().enumerate() {
            if within(map.start.load(Ordering::Acquire), map.len.load(Ordering::Acquire)) {
                TRUNCATED.store(i + 1, Ordering::Release);
                // SAFETY: both are async-signal-safe. The thread cannot continue without the page,
                // so if no other thread ends the program, this one does.
                unsafe {
                    libc::sleep(5);
                    libc::_exit(1);
                }
            }
        }
        // Another cause: the default action follows when the instruction is retried.
        // SAFETY: async-signal-safe.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_has_the_bytes_of_the_file() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mmap.rs"));
        let mapped = MappedFile::open(&File::open(path).unwrap(), path).unwrap();
        assert_eq!(mapped.as_ref(), include_bytes!("mmap.rs"));
    }
}
