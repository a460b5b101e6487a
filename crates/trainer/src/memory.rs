//! The handler for failed memory allocations.

use std::io::Write;

/// Prints an error about the failed allocation of `bytes` bytes and ends the process, which would
/// otherwise abort without a message.
pub fn out_of_memory(bytes: usize) {
    let words = format_args!(
        "error: out of memory: {bytes} more bytes were requested\n  hint: use a smaller text, order or \
         model, or fewer --threads; a memory limit may be set (ulimit -v, or a container's)\n"
    );
    let _ = std::io::stderr().write_fmt(words);
    surprisal_engine::store::pending::stop_writing();
    signal_hook::low_level::exit(1);
}
