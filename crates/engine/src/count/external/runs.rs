//! The runs of a counting.
//!
//! Merging reads a block of each run at a time. So where there are many runs, groups of them are
//! merged first, each into a run of its own.

use std::path::Path;

use serde::{Deserialize, Serialize};
use surprisal_model::ngram::external::{Blocks, merge_runs};
use surprisal_platform::threads::Pool;
use surprisal_store::spill::{Spill, SpillWriter};

use super::{Folder, blocks, each, stream_error};
use crate::error::Result;

/// The memory of a run while it is merged, in bytes: a block, and a record.
const RUN_MEMORY: u64 = 80 << 10;

/// The description of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::count) struct RunDescription {
    /// Without `<s>`: the first words of the text, in the first run.
    pub(in crate::count) text_prefix: Vec<u32>,
}

/// A run with its description.
pub(in crate::count) type Run = (Spill, RunDescription);

/// The number of runs that are merged at a time by each of `threads` in half of `memory` bytes.
pub(in crate::count) fn group_size(memory: u64, threads: usize) -> usize {
    // Each is an open file, too.
    ((memory / 2 / RUN_MEMORY) as usize / threads).clamp(16, 256)
}

/// The runs so far, in the order of the text.
pub(in crate::count) struct Runs<'a> {
    folder: &'a Folder,
    partitions: usize,
    group_size: usize,
    pool: &'a Pool,
    groups: Vec<Run>,
    /// Those that are in no group.
    ungrouped: Vec<Run>,
}

impl<'a> Runs<'a> {
    /// The first runs of an earlier process.
    pub(in crate::count) fn open(
        folder: &'a Folder,
        partitions: usize,
        group_size: usize,
        pool: &'a Pool,
    ) -> Result<Self> {
        let mut all =
            Self { folder, partitions, group_size, pool, groups: Vec::new(), ungrouped: Vec::new() };
        while let Some(group) = Spill::open(&folder.file("group", all.groups.len()), partitions)? {
            all.groups.push(group);
        }
        while let Some(run) = Spill::open(&folder.file("run", all.len()), partitions)? {
            all.push(run)?;
        }
        Ok(all)
    }

    /// The number of runs.
    pub(in crate::count) fn len(&self) -> usize {
        self.groups.len() * self.group_size + self.ungrouped.len()
    }

    /// Adds the next run, which `make` makes in its file if an earlier process has not.
    pub(in crate::count) fn add(&mut self, make: impl FnOnce(&Path) -> Result<Run>) -> Result<()> {
        let path = self.folder.file("run", self.len());
        let run = Spill::open(&path, self.partitions)?.map_or_else(|| make(&path), Ok)?;
        self.push(run)
    }

    fn push(&mut self, run: Run) -> Result<()> {
        self.ungrouped.push(run);
        if self.ungrouped.len() < self.group_size {
            return Ok(());
        }
        let writer = SpillWriter::create(self.folder.file("group", self.groups.len()), self.partitions)?;
        each(self.pool, self.partitions, |partition| {
            Ok(merge_runs(sorted(self.ungrouped.iter().map(|(run, _)| run), partition), &mut |block| {
                writer.append(partition, block).map_err(stream_error)
            })?)
        })?;
        let description = std::mem::take(&mut self.ungrouped[0].1);
        self.groups.push((writer.finish(&description)?, description));
        self.ungrouped.drain(..).try_for_each(|(run, _)| Ok(run.remove()?))
    }

    /// All runs, and the first words of a text without `<s>`.
    pub(in crate::count) fn finish(self) -> (Vec<Spill>, Vec<u32>) {
        let all = self.groups.into_iter().chain(self.ungrouped);
        let (runs, descriptions): (Vec<Spill>, Vec<RunDescription>) = all.unzip();
        (runs, descriptions.into_iter().next().unwrap_or_default().text_prefix)
    }
}

/// The records of one partition.
pub(in crate::count) fn sorted<'a>(
    runs: impl Iterator<Item = &'a Spill>,
    partition: usize,
) -> Vec<Box<dyn Blocks>> {
    runs.filter(|run| run.stream_bytes(partition) > 0).map(|run| blocks(run, [partition])).collect()
}
