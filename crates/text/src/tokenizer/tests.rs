//! The built-in tokenizers against the library. Hostile files: `tests/hostile_tokenizer.rs`.

use proptest::prelude::*;

use super::*;
use crate::EncodeOptions;
use crate::chunks::Span;
use crate::encode;

const TEXT: &str =
    "the cat sat on the mat.\nthe dog  sat\ton the log.\n\nÉmile said: \"où est le chat?\"\nend";

fn train(kind: TokenizerKind, mode: TextMode) -> Tokenizer {
    encode::train(kind, mode, &[Span::from_text("memory", TEXT)], EncodeOptions::default()).unwrap()
}

const KINDS: [TokenizerKind; 4] =
    [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Word, TokenizerKind::Bpe { vocab_size: 300 }];

fn library(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(tokenizer.to_json().unwrap()).unwrap()
}

#[test]
fn ids_are_the_librarys_and_survive_saving() {
    for kind in KINDS {
        for mode in [TextMode::Stream, TextMode::Line] {
            let tokenizer = train(kind, mode);
            let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
            assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap(), "{kind} {mode:?}");
            let sizes = |one: &Tokenizer| (one.kind(), one.vocab_size(), one.unk(), one.bos(), one.eos());
            assert_eq!(sizes(&again), sizes(&tokenizer));
            assert_eq!([again.mode(), tokenizer.mode()], [mode; 2]);
            let theirs = library(&tokenizer);
            assert_eq!(theirs.get_vocab_size(true), tokenizer.vocab_size(), "{kind} {mode:?}");
            for line in ["the cat sat.", "  où\tça? \"xyz\" 123", "日本 the", ""] {
                let ours = tokenizer.encode(line).unwrap();
                assert_eq!(ours, again.encode(line).unwrap());
                let ids = theirs.encode_fast(line, false).unwrap().get_ids().to_vec();
                assert_eq!(ours, ids, "{kind} {mode:?} {line:?}");
            }
            if mode == TextMode::Stream {
                let ids = theirs.encode_fast(TEXT, false).unwrap().get_ids().to_vec();
                assert_eq!(tokenizer.encode(TEXT).unwrap(), ids, "{kind}");
            }
            if mode == TextMode::Line {
                assert_eq!(theirs.token_to_id(BOS), tokenizer.bos());
                assert_eq!(theirs.token_to_id(EOS), tokenizer.eos());
            }
        }
    }
}

#[test]
fn text_comes_back() {
    for kind in KINDS {
        let tokenizer = train(kind, TextMode::Stream);
        let text = tokenizer.decode(&tokenizer.encode(TEXT).unwrap());
        if kind == TokenizerKind::Word {
            assert_eq!(text, TEXT.replace("  ", " ").replace('\t', " "));
        } else {
            assert_eq!(text, TEXT, "{kind}");
        }
    }
    let lines = train(TokenizerKind::Char, TextMode::Line);
    let mut ids = vec![lines.bos().unwrap()];
    ids.extend(lines.encode("the cat").unwrap());
    ids.extend([lines.eos().unwrap(), lines.bos().unwrap()]);
    assert_eq!(lines.decode(&ids), "the cat\n");
}

#[test]
fn ids_have_the_documented_order() {
    let chars = train(TokenizerKind::Char, TextMode::Stream);
    assert_eq!(chars.unk(), Some(0));
    let ids: Vec<u32> = chars.encode("\n\t \"").unwrap();
    // By code point: tab, newline, space, quotation mark.
    assert_eq!(ids, [2, 1, 3, 4]);
    let words = train(TokenizerKind::Word, TextMode::Line);
    assert_eq!(words.encode("the cat sat unheard").unwrap(), [3, 4, 5, 0]);
    let bytes = train(TokenizerKind::Byte, TextMode::Line);
    assert_eq!(
        (bytes.vocab_size(), bytes.bos(), bytes.eos(), bytes.unk()),
        (258, Some(256), Some(257), None)
    );
    assert_eq!(bytes.encode("Aé").unwrap(), [65, 0xC3, 0xA9]);
}

#[test]
fn special_names_in_a_text_are_only_text() {
    for kind in KINDS {
        let tokenizer = train(kind, TextMode::Line);
        let ids = tokenizer.encode("<s> </s>").unwrap();
        assert!(
            !ids.contains(&tokenizer.bos().unwrap()) && !ids.contains(&tokenizer.eos().unwrap()),
            "{kind}"
        );
    }
}

#[test]
fn a_bpe_vocabulary_has_its_size_and_too_small_a_one_is_refused() {
    let text = TEXT.repeat(20);
    let tokenizer = encode::train(
        TokenizerKind::Bpe { vocab_size: 280 },
        TextMode::Stream,
        &[Span::from_text("memory", &text)],
        EncodeOptions::default(),
    )
    .unwrap();
    assert_eq!(tokenizer.vocab_size(), 280);
    assert!(tokenizer.encode("the cat").unwrap().len() < 7);
    let kind = TokenizerKind::Bpe { vocab_size: 200 };
    assert!(
        encode::train(kind, TextMode::Stream, &[Span::from_text("memory", TEXT)], EncodeOptions::default())
            .is_err()
    );
}

#[test]
fn tokens_are_shown_readably() {
    let chars = train(TokenizerKind::Char, TextMode::Line);
    assert_eq!(chars.token(chars.bos().unwrap()), "<s>");
    assert_eq!(chars.token(chars.encode(" ").unwrap()[0]), "␣");
    assert_eq!(train(TokenizerKind::Byte, TextMode::Stream).token(0xC3), "0xC3");
    assert_eq!(train(TokenizerKind::Byte, TextMode::Stream).token(10), "⏎");
}

proptest! {
    #[test]
    fn any_text_is_encoded_as_the_library_does(text in "[ a-e\\n\\t.é日]{0,60}") {
        for kind in KINDS {
            let tokenizer = train(kind, TextMode::Stream);
            let theirs = library(&tokenizer).encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), theirs);
        }
    }

    #[test]
    fn no_bytes_make_a_tokenizer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Tokenizer::from_json(&bytes).is_err());
    }
}
