//! A row of figures for each line, word or token of texts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use surprisal_model::LanguageModel;
use surprisal_platform::threads::Pool;
use surprisal_text::{EvaluationText, InputOptions, TextMode, Tokenizer, UnknownText};

use crate::error::{Error, Result};
use crate::events::Context;
use crate::models::LoadedModel;
use crate::word_sums::by_word;

/// Lines per task, and tasks whose rows are in memory at once.
const LINES_PER_TASK: usize = 1 << 10;
const TASKS: usize = 1 << 6;

/// The parts that have rows of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The lines of a text.
    Line,
    /// Its words, as [`by_word`] sums them.
    Word,
    /// Its tokens.
    Token,
}

/// The text that is context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The line, as if it were alone; where lines have no `<s>`, with a newline before it.
    Line,
    /// The text before, over the ends of lines: where lines are sentences, they are joined to one.
    Text,
}

/// Options of scoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The parts that have rows.
    pub by: By,
    /// The context; `None`: as in training and evaluation.
    pub reach: Option<Reach>,
    /// Whether `<s>` is the context of a sentence's first word.
    pub bos: bool,
    /// Whether `</s>` is scored.
    pub eos: bool,
}

/// The figures of a line, word or token.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<'a> {
    /// The name of the text.
    pub text: &'a str,
    /// The number of the line in the text, from 1.
    pub line: u64,
    /// The number of the word or token in the line, from 1; 0 for a line.
    pub position: u64,
    /// The word or token, also an unknown one; empty for a line.
    pub part: &'a str,
    /// The number of tokens.
    pub tokens: u64,
    /// The number of `<unk>` among them.
    pub unknown: u64,
    /// The length of the longest n-gram of the model that ends with the token; `None` for several
    /// tokens, and from a model without n-grams.
    pub matched: Option<usize>,
    /// ln q in nats, over all the tokens.
    pub log_prob: f64,
}

/// The sums over all rows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Lines.
    pub lines: u64,
    /// Tokens.
    pub tokens: u64,
    /// `<unk>` among them.
    pub unknown: u64,
    /// ln q in nats.
    pub log_prob: f64,
}

/// The tokens of a line: those that are scored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    number: u64,
    tokens: Range<usize>,
}

/// A text, divided into lines.
struct Divided<'a> {
    name: &'a str,
    ids: Cow<'a, [u32]>,
    lines: Vec<Line>,
    /// The words that `<unk>` stands for.
    unknown: Cow<'a, BTreeMap<usize, String>>,
    /// The context of each line, in `ids` or beside them; `None`: the lines before.
    context: Option<Vec<u32>>,
    /// Whether the token before a line, or before the text, is `<s>`.
    bos: bool,
}

/// Scores `texts`, each by itself, or the run's own validation text. `format` appends a row to a
/// buffer, on several threads; `write` receives the rows in order.
///
/// # Errors
/// Options that do not fit the model; texts that cannot be read; a failure of the model or of
/// `write`.
pub fn score(
    loaded: &LoadedModel,
    texts: &[PathBuf],
    inputs: &InputOptions,
    options: Options,
    ctx: &Context<'_>,
    format: &(dyn Fn(&Row<'_>, &mut Vec<u8>) + Sync),
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Sums> {
    let tokenizer = &loaded.tokenizer;
    check_marks(tokenizer, options.bos, options.eos)?;
    let scorer = Scorer { model: &*loaded.model, tokenizer, options, ctx, format };
    let newlines: Vec<u32> = match tokenizer.bos() {
        Some(_) => Vec::new(),
        None => (0..tokenizer.vocab_size() as u32)
            .map(|id| tokenizer.token_bytes(id).iter().filter(|&&byte| byte == b'\n').count() as u32)
            .collect(),
    };
    let mut sums = Sums::default();
    let keep = if options.by == By::Line { UnknownText::Forgotten } else { UnknownText::Listed };
    for (text, unknown) in loaded.each_text(texts, inputs, keep, ctx)? {
        let lines = scorer.lines(&text, &unknown, &newlines)?;
        sums.lines += lines.lines.len() as u64;
        scorer.score(&lines, &mut sums, write)?;
    }
    Ok(sums)
}

/// ln q of each of `count` lines by itself, which `line` gives by number. The context is `<s>`
/// where the model has it, a newline otherwise. Names of special tokens are unknown words.
///
/// # Errors
/// Options that do not fit the model; a failure of the tokenizer or the model.
pub fn score_lines<'a>(
    loaded: &LoadedModel,
    count: usize,
    line: &(dyn Fn(usize) -> &'a str + Sync),
    (bos, eos): (bool, bool),
    pool: &Pool,
) -> Result<Vec<f64>> {
    let tokenizer = &loaded.tokenizer;
    check_marks(tokenizer, bos, eos)?;
    let normalize = loaded.config.data.normalize;
    let marks = |given: bool, mark: Option<u32>| mark.filter(|_| given && tokenizer.bos().is_some());
    let context = match tokenizer.bos() {
        Some(_) => marks(bos, tokenizer.bos()).into_iter().collect(),
        None => newline(tokenizer)?,
    };
    let end = marks(eos, tokenizer.eos());
    let parts = pool.map(count.div_ceil(LINES_PER_TASK), |task| -> Result<Vec<f64>> {
        let first = task * LINES_PER_TASK;
        let lines = first..count.min(first + LINES_PER_TASK);
        let (mut ids, mut ends) = (Vec::new(), Vec::with_capacity(lines.len()));
        tokenizer.encode_lines(lines.map(|number| normalize.of(line(number))), &mut ids, &mut ends)?;
        let marks = ends.len() * (context.len() + usize::from(end.is_some()));
        let (mut marked, mut start) = (Vec::with_capacity(ids.len() + marks), 0);
        for place in &mut ends {
            marked.extend_from_slice(&context);
            marked.extend_from_slice(&ids[start..*place]);
            marked.extend(end);
            start = std::mem::replace(place, marked.len());
        }
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let batch: Vec<&[u32]> = starts.zip(&ends).map(|(start, &end)| &marked[start..end]).collect();
        let mut sums = Vec::with_capacity(batch.len());
        let add = &mut |_, log_probs: &[f64]| sums.push(log_probs.iter().sum());
        loaded.model.each_log_probs(&batch, context.len(), add)?;
        Ok(sums)
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// Refuses to leave out `<s>` or `</s>` where there is none.
fn check_marks(tokenizer: &Tokenizer, bos: bool, eos: bool) -> Result<()> {
    if tokenizer.bos().is_none() && !(bos && eos) {
        return Err(Error::usage(
            "this model reads a text without <s> and </s>, so there is none to leave out",
        ));
    }
    Ok(())
}

struct Scorer<'a> {
    model: &'a dyn LanguageModel,
    tokenizer: &'a Tokenizer,
    options: Options,
    ctx: &'a Context<'a>,
    format: &'a (dyn Fn(&Row<'_>, &mut Vec<u8>) + Sync),
}

impl Scorer<'_> {
    /// The lines of a text. `newlines` has the number of newlines in each token, where lines have
    /// no marks.
    fn lines<'a>(
        &self,
        text: &'a EvaluationText,
        unknown: &'a BTreeMap<usize, String>,
        newlines: &[u32],
    ) -> Result<Divided<'a>> {
        let (ids, name) = (&*text.tokens.ids, text.name.as_str());
        let (ids, unknown) = (Cow::Borrowed(ids), Cow::Borrowed(unknown));
        let Some(bos) = text.tokens.bos() else {
            let context = match self.options.reach {
                None | Some(Reach::Text) => None,
                Some(Reach::Line) => Some(newline(self.tokenizer)?),
            };
            let lines = lines_of_stream(&ids, newlines, self.tokenizer.eos());
            return Ok(Divided { name, ids, lines, unknown, context, bos: false });
        };
        let starts = ids.iter().enumerate().filter(|(_, id)| **id == bos).map(|(at, _)| at + 1);
        let starts: Vec<usize> = starts.collect();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([ids.len()]);
        let all = (1..).zip(starts.iter().zip(ends));
        let mut lines: Vec<Line> =
            all.map(|(number, (&start, end))| Line { number, tokens: start..end }).collect();
        let eos = self.tokenizer.eos();
        let ends_with_mark = |line: &Line| ids[line.tokens.clone()].last().copied() == eos;
        if self.options.reach != Some(Reach::Text) {
            for line in lines.iter_mut().filter(|line| !self.options.eos && ends_with_mark(line)) {
                line.tokens.end -= 1;
            }
            return Ok(Divided {
                name,
                ids,
                lines,
                unknown,
                context: Some(Vec::new()),
                bos: self.options.bos,
            });
        }
        // One sentence: the marks within it are left out.
        let (mut joined, mut listed) = (Vec::with_capacity(ids.len()), BTreeMap::new());
        joined.extend(self.options.bos.then_some(bos));
        let last = lines.last().map(|line| line.number);
        for line in &mut lines {
            let drops_mark = ends_with_mark(line) && (Some(line.number) != last || !self.options.eos);
            let own = line.tokens.start..line.tokens.end - usize::from(drops_mark);
            let start = joined.len();
            let words = unknown.range(own.clone());
            listed.extend(words.map(|(&at, word)| (at - own.start + start, word.clone())));
            joined.extend_from_slice(&ids[own]);
            line.tokens = start..joined.len();
        }
        let (ids, unknown) = (Cow::Owned(joined), Cow::Owned(listed));
        Ok(Divided { name, ids, lines, unknown, context: None, bos: self.options.bos })
    }

    fn score(
        &self,
        text: &Divided<'_>,
        sums: &mut Sums,
        write: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        /// Bytes of rows that are written at once.
        const ROWS: usize = 1 << 20;
        let pool = self.ctx.pool;
        if text.context.is_none() {
            let from = usize::from(text.bos);
            let log_probs = pool.install(|| self.model.log_probs(&text.ids, from))?;
            let matched = self.matched(&text.ids, from)?;
            let (mut rows, mut result) = (Vec::new(), Ok(()));
            self.rows(text, &text.lines, &log_probs, matched.as_deref(), &mut |row| {
                sums.add(row);
                (self.format)(row, &mut rows);
                if rows.len() > ROWS && result.is_ok() {
                    result = write(&rows);
                    rows.clear();
                }
            });
            return result.and_then(|()| write(&rows));
        }
        for lines in text.lines.chunks(LINES_PER_TASK * TASKS) {
            let parts = pool.map(lines.len().div_ceil(LINES_PER_TASK), |task| {
                let first = task * LINES_PER_TASK;
                self.task(text, &lines[first..lines.len().min(first + LINES_PER_TASK)])
            });
            for part in parts {
                let (rows, its) = part?;
                sums.tokens += its.tokens;
                sums.unknown += its.unknown;
                sums.log_prob += its.log_prob;
                write(&rows)?;
            }
        }
        Ok(())
    }

    /// The rows of lines that are scored one by one.
    fn task(&self, text: &Divided<'_>, lines: &[Line]) -> Result<(Vec<u8>, Sums)> {
        let context = text.context.as_deref().unwrap_or_default();
        // A mark is in the text, before its line.
        let sequence = |line: &Line| match context {
            [] => Cow::Borrowed(&text.ids[line.tokens.start - usize::from(text.bos)..line.tokens.end]),
            context => Cow::Owned([context, &text.ids[line.tokens.clone()]].concat()),
        };
        let sequences: Vec<Cow<'_, [u32]>> = lines.iter().map(sequence).collect();
        let batch: Vec<&[u32]> = sequences.iter().map(|sequence| &**sequence).collect();
        let from = context.len() + usize::from(text.bos);
        let matched: Result<Vec<_>> = batch.iter().map(|tokens| self.matched(tokens, from)).collect();
        let (matched, mut rows, mut sums) = (matched?, Vec::new(), Sums::default());
        self.model.each_log_probs(&batch, from, &mut |i, log_probs| {
            self.rows(text, &lines[i..=i], log_probs, matched[i].as_deref(), &mut |row| {
                sums.add(row);
                (self.format)(row, &mut rows);
            });
        })?;
        Ok((rows, sums))
    }

    fn matched(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<usize>>> {
        if self.options.by == By::Line { Ok(None) } else { Ok(self.model.matched_orders(tokens, from)?) }
    }

    /// Visits the rows of consecutive `lines`, whose tokens have `log_probs`.
    fn rows(
        &self,
        text: &Divided<'_>,
        lines: &[Line],
        log_probs: &[f64],
        matched: Option<&[usize]>,
        visit: &mut dyn FnMut(&Row<'_>),
    ) {
        let Some(first) = lines.first().map(|line| line.tokens.start) else { return };
        let ids = &text.ids[first..first + log_probs.len()];
        let unk = self.tokenizer.unk();
        let word = |index: usize| text.unknown.get(&(first + index)).map(String::as_str);
        // The place of the next row: lines may have no row of their own.
        let (mut here, mut position) = (0, 0);
        let mut row = |part: &str, index: usize, tokens: usize, unknown: usize, log_prob: f64| {
            while lines.get(here + 1).is_some_and(|next| next.tokens.start <= first + index) {
                (here, position) = (here + 1, 0);
            }
            position += 1;
            let matched = matched.filter(|_| tokens == 1).map(|matched| matched[index]);
            let (line, tokens, unknown) = (lines[here].number, tokens as u64, unknown as u64);
            visit(&Row { text: text.name, line, position, part, tokens, unknown, matched, log_prob });
        };
        match self.options.by {
            By::Line => {
                for line in lines {
                    let own = line.tokens.start - first..line.tokens.end - first;
                    let unknown = ids[own.clone()].iter().filter(|&&id| Some(id) == unk).count();
                    let (tokens, log_prob) = (own.len() as u64, log_probs[own].iter().sum());
                    let (line, unknown) = (line.number, unknown as u64);
                    let (text, part, matched) = (text.name, "", None);
                    visit(&Row { text, line, position: 0, part, tokens, unknown, matched, log_prob });
                }
            }
            By::Word => {
                let mut index = 0;
                let nats: Vec<f64> = log_probs.iter().map(|log_prob| -log_prob).collect();
                for found in by_word(self.tokenizer, ids, &nats, word) {
                    row(&found.word, index, found.pieces, found.unknown, -found.nats);
                    index += found.pieces;
                }
            }
            By::Token => {
                for (index, (&id, &log_prob)) in ids.iter().zip(log_probs).enumerate() {
                    let part = word(index).map_or_else(|| self.tokenizer.token(id).into(), Cow::Borrowed);
                    row(&part, index, 1, usize::from(Some(id) == unk), log_prob);
                }
            }
        }
    }
}

impl Sums {
    fn add(&mut self, row: &Row<'_>) {
        self.tokens += row.tokens;
        self.unknown += row.unknown;
        self.log_prob += row.log_prob;
    }
}

/// The tokens of a newline, if the model knows them.
pub(crate) fn newline(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    if tokenizer.mode() == TextMode::Line {
        return Ok(Vec::new());
    }
    let newline = tokenizer.encode("\n")?;
    Ok(if newline.iter().any(|&id| Some(id) == tokenizer.unk()) { Vec::new() } else { newline })
}

/// The lines of a text of which each token has so many newlines. A line ends with the token that
/// has its newline, or with the `</s>` after a document.
fn lines_of_stream(ids: &[u32], newlines: &[u32], eos: Option<u32>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut number, mut is_open) = (1, false);
    for (at, &id) in ids.iter().enumerate() {
        match lines.last_mut().filter(|_| is_open || Some(id) == eos) {
            Some(line) => line.tokens.end = at + 1,
            None => lines.push(Line { number, tokens: at..at + 1 }),
        }
        number += u64::from(newlines[id as usize]);
        is_open = newlines[id as usize] == 0 && Some(id) != eos;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;
    use crate::{Control, models};
    use surprisal_store::atomic;

    #[test]
    fn lines_by_themselves_have_the_scores_of_a_text_with_these_lines() {
        const ARPA: &str = "\\data\\\nngram 1=5\nngram 2=2\n\n\\1-grams:\n-1.0\t<unk>\n-99\t<s>\t-0.5\n-0.7\t</s>\n\
                            -0.5\ta\t-0.3\n-0.8\tb\t-0.2\n\n\\2-grams:\n-0.1\t<s> a\n-0.2\ta b\n\n\\end\\\n";
        let folder = tempfile::tempdir().unwrap();
        let [model, text] = ["m.arpa", "t.txt"].map(|name| folder.path().join(name));
        let lines = ["a b", "b zz a", "", "a a a"];
        atomic::write(&model, ARPA.as_bytes()).unwrap();
        atomic::write(&text, format!("{}\n", lines.join("\n")).as_bytes()).unwrap();
        let (pool, control) = (Pool::new(2).unwrap(), Control::new());
        let ctx = Context::new(&pool, &Silent, &control);
        let loaded = models::load(&model, &ctx).unwrap();
        for (bos, eos) in [(true, true), (true, false), (false, true), (false, false)] {
            let options = Options { by: By::Line, reach: None, bos, eos };
            let mut rows = Vec::new();
            let format = |row: &Row<'_>, out: &mut Vec<u8>| out.extend(row.log_prob.to_le_bytes());
            let mut write = |bytes: &[u8]| {
                rows.extend(bytes.as_chunks::<8>().0.iter().map(|row| f64::from_le_bytes(*row)));
                Ok(())
            };
            let inputs = InputOptions::default();
            score(&loaded, std::slice::from_ref(&text), &inputs, options, &ctx, &format, &mut write).unwrap();
            let found = score_lines(&loaded, lines.len(), &|i| lines[i], (bos, eos), &pool).unwrap();
            assert_eq!(found, rows, "{bos} {eos}");
        }
    }

    #[test]
    fn a_line_of_a_stream_ends_with_the_token_that_has_its_newline() {
        // 0: no newline, 1: one, 2: two, 3: </s>.
        let lines = |ids: &[u32]| {
            let lines = lines_of_stream(ids, &[0, 1, 2, 0], Some(3)).into_iter();
            lines.map(|line| (line.number, line.tokens)).collect::<Vec<_>>()
        };
        assert_eq!(lines(&[0, 0, 1, 0, 2, 0]), [(1, 0..3), (2, 3..5), (4, 5..6)]);
        assert_eq!(lines(&[1, 1, 3, 0, 3, 1]), [(1, 0..1), (2, 1..3), (3, 3..5), (3, 5..6)]);
        assert_eq!(lines(&[]), []);
    }
}
