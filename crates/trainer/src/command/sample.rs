//! `surprisal sample`: generates text and prints it token by token.

use crate::cli;
use crate::error::{Error, Result, name_flags};
use crate::output::Output;
use surprisal_engine::Context;
use surprisal_engine::generation::generate;
use surprisal_engine::models;
use surprisal_engine::sampling::{Opening, Sampling};

pub(crate) fn run(arguments: &cli::SampleArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let cli::SampleArgs { temperature, top_k, top_p, seed, .. } = *arguments;
    let sampling = Sampling::new(temperature, top_k, top_p).map_err(|error| {
        let flags = [("the temperature", "--temperature"), ("top-k", "--top-k"), ("top-p", "--top-p")];
        name_flags(error, &flags)
    })?;
    let of_chance = [("top-k", top_k.is_some()), ("top-p", top_p.is_some()), ("seed", seed.is_some())];
    if let Some((flag, _)) = of_chance.iter().find(|(_, given)| *given && temperature == 0.0) {
        let message = format!("--temperature 0 always takes the most likely token: --{flag} has no effect");
        return Err(Error::usage(message).hint("omit it, or use a temperature above 0"));
    }
    let seed = seed.unwrap_or(1);
    let loaded = models::load(&arguments.model, ctx)?;
    let opening = match arguments.prompt.as_str() {
        "" => loaded.opening()?,
        prompt => Opening::prompt(&loaded.tokenizer, prompt, arguments.allow_unknown)?,
    };
    let started = std::time::Instant::now();
    let mut text = String::new();
    let drawn =
        generate(&*loaded.model, &loaded.tokenizer, &opening, arguments.tokens, sampling, seed, |piece| {
            text.push_str(piece);
            if output.json() { Ok(()) } else { output.write_sample(piece) }
        })?;
    if output.json() {
        return output.event(&serde_json::json!({
            "event": "sample", "prompt": arguments.prompt, "text": text, "tokens": drawn, "seed": seed,
            "temperature": temperature, "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    if text.ends_with('\n') { Ok(()) } else { output.write_stdout("\n") }
}
