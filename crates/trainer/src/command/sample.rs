//! `surprisal sample`: generates text and prints it token by token.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

use surprisal_engine::Context;
use surprisal_engine::generation::{Generator, Limits, Sample};
use surprisal_engine::models::{self, LoadedModel};
use surprisal_engine::sampling::{Opening, Sampling};
use surprisal_engine::store::Error as StoreError;
use surprisal_engine::text::is_standard_input;

use crate::cli;
use crate::error::{CliError, Error, ExitKind, Result, name_flags};
use crate::output::Output;
use crate::wording::many;

/// Tokens of a sample, and the most of a line with `--lines`.
const TOKENS: usize = 500;
const TOKENS_PER_LINE: usize = 10_000;

pub(crate) fn run(arguments: &cli::SampleArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let cli::SampleArgs { temperature, top_k, top_p, min_p, repetition_penalty, .. } = *arguments;
    let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
    let sampling = sampling.check().map_err(|error| {
        let flags = [
            ("the temperature", "--temperature"),
            ("top-k", "--top-k"),
            ("top-p", "--top-p"),
            ("min-p", "--min-p"),
            ("the repetition penalty", "--repetition-penalty"),
        ];
        name_flags(error, &flags)
    })?;
    let of_chance = [
        ("top-k", top_k.is_some()),
        ("top-p", top_p.is_some()),
        ("min-p", min_p.is_some()),
        ("seed", arguments.seed.is_some()),
        ("samples", arguments.samples > 1),
    ];
    if let Some((flag, _)) = of_chance.iter().find(|(_, given)| *given && temperature == 0.0) {
        let message = format!("--temperature 0 always takes the most likely token: --{flag} has no effect");
        return Err(Error::usage(message).hint("omit it, or use a temperature above 0"));
    }
    let usual = if arguments.lines.is_some() { TOKENS_PER_LINE } else { TOKENS };
    let limits = Limits {
        tokens: arguments.tokens.unwrap_or(usual),
        lines: arguments.lines,
        stop: arguments.stop.clone(),
    };
    let prompt = arguments.prompt_file.as_deref().map(read_prompt).transpose()?;
    let loaded = match &arguments.model {
        Some(path) => models::load(path, ctx)?,
        None => models::stories(ctx)?,
    };
    let work = Work { arguments, sampling, limits, loaded: &loaded, ctx, output };
    if !arguments.interactive {
        return work.samples(prompt.as_ref().unwrap_or(&arguments.prompt), 0);
    }
    let (stdin, mut first) = (std::io::stdin().lock(), 0);
    let ask = || {
        if stdin_is_terminal() {
            output.ask("> ");
        }
    };
    ask();
    for line in stdin.lines() {
        let line = line.map_err(|reason| StoreError::io("read", Path::new("-"), reason))?;
        match work.samples(&line, first) {
            // The next prompt may be right.
            Err(error) if error.kind == ExitKind::Usage => {
                output.warn(format!("error: {}", CliError::from(error)));
            }
            done => done?,
        }
        first += arguments.samples;
        ask();
    }
    Ok(())
}

fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The prompt in a file, without a newline at its end.
fn read_prompt(path: &Path) -> Result<String> {
    /// Longer prompts are longer than what a model sees.
    const MOST: u64 = 64 << 20;
    let failed = |reason| Error::from(StoreError::io("read", path, reason));
    let mut text = String::new();
    let read = if is_standard_input(path) {
        std::io::stdin().lock().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).map_err(failed)?.take(MOST).read_to_string(&mut text)
    };
    read.map_err(failed)?;
    let len =
        text.strip_suffix('\n').map_or(text.len(), |rest| rest.strip_suffix('\r').unwrap_or(rest).len());
    text.truncate(len);
    Ok(text)
}

struct Work<'a> {
    arguments: &'a cli::SampleArgs,
    sampling: Sampling,
    limits: Limits,
    loaded: &'a LoadedModel,
    ctx: &'a Context<'a>,
    output: &'a Output,
}

impl Work<'_> {
    /// Prints the samples of a prompt, whose numbers begin with `first`.
    fn samples(&self, prompt: &str, first: u64) -> Result<()> {
        let Self { arguments, loaded, output, .. } = *self;
        let (own, unknown) = (loaded.opening()?, arguments.allow_unknown);
        let opening = match prompt {
            "" => own,
            prompt => {
                let any_bytes = own.any_bytes;
                Opening { any_bytes, ..loaded.prompt(prompt, unknown)? }
            }
        };
        let generator = Generator::new(&*loaded.model, &loaded.tokenizer, &opening, self.sampling, unknown);
        let seed = arguments.seed.unwrap_or(1);
        if arguments.samples == 1 && !output.json() {
            let mut ends_line = true;
            let emit = |piece: &str| {
                ends_line = piece.ends_with('\n');
                output.write_sample(piece)
            };
            let sample = generator.sample(&self.limits, seed, first, emit)?;
            if !ends_line {
                output.write_stdout("\n")?;
            }
            self.note(sample, first);
            return Ok(());
        }
        let (mut done, pool) = (0, self.ctx.pool);
        while done < arguments.samples {
            // As many at a time as there are threads; each is the same alone.
            let at_once = (arguments.samples - done).min(pool.threads() as u64);
            let drawn = pool.map(at_once as usize, |i| {
                let (started, mut text) = (std::time::Instant::now(), String::new());
                let emit = |piece: &str| {
                    text.push_str(piece);
                    Ok(())
                };
                let sample = generator.sample(&self.limits, seed, first + done + i as u64, emit);
                (text, sample, started.elapsed().as_secs_f64())
            });
            for (number, (text, sample, seconds)) in (first + done..).zip(drawn) {
                if !output.json() {
                    if arguments.samples > 1 {
                        output.write_stdout(&format!("--- sample {} ---\n", number + 1))?;
                    }
                    output.write_sample(&text)?;
                    if !text.ends_with('\n') {
                        output.write_stdout("\n")?;
                    }
                }
                let sample = sample?;
                output.event(&serde_json::json!({
                    "event": "sample", "number": number + 1, "prompt": prompt, "text": text,
                    "tokens": sample.tokens, "end": sample.end, "seed": seed,
                    "temperature": self.sampling.temperature, "seconds": seconds,
                }))?;
                self.note(sample, number);
            }
            done += at_once;
        }
        Ok(())
    }

    /// Notes lines that did not end.
    fn note(&self, sample: Sample, number: u64) {
        if sample.cut > 0 {
            let (lines, tokens) = (many(sample.cut as u64, "line"), many(self.limits.tokens as u64, "token"));
            self.output
                .warn(format!("note: sample {}: {lines} did not end within {tokens} (--tokens)", number + 1));
        }
    }
}
