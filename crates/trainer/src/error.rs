//! Errors of commands: the engine's message, a hint that names this program's flags, and the exit
//! code.

use std::fmt;

use surprisal_engine::Advice;
pub use surprisal_engine::{Error, ExitKind, Result};

use crate::wording::one_line;

/// The error of a command, with its exit code.
#[derive(Debug)]
pub struct CliError {
    failure: Error,
    signal: Option<u8>,
}

impl CliError {
    pub(crate) fn new(failure: Error, signal: Option<u8>) -> Self {
        let signal = signal.filter(|_| failure.kind == ExitKind::Stopped);
        Self { failure, signal }
    }

    /// Whether to print a message. It is not an error if the reader of standard output has closed
    /// the pipe.
    pub fn is_reported(&self) -> bool {
        self.failure.kind != ExitKind::BrokenPipe
    }

    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self.failure.kind {
            ExitKind::BrokenPipe => 0,
            ExitKind::Failed => 1,
            ExitKind::Usage => 2,
            ExitKind::Diverged => 3,
            ExitKind::Stopped => 128 + self.signal.unwrap_or(0),
        }
    }
}

impl From<Error> for CliError {
    fn from(failure: Error) -> Self {
        Self::new(failure, None)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = one_line(&self.failure.message);
        if self.signal.is_some() {
            message = message.replacen("stopped", "stopped by a signal", 1);
        }
        f.write_str(&message)?;
        match &self.failure.advice {
            Some(advice) => write!(f, "\n  hint: {}", one_line(&words(advice))),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

/// The error with the engine's name at its start replaced by a flag; `flags` has (name, flag)
/// pairs.
pub(crate) fn name_flags(mut failure: Error, flags: &[(&str, &str)]) -> Error {
    if let Some((name, flag)) = flags.iter().find(|(name, _)| failure.message.starts_with(name)) {
        failure.message = failure.message.replacen(name, flag, 1);
    }
    failure
}

/// The error of a write to standard output.
pub(crate) fn stdout_error(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Error { kind: ExitKind::BrokenPipe, ..Error::failed("standard output was closed") };
    }
    Error::failed(format!("cannot write to standard output: {error}"))
}

/// The hint for `advice`, in terms of this program's flags.
pub fn words(advice: &Advice) -> String {
    let text = match advice {
        Advice::Set { key } => return format!("did you mean --set {key}=…?"),
        Advice::SetForm => "for example --set train.epochs=3 or --set tokenizer.kind=bpe",
        Advice::OfComparison => "compare has --seeds and --jobs for it",
        Advice::Compare(path) => return format!("surprisal compare {}", path.display()),
        Advice::OneRun(path) => {
            return format!(
                "surprisal train {} trains this one config; configs/compare_mle_vs_smoothing.toml shows how to write a \
                 comparison",
                path.display()
            );
        }
        Advice::ConfigFirst(path) => {
            return format!(
                "name the config first, then the texts: surprisal compare CONFIG.toml {}",
                path.display()
            );
        }
        Advice::OtherSeeds => "give different seeds, for example --seeds 1,2,3",
        Advice::SeedsOfComparison => "give the seeds in [compare]: seeds = [1, 2, 3]; or --seeds 1,2,3",
        Advice::JobsThatFit(jobs) => return format!("--jobs {jobs} fits"),
        Advice::OtherComparison => "give another --out, or remove the old comparison",
        Advice::PutBack { of } => {
            let before = of.map_or_else(String::new, |of| format!("{of}: "));
            return format!(
                "{before}name where they are with --data; or score other held-out texts: surprisal eval RUN TEXT"
            );
        }
        Advice::MaxUnknown { characters: true } => {
            "start a run with --from and --extend-vocab, which adds rows for these characters; or use <unk> for them: \
             --set model.max_unknown=1"
        }
        Advice::MaxUnknown { characters: false } => {
            "train a new model on this text; or use <unk> for them: --set model.max_unknown=1"
        }
        Advice::Elsewhere(before, after) => return format!("{before} with --out{after}"),
        Advice::NameEach => "give each --out a name of its own",
        Advice::ResumeOrElsewhere => "continue that run with --resume, or choose another folder with --out",
        Advice::OtherStart => "smooth its counts (add_k), or try another --prompt or --seed",
        Advice::DrawUnknown => "--allow-unknown draws <unk>, too; or smooth the model's counts",
        Advice::AllowUnknown(lacks) => {
            return format!("the training text had no such {lacks}; --allow-unknown replaces it by <unk>");
        }
        Advice::LiteralSpecials => {
            "literal_specials = \"unk\" (in a config's [data]; count --literal-specials unk) reads it as an unknown word, or as a \
             sentence mark at the start or end of a line; \"skip\" as white space"
        }
        Advice::InvalidBytes => {
            "--invalid replace (in a config: data.invalid) puts U+FFFD in its place, and --invalid skip-line leaves out \
             such lines; or convert the text to UTF-8; a byte tokenizer reads any bytes"
        }
        Advice::TrainConfig => "train it: surprisal train CONFIG.toml",
        Advice::HuggingFaceFolder => "give the folder that `save_pretrained` or `surprisal export` wrote",
        Advice::Merge => "merge them into one: surprisal merge COUNTS --out MODEL.ngram",
        Advice::ComparisonRuns => {
            "give one of its runs, a folder in cells/; surprisal compare CONFIG.toml --out FOLDER continues it and \
             writes its report"
        }
        Advice::Tamer { run, lr } => {
            return format!(
                "lower optim.lr, lengthen optim.warmup, or set optim.grad_clip: surprisal train --resume --out {} --set \
                 optim.lr={lr:.1e} goes on from the last good checkpoint",
                run.display()
            );
        }
        Advice::NewRun(run) => {
            let run = run.display();
            return format!(
                "a new run can have other settings: surprisal train {run}/config.toml --set KEY=VALUE --out NEW; with \
                 --from {run} it starts from this run's weights"
            );
        }
        Advice::CountAgain(run) => {
            let run = run.display();
            return format!("count again: surprisal train {run}/config.toml --set KEY=VALUE --out NEW");
        }
        Advice::MoreSteps => "give it more: --set train.steps=+500, or a longer --budget",
        Advice::NameTexts => {
            "restore the texts; or go on with them as they are by naming them: surprisal train TEXT --resume --out RUN"
        }
        Advice::ResumeRun(path) => {
            return format!("surprisal train --resume --out {} continues it", path.display());
        }
        Advice::Resume => "--resume with the same --out continues from here",
        Advice::CountLess => {
            "count it in temporary files (--memory), in parts (--shard, then `merge`), or in a lower --order"
        }
        Advice::FewerWords => {
            "allow more with --memory, or keep fewer words with --min-count 2 or --vocab-size N"
        }
        Advice::OtherTemp => "free some space, or name a folder on a larger disk with --temp",
        Advice::ListWords => "give all parts the same list of words with --vocab",
        Advice::AllParts => "name all parts of one text, 1/N to N/N, in order; --sum adds up any counts",
        Advice::Again => "the same command starts again",
        Advice::Continue => "the same command continues from here",
        Advice::FewerThreads => {
            "a limit on processes (ulimit -u) or memory (ulimit -v) was reached: use \
             fewer with --threads; --threads 1 needs no additional thread"
        }
        Advice::Text(text) => text,
    };
    text.to_owned()
}
