//! `surprisal eval`: one text, one model, one honest number.

use serde_json::json;
use surprisal_kernels::threads::Pool;

use crate::cli;
use crate::config::cores;
use crate::evaluate::{Evaluation, evaluate};
use crate::failure::Result;
use crate::models;
use crate::output::{Output, thousands};

/// Runs the command.
pub(crate) fn run(arguments: &cli::Eval, output: &Output) -> Result<()> {
    let mut loaded = models::load(&arguments.model)?;
    if let Some(stride) = arguments.stride {
        loaded.set_stride(stride)?;
    }
    let text = loaded.evaluation_text(&arguments.texts, output)?;
    let pool = Pool::new(arguments.threads.unwrap_or_else(cores))?;
    let started = std::time::Instant::now();
    let evaluation = evaluate(&*loaded.model, &text.tokens, loaded.tokenizer.unk(), text.source_nats, &pool)?;
    if output.json() {
        return output.event(&json!({
            "event": "result", "model": arguments.model, "text": text.name, "eval": evaluation,
            "seconds": started.elapsed().as_secs_f64(),
        }));
    }
    output.data(&table(&evaluation, &text.name))
}

/// What a person reads.
pub(crate) fn table(evaluation: &Evaluation, name: &str) -> String {
    let mut lines = vec![
        ("text".to_owned(), name.to_owned()),
        ("tokens".to_owned(), thousands(evaluation.tokens)),
        ("bytes".to_owned(), thousands(evaluation.bytes)),
        ("nats per token".to_owned(), format!("{:.4}", evaluation.nats_per_token())),
        ("perplexity".to_owned(), format!("{:.4}", evaluation.perplexity())),
        ("bits per byte".to_owned(), format!("{:.4}", evaluation.bits_per_byte())),
    ];
    if evaluation.scores_only {
        lines.truncate(3);
        lines.push(("log score per token".to_owned(), format!("{:.4}", -evaluation.nats_per_token())));
        lines.push(("perplexity".to_owned(), "none: these scores do not sum to one".to_owned()));
        return lines.iter().map(|(label, value)| format!("{label:<26}{value}\n")).collect();
    }
    if evaluation.oov > 0 {
        lines.push(("out of vocabulary".to_owned(), thousands(evaluation.oov)));
        lines.push((
            "perplexity excluding OOV".to_owned(),
            format!("{:.4}", evaluation.perplexity_excluding_oov()),
        ));
    }
    if evaluation.zero_probability > 0 {
        let possible = (evaluation.tokens - evaluation.zero_probability) as f64;
        lines.push(("zero probability".to_owned(), thousands(evaluation.zero_probability)));
        lines.push((
            "nats per possible token".to_owned(),
            format!("{:.4}", evaluation.nats_possible / possible),
        ));
    }
    if let (Some(entropy), Some(kl)) = (evaluation.source_entropy(), evaluation.kl()) {
        lines.push(("source entropy H(p)".to_owned(), format!("{entropy:.4}")));
        lines.push(("gap KL(p‖q)".to_owned(), format!("{kl:.4}")));
    }
    lines.iter().map(|(label, value)| format!("{label:<26}{value}\n")).collect()
}
