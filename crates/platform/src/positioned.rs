//! Reads of a file at a position, which threads can share.

use std::fs::File;
use std::io;

/// Reads bytes at `at` into `out`, at most as many as fit; gives their number, 0 at the end.
///
/// # Errors
/// The system's.
pub fn read_at(file: &File, out: &mut [u8], at: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, out, at);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, out, at);
}

/// Fills `out` with the bytes at `at`.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] for a file that ends before; the system's.
pub fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match read_at(file, out, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                out = &mut out[count..];
                at += count as u64;
            }
            Err(reason) if reason.kind() == io::ErrorKind::Interrupted => {}
            Err(reason) => return Err(reason),
        }
    }
    Ok(())
}
