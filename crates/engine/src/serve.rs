//! The ranks beside rank 0: they do what rank 0's program sends them.

use crate::error::Result;
use crate::events::Context;
use crate::ranks::Work;
use crate::train;
use crate::{compare, count};

/// Serves rank 0 until its program ends. After an error the job has to be ended
/// ([`Ranks::abort`](crate::ranks::Ranks::abort)), as rank 0 waits for an answer.
///
/// # Errors
/// A failure of this rank's part of the work.
pub fn serve(ctx: &Context<'_>) -> Result<()> {
    // A stop is rank 0's to make; this rank tells it with its next answer.
    let _steps = ctx.control.steps();
    while let Some((work, job)) = ctx.ranks.next_work()? {
        match work {
            Work::Train => train::serve(&job, ctx)?,
            Work::Compare => compare::serve(ctx)?,
            Work::Count => count::serve(&job, ctx)?,
        }
    }
    Ok(())
}
