//! `surprisal count` and `surprisal merge`: from texts to counts, ARPA files and queryable files, without a run.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::json;
use surprisal_engine::formats::counts::Part;
use surprisal_engine::formats::{arpa, counts, ngram};
use surprisal_engine::model::ngram::{Counts, MAX_ORDER, NgramConfig, NgramModel, Smoothing, from_counts};
use surprisal_engine::store::read::read_regular;
use surprisal_engine::text::{Corpus, DataOptions, LastLine, Reading, Tokenizer, TokenizerKind, Unit};
use surprisal_platform::threads::Pool;

use crate::cli;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::progress::Progress;
use crate::wording::{bytes, many, one_line, thousands};
use surprisal_engine::config::Model;
use surprisal_engine::kind::{self, Kind};
use surprisal_engine::outputs;
use surprisal_engine::{Context, Note};

/// One of a few names.
fn named<T: serde::de::DeserializeOwned>(option: &str, name: &str) -> Result<T> {
    serde_json::from_value(json!(name))
        .map_err(|error| Failure::usage(format!("--{option} is \"{name}\"")).hint(error.to_string()))
}

/// Everything that can be wrong with the settings, before any work.
struct Plan<'a> {
    /// The files to write, and what their names say that they are to hold.
    files: Vec<(PathBuf, String)>,
    quantize: Option<u32>,
    pool: &'a Pool,
    threads: usize,
}

impl<'a> Plan<'a> {
    fn of(out: &[PathBuf], order: usize, how: &cli::Smooth, pool: &'a Pool) -> Result<Self> {
        let files: Vec<_> = out.iter().map(|path| (path.clone(), outputs::suffix(path))).collect();
        let known = |format: &str| ["arpa", "ngram", "counts", "tsv"].contains(&format);
        if let Some((path, _)) = files.iter().find(|(_, format)| !known(format)) {
            return Err(Failure::usage(format!("{} does not say what to write", path.display()))
                .hint("name it .arpa, .ngram, .counts or .tsv"));
        }
        let config = config(how, order, None, None)?;
        config.check().map_err(|error| Failure::usage(error.to_string()))?;
        let plan = Self { files, quantize: how.quantize, pool, threads: pool.threads() };
        plan.check_use(how, config.smoothing)?;
        Ok(plan)
    }

    /// The files that are to hold `format`.
    fn files(&self, format: &'static str) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(move |(_, of)| of == format).map(|(path, _)| path.as_path())
    }

    /// Refuses flags that would change nothing.
    fn check_use(&self, how: &cli::Smooth, smoothing: Smoothing) -> Result<()> {
        let name = smoothing.name();
        let model = [
            ("smoothing", how.smoothing.is_some()),
            ("prune", !how.prune.is_empty()),
            ("compat", how.compat.is_some()),
            ("tune", how.tune),
        ];
        if let Some((flag, _)) = model.iter().find(|(_, given)| *given && !self.wants_model()) {
            return Err(Failure::usage(format!("--{flag} makes a model of counts, and --out names none"))
                .hint("name an .arpa or .ngram file with --out, or leave the flag away"));
        }
        if how.quantize.is_some() && self.files("ngram").next().is_none() {
            return Err(Failure::usage("--quantize is for .ngram files, and --out names none")
                .hint("only they keep values in few bits"));
        }
        if how.compat.is_some() && !smoothing.counts_contexts() {
            return Err(Failure::usage(format!("--compat means nothing to --smoothing {name}"))
                .hint("it goes with kneser_ney and modified_kneser_ney"));
        }
        if how.tune && !smoothing.is_tunable() {
            let hint = if smoothing == Smoothing::JelinekMercer {
                "it always chooses its weights on held-out text"
            } else {
                "add_k, absolute, kneser_ney and modified_kneser_ney have something to choose"
            };
            return Err(Failure::usage(format!("--tune means nothing to --smoothing {name}")).hint(hint));
        }
        Ok(())
    }

    fn wants_model(&self) -> bool {
        self.files("arpa").chain(self.files("ngram")).next().is_some()
    }
}

fn config(how: &cli::Smooth, order: usize, bos: Option<u32>, unk: Option<u32>) -> Result<NgramConfig> {
    let smoothing = how.smoothing.as_deref().unwrap_or(Smoothing::ModifiedKneserNey.name());
    let model = Model {
        order: Some(order),
        smoothing: Some(smoothing.to_owned()),
        prune: (!how.prune.is_empty()).then(|| how.prune.clone()),
        compat: how.compat.clone(),
        tune: Some(how.tune),
        ..Model::default()
    };
    surprisal_engine::config::ngram_config(&model, bos, unk)
}

/// Runs `surprisal count`.
pub(crate) fn count(arguments: &cli::Count, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let (how, what) = (&arguments.how, &arguments.what);
    let order = what.order.unwrap_or(5);
    let plan = Plan::of(&arguments.out, order, how, ctx.pool)?;
    let unit: Unit = named("unit", what.unit.as_deref().unwrap_or("line"))?;
    let kind: TokenizerKind = named("tokenizer", what.tokenizer.as_deref().unwrap_or("word"))?;
    if arguments.literal_specials.is_some() && kind != TokenizerKind::Word {
        return Err(Failure::usage(format!("--literal-specials means nothing to --tokenizer {kind}"))
            .hint("only words can be spelled like special tokens"));
    }
    let _locks = outputs::files(arguments.out.iter().map(PathBuf::as_path), &arguments.texts)?;
    let shard = arguments.shard.as_deref().map(parse_shard).transpose()?;
    if shard.is_some() {
        if plan.wants_model() {
            return Err(Failure::usage("a part of a text is counted, not modelled")
                .hint("write .counts files with --out, then `merge` them into a model"));
        }
        if unit != Unit::Line {
            return Err(Failure::usage("--shard needs --unit line")
                .hint("the n-grams of a stream cross from one part into the next"));
        }
    }
    let reading = Reading {
        threads: plan.threads,
        literal_specials: named("literal-specials", arguments.literal_specials.as_deref().unwrap_or("unk"))?,
        // Where no newline ends the last line, KenLM counts no sentence end either.
        last_line: if how.compat.is_some() { LastLine::Open } else { LastLine::Sentence },
    };
    let options = DataOptions { train: arguments.texts.clone(), unit, reading, ..DataOptions::default() };
    kind::check_texts(&arguments.texts)?;
    kind::configs(&arguments.texts).try_for_each(|path| ctx.note(Note::LooksLikeConfig(path.clone())))?;
    let corpus = ctx.pool.install(|| Corpus::whole(&options, shard))?;
    surprisal_engine::memory::check_text(corpus.bytes(), kind)?;
    let progress = Progress::new(output);
    progress.phase("reading", 0);
    let (tokenizer, text) = ctx.pool.install(|| corpus.tokenize_train(kind))?;
    output.say_notices(corpus.notices());
    let needed = Counts::memory(text.ids.len(), tokenizer.vocab_size(), order);
    output.say(format!(
        "{}: {}, vocabulary of {}; counting takes {} at most",
        one_line(&corpus.name()),
        many(text.scored(), "token"),
        thousands(tokenizer.vocab_size() as u64),
        bytes(needed),
    ));
    let hint = "count it in parts (--shard, then `merge`), or fewer tokens at a time (--order)";
    surprisal_engine::memory::check(needed, "counting this text", hint)?;
    let config = config(how, order, tokenizer.bos(), tokenizer.unk())?;
    let vocab_size = tokenizer.vocab_size();
    let of = |tokens: Cow<'_, [u32]>, what| {
        progress.phase(what, Counts::PASSES * tokens.len() as u64);
        let done = |positions| progress.advance(positions);
        plan.pool.install(|| Counts::of_watched(tokens, vocab_size, order, config.bos, &done))
    };
    let tuning = if config.needs_heldout() {
        let at = config.heldout_from(&text.ids);
        Some((of(text.ids[..at].into(), "counting what is not held out")?, text.ids[at..].to_vec()))
    } else {
        None
    };
    let counts = of(text.ids.into(), "counting")?;
    let part = match shard {
        None => Part::whole(),
        Some((number, parts)) => {
            progress.phase("reading the whole text, to know its parts again", 0);
            Part { number: number as u32, parts: parts as u32, text: corpus.hash()? }
        }
    };
    let counted = Counted { counts, tokenizer, part: Some(part) };
    write(&plan, counted, &config, tuning.as_ref(), &progress, output)
}

/// Runs `surprisal merge`.
pub(crate) fn merge(arguments: &cli::Merge, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let (how, what) = (&arguments.how, &arguments.what);
    let plan = Plan::of(&arguments.out, what.order.unwrap_or(MAX_ORDER), how, ctx.pool)?;
    if how.tune {
        return Err(Failure::usage("--tune needs the text, and a merge has its counts alone")
            .hint("`count` the whole text with --tune, or leave it away"));
    }
    let _locks = outputs::files(arguments.out.iter().map(PathBuf::as_path), &arguments.counts)?;
    let progress = Progress::new(output);
    progress.phase("reading counts", 0);
    let (mut shards, mut parts) = (Vec::new(), Vec::new());
    for path in &arguments.counts {
        let (counts, tokenizer, part) = open(path, Kind::of(path)?)?;
        shards.push((counts, tokenizer));
        parts.push(part);
    }
    let part = if arguments.sum { None } else { together(&arguments.counts, &parts, output)? };
    progress.phase("merging", 0);
    let (counts, tokenizer) = plan.pool.install(|| counts::merge(shards))?;
    let unit = serde_json::to_value(tokenizer.unit())?;
    for (flag, said, is) in [
        ("order", what.order.map(|order| order.to_string()), counts.order().to_string()),
        ("tokenizer", what.tokenizer.clone(), tokenizer.kind().to_string()),
        ("unit", what.unit.clone(), unit.as_str().unwrap_or_default().to_owned()),
    ] {
        if let Some(said) = said.filter(|said| *said != is) {
            return Err(Failure::usage(format!("--{flag} is {said}, but these counts have {flag} {is}"))
                .hint("that was decided when they were counted: `count` the text again for another"));
        }
    }
    let config = config(how, counts.order(), tokenizer.bos(), tokenizer.unk())?;
    config.check().map_err(|error| Failure::usage(error.to_string()))?;
    write(&plan, Counted { counts, tokenizer, part }, &config, None, &progress, output)
}

/// The counts of a file, the tokenizer of their grams, and which part of a text they are of, where that is known.
///
/// # Errors
/// A file of anything else, or of what is malformed.
pub(super) fn open(path: &Path, kind: Kind) -> Result<(Counts, Tokenizer, Option<Part>)> {
    match kind {
        Kind::Counts => Ok(counts::open(path)?),
        Kind::CountsTsv | Kind::Text => {
            let bytes = read_regular(path)?;
            let (counts, tokenizer) = counts::read_tsv(&bytes, None).map_err(|error| {
                let failure = Failure::from(error);
                failure.within(path.display())
            })?;
            Ok((counts, tokenizer, counts::part_of_tsv(&bytes)))
        }
        kind => {
            let message = format!("{} holds no counts: it is {}", path.display(), kind.words().0);
            Err(Failure::usage(message).hint("merge what `count` wrote as .counts or .tsv"))
        }
    }
}

/// What the parts of one text are together: all of it, if that is known.
///
/// # Errors
/// Parts that are there twice, missing, in another order, or of different texts.
fn together(paths: &[PathBuf], parts: &[Option<Part>], output: &Output) -> Result<Option<Part>> {
    let wrong = |path: &Path, what: String| {
        Err(Failure::usage(format!("{} {what}", path.display()))
            .hint("name all parts of one text, 1/N to N/N, in order; --sum adds up any counts"))
    };
    let place = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].iter().any(|other| place(other) == place(path)) {
            return wrong(path, "is there twice".into());
        }
    }
    let known: Vec<&Part> = parts.iter().flatten().collect();
    // Older files, sums, lists that somebody made; the list of a whole text says nothing either.
    if let Some(unknown) = parts.iter().position(Option::is_none) {
        let path = &paths[unknown];
        if paths.len() > 1 || path.extension().is_none_or(|extension| extension != "tsv") {
            output.warn(format!(
                "note: {} does not say which part of which text it is: whether parts are missing, there twice or in \
                 another order is not checked",
                path.display()
            ));
        }
        return Ok(None);
    }
    for ((path, part), number) in paths.iter().zip(&known).zip(1..) {
        if part.parts == 1 && paths.len() > 1 {
            return wrong(path, "has the counts of a whole text, not of a part of one".into());
        }
        if (part.parts, &part.text) != (known[0].parts, &known[0].text) {
            return wrong(
                path,
                format!("is not of the same parts of the same text as {}", paths[0].display()),
            );
        }
        if part.number != number {
            let Part { number: own, parts, .. } = part;
            return wrong(path, format!("is part {own} of {parts} where part {number} of {parts} should be"));
        }
    }
    match known.last() {
        Some(last) if last.number < last.parts => {
            let Part { number, parts, .. } = last;
            wrong(
                &paths[paths.len() - 1],
                format!("is part {number}, and the last of {parts} should be part {parts}"),
            )
        }
        last => Ok(last.map(|_| Part::whole())),
    }
}

/// What was counted, and of what.
struct Counted {
    counts: Counts,
    tokenizer: Tokenizer,
    part: Option<Part>,
}

/// Writes everything that is asked for.
fn write(
    plan: &Plan<'_>,
    Counted { counts, tokenizer, part }: Counted,
    config: &NgramConfig,
    tuning: Option<&(Counts, Vec<u32>)>,
    progress: &Progress<'_>,
    output: &Output,
) -> Result<()> {
    let (tokenizer, part) = (&tokenizer, part.as_ref());
    let grams = counts.grams();
    output.say(format!(
        "{} up to order {} in {:.1} s",
        many(grams, "different n-gram"),
        counts.order(),
        progress.seconds()
    ));
    let mut written = Vec::new();
    let mut done = |path: &Path, size: u64| {
        output.wrote(path, size);
        written.push(json!({ "path": path.display().to_string(), "bytes": size }));
    };
    if plan.files("counts").chain(plan.files("tsv")).next().is_some() {
        progress.phase("writing counts", 0);
    }
    for path in plan.files("counts") {
        done(path, plan.pool.install(|| counts::write(path, &counts, tokenizer, part))?);
    }
    for path in plan.files("tsv") {
        done(path, plan.pool.install(|| counts::write_tsv(path, &counts, tokenizer, part))?);
    }
    if plan.wants_model() {
        progress.phase("estimating", 0);
        let tuning = tuning.map(|(part, heldout)| (part, heldout.as_slice()));
        let (estimate, report) = plan.pool.install(|| from_counts(counts, config, tuning))?;
        // The model keeps what it was told as a config's key; here it is a flag.
        let notices =
            report.notices.iter().map(|notice| notice.replace("(tune = true finds", "(--tune finds"));
        output.say_notices(&notices.collect::<Vec<_>>());
        progress.phase("writing", 0);
        for path in plan.files("arpa") {
            let written = plan.pool.install(|| arpa::write(path, &estimate, tokenizer))?;
            output.say_notices(&written.notices);
            done(path, written.bytes);
        }
        if plan.files("ngram").next().is_some() {
            let trie = plan.pool.install(|| estimate.into_trie())?;
            let mut model = NgramModel::new(config.clone(), report, trie);
            if let Some(bits) = plan.quantize {
                model = plan.pool.install(|| model.quantized(bits))?;
            }
            for path in plan.files("ngram") {
                done(path, plan.pool.install(|| ngram::write(path, &model, tokenizer))?);
            }
        }
    }
    output.event(&json!({
        "event": "result", "ngrams": grams, "order": config.order, "vocab_size": tokenizer.vocab_size(),
        "written": written, "seconds": progress.seconds(),
    }))
}

/// `2/8` is the second of eight parts.
fn parse_shard(text: &str) -> Result<(usize, usize)> {
    let wrong = || Failure::usage(format!("--shard is \"{text}\"")).hint("for example 1/4, 2/4, 3/4 and 4/4");
    let (part, parts) = text.split_once('/').ok_or_else(wrong)?;
    let (part, parts): (usize, usize) =
        (part.parse().map_err(|_| wrong())?, parts.parse().map_err(|_| wrong())?);
    if (1..=parts).contains(&part) && parts <= 1 << 16 { Ok((part, parts)) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!(parse_shard("2/8").unwrap(), (2, 8));
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/99999"] {
            assert_eq!(parse_shard(wrong).unwrap_err().kind, crate::failure::Kind::Usage, "{wrong}");
        }
    }
}
