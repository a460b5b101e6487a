//! Messages by MPI. All calls are made by the thread that runs the work.

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::{Destination, Source};
use mpi::topology::{Communicator, SimpleCommunicator};

use super::Link;
use crate::error::{Error, Result};

/// The largest part of a message in bytes: MPI counts them in 31 bits.
const PART: usize = 1 << 30;

/// The processes that mpirun has started. MPI ends where this is dropped.
#[derive(Debug)]
pub(super) struct Mpi {
    _universe: Kept,
    rank: usize,
    size: usize,
}

struct Kept(#[expect(dead_code, reason = "dropping it ends MPI")] Universe);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Universe")
    }
}

impl Mpi {
    /// Joins the others, of which there are `started` where the launcher says so.
    pub(super) fn initialise(started: Option<usize>) -> Result<Self> {
        let joined = mpi::initialize_with_threading(Threading::Serialized);
        let Some((universe, _)) = joined.filter(|(_, threading)| *threading >= Threading::Serialized) else {
            return Err(Error::failed("MPI cannot be started, or not for a program with threads"));
        };
        let world = SimpleCommunicator::world();
        let size = world.size() as usize;
        if started.is_some_and(|started| started != size) {
            return Err(Error::failed(
                "mpirun has started several processes, and they do not find each other",
            )
            .hint("start the program by the mpirun of the MPI that it was built with"));
        }
        Ok(Self { _universe: Kept(universe), rank: world.rank() as usize, size })
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        let world = SimpleCommunicator::world();
        let other = world.process_at_rank(to as i32);
        other.send(&(bytes.len() as u64));
        bytes.chunks(PART).for_each(|part| other.send(part));
        Ok(())
    }

    fn receive(&self, from: usize) -> Result<Vec<u8>> {
        let world = SimpleCommunicator::world();
        let other = world.process_at_rank(from as i32);
        let mut bytes = vec![0_u8; other.receive::<u64>().0 as usize];
        for part in bytes.chunks_mut(PART) {
            other.receive_into(part);
        }
        Ok(bytes)
    }

    fn has_message(&self, from: usize) -> Result<bool> {
        Ok(SimpleCommunicator::world().process_at_rank(from as i32).immediate_probe().is_some())
    }

    fn abort(&self) {
        SimpleCommunicator::world().abort(1);
    }
}
