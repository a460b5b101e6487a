//! Ranks: the processes of one job, on one machine or several. Rank 0 is the program; the others
//! serve it ([`serve`](crate::serve())).
//!
//! A sum over the shards of a batch is a fixed binary tree: the first half of the shards plus the
//! second half, and so on. The ranks are halved in the same way, so that each owns a subtree, and
//! any number of ranks gives the same bits. All that a rank needs comes from rank 0: an answer
//! depends on nothing that a rank remembers from an earlier one.

mod message;
#[cfg(feature = "mpi")]
mod mpi;

use std::fmt::Debug;
use std::ops::Range;

pub(crate) use message::{Reader, Writer};

use crate::error::{Error, Result};

/// Messages between the ranks of a job, in order between any two.
pub trait Link: Debug + Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;
    /// The number of ranks.
    fn size(&self) -> usize;
    /// Sends `bytes` to another rank.
    ///
    /// # Errors
    /// A connection that is lost.
    fn send(&self, to: usize, bytes: &[u8]) -> Result<()>;
    /// The next message of another rank.
    ///
    /// # Errors
    /// A connection that is lost.
    fn receive(&self, from: usize) -> Result<Vec<u8>>;
    /// Whether a message of another rank has come.
    ///
    /// # Errors
    /// A connection that is lost.
    fn has_message(&self, from: usize) -> Result<bool>;
    /// Ends the whole job at once.
    fn abort(&self);
}

/// The ranks of the job that this process belongs to.
#[derive(Debug)]
pub struct Ranks(Option<Box<dyn Link>>);

/// The kinds of work that ranks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Updates of a training run.
    Train,
    /// Trials of a comparison.
    Compare,
    /// Parts of a text to count.
    Count,
}

impl Work {
    const ALL: [Self; 3] = [Self::Train, Self::Compare, Self::Count];
}

/// Environment variables in which the usual launchers give a process the number of ranks.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"];

impl Ranks {
    /// This process alone.
    pub const ALONE: &'static Self = &Self(None);

    /// The ranks that `mpirun` has started, or this process alone.
    ///
    /// # Errors
    /// Several ranks, and a library without MPI: each would do the whole work, in the same folder.
    pub fn join() -> Result<Self> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
        let size = SIZES.iter().find_map(|name| number(name));
        // Some launchers tell only the rank.
        let rank = number("PMIX_RANK").filter(|_| size.is_none());
        if size.unwrap_or(1) < 2 && rank.is_none() {
            return Ok(Self(None));
        }
        #[cfg(feature = "mpi")]
        return mpi::Mpi::initialise(size).map(Self::linked);
        #[cfg(not(feature = "mpi"))]
        match (size, rank) {
            (None, Some(0)) => Ok(Self(None)),
            _ => Err(Error::usage(
                "started as one of several processes, and this program is built without MPI: each would do all the \
                 work, and write to the same files",
            )
            .hint("build it with the feature `mpi`, or start it without mpirun")),
        }
    }

    /// Ranks that exchange messages by `link`.
    pub fn linked(link: impl Link + 'static) -> Self {
        Self(Some(Box::new(link)))
    }

    /// The number of this rank.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |link| link.rank())
    }

    /// The number of ranks.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |link| link.size())
    }

    /// Whether this is the only rank.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Ends all ranks at once, after an error that the others do not know of.
    pub fn abort(&self) {
        if let Some(link) = &self.0 {
            link.abort();
        }
    }

    fn link(&self) -> Result<&dyn Link> {
        self.0.as_deref().ok_or_else(|| Error::failed("there are no other ranks"))
    }

    pub(crate) fn send(&self, to: usize, bytes: &[u8]) -> Result<()> {
        self.link()?.send(to, bytes)
    }

    pub(crate) fn receive(&self, from: usize) -> Result<Vec<u8>> {
        self.link()?.receive(from)
    }

    pub(crate) fn has_message(&self, from: usize) -> Result<bool> {
        self.link()?.has_message(from)
    }

    /// Rank 0's `bytes` on every rank; those of the others do not count.
    pub(crate) fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let Tree { children, parent } = Tree::of(self.rank(), self.size());
        let bytes = match parent {
            Some(parent) => self.receive(parent)?,
            None => bytes,
        };
        // The largest subtrees first.
        for &child in children.iter().rev() {
            self.send(child, &bytes)?;
        }
        Ok(bytes)
    }

    /// Begins `work` on the other ranks, which wait for it in [`Self::next_work`].
    pub(crate) fn begin(&self, work: Work, job: Vec<u8>) -> Result<()> {
        self.broadcast(vec![work as u8])?;
        self.broadcast(job).map(drop)
    }

    /// The next work that rank 0 begins; `None` at the end of its program.
    pub(crate) fn next_work(&self) -> Result<Option<(Work, Vec<u8>)>> {
        match self.broadcast(Vec::new())?[..] {
            [] => Ok(None),
            [kind, ..] => {
                let work = Work::ALL.into_iter().find(|work| *work as u8 == kind);
                let work = work.ok_or_else(|| Error::failed("rank 0 is another version of this program"))?;
                Ok(Some((work, self.broadcast(Vec::new())?)))
            }
        }
    }

    /// The numbers of those of `shards` that are this rank's.
    pub(crate) fn shards(&self, shards: usize) -> Range<usize> {
        let (mut ranks, mut own) = (0..self.size(), 0..shards);
        while ranks.len() > 1 {
            let (rank, shard) = (middle(&ranks), middle(&own));
            (ranks, own) = if self.rank() < rank {
                (ranks.start..rank, own.start..shard)
            } else {
                (rank..ranks.end, shard..own.end)
            };
        }
        own
    }

    /// The ranks whose sums are added to this one's, in order, and the rank that gets the result.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.rank(), self.size())
    }
}

impl Drop for Ranks {
    /// Lets the ranks that wait for work end; after a panic they may wait for anything.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abort();
        } else if self.rank() == 0 && !self.is_alone() {
            // Where the connection is lost, the launcher ends them.
            drop(self.broadcast(Vec::new()));
        }
    }
}

/// The place of a rank in the binary tree over all.
#[derive(Debug, PartialEq)]
pub(crate) struct Tree {
    pub(crate) children: Vec<usize>,
    pub(crate) parent: Option<usize>,
}

impl Tree {
    fn of(rank: usize, size: usize) -> Self {
        let (mut children, mut parent) = (Vec::new(), None);
        let mut ranks = 0..size;
        while ranks.len() > 1 {
            let second = middle(&ranks);
            if rank == ranks.start {
                children.push(second);
            } else if rank == second {
                parent = Some(ranks.start);
                children.clear();
            }
            ranks = if rank < second { ranks.start..second } else { second..ranks.end };
        }
        // A rank adds the sum beside its own first, and then those of larger subtrees.
        children.reverse();
        Self { children, parent }
    }
}

/// The start of the second half of a node of the tree.
pub(crate) fn middle(range: &Range<usize>) -> usize {
    range.start + range.len().div_ceil(2)
}

#[cfg(test)]
pub(crate) mod threads;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn every_rank_owns_a_subtree() {
        for shards in 1..40 {
            // All ranges of shards that are nodes of the tree.
            let mut nodes = Vec::new();
            let mut next: VecDeque<_> = std::iter::once(0..shards).collect();
            while let Some(node) = next.pop_front() {
                if node.len() > 1 {
                    next.extend([node.start..middle(&node), middle(&node)..node.end]);
                }
                nodes.push(node);
            }
            for size in 1..=shards {
                let mut end = 0;
                for rank in 0..size {
                    let own = threads::Threads::alone(rank, size).shards(shards);
                    assert_eq!(own.start, end, "{rank} of {size}, {shards} shards");
                    assert!(!own.is_empty() && nodes.contains(&own));
                    end = own.end;
                }
                assert_eq!(end, shards);
            }
        }
    }

    #[test]
    fn the_tree_of_ranks_sums_each_once() {
        assert_eq!(Tree::of(0, 4), Tree { children: vec![1, 2], parent: None });
        assert_eq!(Tree::of(2, 4), Tree { children: vec![3], parent: Some(0) });
        for size in 1..40 {
            for rank in 1..size {
                let parent = Tree::of(rank, size).parent.unwrap();
                assert_eq!(Tree::of(parent, size).children.iter().filter(|&&it| it == rank).count(), 1);
            }
        }
    }

    #[test]
    fn a_broadcast_reaches_every_rank() {
        for size in 1..8 {
            let heard = threads::run(size, |ranks| {
                let own = if ranks.rank() == 0 { b"weights".to_vec() } else { Vec::new() };
                let bytes = ranks.broadcast(own).unwrap();
                if ranks.rank() > 0 {
                    // The end of the job, sent by rank 0's drop.
                    assert!(ranks.broadcast(Vec::new()).unwrap().is_empty());
                }
                bytes
            });
            assert_eq!(heard, vec![b"weights".to_vec(); size]);
        }
    }
}
