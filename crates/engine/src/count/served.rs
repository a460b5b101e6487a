//! Counting by several ranks: each reads and counts its own part of the lines, and rank 0 merges
//! the parts' counts from files in the folder for temporary files, which all share.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use surprisal_formats::counts::Part;
use surprisal_model::ngram::NgramConfig;
use surprisal_store::lock::Lock;
use surprisal_text::{
    Corpus, DataOptions, EncodeOptions, InputOptions, InvalidBytes, LastLine, LiteralSpecials, NoTexts,
    NormalForm, TextMode, Tokenizer, TokenizerKind, WordVocabulary, is_pipe,
};

use super::{Counted, Files, Place, Tokens, count_in, merge, words};
use crate::error::{Error, ExitKind, Result};
use crate::events::{Context, Event, Note, RunId};
use crate::kind::Kind;
use crate::memory::{Room, limit};
use crate::ranks::{Ranks, Reader, Work, Writer};

/// A text to count, as the other ranks have to know it.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    train: Vec<PathBuf>,
    field: Option<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    invalid: InvalidBytes,
    normalize: NormalForm,
    keep_nuls: bool,
    mode: TextMode,
    literal_specials: LiteralSpecials,
    last_line: LastLine,
    /// The kind of tokenizer that each rank learns from its part.
    learned: Option<TokenizerKind>,
    /// The tokenizer that all have, as its file.
    known: Option<String>,
    model: NgramConfig,
    memory: Option<u64>,
    folder: PathBuf,
}

/// The answer of a rank: the notes on its part; or the message of an error, and whether it is one
/// of settings.
type Answer = std::result::Result<Vec<String>, (String, bool)>;

/// The reason why the ranks cannot share a text, if so.
pub(super) fn refusal(data: &DataOptions, tokens: &Tokens<'_>, model: &NgramConfig) -> Option<&'static str> {
    let sorted = |known: &Tokenizer| known.kind() == TokenizerKind::Char;
    if data.mode != TextMode::Line {
        Some("the n-grams of a stream cross the borders of parts")
    } else if data.train.iter().any(|path| is_pipe(path)) {
        Some("a pipe is read by one process")
    } else if model.needs_heldout() {
        Some("tokens are held out of the whole text")
    } else if tokens.known.as_ref().is_some_and(sorted) {
        Some("its characters have ids of their own")
    } else {
        None
    }
}

/// Counts of a text, of which each rank counts a part.
///
/// # Errors
/// As [`super::count`]; an error of another rank, with its number.
pub(super) fn count(
    data: &DataOptions,
    tokens: Tokens<'_>,
    model: &NgramConfig,
    room: &Room,
    ctx: &Context<'_>,
) -> Result<Counted> {
    let Tokens { kind, vocabulary, mut known } = tokens;
    let is_own = matches!(kind, TokenizerKind::Byte | TokenizerKind::Char)
        || kind == TokenizerKind::Word && !vocabulary.needs_counts() && vocabulary.list.is_none();
    if known.is_none() && !is_own {
        // It depends on the whole text.
        ctx.phase("reading words", 0)?;
        let corpus = ctx.pool.install(|| Corpus::whole(data, None))?;
        let (tokenizer, _, note) =
            ctx.pool.install(|| words(&corpus, kind, vocabulary, None, limit(room)))?;
        note.map_or(Ok(()), |note| ctx.note(note))?;
        known = Some(tokenizer);
    }
    let DataOptions { train, inputs, mode, encode_options, .. } = data.clone();
    let json = known.as_ref().map(Tokenizer::to_json).transpose()?;
    let mut job = Job {
        train,
        field: inputs.field,
        include: inputs.include,
        exclude: inputs.exclude,
        invalid: inputs.invalid,
        normalize: inputs.normalize,
        keep_nuls: inputs.keep_nuls,
        mode,
        literal_specials: encode_options.literal_specials,
        last_line: encode_options.last_line,
        learned: known.is_none().then_some(kind),
        known: json.map(|json| String::from_utf8_lossy(&json).into_owned()),
        model: model.clone(),
        memory: room.memory,
        folder: PathBuf::new(),
    };
    // The same command finds the folder again, with what is sorted in it.
    let name = blake3::hash(format!("{job:?} {}", ctx.ranks.size()).as_bytes()).to_hex();
    job.folder = room.temp.join(format!("surprisal-ranks-{}", &name[..16]));
    let failed =
        |what: &str, reason| Error::failed(format!("cannot {what} {}: {reason}", job.folder.display()));
    std::fs::create_dir_all(&job.folder).map_err(|reason| failed("create", reason))?;
    let lock = Lock::acquire(&job.folder)?;
    ctx.ranks.begin(Work::Count, Writer::new(&job)?.bytes())?;
    let own = count_part(&job, 0, ctx);
    // Every rank answers, also after an error.
    let answers: Result<Vec<Answer>> =
        (1..ctx.ranks.size()).map(|rank| Ok(Reader::new(&ctx.ranks.receive(rank)?)?.0)).collect();
    let merged = own.and(answers).and_then(|answers| {
        for (answer, rank) in answers.into_iter().zip(1..) {
            let notes = answer.map_err(|(message, is_usage)| {
                let kind = if is_usage { ExitKind::Usage } else { ExitKind::Failed };
                Error { kind, ..Error::failed(message) }.within(format_args!("rank {rank}"))
            })?;
            ctx.notes(&notes)?;
        }
        let parts: Vec<PathBuf> = (0..ctx.ranks.size()).map(|rank| file(&job.folder, rank)).collect();
        let mut merged = merge(&parts, true, model, room, ctx)?;
        merged.part = Some(Part::whole());
        Ok(merged)
    });
    let removed = std::fs::remove_dir_all(&job.folder);
    drop(lock);
    let merged = merged?;
    removed.map_err(|reason| failed("remove", reason))?;
    Ok(merged)
}

/// The file of the counts of a rank's part.
fn file(folder: &Path, rank: usize) -> PathBuf {
    folder.join(format!("part-{rank:05}.counts"))
}

/// Counts the part of a text that rank 0 asks for.
///
/// # Errors
/// A failure that is not one of counting, which rank 0 is told of.
pub(crate) fn serve(job: &[u8], ctx: &Context<'_>) -> Result<()> {
    let job: Job = Reader::new(job)?.0;
    let notes = std::sync::Mutex::new(Vec::new());
    let keep = |_: RunId, event: &Event| {
        if let Event::Noted(Note::Text(text)) = event
            && let Ok(mut notes) = notes.lock()
        {
            notes.push(text.clone());
        }
        Ok(())
    };
    let counted = count_part(&job, ctx.ranks.rank(), &Context { events: &keep, ..*ctx });
    let notes = notes.into_inner().unwrap_or_default();
    let answer: Answer = match counted {
        Ok(()) => Ok(notes),
        Err(error) => Err((error.message, error.kind == ExitKind::Usage)),
    };
    ctx.ranks.send(0, &Writer::new(&answer)?.bytes())
}

/// Writes the counts of the part of `rank`.
fn count_part(job: &Job, rank: usize, ctx: &Context<'_>) -> Result<()> {
    let inputs = InputOptions {
        field: job.field.clone(),
        include: job.include.clone(),
        exclude: job.exclude.clone(),
        invalid: job.invalid,
        normalize: job.normalize,
        keep_nuls: job.keep_nuls,
        no_texts: NoTexts(Some(Kind::no_text)),
        ..InputOptions::default()
    };
    let data = DataOptions {
        train: job.train.clone(),
        inputs,
        mode: job.mode,
        encode_options: EncodeOptions {
            threads: ctx.pool.threads(),
            literal_specials: job.literal_specials,
            last_line: job.last_line,
        },
        ..DataOptions::default()
    };
    let known = job.known.as_ref().map(|json| Tokenizer::from_json(json.as_bytes())).transpose()?;
    let kind = known.as_ref().map(Tokenizer::kind).or(job.learned);
    let kind = kind.ok_or_else(|| Error::failed("the text has no tokens"))?;
    let vocabulary = WordVocabulary::default();
    let temp = job.folder.join(format!("rank-{rank}"));
    let failed = |reason| Error::failed(format!("cannot create {}: {reason}", temp.display()));
    std::fs::create_dir_all(&temp).map_err(failed)?;
    let room = Room { memory: job.memory, temp: temp.clone(), ..Room::default() };
    let place = Place::OfRanks(rank + 1, ctx.ranks.size());
    let tokens = Tokens { kind, vocabulary: &vocabulary, known };
    let own = Context { ranks: Ranks::ALONE, ..*ctx };
    let counted = count_in(&data, tokens, place, &job.model, &room, &own)?;
    let files = Files::new(&[file(&job.folder, rank)])?;
    // The parts are of no use to whoever hears of files.
    let quiet = |run: RunId, event: &Event| match event {
        Event::Wrote { .. } => Ok(()),
        event => ctx.events.on(run, event),
    };
    counted.write(&files, &job.model, None, &Context { events: &quiet, ..own }).map(drop)
}
