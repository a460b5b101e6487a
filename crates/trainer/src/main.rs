//! The `surprisal` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use surprisal_platform::counting_allocator::{self, CountingAllocator};
use surprisal_platform::threads;

// Large buffers come and go at every step; glibc's allocator hands them back to the system each time, which doubles
// the time of a step (measured). Counted, so that `bench` can say how much memory a case takes; two atomic additions an
// allocation do not show.
#[global_allocator]
static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator::new(MiMalloc);

fn main() -> ExitCode {
    threads::disable_candle_pools();
    counting_allocator::on_allocation_failure(surprisal::out_of_memory);
    surprisal::main()
}
