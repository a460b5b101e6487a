//! The end of a process that the system gives no more memory.

use std::io::Write;

/// Says that the system refuses memory, and ends the program: what comes next would be an abort without a word.
pub fn out_of_memory(bytes: usize) {
    let words = format_args!(
        "error: the system gives no more memory: {bytes} bytes more were asked for\n  hint: take a smaller text, order or \
         model, or fewer --threads; a limit may be set (ulimit -v, or that of a container)\n"
    );
    let _ = std::io::stderr().write_fmt(words);
    surprisal_engine::store::pending::stop_writing();
    signal_hook::low_level::exit(1);
}
