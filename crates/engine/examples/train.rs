//! Trains a small model on the embedded stories, and says what happens in words of its own.

#![allow(clippy::print_stdout, reason = "an example shows something")]

use surprisal_engine::platform::threads::Pool;
use surprisal_engine::train::{Request, train};
use surprisal_engine::{Context, Control, Event, Result, RunId, config};

fn main() -> Result<()> {
    let text =
        "[model]\nkind = \"mlp\"\n[train]\nsteps = 300\n[eval]\nevery_steps = 100\n[sample]\ntokens = 80\n";
    let mut settings = config::parse("the example's settings", text, &[])?;
    config::check(&mut settings)?;
    let pool = Pool::new(2)?;
    let events = |_: RunId, event: &Event| {
        match event {
            Event::Baseline { model, eval } => {
                println!("{model}: {:.3} nats per token", eval.nats_per_token());
            }
            Event::Evaluated(e) => println!("step {}: {:.3} nats per token", e.step, e.eval.nats_per_token()),
            Event::Sampled(sampled) => println!("it writes: {:?}", sampled.text),
            _ => {}
        }
        Ok(())
    };
    let folder = std::env::temp_dir().join(format!("surprisal-example-{}", std::process::id()));
    let request = Request { settings, out: Some(folder.clone()), ..Request::default() };
    let summary = train(request, &Context::new(&pool, &events, &Control::new()))?;
    println!("{} parameters, perplexity {:.2}", summary.parameters, summary.eval.perplexity());
    // A run folder that nobody wants is left nowhere.
    drop(std::fs::remove_dir_all(folder));
    Ok(())
}
