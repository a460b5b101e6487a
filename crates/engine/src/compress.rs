//! Compression of files by a model: arithmetic coding of their tokens, so that a file takes as many
//! bits as the model has nats, divided by ln 2.
//!
//! Coder and decoder read the same session, token by token, whose bits do not depend on the number
//! of threads. What the tokens do not determine (unknown characters, bytes that are not UTF-8) is a
//! patch, which is coded as bytes.

use surprisal_formats::compressed::{CodedBy, Compressed, Decoder, Encoder, is_plausible, patch};
use surprisal_formats::model_dir::Weights;
use surprisal_kernels::simd::Isa;
use surprisal_model::Session;
use surprisal_model::adaptive::{Frozen, Online, Settings};
use surprisal_text::{Compression, TextMode, Tokenizer, TokenizerKind};

use crate::adapt::letters;
use crate::error::{Error, Result};
use crate::events::Context;
use crate::models::{LoadedModel, Model};

/// Numbers of a compression.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sizes {
    /// Bytes of the file.
    pub bytes: u64,
    /// Tokens that were coded.
    pub tokens: u64,
    /// Σ −ln q of these under the model.
    pub nats: f64,
    /// Bytes of the coded tokens.
    pub coded: u64,
    /// Bytes that correct the tokens' text.
    pub patch: u64,
    /// Bytes of the compressed file, with its header.
    pub compressed: u64,
}

/// The hash of a model: of its tokenizer, its weights, and distributions that it gives, so that two
/// machines on which these differ in a bit do not read each other's files.
fn hash(loaded: &LoadedModel) -> Result<[u8; 16]> {
    const PROBES: usize = 24;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&loaded.tokenizer.to_json()?);
    // The parts of a mixture are seen in its distributions.
    if loaded.model.mixture().is_none() {
        match loaded.stored()?.weights {
            Weights::Arpa(bytes) | Weights::Infinigram(bytes) => {
                hasher.update(&bytes);
            }
            Weights::Ngram(bytes) | Weights::Kenlm(bytes) => {
                hasher.update(bytes.as_slice());
            }
            Weights::Tensors(tensors) => {
                for (name, tensor) in tensors {
                    hasher.update(name.as_bytes());
                    let values = tensor.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
                    for values in values.chunks(1024) {
                        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                        hasher.update(&bytes);
                    }
                }
            }
        }
    }
    let mut session = loaded.model.session()?;
    let size = loaded.tokenizer.vocab_size();
    for probe in 0..PROBES {
        let row = session.feed(&[(probe * probe % size) as u32])?;
        for log_prob in row {
            hasher.update(&log_prob.to_le_bytes());
        }
    }
    Ok(hasher.finalize().as_bytes()[..16].try_into().expect("32 bytes"))
}

/// A reader of tokens, which predicts each by decisions.
struct Reader<'a> {
    kind: Predictor,
    model: Option<&'a Model>,
    marks: [Option<u32>; 2],
    session: Option<Box<dyn Session + 'a>>,
    row: Vec<f64>,
    is_new: bool,
}

enum Predictor {
    Frozen(Frozen),
    Online(Box<Online>),
}

impl<'a> Reader<'a> {
    /// A reader by `loaded`, or of bytes without one, of so many tokens.
    fn new(loaded: Option<&'a LoadedModel>, adapts: bool, tokens: usize) -> Self {
        let vocab_size = loaded.map_or(256, |loaded| loaded.tokenizer.vocab_size());
        let letters = loaded.map_or_else(
            || (0..=255u8).map(|byte| byte.is_ascii_alphanumeric() || byte > 127).collect(),
            |loaded| letters(&loaded.tokenizer),
        );
        let kind = if adapts {
            let settings = Settings { vocab_size, letters, tokens, ..Settings::default() };
            Predictor::Online(Box::new(Online::new(settings)))
        } else {
            Predictor::Frozen(Frozen::new(vocab_size))
        };
        let marks = loaded.map_or([None; 2], |loaded| [loaded.tokenizer.bos(), loaded.tokenizer.eos()]);
        let model = loaded.filter(|loaded| !adapts || loaded.has_opinion()).map(|loaded| &loaded.model);
        Self { kind, model, marks, session: None, row: Vec::new(), is_new: true }
    }

    /// Goes to the next token by the decisions of `choose`, as [`Online::walk`] does; gives it, and
    /// its −ln q.
    fn step(&mut self, mut choose: impl FnMut(u32, f64) -> bool) -> Result<(u32, f64)> {
        let [bos, eos] = self.marks;
        if std::mem::take(&mut self.is_new) {
            if let (Predictor::Online(online), Some(bos)) = (&mut self.kind, bos) {
                online.skip(bos);
            }
            if let Some(model) = self.model {
                let session = self.session.insert(model.session()?);
                self.row = session.feed(bos.as_slice())?;
            }
        }
        let mut q = 1.0;
        let mut choose = |split, p| {
            let bit = choose(split, p);
            q *= if bit { p } else { 1.0 - p };
            bit
        };
        let (token, nats) = match &mut self.kind {
            Predictor::Frozen(frozen) => {
                let token = frozen.walk(&self.row, choose);
                (token, -self.row[token as usize])
            }
            Predictor::Online(online) => {
                let row = (!self.row.is_empty()).then_some(self.row.as_slice());
                let token = online.walk(row, &mut choose);
                (token, -q.ln())
            }
        };
        // A line is independent of those before it.
        self.is_new = bos.is_some() && Some(token) == eos;
        if let Some(session) = self.session.as_mut().filter(|_| !self.is_new) {
            self.row = session.feed(&[token])?;
        }
        Ok((token, nats))
    }
}

/// Codes tokens; gives the bytes and the nats.
fn encode(mut reader: Reader<'_>, tokens: &[u32]) -> Result<(Vec<u8>, f64)> {
    let (mut encoder, mut sum) = (Encoder::default(), 0.0);
    for &token in tokens {
        let (_, nats) = reader.step(|split, p| {
            let bit = token >= split;
            encoder.put(bit, p);
            bit
        })?;
        sum += nats;
    }
    Ok((encoder.finish(), sum))
}

/// Decodes so many tokens.
fn decode(mut reader: Reader<'_>, code: &[u8], tokens: u64) -> Result<Vec<u32>> {
    let (mut decoder, mut found) = (Decoder::new(code), Vec::new());
    for _ in 0..tokens {
        found.push(reader.step(|_, p| decoder.take(p))?.0);
        decoder.check()?;
    }
    decoder.end()?;
    Ok(found)
}

/// The tokens of `content`, in line mode with `</s>` after every line.
fn tokens_of(tokenizer: &Tokenizer, content: &[u8]) -> Result<Vec<u32>> {
    let part = |bytes: &[u8]| -> Result<Vec<u32>> {
        if tokenizer.kind() == TokenizerKind::Byte {
            return Ok(bytes.iter().map(|&byte| u32::from(byte)).collect());
        }
        Ok(tokenizer.encode(&String::from_utf8_lossy(bytes))?)
    };
    if tokenizer.mode() != TextMode::Line {
        return part(content);
    }
    let mut tokens = Vec::new();
    let lines = content.strip_suffix(b"\n").unwrap_or(content).split(|&byte| byte == b'\n');
    for line in lines.filter(|_| !content.is_empty()) {
        tokens.extend(part(line)?);
        tokens.extend(tokenizer.eos());
    }
    Ok(tokens)
}

/// The bytes that stand for `tokens`.
fn text_of(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u8> {
    if tokenizer.kind() != TokenizerKind::Byte {
        return tokenizer.decode(tokens).into_bytes();
    }
    let byte = |&token: &u32| if Some(token) == tokenizer.eos() { b'\n' } else { token as u8 };
    tokens.iter().map(byte).collect()
}

fn bytes_as_tokens(bytes: &[u8]) -> Vec<u32> {
    bytes.iter().map(|&byte| u32::from(byte)).collect()
}

/// Compresses `content` by a model, which learns while it reads if `adapts`; without a model, by
/// one of bytes that learns from nothing.
///
/// # Errors
/// A failure of the model; scores that do not sum to one.
pub fn compress(
    loaded: Option<&LoadedModel>,
    content: &[u8],
    adapts: bool,
    ctx: &Context<'_>,
) -> Result<(Vec<u8>, Sizes)> {
    ctx.pool.install(|| {
        let adapts = adapts || loaded.is_none();
        let (by, tokens, patch) = match loaded {
            None => (None, bytes_as_tokens(content), Vec::new()),
            Some(loaded) => {
                loaded.check_distribution()?;
                let tokens = tokens_of(&loaded.tokenizer, content)?;
                let patch = patch::diff(&text_of(&loaded.tokenizer, &tokens), content);
                let by = CodedBy { model: hash(loaded)?, isa: Isa::current().name().to_owned() };
                (Some(by), tokens, patch)
            }
        };
        let (coded, nats) = encode(Reader::new(loaded, adapts, tokens.len()), &tokens)?;
        if !is_plausible(tokens.len() as u64, coded.len()) {
            return Err(Error::usage("a model of one token has nothing to code"));
        }
        let (patched, _) = encode(Reader::new(None, true, patch.len()), &bytes_as_tokens(&patch))?;
        let mut sizes = Sizes {
            bytes: content.len() as u64,
            tokens: tokens.len() as u64,
            nats,
            coded: coded.len() as u64,
            patch: patched.len() as u64,
            compressed: 0,
        };
        let file = Compressed {
            adapts,
            by,
            bytes: sizes.bytes,
            hash: content_hash(content),
            tokens: sizes.tokens,
            coded,
            patch_bytes: patch.len() as u64,
            patch: patched,
        }
        .to_bytes();
        sizes.compressed = file.len() as u64;
        Ok((file, sizes))
    })
}

fn content_hash(content: &[u8]) -> [u8; 16] {
    blake3::hash(content).as_bytes()[..16].try_into().expect("32 bytes")
}

fn hex(hash: &[u8; 16]) -> String {
    hash[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a file that [`compress`] made, by the same model.
///
/// # Errors
/// A file of another kind, of another model or another instruction set; a damaged file.
pub fn decompress(loaded: Option<&LoadedModel>, file: &[u8], ctx: &Context<'_>) -> Result<Vec<u8>> {
    ctx.pool.install(|| {
        let parts = Compressed::from_bytes(file)?;
        match (&parts.by, loaded) {
            (None, Some(_)) => {
                return Err(Error::usage("this file was compressed without a model")
                    .hint("give the file alone, without a model"));
            }
            (Some(by), None) => {
                let message =
                    format!("this file was compressed by a model, whose hash is {}", hex(&by.model));
                return Err(Error::usage(message).hint("give that model before the file"));
            }
            (Some(by), Some(loaded)) => {
                let isa = Isa::current().name();
                if by.isa != isa {
                    let message = format!(
                        "this file was compressed with the instruction set {}, and this process uses {isa}",
                        by.isa
                    );
                    return Err(Error::usage(message).hint(format!(
                        "set SURPRISAL_ISA={} in the environment, on a machine that has it",
                        by.isa
                    )));
                }
                let own = hash(loaded)?;
                if own != by.model {
                    let [of, own] = [&by.model, &own].map(hex);
                    let message =
                        format!("this file was compressed by a model whose hash is {of}, not {own}");
                    return Err(Error::usage(message)
                        .hint("give the same model; its hash changes with every bit of its distributions"));
                }
            }
            (None, None) => {}
        }
        let tokens = decode(reader(loaded, &parts), &parts.coded, parts.tokens)?;
        let patch_reader = Reader::new(None, true, parts.patch_bytes as usize);
        let patch = as_bytes(&decode(patch_reader, &parts.patch, parts.patch_bytes)?);
        let text = loaded.map_or_else(|| as_bytes(&tokens), |loaded| text_of(&loaded.tokenizer, &tokens));
        let content = patch::apply(&text, &patch, parts.bytes)?;
        if content.len() as u64 != parts.bytes || content_hash(&content) != parts.hash {
            return Err(Error::failed("what was decompressed is not the file: its checksum does not match")
                .hint("the compressed file was damaged, or comes from a machine that computes differently"));
        }
        Ok(content)
    })
}

fn reader<'a>(loaded: Option<&'a LoadedModel>, parts: &Compressed) -> Reader<'a> {
    Reader::new(loaded, parts.adapts || loaded.is_none(), parts.tokens as usize)
}

fn as_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().map(|&token| token as u8).collect()
}

/// The sizes of `content` as other programs compress it, by their names.
pub fn others(content: &[u8]) -> Vec<(&'static str, u64)> {
    let size = |format: Compression| -> std::io::Result<u64> {
        let mut writer = format.writer(Vec::new())?;
        writer.write_all(content)?;
        Ok(writer.finish()?.len() as u64)
    };
    let formats = [Compression::Gzip, Compression::Xz, Compression::Zstd];
    formats.into_iter().filter_map(|format| Some((format.name(), size(format).ok()?))).collect()
}
