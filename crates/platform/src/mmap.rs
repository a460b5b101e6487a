//! A file's bytes without reading them: mapped into memory, read-only.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A mapped file.
///
/// Its pages are read when they are first touched, and shared by all processes that map the same file.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
    /// Its place among [`MAPS`].
    slot: Option<usize>,
}

/// Where a map lies: no bytes where there is none, one where its place is taken and nothing is there yet.
struct MapSlot {
    start: AtomicUsize,
    len: AtomicUsize,
}

const MAX_MAPS: usize = 64;
/// All maps, or the first of them: for [`watch`], whose handler may do no more than look at them.
static MAPS: [MapSlot; MAX_MAPS] =
    [const { MapSlot { start: AtomicUsize::new(0), len: AtomicUsize::new(0) } }; MAX_MAPS];
static NAMES: Mutex<[Option<PathBuf>; MAX_MAPS]> = Mutex::new([const { None }; MAX_MAPS]);
/// One more than the place of the map that lacks a page; 0 for none.
static TRUNCATED: AtomicUsize = AtomicUsize::new(0);

impl MappedFile {
    /// Maps the whole of `file`, which lies at `path`, as long as it is now.
    ///
    /// Only for files that are replaced and never changed in place, as those are that `surprisal_formats` writes: what
    /// is mapped then stays as it is, even after another file has taken its name. A file that is cut short while it is
    /// mapped ends the process where a page of it is missing, in words where [`watch`] is at work (on Windows the system
    /// forbids it); one that is written over in place is read as it then is, as nothing can notice that.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn open(file: &File, path: &Path) -> io::Result<Self> {
        // SAFETY: the map is private to this value, read-only and unmapped when it is dropped; its length is the file's
        // at this moment. That nobody writes to the file meanwhile is the contract above, which no program can enforce:
        // writers here rename a new file into place, so a mapped one keeps its bytes. Nothing relies on two reads of a
        // byte being equal: what is read is checked against bounds each time it is used.
        #[expect(unsafe_code, reason = "mapping a file is a promise about other processes")]
        let map = unsafe { memmap2::Mmap::map(file)? };
        let free =
            |place: &MapSlot| place.len.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let watched = MAPS.iter().position(free);
        if let Some(place) = watched {
            NAMES.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(path.to_owned());
            MAPS[place].start.store(map.as_ptr() as usize, Ordering::Release);
            MAPS[place].len.store(map.len(), Ordering::Release);
        }
        Ok(Self { map, slot: watched })
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if let Some(place) = self.slot {
            MAPS[place].len.store(0, Ordering::Release);
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

/// The mapped file that has become too short for what was read of it, if there is one: once [`watch`] is at work, whoever
/// reads there waits a while for the program to end.
pub fn truncated_file() -> Option<PathBuf> {
    let place = TRUNCATED.load(Ordering::Acquire).checked_sub(1)?;
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)[place].clone()
}

/// From now on a page that a mapped file has lost is no end without a word: another thread sees it in [`lost`]. Does nothing
/// where the system has no such signal.
pub fn handle_sigbus() {
    #[cfg(unix)]
    signal::watch();
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "the address that a signal is about is told to its handler alone")]
mod signal {
    use std::ptr;
    use std::sync::atomic::Ordering;

    use super::{MAPS, TRUNCATED};

    pub(super) fn watch() {
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = missing;
        // SAFETY: the action is zeroed, which is valid for it, and then filled in; the handler has the signature that
        // SA_SIGINFO asks for, and lives as long as the program.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    /// Runs on the thread that touched what is not there. It only calls functions that a handler may call.
    extern "C" fn missing(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the system gives a handler of this kind the address of a valid record.
        let address = unsafe { (*info).si_addr() } as usize;
        let within = |start: usize, len: usize| len > 1 && (start..start + len).contains(&address);
        for (place, map) in MAPS.iter().enumerate() {
            if within(map.start.load(Ordering::Acquire), map.len.load(Ordering::Acquire)) {
                TRUNCATED.store(place + 1, Ordering::Release);
                // SAFETY: both may be called here. Nothing can go on without the page; should nobody be there to end the
                // program, this does.
                unsafe {
                    libc::sleep(5);
                    libc::_exit(1);
                }
            }
        }
        // Of something else: what the system does about it comes when the instruction is tried again.
        // SAFETY: may be called here.
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
