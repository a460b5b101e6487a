//! `surprisal count` and `surprisal merge`: n-gram counts and models from texts, without a run.

use std::path::PathBuf;

use serde_json::{Value, json};
use surprisal_engine::count::{self, Counted, Files, Grams, Room, Tokens};
use surprisal_engine::kind::Kind;
use surprisal_engine::model::ngram::{MAX_ORDER, NgramConfig, Smoothing};
use surprisal_engine::text::{
    DataOptions, EncodeOptions, InputOptions, LastLine, MinCount, NoTexts, TextMode, Tokenizer,
    TokenizerKind, WordVocabulary,
};
use surprisal_engine::word_choice::word_list;
use surprisal_engine::{Context, Event, Events, Note, RunId, data, outputs};

use crate::cli;
use crate::error::{Error, Result, name_flags};
use crate::output::Output;
use crate::wording::many;

/// Parses the value of an option as an enum.
fn parse_name<T: serde::de::DeserializeOwned>(option: &str, name: &str) -> Result<T> {
    serde_json::from_value(json!(name))
        .map_err(|error| Error::usage(format!("--{option} is \"{name}\"")).hint(error.to_string()))
}

/// The requested model and output files; checks all flags before any work.
fn model_and_files(out: &[PathBuf], order: usize, how: &cli::SmoothingArgs) -> Result<(NgramConfig, Files)> {
    let files = Files::new(out)?;
    let smoothing = how.smoothing.as_deref().unwrap_or(Smoothing::ModifiedKneserNey.name());
    let default = NgramConfig::default();
    let fallback = match how.fallback[..] {
        [] => default.fallback,
        [one, two, more] => [one, two, more],
        ref other => {
            return Err(Error::usage(format!("--fallback needs three discounts, not {}", other.len()))
                .hint("those of counts of 1, 2, and 3 or more, e.g. 0.5,1,1.5"));
        }
    };
    let config = NgramConfig {
        order,
        smoothing: parse_name("smoothing", smoothing)?,
        prune: how.prune.clone(),
        prune_entropy: how.prune_entropy.unwrap_or(default.prune_entropy),
        compat: how.compat.as_deref().map(|compat| parse_name("compat", compat)).transpose()?,
        k: how.k.unwrap_or(default.k),
        alpha: how.alpha.clone(),
        fallback,
        tune: how.tune,
        heldout: how.heldout.unwrap_or(default.heldout),
        interpolate_unigrams: !how.no_interpolate_unigrams,
        closed: how.closed,
        ..default
    };
    config.check().map_err(|error| name_flags(Error::usage(error.to_string()), FLAGS))?;
    check_flags(how, &config, &files)?;
    Ok((config, files))
}

/// The beginnings of messages about settings, with the flags in their place.
pub(super) const FLAGS: &[(&str, &str)] = &[
    ("prune_entropy", "--prune-entropy"),
    ("prune", "--prune"),
    ("pruning by count", "--prune: pruning by count"),
    ("pruning by entropy", "--prune-entropy: pruning by entropy"),
    ("k must", "--k must"),
    ("alpha", "--alpha"),
    ("a discount of", "--fallback: a discount of"),
    ("heldout", "--heldout"),
    ("closed", "--closed"),
];

fn wants_model(files: &Files) -> bool {
    files.any(&["arpa", "ngram"])
}

/// Refuses flags without an effect.
fn check_flags(how: &cli::SmoothingArgs, config: &NgramConfig, files: &Files) -> Result<()> {
    let (smoothing, name) = (config.smoothing, config.smoothing.name());
    let model = [
        ("smoothing", how.smoothing.is_some()),
        ("prune", !how.prune.is_empty()),
        ("prune-entropy", how.prune_entropy.is_some()),
        ("compat", how.compat.is_some()),
        ("k", how.k.is_some()),
        ("alpha", !how.alpha.is_empty()),
        ("fallback", !how.fallback.is_empty()),
        ("tune", how.tune),
        ("heldout", how.heldout.is_some()),
        ("no-interpolate-unigrams", how.no_interpolate_unigrams),
        ("closed", how.closed),
    ];
    let mut given = model.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag);
    if let Some(flag) = given.clone().next().filter(|_| !wants_model(files)) {
        return Err(Error::usage(format!("--{flag} is for models, but --out names none"))
            .hint("name an .arpa or .ngram file with --out, or omit the flag"));
    }
    if how.quantize.is_some() && !files.any(&["ngram"]) {
        return Err(Error::usage("--quantize is for .ngram files, but --out names none")
            .hint("only .ngram files can be quantized"));
    }
    if how.compat.is_some() && !smoothing.uses_continuation_counts() {
        return Err(Error::usage(format!("--compat has no effect with --smoothing {name}"))
            .hint("use it with kneser_ney or modified_kneser_ney"));
    }
    if how.tune && !smoothing.is_tunable() {
        let hint = if smoothing == Smoothing::JelinekMercer {
            "it always fits its weights to held-out text".to_owned()
        } else {
            let tunable = Smoothing::ALL.into_iter().filter(|other| other.is_tunable()).map(Smoothing::name);
            format!("use it with one of: {}", tunable.collect::<Vec<_>>().join(", "))
        };
        return Err(Error::usage(format!("--tune has no effect with --smoothing {name}")).hint(hint));
    }
    let key = |flag: &str| flag.trim_start_matches("no-").replace('-', "_");
    if let Some(flag) = given.find(|flag| !config.has_effect(&key(flag))) {
        let beside = match flag {
            "no-interpolate-unigrams" if how.closed => "--closed".to_owned(),
            "k" | "alpha" if how.tune => "--tune".to_owned(),
            _ => format!("--smoothing {name}"),
        };
        let hint = match flag {
            "heldout" => "give --tune, or --smoothing jelinek_mercer, which always fits its weights",
            "k" => "it is the k of --smoothing add_k, unless that is tuned",
            "alpha" => "it is the α of --smoothing dirichlet, unless that is tuned",
            "fallback" => "only absolute, kneser_ney and modified_kneser_ney have discounts",
            _ => "single words leave no back-off mass to <unk>",
        };
        return Err(Error::usage(format!("--{flag} has no effect with {beside}")).hint(hint));
    }
    Ok(())
}

/// Refuses flags about `<unk>` where the tokens have none.
fn check_unk(how: &cli::SmoothingArgs, has_unk: bool) -> Result<()> {
    let flags = [("closed", how.closed), ("no-interpolate-unigrams", how.no_interpolate_unigrams)];
    match flags.iter().find(|(_, given)| *given && !has_unk) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::usage(format!("--{flag} has no effect on tokens without <unk>"))
            .hint("bytes, and byte pairs, spell every text")),
    }
}

pub(crate) fn count(arguments: &cli::CountArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let (how, what) = (&arguments.how, &arguments.what);
    let (config, files) = model_and_files(&arguments.out, what.order.unwrap_or(5), how)?;
    let unit: TextMode = parse_name("unit", what.unit.as_deref().unwrap_or("line"))?;
    let kind: TokenizerKind = parse_name("tokenizer", what.tokenizer.as_deref().unwrap_or("word"))?;
    let file = arguments.tokenizer_file.as_deref();
    let known = file.map(|path| data::file_tokenizer(path, unit)).transpose()?;
    let kind = known.as_ref().map_or(kind, Tokenizer::kind);
    if arguments.literal_specials.is_some() && kind != TokenizerKind::Word {
        return Err(Error::usage(format!("--literal-specials has no effect with --tokenizer {kind}"))
            .hint("only words can be spelled like special tokens"));
    }
    check_unk(how, known.as_ref().map_or(kind != TokenizerKind::Byte, |known| known.unk().is_some()))?;
    let words = &arguments.words;
    let flags = [
        ("min-count", words.min_count.is_some()),
        ("vocab-size", words.vocab_size.is_some()),
        ("vocab", words.vocab.is_some()),
    ];
    if let Some((flag, _)) = flags.iter().find(|(_, given)| *given && kind != TokenizerKind::Word) {
        return Err(Error::usage(format!("--{flag} has no effect with --tokenizer {kind}"))
            .hint("only the vocabulary of words can be chosen"));
    }
    let room = room(&arguments.room, &files, how.quantize.is_some())?;
    let inputs = [&arguments.texts[..], words.vocab.as_slice()].concat();
    let _locks = outputs::files(arguments.out.iter().map(PathBuf::as_path), &inputs)?;
    let shard = arguments.shard.as_deref().map(parse_shard).transpose()?;
    if shard.is_some() && wants_model(&files) {
        return Err(Error::usage("--shard can write only counts (.counts, .tsv)")
            .hint("write .counts files with --out, then `merge` them into a model"));
    }
    if shard.is_some() && unit != TextMode::Line {
        return Err(Error::usage("--shard needs --unit line")
            .hint("the n-grams of a stream cross the borders of parts"));
    }
    let reading = EncodeOptions {
        threads: ctx.pool.threads(),
        literal_specials: parse_name(
            "literal-specials",
            arguments.literal_specials.as_deref().unwrap_or("unk"),
        )?,
        // Like KenLM, counts no sentence end if the last line has no newline.
        last_line: if how.compat.is_some() { LastLine::Open } else { LastLine::Sentence },
    };
    let inputs = InputOptions { keep_nuls: how.compat.is_some(), ..input_options(&arguments.reading)? };
    let normalize = inputs.normalize;
    let texts = DataOptions {
        train: arguments.texts.clone(),
        inputs,
        mode: unit,
        encode_options: reading,
        ..DataOptions::default()
    };
    let vocabulary = WordVocabulary {
        min_count: MinCount::Fixed(words.min_count.unwrap_or(1)),
        vocab_size: words.vocab_size,
        list: words
            .vocab
            .as_deref()
            .map(|path| word_list(path, normalize))
            .transpose()
            .map_err(|error| error.within("--vocab"))?,
    };
    vocabulary.check(unit).map_err(|error| Error::from(error).within("--vocab-size"))?;
    let tokens = Tokens { kind, vocabulary: &vocabulary, known };
    let counted = count::count(&texts, tokens, shard, &config, &room, ctx)?;
    note_room(&arguments.room, &counted, ctx)?;
    write(counted, &files, &config, how.quantize, ctx, output)
}

/// Says that a folder for temporary files was not needed.
fn note_room(room: &cli::RoomArgs, counted: &Counted, ctx: &Context<'_>) -> Result<()> {
    if room.temp.is_some() && matches!(counted.counts, Grams::Memory(_)) {
        ctx.note(Note::Text("no temporary files are needed: counting fits into memory".into()))?;
    }
    Ok(())
}

/// The room for counting into `files`.
pub(crate) fn room(arguments: &cli::RoomArgs, files: &Files, quantize: bool) -> Result<Room> {
    if let Some(folder) = arguments.temp.as_ref().filter(|folder| !folder.is_dir()) {
        let message = format!("--temp: cannot write into `{}`, which is no folder", folder.display());
        return Err(Error::usage(message).hint("make the folder, or name another"));
    }
    if arguments.memory.is_some() {
        surprisal_platform::counting_allocator::return_freed_memory();
    }
    Ok(files.room(arguments.memory, arguments.temp.clone(), quantize))
}

pub(crate) fn merge(arguments: &cli::MergeArgs, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let (how, what) = (&arguments.how, &arguments.what);
    let (config, files) = model_and_files(&arguments.out, what.order.unwrap_or(MAX_ORDER), how)?;
    if let Some((flag, _)) =
        [("tune", how.tune), ("heldout", how.heldout.is_some())].iter().find(|(_, given)| *given)
    {
        return Err(Error::usage(format!("--{flag} needs the text, but a merge has only counts"))
            .hint(format!("`count` the whole text with --{flag}, or omit it")));
    }
    let _locks = outputs::files(arguments.out.iter().map(PathBuf::as_path), &arguments.counts)?;
    let room = room(&arguments.room, &files, how.quantize.is_some())?;
    let merged = count::merge(&arguments.counts, arguments.sum, &config, &room, ctx)?;
    note_room(&arguments.room, &merged, ctx)?;
    check_unk(how, merged.tokenizer.unk().is_some())?;
    let unit = serde_json::to_value(merged.tokenizer.mode())?;
    for (flag, said, is) in [
        ("order", what.order.map(|order| order.to_string()), merged.counts.order().to_string()),
        ("tokenizer", what.tokenizer.clone(), merged.tokenizer.kind().to_string()),
        ("unit", what.unit.clone(), unit.as_str().unwrap_or_default().to_owned()),
    ] {
        if let Some(said) = said.filter(|said| *said != is) {
            return Err(Error::usage(format!("--{flag} is {said}, but these counts have {flag} {is}"))
                .hint("to change it, `count` the text again"));
        }
    }
    write(merged, &files, &config, how.quantize, ctx, output)
}

fn write(
    counted: Counted,
    files: &Files,
    config: &NgramConfig,
    quantize: Option<u32>,
    ctx: &Context<'_>,
    output: &Output,
) -> Result<()> {
    let (grams, order) = (counted.counts.grams(), counted.counts.order());
    let vocab_size = counted.tokenizer.vocab_size();
    let seconds = output.seconds();
    output.info(format!("{} up to order {order} in {seconds:.1} s", many(grams, "different n-gram")));
    let events = |run: RunId, event: &Event| match event {
        // Replaces the config key by the flag.
        Event::Noted(Note::Text(note)) => {
            output.on(run, &Event::Noted(Note::Text(note.replace("(tune = true finds", "(--tune finds"))))
        }
        event => output.on(run, event),
    };
    let written = counted.write(files, config, quantize, &Context { events: &events, ..*ctx })?;
    let written: Vec<Value> = written
        .iter()
        .map(|(path, bytes)| json!({ "path": path.display().to_string(), "bytes": bytes }))
        .collect();
    output.event(&json!({
        "event": "result", "ngrams": grams, "order": order, "vocab_size": vocab_size,
        "written": written, "seconds": output.seconds(),
    }))
}

/// The options of reading texts from the command line.
pub(crate) fn input_options(reading: &cli::ReadingArgs) -> Result<InputOptions> {
    let invalid = reading.invalid.as_deref().map(|name| parse_name("invalid", name)).transpose()?;
    let normalize = reading.normalize.as_deref().map(|name| parse_name("normalize", name)).transpose()?;
    Ok(InputOptions {
        field: reading.field.clone(),
        include: reading.include.clone(),
        exclude: reading.exclude.clone(),
        invalid: invalid.unwrap_or_default(),
        normalize: normalize.unwrap_or_default(),
        no_texts: NoTexts(Some(Kind::no_text)),
        ..InputOptions::default()
    })
}

/// Parses a shard: `2/8` is the second of eight parts.
fn parse_shard(text: &str) -> Result<(usize, usize)> {
    let wrong = || Error::usage(format!("--shard is \"{text}\"")).hint("for example 1/4, 2/4, 3/4 and 4/4");
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
            assert_eq!(parse_shard(wrong).unwrap_err().kind, crate::error::ExitKind::Usage, "{wrong}");
        }
    }
}
