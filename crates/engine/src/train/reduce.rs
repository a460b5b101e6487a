//! The sum of the shards' gradients: a binary tree, whose subtrees ranks own.

use surprisal_kernels::optim;
use surprisal_ops::grad_accumulator::{GradAccumulator, Gradient};
use surprisal_platform::threads::Pool;

use crate::error::Result;
use crate::ranks::{Ranks, Reader, Writer, middle};

/// The least number of values of a message, where there are that many: large enough for latency
/// not to count, and small enough for the levels of the tree to work at the same time.
const CHUNK: usize = 1 << 20;

/// Sums the gradients of all shards of all ranks; on rank 0 the sums are then where [`gradient`]
/// finds them. `sizes` are the numbers of values of the parameters, `shards` the accumulators of
/// this rank.
pub(crate) fn reduce(shards: &[GradAccumulator], sizes: &[usize], ranks: &Ranks, pool: &Pool) -> Result<()> {
    pool.map(sizes.len(), |i| drop(sum(shards, i)));
    let tree = ranks.tree();
    let mut first = 0;
    while !ranks.is_alone() && first < sizes.len() {
        let (mut end, mut values) = (first, 0);
        while end < sizes.len() && values < CHUNK {
            values += sizes[end];
            end += 1;
        }
        for &child in &tree.children {
            let bytes = ranks.receive(child)?;
            let (present, mut parts): (Vec<bool>, _) = Reader::new(&bytes)?;
            for i in (first..end).zip(present).filter_map(|(i, present)| present.then_some(i)) {
                let part = parts.floats(sizes[i])?;
                // Where no shard of this rank has a gradient, the other's is the sum.
                let own = shards.iter().find(|shard| shard.get(i).is_some()).or(shards.first());
                if let Some(own) = own {
                    own.add(i, &part);
                }
            }
        }
        if let Some(parent) = tree.parent {
            let sums: Vec<Option<Gradient<'_>>> = (first..end).map(|i| gradient(shards, i)).collect();
            let mut message = Writer::new(&sums.iter().map(Option::is_some).collect::<Vec<_>>())?;
            sums.iter().flatten().for_each(|sum| message.floats(sum));
            ranks.send(parent, &message.bytes())?;
        }
        first = end;
    }
    Ok(())
}

/// The sum of the gradients of parameter `i`, after [`reduce`].
pub(crate) fn gradient(shards: &[GradAccumulator], i: usize) -> Option<Gradient<'_>> {
    shards.iter().find_map(|shard| shard.get(i))
}

/// Sums the gradients of parameter `i` in the first shard that has one.
fn sum(shards: &[GradAccumulator], i: usize) -> Option<Gradient<'_>> {
    let (left, right) = match shards {
        [] => return None,
        [one] => return one.get(i),
        shards => shards.split_at(middle(&(0..shards.len()))),
    };
    match (sum(left, i), sum(right, i)) {
        (Some(mut sum), Some(part)) => {
            optim::accumulate(&mut sum, &part);
            Some(sum)
        }
        (left, right) => left.or(right),
    }
}
