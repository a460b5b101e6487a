//! The `surprisal` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use surprisal_platform::counting_allocator::{self, CountingAllocator};
use surprisal_platform::threads;

// Every step allocates large buffers. glibc's allocator returns them to the system each time, which
// doubles the time of a step. Allocations are counted so that `bench` can report memory; the cost
// is not measurable.
#[global_allocator]
static ALLOCATOR: CountingAllocator<MiMalloc> = CountingAllocator::new(MiMalloc);

fn main() -> ExitCode {
    threads::disable_candle_pools();
    counting_allocator::on_allocation_failure(surprisal::out_of_memory);
    surprisal::main()
}
