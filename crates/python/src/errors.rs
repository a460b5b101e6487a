//! Errors of the engine as Python's exceptions, with hints that name Python's arguments.

use pyo3::prelude::*;
use surprisal_engine::{Advice, Error, ExitKind};

/// The exception for an error: a class of `surprisal_lm._errors`, with message and hint.
pub(crate) fn raised(error: impl Into<Error>) -> PyErr {
    let error: Error = error.into();
    let class = match error.kind {
        ExitKind::Usage => "UsageError",
        ExitKind::Failed | ExitKind::BrokenPipe => "FailedError",
        ExitKind::Diverged => "DivergedError",
        ExitKind::Stopped => "StoppedError",
    };
    let hint = error.advice.as_ref().map(hint);
    Python::attach(|py| {
        let exception = || py.import("surprisal_lm._errors")?.getattr(class)?.call1((&error.message, hint));
        exception().map_or_else(|failure| failure, PyErr::from_value)
    })
}

/// The hint for `advice`; one that no argument of Python's functions answers names the program's.
fn hint(advice: &Advice) -> String {
    match advice {
        Advice::Set { key } => format!("did you mean set={{\"{key}\": …}}?"),
        Advice::SetForm => "for example set={\"train.epochs\": 3}".into(),
        Advice::OfComparison => "compare has the arguments seeds and jobs for it".into(),
        Advice::Compare(_) => "surprisal_lm.compare runs it".into(),
        Advice::OtherSeeds => "give different seeds, for example seeds=[1, 2, 3]".into(),
        Advice::SeedsOfComparison => "give seeds=[1, 2, 3]".into(),
        Advice::JobsThatFit(jobs) => format!("jobs={jobs} fits"),
        Advice::Elsewhere(before, after) => format!("{before} with out={after}"),
        Advice::NameEach => "give each of out a name of its own".into(),
        Advice::ResumeOrElsewhere => "continue that run with resume=True, or choose another folder with out=".into(),
        Advice::OtherComparison => "give another out=, or remove the old comparison".into(),
        Advice::OtherStart => "smooth its counts (add_k), or try another prompt or seed".into(),
        Advice::DrawUnknown => "allow_unknown=True draws <unk>, too; or smooth the model's counts".into(),
        Advice::AllowUnknown(lacks) => {
            format!("the training text had no such {lacks}; allow_unknown=True replaces it by <unk>")
        }
        Advice::InvalidBytes => {
            "set={\"data.invalid\": \"replace\"} puts U+FFFD in its place, and \"skip-line\" leaves out such lines; or \
             convert the text to UTF-8; a byte tokenizer reads any bytes"
                .into()
        }
        Advice::TrainConfig => "train it: surprisal_lm.train(model=CONFIG)".into(),
        Advice::Merge => "merge them into one: surprisal_lm.merge(COUNTS, \"model.ngram\")".into(),
        Advice::MoreSteps => "give it more: set={\"train.steps\": \"+500\"}, or a longer budget".into(),
        Advice::NameTexts => {
            "restore the texts; or go on with them as they are by naming them: train(TEXTS, resume=True, out=RUN)".into()
        }
        Advice::ResumeRun(path) => format!("train(resume=True, out=\"{}\") continues it", path.display()),
        Advice::Resume => "resume=True with the same out continues from here".into(),
        Advice::CountLess => "count it in parts (shard=, then merge), or with a lower order".into(),
        Advice::FewerWords => "keep fewer words: min_count=2, or vocab_size=".into(),
        Advice::OtherTemp => "free some space on the disk of the temporary files".into(),
        Advice::ListWords => "give all parts the same list of words with vocab=".into(),
        Advice::AllParts => "name all parts of one text in their order; sum=True adds up any counts".into(),
        Advice::Again => "the same call starts again".into(),
        Advice::Continue => "the same call continues from here".into(),
        Advice::FewerThreads => "a limit on processes or memory was reached: use a smaller threads=".into(),
        Advice::Text(text) => text.clone(),
        advice => surprisal::error::words(advice),
    }
}
