//! Fuzz targets: every parser of untrusted bytes, with the properties of accepted input.
//!
//! Used by `fuzz_targets/` with libFuzzer's inputs and by `tests/mutations.rs` with a bounded
//! number of mutations of the seeds.

use std::path::{Component, Path};

use surprisal_formats::{
    arpa as arpa_file, counts as counts_file,
    hf::HuggingFaceConfig,
    infinigram as infinigram_file, kenlm as kenlm_binary, ngram as ngram_binary,
    weights::{Accept, from_safetensors, to_safetensors},
};
use surprisal_model::LanguageModel;
use surprisal_store::checkpoint;
use surprisal_text::{
    Corpus, DataOptions, InputOptions, InvalidBytes, NormalForm, Split, TextMode, Tokenizer, TokenizerKind,
};

/// Accepted weights are written and read back unchanged.
pub(crate) fn safetensors(data: &[u8]) {
    for accept in [Accept::F32, Accept::Floats] {
        let Ok(tensors) = from_safetensors("the test", data, accept) else { continue };
        let written = to_safetensors(&tensors).expect("what was read can be written");
        let again = from_safetensors("the test", &written, accept).expect("what was written can be read");
        assert!(
            tensors
                .iter()
                .map(|(name, tensor)| (name, tensor.dims()))
                .eq(again.iter().map(|(n, t)| (n, t.dims())))
        );
    }
}

/// An accepted manifest names only files of its own folder.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(parts) = checkpoint::parse_manifest("manifest.json", data, 7) else { return };
    for name in parts.keys() {
        let components: Vec<_> = Path::new(name).components().collect();
        assert!(matches!(components[..], [Component::Normal(_)]), "{name}");
    }
}

/// An accepted configuration has sizes that can be computed with.
pub(crate) fn hf_config(data: &[u8]) {
    let Ok(config) = HuggingFaceConfig::parse("config.json", data) else { return };
    let model = config.transformer();
    assert!(model.n_layer <= 1024 && model.n_embd.is_multiple_of(model.n_head));
    let again = serde_json::to_vec(&config).expect("what was read can be written");
    let again = HuggingFaceConfig::parse("config.json", &again);
    assert_eq!(again.expect("what was written can be read"), config);
}

/// An accepted tokenizer is written and read back unchanged, and encodes and decodes any text; one
/// of a file from outside may refuse a text.
pub(crate) fn tokenizer(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(data) else { return };
    let written = tokenizer.to_json().expect("what was read can be written");
    let again = Tokenizer::from_json(&written).expect("what was written can be read");
    assert_eq!(again.to_json().expect("and written again"), written);
    let text = String::from_utf8_lossy(data);
    let text: String = text.chars().take(300).collect();
    let ids = match tokenizer.encode(&text) {
        Err(_) if tokenizer.kind() == TokenizerKind::File => return,
        ids => ids.expect("any text has tokens"),
    };
    assert_eq!(again.encode(&text).expect("any text has tokens"), ids);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "an id outside the vocabulary");
    tokenizer.decode(&ids);
    tokenizer.decode(&[0, u32::MAX, 7]);
}

/// Any bytes are read through every reader (compressed, UTF-16, records) and split by every rule,
/// or refused; the parts have the tokens of the whole, and memory is bounded.
#[expect(clippy::disallowed_methods, reason = "a text to be read at once need not survive a power loss")]
pub(crate) fn doors(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.txt");
    let (settings, bytes) = data.split_first_chunk::<2>().unwrap_or((&[0, 0], data));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let [how, rule] = *settings;
    let invalid = [InvalidBytes::Error, InvalidBytes::Replace, InvalidBytes::SkipLine][usize::from(how) % 3];
    let inputs = InputOptions {
        field: (how & 16 != 0).then(|| "a".to_owned()),
        normalize: if how & 32 == 0 { NormalForm::None } else { NormalForm::Nfc },
        keep_nuls: how & 64 != 0,
        limit: Some(1 << 22),
        invalid,
        ..InputOptions::default()
    };
    let mode = [TextMode::Stream, TextMode::Line, TextMode::Document][usize::from(rule) % 3];
    let split =
        [Split::Tail, Split::Blocks, Split::Lines, Split::Documents, Split::Files][usize::from(rule / 3) % 5];
    let train = vec![path];
    let options =
        DataOptions { train, inputs, split, val_fraction: 0.3, mode, once: true, ..DataOptions::default() };
    // One pass first: it has the limit, so that what expands without end is not copied.
    let Ok(whole) = Corpus::whole(&options, None) else { return };
    let Ok((tokenizer, text)) = whole.tokenize_train(TokenizerKind::Word) else { return };
    assert!(text.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    let Ok(corpus) = Corpus::load(&options) else { return };
    let (Ok(train), Ok(val)) = (corpus.encode_train(&tokenizer), corpus.encode_val(&tokenizer)) else {
        return;
    };
    // A cut within a line adds the marks of a line, and one within a word adds a word.
    if matches!(split, Split::Lines | Split::Documents | Split::Files) && mode != TextMode::Document {
        assert_eq!(train.ids.len() + val.ids.len(), text.ids.len(), "{how} {rule} {bytes:?}");
    }
}

/// A text is split at every position, or refused; no byte is lost, and bytes and characters decode
/// to the text.
#[expect(clippy::disallowed_methods, reason = "a text to be read at once need not survive a power loss")]
pub(crate) fn text(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.txt");
    let (settings, bytes) = data.split_first_chunk::<2>().unwrap_or((&[0, 0], data));
    if std::fs::write(&path, bytes).is_err() {
        return;
    }
    let unit = if settings[0] & 1 == 0 { TextMode::Stream } else { TextMode::Line };
    let val_fraction = f64::from(settings[1]) / 256.0;
    let inputs = InputOptions { as_stored: true, ..InputOptions::default() };
    let options =
        DataOptions { train: vec![path], inputs, val_fraction, mode: unit, ..DataOptions::default() };
    let Ok(corpus) = Corpus::load(&options) else { return };
    let kinds = [
        TokenizerKind::Byte,
        TokenizerKind::Char,
        TokenizerKind::Word,
        TokenizerKind::Bpe { vocab_size: 270 },
    ];
    let kind = kinds[usize::from(settings[0] >> 1) % kinds.len()];
    let Ok(tokenizer) = corpus.train_tokenizer(kind) else { return };
    let saved = tokenizer.to_json().expect("what was trained can be written");
    let again = Tokenizer::from_json(&saved).expect("what was written can be read");
    let (Ok(train), Ok(val)) = (corpus.encode_train(&tokenizer), corpus.encode_val(&again)) else { return };
    assert_eq!(train.bytes + val.bytes, bytes.len() as u64);
    for text in [&train, &val] {
        assert!(
            text.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()),
            "an id outside the vocabulary"
        );
    }
    assert_eq!(train.oov, 0, "the training text has a token that the vocabulary lacks");
    if matches!((unit, kind), (TextMode::Stream, TokenizerKind::Char | TokenizerKind::Bpe { .. })) {
        let decoded = again.decode(&train.ids);
        assert_eq!(decoded.as_bytes(), &bytes[..train.bytes as usize]);
    }
}

/// An accepted model answers queries, and is read back from its bytes.
pub(crate) fn ngram(data: &[u8]) {
    let Ok((model, tokenizer)) = ngram_binary::from_bytes(data.to_vec()) else { return };
    answers(&model, &tokenizer);
    let written = ngram_binary::to_bytes(&model, &tokenizer).expect("what was read can be written");
    ngram_binary::from_bytes(written).expect("what was written can be read");
}

/// The same for ∞-gram models.
pub(crate) fn infinigram(data: &[u8]) {
    let Ok((model, tokenizer)) = infinigram_file::from_bytes(data.to_vec()) else { return };
    answers(&model, &tokenizer);
    let written = infinigram_file::to_bytes(&model, &tokenizer).expect("what was read can be written");
    infinigram_file::from_bytes(written).expect("what was written can be read");
}

/// The same for ARPA files.
pub(crate) fn arpa(data: &[u8]) {
    let Ok((model, tokenizer)) = arpa_file::read(data) else { return };
    answers(&model, &tokenizer);
}

/// An accepted KenLM binary has a log-probability for every word, or says that it is damaged.
pub(crate) fn kenlm(data: &[u8]) {
    let Ok((model, tokenizer)) = kenlm_binary::from_bytes(data.to_vec()) else { return };
    let last = tokenizer.vocab_size() as u32 - 1;
    for context in [&[][..], &[last], &[1, last, 0, last, 2.min(last)]] {
        if let Ok(next) = model.next_log_probs(context) {
            assert_eq!(next.len(), tokenizer.vocab_size());
            assert!(next.iter().all(|log_q| !log_q.is_nan()), "no number after {context:?}");
        }
        let orders = model.matched_orders(context, 0).expect("words of the vocabulary are scored");
        let longest = model.counts().len();
        assert!(orders.is_some_and(|orders| orders.iter().all(|order| (1..=longest).contains(order))));
    }
}

/// After a few contexts, every word has a log-probability.
fn answers(model: &impl LanguageModel, tokenizer: &Tokenizer) {
    let last = tokenizer.vocab_size() as u32 - 1;
    for context in [&[][..], &[last], &[0, last, 0, last, 0]] {
        let next = model.next_log_probs(context).expect("words of the vocabulary have successors");
        assert_eq!(next.len(), tokenizer.vocab_size());
        assert!(next.iter().all(|log_q| !log_q.is_nan()), "no number after {context:?}");
    }
}

/// Accepted counts are consistent, and are read back from their bytes.
pub(crate) fn counts(data: &[u8]) {
    let Ok((counts, tokenizer, _)) = counts_file::from_bytes(data.to_vec()) else { return };
    counts.check().expect("counts that are accepted fit together");
    let written = counts_file::to_bytes(&counts, &tokenizer).expect("what was read can be written");
    assert_eq!(counts_file::from_bytes(written).expect("what was written can be read").0, counts);
}

/// The same for lists of counts.
pub(crate) fn counts_tsv(data: &[u8]) {
    let Ok((counts, tokenizer)) = counts_file::read_tsv(data, None) else { return };
    counts.check().expect("counts that are accepted fit together");
    let written = counts_file::to_bytes(&counts, &tokenizer).expect("what was read can be written");
    assert_eq!(counts_file::from_bytes(written).expect("what was written can be read").0, counts);
}
