//! A codec from outside the crate, strings of two characters, through the public functions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use surprisal_text::{
    Codec, CodecRegistry, Corpus, DataOptions, EncodeOptions, Granularity, InputOptions, Result, SpecialIds,
    TextMode, Tokenizer, TokenizerKind, TrainingText, encode_text,
};

const KIND: TokenizerKind = TokenizerKind::Custom("two_chars");

/// Cuts a line into strings of two characters; ids: `<unk>`, `<s>`, `</s>`, then by value.
#[derive(Debug)]
struct TwoChars {
    pairs: Vec<String>,
    mode: TextMode,
}

impl TwoChars {
    const FIRST: usize = 3;

    fn new(mode: TextMode) -> Self {
        Self { pairs: Vec::new(), mode }
    }

    fn cut(text: &str) -> impl Iterator<Item = String> {
        text.lines().flat_map(|line| {
            let chars: Vec<char> = line.chars().collect();
            chars.chunks(2).map(String::from_iter).collect::<Vec<_>>()
        })
    }

    fn load(bytes: &[u8], mode: TextMode) -> Result<Arc<dyn Codec>> {
        let pairs = serde_json::from_slice(bytes)
            .map_err(|error| surprisal_text::Error::Tokenizer(error.to_string()))?;
        Ok(Arc::new(Self { pairs, mode }))
    }
}

impl Codec for TwoChars {
    fn kind(&self) -> TokenizerKind {
        KIND
    }

    fn mode(&self) -> TextMode {
        self.mode
    }

    fn vocab_size(&self) -> usize {
        Self::FIRST + self.pairs.len()
    }

    fn special_ids(&self) -> SpecialIds {
        SpecialIds { unk: Some(0), ..SpecialIds::marks(self.mode, 1) }
    }

    fn learn(&mut self, text: &TrainingText<'_>) -> Result<()> {
        let mut pairs = BTreeSet::new();
        for chunk in text.chunks() {
            pairs.extend(Self::cut(&chunk?));
        }
        self.pairs = pairs.into_iter().collect();
        Ok(())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let id = |pair| self.pairs.binary_search(&pair).map_or(0, |at| (Self::FIRST + at) as u32);
        ids.extend(Self::cut(text).map(id));
        Ok(())
    }

    fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
        let pair = (id as usize).checked_sub(Self::FIRST).and_then(|at| self.pairs.get(at));
        pair.map_or("<unk>", String::as_str).as_bytes().into()
    }

    fn save(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec(&self.pairs).unwrap())
    }
}

#[test]
fn a_custom_codec_learns_encodes_decodes_and_is_saved() {
    let options = DataOptions { val_fraction: 0.1, mode: TextMode::Line, ..DataOptions::default() };
    let corpus = Corpus::embedded("babble", &options).unwrap();
    let tokenizer = corpus.train_codec(Box::new(TwoChars::new(TextMode::Line))).unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.granularity()), (KIND, Granularity::Subword));
    assert_eq!(tokenizer.kind().to_string(), "two_chars");
    let train = corpus.encode_train(&tokenizer).unwrap();
    assert!(train.sequences().all(|line| line[0] == 1 && line[line.len() - 1] == 2));
    let lines: Vec<&[u32]> = train.sequences().take(20).collect();
    let text = tokenizer.decode(&lines.concat());
    assert_eq!(text.lines().count(), 20);
    let (again, unknown) =
        encode_text("text", &text, &tokenizer, &InputOptions::default(), EncodeOptions::default()).unwrap();
    assert_eq!((again.tokens.ids.into_vec(), unknown.len()), (lines.concat(), 0));
    let (other, unknown) =
        encode_text("text", "laXY\n", &tokenizer, &InputOptions::default(), EncodeOptions::default())
            .unwrap();
    assert_eq!((other.tokens.ids.len(), other.tokens.oov), (4, 1));
    assert_eq!(unknown.into_iter().collect::<Vec<_>>(), [(2, "<unk>".to_owned())]);

    let json = tokenizer.to_json().unwrap();
    let error = Tokenizer::from_json(&json).unwrap_err().to_string();
    assert!(error.contains("two_chars") && error.contains("registry"), "{error}");
    let mut registry = CodecRegistry::default();
    registry.register("two_chars", TwoChars::load);
    let loaded = Tokenizer::from_json_with(&json, &registry).unwrap();
    assert_eq!(loaded.to_json().unwrap(), json);
    assert_eq!(loaded.mode(), TextMode::Line);
    assert_eq!(corpus.encode_train(&loaded).unwrap(), train);
}

#[test]
fn a_wrong_custom_codec_is_refused() {
    /// A codec with wrong ids, kind or mode.
    #[derive(Debug)]
    struct Wrong(TwoChars, SpecialIds, TokenizerKind, u32);
    impl Codec for Wrong {
        fn kind(&self) -> TokenizerKind {
            self.2
        }
        fn mode(&self) -> TextMode {
            self.0.mode
        }
        fn vocab_size(&self) -> usize {
            self.0.vocab_size()
        }
        fn special_ids(&self) -> SpecialIds {
            self.1
        }
        fn learn(&mut self, text: &TrainingText<'_>) -> Result<()> {
            self.0.learn(text)
        }
        fn encode(&self, _: &str, ids: &mut Vec<u32>) -> Result<()> {
            ids.push(self.3);
            Ok(())
        }
        fn token_bytes(&self, id: u32) -> Cow<'_, [u8]> {
            self.0.token_bytes(id)
        }
        fn save(&self) -> Result<Vec<u8>> {
            Ok(b"no JSON".to_vec())
        }
    }
    let make = |mode, ids, kind, id| Tokenizer::custom(Arc::new(Wrong(TwoChars::new(mode), ids, kind, id)));
    let (none, marks) = (SpecialIds::default(), SpecialIds::marks(TextMode::Line, 1));
    assert!(make(TextMode::Line, none, KIND, 0).is_err());
    assert!(make(TextMode::Stream, marks, KIND, 0).is_err());
    assert!(make(TextMode::Stream, SpecialIds { unk: Some(3), ..none }, KIND, 0).is_err());
    assert!(make(TextMode::Stream, none, TokenizerKind::Word, 0).is_err());
    for (id, is_wrong) in [(0, false), (1, true), (2, true), (3, true)] {
        let tokenizer = make(TextMode::Line, marks, KIND, id).unwrap();
        assert_eq!(tokenizer.encode("x").is_err(), is_wrong, "{id}");
        assert!(tokenizer.to_json().is_err());
    }
    let stream = Corpus::embedded("babble", &DataOptions { val_fraction: 0.5, ..DataOptions::default() });
    assert!(stream.unwrap().train_codec(Box::new(TwoChars::new(TextMode::Line))).is_err());
}
