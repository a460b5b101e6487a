//! Prints a sample of an embedded source:
//! `cargo run -p surprisal-source --example source -- stories 1 2000`.

use std::io::Write;

use surprisal_source::Source;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| Source::names()[0].to_owned());
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let bytes = arguments.next().map_or(Ok(2000), |bytes| bytes.parse())?;
    let source = Source::embedded(&name).ok_or("no embedded source has this name")?;
    let text = source.sample(seed, bytes);
    let started = std::time::Instant::now();
    let nats = source.nats("", &text)? / text.chars().count() as f64;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    let rate = source.entropy_rate();
    writeln!(
        out,
        "# {} bytes, {nats:.6} nats per character, entropy rate {rate:.6}, scored in {:.2?}",
        text.len(),
        started.elapsed()
    )?;
    Ok(())
}
