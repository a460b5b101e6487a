//! Any `tokenizer.json` that the Hugging Face `tokenizers` library reads.
//!
//! The tokens of a text are those that the library gives its whole, also where the text is read in
//! chunks: a chunk is encoded together with the end of the text before it, and cut where the tokens
//! of the two are seen to be separate. So a space that a tokenizer adds to a text is added once.
//!
//! Several sequences of tokens may decode to one text, of which this is one, so its probability is
//! a lower bound of the text's. It makes a code of the text only if it decodes to it, which is
//! checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::{Model as _, Tokenizer as Library};

use super::bpe::{check_merges, library_error};
use super::byte_level::unicode_to_byte;
use super::codec::{Codec, SpecialIds, TrainingText};
use super::json::{Fields, parse, refuse, special_token, to_bytes};
use super::{BOS, EOS, MAX_VOCABULARY, TokenizerKind, UNK};
use crate::TextMode;
use crate::error::{Error, Result};

/// The names of the tokens that start and end a text in common tokenizers.
const STARTS: [&str; 4] = [BOS, "[CLS]", "<bos>", "<|begin_of_text|>"];
const ENDS: [&str; 5] = [EOS, "[SEP]", "<eos>", "<|end_of_text|>", "<|endoftext|>"];

/// The key in an entry of `added_tokens` that makes a token `<s>` ("bos") or `</s>` ("eos"); "none"
/// says that a file has no marks though it looks like one of this program that has them.
const MARK: &str = "mark";

/// The largest `max_input_chars_per_word`: WordPiece takes quadratic time for a word.
const MAX_WORD_CHARS: u64 = 1000;
/// The most bytes that the replacements of a file may make of one.
const MAX_GROWTH: usize = 64;

/// A tokenizer of the library.
#[derive(Debug)]
pub(crate) struct LibraryCodec {
    library: Box<Library>,
    /// The file.
    json: Vec<u8>,
    mode: TextMode,
    vocab_size: usize,
    unused_ids: usize,
    special_ids: SpecialIds,
    /// The names of other special tokens, which are characters in a text.
    special_names: Vec<String>,
    /// Whether decoding leaves a space before a text that encoding added.
    adds_space: bool,
    /// Whether the decoder reads tokens as bytes written as characters.
    is_byte_level: bool,
    /// Whether the decoder reads `<0x0A>` as a byte.
    has_byte_fallback: bool,
}

/// The fields of a file's model that are checked.
#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    vocab: Option<&'a RawValue>,
    merges: Option<Value>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    unk_token: Option<String>,
    unk_id: Option<u32>,
    max_input_chars_per_word: Option<u64>,
}

impl Model<'_> {
    fn check(&self) -> Result<()> {
        let Some(vocab) = self.vocab else { return refuse("its model has no vocabulary") };
        if self.dropout.is_some_and(|dropout| dropout != 0.0) {
            return refuse(
                "it leaves out merges at random, so a text has other tokens each time: set its dropout to null",
            );
        }
        if self.max_input_chars_per_word.is_some_and(|most| most > MAX_WORD_CHARS) {
            return refuse(format!("its max_input_chars_per_word is above {MAX_WORD_CHARS}"));
        }
        let Some(merges) = &self.merges else { return Ok(()) };
        let vocab: BTreeMap<Cow<'_, str>, u32> = parse(vocab.get().as_bytes())?;
        let prefix = self.continuing_subword_prefix.as_deref().unwrap_or_default();
        check_merges(merges, prefix, |token| vocab.contains_key(token))
    }
}

/// Checks a normalizer, pre-tokenizer or decoder; `growth` is the number of bytes that the
/// replacements so far make of one.
fn check_component(part: &Value, growth: &mut usize) -> Result<()> {
    let content = part["content"].as_str().or(part["prepend"].as_str()).unwrap_or_default();
    *growth = growth.saturating_mul(content.len().max(1));
    if *growth > MAX_GROWTH {
        return refuse(format!("its replacements make more than {MAX_GROWTH} bytes of one"));
    }
    if part["type"] == "FixedLength" && part["length"] == 0 {
        return refuse("a FixedLength pre-tokenizer has the length 0");
    }
    if let Some(charsmap) = part["precompiled_charsmap"].as_str() {
        check_charsmap(charsmap)?;
    }
    let lists = ["normalizers", "pretokenizers", "decoders"].iter().filter_map(|key| part[*key].as_array());
    lists.flatten().try_for_each(|part| check_component(part, growth))
}

/// Checks the length, in its first four bytes, of the table in a SentencePiece normalizer, for
/// which the library allocates memory. The table is in base 64.
fn check_charsmap(charsmap: &str) -> Result<()> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = charsmap.bytes().take(6).fold(0, |bits: u64, c| bits << 6 | u64::from(digit(c)));
    let bytes = ((bits >> 4) as u32).swap_bytes() as usize;
    if charsmap.len() < 6 || bytes > charsmap.len() {
        return refuse("its precompiled_charsmap is shorter than it says");
    }
    Ok(())
}

/// Whether a component is, or contains, one of the type `name`.
fn has_component(part: &Value, name: &str) -> bool {
    let parts = part["decoders"].as_array().into_iter().flatten();
    part["type"] == name || parts.into_iter().any(|part| has_component(part, name))
}

/// The mode that this program saved in a file; `None` for a file from outside.
pub(super) fn saved_mode(fields: &Fields<'_>) -> Option<TextMode> {
    let marks: Vec<&Value> =
        entries(fields).iter().map(|entry| &entry[MARK]).filter(|mark| !mark.is_null()).collect();
    let has = |name: &str| marks.iter().any(|mark| **mark == name);
    (!marks.is_empty()).then_some(match (has("bos"), has("eos")) {
        (true, true) => TextMode::Line,
        (false, true) => TextMode::Document,
        (_, false) => TextMode::Stream,
    })
}

fn entries<'a>(fields: &'a Fields<'_>) -> &'a [Value] {
    fields.added_tokens.as_array().map_or(&[], Vec::as_slice)
}

/// Calls the library, which panics on some files that it reads; `what` it does.
fn guarded<T>(what: &str, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => done.map_err(|error| match error.to_string() {
            error if error.contains("Missing [UNK]") => library_error(
                "the text has a word that is not in the vocabulary of tokenizer.file, whose model has no \
                     unk_token for such words; give it one",
            ),
            error => library_error(format!("the tokenizers library cannot {what}: {error}")),
        }),
        Err(_) => refuse(format!("the tokenizers library fails when it should {what}")),
    }
}

fn load(fields: &Fields<'_>) -> Result<Library> {
    let json = to_bytes(&fields.without_post_processing())?;
    guarded("read it", || Library::from_bytes(json))
}

/// The number of ids, and how many of them have no token.
fn sizes(library: &Library, fields: &Fields<'_>) -> Result<(usize, usize)> {
    let mut tokens: Vec<(u32, String)> =
        library.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    if let Some([(_, a), (_, b)]) = tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return refuse(format!("{a:?} and {b:?} have the same id"));
    }
    let Some((last, _)) = tokens.last() else { return refuse("it has no tokens") };
    let size = (*last as usize + 1).max(library.get_model().get_vocab_size());
    let unused = size - tokens.len();
    if unused > tokens.len() {
        return refuse(format!("of its {size} ids only {} have a token", tokens.len()));
    }
    if size > MAX_VOCABULARY {
        return Err(Error::VocabularyTooLarge { size, limit: MAX_VOCABULARY });
    }
    for entry in entries(fields) {
        let given = entry["content"].as_str().and_then(|name| library.token_to_id(name));
        if given.map(u64::from) != entry["id"].as_u64() {
            let (name, id) = (&entry["content"], &entry["id"]);
            return refuse(format!(
                "its added token {name} has the id {id}, and the tokenizers library would give it another"
            ));
        }
    }
    Ok((size, unused))
}

/// Marks the tokens for `<s>` and `</s>` in the entries of a file with `size` ids, where the mode
/// has them: its own, or new ones. `record`: says so where it has none, too.
fn mark(fields: &mut Fields<'_>, library: &Library, mode: TextMode, record: bool, size: usize) -> SpecialIds {
    let mut entries = entries(fields).to_vec();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.remove(MARK);
    }
    let mut next = size as u32;
    let mut id = |names: &[&str], mark: &str| {
        let own = names.iter().find_map(|name| Some((library.token_to_id(name)?, *name)));
        let (id, name) = own.unwrap_or_else(|| {
            next += 1;
            (next - 1, names[0])
        });
        let at = entries.iter().position(|entry| entry["content"] == name).unwrap_or_else(|| {
            entries.push(special_token(id, name));
            entries.len() - 1
        });
        entries[at][MARK] = mark.into();
        id
    };
    let ids = match mode {
        TextMode::Stream => SpecialIds::default(),
        TextMode::Line => {
            SpecialIds { unk: None, bos: Some(id(&STARTS, "bos")), eos: Some(id(&ENDS, "eos")) }
        }
        TextMode::Document => SpecialIds { eos: Some(id(&ENDS, "eos")), ..SpecialIds::default() },
    };
    if let Some(first) = entries.iter_mut().find_map(Value::as_object_mut)
        && record
        && mode == TextMode::Stream
    {
        first.insert(MARK.into(), "none".into());
    }
    if !(entries.is_empty() && fields.added_tokens.is_null()) {
        fields.added_tokens = entries.into();
    }
    ids
}

impl LibraryCodec {
    /// Reads a file; `record`: whether what it saves has its mode in any case.
    pub(super) fn read(bytes: &[u8], fields: &Fields<'_>, mode: TextMode, record: bool) -> Result<Self> {
        let Some(model) = fields.model else { return refuse("it has no model") };
        let model: Model<'_> = parse(model.get().as_bytes())?;
        model.check()?;
        let mut growth = 1;
        for part in [&fields.normalizer, &fields.pre_tokenizer, &fields.decoder] {
            check_component(part, &mut growth)?;
        }
        let mut library = load(fields)?;
        let (mut size, mut unused) = sizes(&library, fields)?;
        let mut marked = fields.clone();
        let mut special_ids = mark(&mut marked, &library, mode, record, size);
        let is_changed = marked.added_tokens != fields.added_tokens;
        if is_changed {
            library = load(&marked)?;
            (size, unused) = sizes(&library, &marked)?;
        }
        // One token cannot be both.
        let is_mark = |id: &u32| [special_ids.bos, special_ids.eos].contains(&Some(*id));
        let unk = model.unk_token.and_then(|name| library.token_to_id(&name)).or(model.unk_id);
        special_ids.unk = unk.filter(|id| !is_mark(id));
        library.set_encode_special_tokens(true);
        let specials = library.get_added_tokens_decoder().into_values().filter(|token| token.special);
        let mut special_names: Vec<String> = specials.map(|token| token.content).collect();
        special_names.retain(|name| !(name.is_empty() || [UNK, BOS, EOS].contains(&name.as_str())));
        special_names.sort();
        let mut codec = Self {
            library: Box::new(library),
            json: if is_changed { to_bytes(&marked)? } else { bytes.to_vec() },
            mode,
            vocab_size: size,
            unused_ids: unused,
            special_ids,
            special_names,
            adds_space: false,
            is_byte_level: has_component(&fields.decoder, "ByteLevel"),
            has_byte_fallback: has_component(&fields.decoder, "ByteFallback"),
        };
        let letter = codec.ids("a").and_then(|ids| codec.decoded(&ids));
        codec.adds_space = letter.is_ok_and(|text| text.starts_with(' '));
        Ok(codec)
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded("encode the text with it", || self.library.encode_fast(text, false))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The ids of `text` after `before`; `None` if the tokens of the two are not separate.
    fn ids_after(&self, before: &str, text: &str) -> Result<Option<Vec<u32>>> {
        let first = self.ids(before)?;
        let mut all = self.ids(&[before, text].concat())?;
        Ok(all.starts_with(&first).then(|| all.split_off(first.len())))
    }

    fn decoded(&self, ids: &[u32]) -> Result<String> {
        let mut text = guarded("decode with it", || self.library.decode(ids, false))?;
        if self.adds_space && text.starts_with(' ') {
            text.remove(0);
        }
        Ok(text)
    }

    /// The name of a token in the file.
    fn name(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id).filter(|name| self.library.token_to_id(name) == Some(id))
    }

    /// The sequences in `text`: all of it, or its lines.
    fn sequences<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let (all, lines) = match self.mode {
            TextMode::Stream | TextMode::Document => (Some(text), None),
            TextMode::Line => (None, Some(text.split_terminator('\n'))),
        };
        all.into_iter().chain(lines.into_iter().flatten())
    }
}

impl Codec for LibraryCodec {
    fn kind(&self) -> TokenizerKind {
        TokenizerKind::File
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn special_ids(&self) -> SpecialIds {
        self.special_ids
    }

    fn learn(&mut self, _: &TrainingText<'_>) -> Result<()> {
        Err(Error::Setting("a tokenizer of a file does not learn from a text".into()))
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        self.encode_after("", text, ids)
    }

    fn encode_after(&self, before: &str, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        for (index, text) in self.sequences(text).enumerate() {
            for context in contexts(if index == 0 { before } else { "" }) {
                if let Some(after) = self.ids_after(context, text)? {
                    ids.extend(after);
                    break;
                }
            }
        }
        Ok(())
    }

    fn can_cut(&self, before: &str, after: &str) -> Option<bool> {
        let separate = || matches!(self.ids_after(before, after), Ok(Some(_)));
        self.mode.keeps_newlines().then(separate)
    }

    fn round_trip_error(&self, before: &str, text: &str, ids: &[u32]) -> Option<String> {
        let text = self.sequences(text).next().unwrap_or_default();
        let decoded_after = |context: &str| -> Result<String> {
            let first = self.ids(context)?;
            let (start, all) = (self.decoded(&first)?, self.decoded(&[&first, ids].concat())?);
            Ok(all.strip_prefix(start.as_str()).unwrap_or(&all).to_owned())
        };
        let mut expected = None;
        for context in contexts(before) {
            let decoded = decoded_after(context).unwrap_or_default();
            if decoded == text {
                return None;
            }
            expected.get_or_insert(decoded);
        }
        expected.map(|decoded| difference(text, &decoded))
    }

    fn special_names_in(&self, text: &str) -> usize {
        self.special_names.iter().map(|name| text.matches(name.as_str()).count()).sum()
    }

    fn unused_ids(&self) -> usize {
        self.unused_ids
    }

    fn token_name(&self, id: u32) -> Cow<'_, [u8]> {
        // An id without a token needs a name, too.
        self.name(id).unwrap_or_else(|| format!("<id {id}>")).into_bytes().into()
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let Some(name) = self.library.id_to_token(id) else { return Cow::default() };
        let byte = name.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        if let Some(byte) =
            byte.filter(|_| self.has_byte_fallback).and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            return vec![byte].into();
        }
        if self.is_byte_level
            && let Some(bytes) = name.chars().map(unicode_to_byte).collect::<Option<Vec<u8>>>()
        {
            return bytes.into();
        }
        // The second of two, because the first of a text may lose a space.
        let (one, two) = (self.decoded(&[id]), self.decoded(&[id, id]));
        let (one, two) = (one.unwrap_or_default(), two.unwrap_or_default());
        two.strip_prefix(one.as_str()).unwrap_or(&one).as_bytes().to_vec().into()
    }

    fn decode(&self, ids: &[u32], text: &mut String) {
        text.push_str(&self.decoded(ids).unwrap_or_default());
    }

    fn save(&self) -> Result<Vec<u8>> {
        Ok(self.json.clone())
    }
}

/// The contexts in which a part of a text may be encoded, best first: one that starts within a
/// token has no tokens of its own after `before`, but has them at the start of a line or of a text.
fn contexts(before: &str) -> Vec<&str> {
    if before.is_empty() { vec![""] } else { vec![before, "a\n", ""] }
}

/// The first words in which `text` and what it was `decoded` to differ.
fn difference(text: &str, decoded: &str) -> String {
    let common = text.char_indices().zip(decoded.chars()).find(|((_, a), b)| a != b);
    let at = common.map_or(text.len().min(decoded.len()), |((at, _), _)| at);
    let from = text[..at].char_indices().rev().nth(9).map_or(0, |(from, _)| from);
    let shown = |text: &str| text[from..].chars().take(30).collect::<String>();
    format!("{:?} becomes {:?}", shown(text), shown(decoded))
}
