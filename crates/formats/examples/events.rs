//! Writes an interrupted and resumed run as TensorBoard events into the given folder, for
//! `tests/read_events.py`.

use surprisal_formats::{Result, tensorboard::SummaryWriter};

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let mut writer = SummaryWriter::create(&folder, 1_700_000_000.0, None)?;
    for step in 0..10 {
        let (seconds, loss) = (1_700_000_000.0 + step as f64, 4.0 / (step + 1) as f64);
        writer.scalars(step, seconds, &[("loss/train", loss), ("a tag of another size", -loss)])?;
    }
    // Resumed from the checkpoint of step 5: steps 5 to 9 are repeated with other values.
    let mut writer = SummaryWriter::create(&folder, 1_700_000_100.0, Some(5))?;
    for step in 5..300 {
        writer.scalars(step, 1_700_000_100.0 + step as f64, &[("loss/train", 1000.0 + step as f64)])?;
    }
    Ok(())
}
