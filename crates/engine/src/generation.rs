//! Generation of text, token by token.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use surprisal_model::LanguageModel;
use surprisal_text::{Granularity, Tokenizer};

use crate::error::{Advice, Error, Result, no_numbers};
use crate::rng::{RngStream, rng_for};
use crate::sampling::{Opening, Sampling, starts_utf8};
use crate::wording::many;

/// The length of a sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens: of the sample, or with `lines` of each line.
    pub tokens: usize,
    /// Number of lines, or of documents where the model has marks for their ends.
    pub lines: Option<usize>,
    /// A string before which the sample ends; the prompt may have it.
    pub stop: Option<String>,
}

/// Reason for the end of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The number of tokens.
    Tokens,
    /// The end of the document.
    Document,
    /// The number of lines or documents.
    Lines,
    /// The string to stop at.
    Stop,
}

/// Numbers of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Tokens drawn.
    pub tokens: usize,
    /// Reason for its end.
    pub end: End,
    /// Lines or documents that were cut at the limit of tokens.
    pub cut: usize,
}

/// Draws `tokens` tokens after `opening` and passes the text to `emit` in chunks of whole
/// characters, the opening's first. Stops at the end of a document. Gives the number of tokens
/// drawn.
///
/// # Errors
/// As [`Generator::sample`].
pub fn generate(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    opening: &Opening,
    tokens: usize,
    sampling: Sampling,
    seed: u64,
    emit: impl FnMut(&str) -> Result<()>,
) -> Result<usize> {
    let limits = Limits { tokens, ..Limits::default() };
    let generator = Generator::new(model, tokenizer, opening, sampling, false);
    Ok(generator.sample(&limits, seed, 0, emit)?.tokens)
}

/// A generator of samples that start with one opening.
pub struct Generator<'a> {
    model: &'a dyn LanguageModel,
    tokenizer: &'a Tokenizer,
    opening: &'a Opening,
    sampling: Sampling,
    mask: Mask,
}

impl<'a> Generator<'a> {
    /// A generator that draws `<unk>` only with `allow_unknown`.
    pub fn new(
        model: &'a dyn LanguageModel,
        tokenizer: &'a Tokenizer,
        opening: &'a Opening,
        sampling: Sampling,
        allow_unknown: bool,
    ) -> Self {
        let mask = Mask::new(tokenizer, opening, allow_unknown);
        Self { model, tokenizer, opening, sampling, mask }
    }

    /// Draws sample `number` (from 0) of `seed`, which does not depend on the others, and passes
    /// its text to `emit` in chunks of whole characters, the opening's first. A last character
    /// that is not complete is left out.
    ///
    /// Without a limit of lines, a sample of a model of documents ends with the document, and one
    /// of a model of lines goes on with new lines. With it, each line or document of a model with
    /// marks begins with the opening.
    ///
    /// # Errors
    /// An error of `emit`; predictions that are NaN, or all of probability zero.
    pub fn sample(
        &self,
        limits: &Limits,
        seed: u64,
        number: u64,
        emit: impl FnMut(&str) -> Result<()>,
    ) -> Result<Sample> {
        let (tokenizer, Opening { before, first, .. }) = (self.tokenizer, self.opening);
        let start: Vec<u32> = tokenizer.bos().into_iter().collect();
        let whole = [start.as_slice(), before, first].concat();
        let (mut context, mut prompt) = (whole.as_slice(), first.as_slice());
        let mut rng = rng_for(seed, RngStream::Sampling(number));
        let mut text = Text::new(tokenizer, limits, emit);
        let mut sample = Sample { tokens: 0, end: End::Tokens, cut: 0 };
        loop {
            text.open(prompt)?;
            let end = match self.line(context, prompt, &mut text, &mut sample, &mut rng) {
                Ok(None) if limits.lines.is_none() && tokenizer.bos().is_none() => Some(End::Document),
                Ok(None) => text.end_line()?,
                Ok(end) => end,
                Err(error) => {
                    text.close()?;
                    return Err(error);
                }
            };
            if let Some(end) = end {
                text.close()?;
                return Ok(Sample { end, ..sample });
            }
            if limits.lines.is_none() {
                (context, prompt) = (&start, &[]);
            }
        }
    }

    /// Draws tokens up to the end of a line or document; gives the end of the sample where that
    /// comes first.
    fn line(
        &self,
        context: &[u32],
        prompt: &[u32],
        text: &mut Text<'_, impl FnMut(&str) -> Result<()>>,
        sample: &mut Sample,
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<End>> {
        let (eos, limits) = (self.tokenizer.eos(), text.limits);
        let mut session = self.model.session()?;
        let mut log_probs = session.feed(context)?;
        if context.is_empty() {
            // A neural model has no distribution of first tokens: one that is not shown is drawn.
            let hidden = self.draw(&log_probs, &[], &[], &BTreeSet::new(), 0, rng)?;
            log_probs = session.feed(&[hidden])?;
        }
        let mut seen: BTreeSet<u32> = prompt.iter().copied().collect();
        let (mut in_line, mut last) = (0, None);
        loop {
            let drawn = if limits.lines.is_some() { in_line } else { sample.tokens };
            if drawn == limits.tokens {
                sample.cut += usize::from(limits.lines.is_some());
                return Ok(Some(End::Tokens).filter(|_| limits.lines.is_none() || eos.is_none()));
            }
            if let Some(token) = last {
                log_probs = session.feed(&[token])?;
            }
            let is_first = prompt.is_empty() && last.is_none();
            let not = if is_first { self.opening.before.as_slice() } else { &[] };
            let token = self.draw(&log_probs, &text.tail, not, &seen, sample.tokens, rng)?;
            (sample.tokens, in_line, last) = (sample.tokens + 1, in_line + 1, Some(token));
            if Some(token) == eos {
                return Ok(None);
            }
            seen.insert(token);
            let lines = text.lines;
            if let Some(end) = text.push(token)? {
                return Ok(Some(end));
            }
            if text.lines > lines {
                in_line = 0;
            }
        }
    }

    /// The next token, which is none of `not` unless nothing else is possible.
    fn draw(
        &self,
        log_probs: &[f64],
        tail: &[u8],
        not: &[u32],
        seen: &BTreeSet<u32>,
        drawn: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<u32> {
        let mut allowed = self.mask.apply(log_probs, tail, not);
        if self.sampling.repetition_penalty != 1.0 {
            self.sampling.penalise(seen, &mut allowed);
        }
        if let Some(token) = self.sampling.draw(&allowed, rng) {
            return Ok(token);
        }
        if log_probs.iter().any(|log_prob| log_prob.is_nan()) {
            return Err(no_numbers("this model"));
        }
        let after = many(drawn as u64, "token");
        if log_probs.iter().any(|log_prob| *log_prob > f64::NEG_INFINITY) {
            let message = format!("after {after} every next token but <unk> has probability zero");
            return Err(Error::failed(message).hint(Advice::DrawUnknown));
        }
        Err(Error::failed(format!("after {after} every next token has probability zero"))
            .hint(Advice::OtherStart))
    }
}

/// Tokens that are not drawn: their probability is set to zero, and the others are renormalised.
struct Mask {
    /// `<s>`, and `<unk>` unless it is allowed.
    never: Vec<u32>,
    /// The bytes of tokens that are not whole characters; empty where they may be drawn anywhere.
    parts: BTreeMap<u32, Vec<u8>>,
}

impl Mask {
    fn new(tokenizer: &Tokenizer, opening: &Opening, allow_unknown: bool) -> Self {
        let unk = tokenizer.unk().filter(|_| !allow_unknown);
        let has_parts = match tokenizer.granularity() {
            Granularity::Byte | Granularity::Subword => !opening.any_bytes,
            Granularity::Char | Granularity::Word => false,
        };
        let ids = 0..if has_parts { tokenizer.vocab_size() as u32 } else { 0 };
        let parts = ids.map(|id| (id, tokenizer.token_bytes(id).into_owned()));
        let parts = parts.filter(|(_, bytes)| std::str::from_utf8(bytes).is_err()).collect();
        Self { never: tokenizer.bos().into_iter().chain(unk).collect(), parts }
    }

    /// `log_probs` with −∞ for what cannot follow `tail`, the bytes of an incomplete character, and
    /// for `not` where another token is possible.
    fn apply(&self, log_probs: &[f64], tail: &[u8], not: &[u32]) -> Vec<f64> {
        let mut allowed = log_probs.to_vec();
        self.never.iter().for_each(|&id| allowed[id as usize] = f64::NEG_INFINITY);
        let only = |allowed: &mut Vec<f64>, fits: &dyn Fn(u32) -> bool| {
            let fitting =
                (0u32..).zip(&*allowed).map(|(id, l)| if fits(id) { *l } else { f64::NEG_INFINITY });
            let fitting: Vec<f64> = fitting.collect();
            if fitting.iter().any(|log_prob| *log_prob > f64::NEG_INFINITY) {
                *allowed = fitting;
            }
        };
        if !self.parts.is_empty() {
            only(&mut allowed, &|id| match self.parts.get(&id) {
                Some(bytes) => starts_utf8(&[tail, bytes].concat()),
                None => tail.is_empty(),
            });
        }
        if !not.is_empty() {
            only(&mut allowed, &|id| !not.contains(&id));
        }
        allowed
    }
}

/// The text of a sample on its way to `emit`.
struct Text<'a, E> {
    tokenizer: &'a Tokenizer,
    limits: &'a Limits,
    emit: E,
    /// Tokens that are decoded together, because some are parts of characters or words.
    pending: Vec<u32>,
    /// Their text so far.
    shown: String,
    /// The bytes of an incomplete last character.
    tail: Vec<u8>,
    /// Text that may be the beginning of the string to stop at.
    held: String,
    /// Lines or documents so far, if their number is limited.
    lines: usize,
}

impl<'a, E: FnMut(&str) -> Result<()>> Text<'a, E> {
    fn new(tokenizer: &'a Tokenizer, limits: &'a Limits, emit: E) -> Self {
        let (pending, shown, tail, held) = Default::default();
        Self { tokenizer, limits, emit, pending, shown, tail, held, lines: 0 }
    }

    /// Begins a line or document with `prompt`.
    fn open(&mut self, prompt: &[u32]) -> Result<()> {
        (self.pending, self.shown) = (prompt.to_vec(), self.tokenizer.decode(prompt));
        self.tail.clear();
        if self.shown.is_empty() {
            return Ok(());
        }
        self.close()?;
        (self.emit)(&self.shown)
    }

    /// Appends a token; gives the end of the sample if its text reaches that.
    fn push(&mut self, token: u32) -> Result<Option<End>> {
        /// Most tokens that are decoded together.
        const MOST: usize = 512;
        if self.pending.len() >= MOST && self.tail.is_empty() {
            self.pending.drain(..MOST / 2);
            self.shown = self.tokenizer.decode(&self.pending);
        }
        self.pending.push(token);
        self.tail.extend_from_slice(&self.tokenizer.token_bytes(token));
        while let Err(error) = std::str::from_utf8(&self.tail) {
            let Some(wrong) = error.error_len() else { break };
            self.tail.drain(..error.valid_up_to() + wrong);
        }
        let whole = std::str::from_utf8(&self.tail).map_or_else(|error| error.valid_up_to(), str::len);
        self.tail.drain(..whole);
        let text = self.tokenizer.decode(&self.pending);
        let whole = if self.tail.is_empty() { &text } else { text.trim_end_matches('\u{FFFD}') };
        let Some(fresh) = whole.strip_prefix(self.shown.as_str()) else { return Ok(None) };
        let end = self.show(fresh);
        self.shown = whole.to_owned();
        end
    }

    /// Emits `fresh` up to the end of the sample, which it gives if that is reached.
    fn show(&mut self, fresh: &str) -> Result<Option<End>> {
        self.held.push_str(fresh);
        let stop = self.limits.stop.as_deref().unwrap_or_default();
        let stop_at = if stop.is_empty() { None } else { self.held.find(stop) };
        let mut newlines = self.held.match_indices('\n').map(|(at, _)| at + 1);
        let left = self.limits.lines.filter(|_| self.tokenizer.eos().is_none()).map(|n| n - self.lines);
        let lines_at = left.and_then(|left| newlines.nth(left - 1));
        let ends = [stop_at.map(|at| (at, End::Stop)), lines_at.map(|at| (at, End::Lines))];
        let end = ends.into_iter().flatten().min_by_key(|(at, _)| *at);
        let is_start = |len: &usize| stop.is_char_boundary(*len) && self.held.ends_with(&stop[..*len]);
        let kept = (1..stop.len()).rev().find(is_start).unwrap_or(0);
        let ready = end.map_or(self.held.len() - kept, |(at, _)| at);
        let ready: String = self.held.drain(..ready).collect();
        if end.is_some() {
            self.held.clear();
        }
        if left.is_some() {
            self.lines += ready.matches('\n').count();
        }
        if !ready.is_empty() {
            (self.emit)(&ready)?;
        }
        Ok(end.map(|(_, end)| end))
    }

    /// Ends a line or document with a newline; gives the end of the sample if that is reached.
    fn end_line(&mut self) -> Result<Option<End>> {
        let has_newline = self.tokenizer.bos().is_none() && self.shown.ends_with('\n');
        let end = self.show(if has_newline { "" } else { "\n" })?;
        self.lines += 1;
        Ok(end.or(self.limits.lines.filter(|lines| *lines == self.lines).map(|_| End::Lines)))
    }

    /// Emits what was held.
    fn close(&mut self) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() { Ok(()) } else { (self.emit)(&held) }
    }
}
