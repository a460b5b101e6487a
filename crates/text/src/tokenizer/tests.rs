//! The four tokenizers against the library. Hostile files: `tests/hostile_tokenizer.rs`.

use proptest::prelude::*;

use super::*;
use crate::Reading;
use crate::encode;
use crate::pieces::Span;

const TEXT: &str =
    "the cat sat on the mat.\nthe dog  sat\ton the log.\n\nÉmile said: \"où est le chat?\"\nend";

fn train(kind: TokenizerKind, unit: Unit) -> Tokenizer {
    encode::train(kind, unit, &[Span::of_text("memory", TEXT)], Reading::default()).unwrap()
}

const KINDS: [TokenizerKind; 4] =
    [TokenizerKind::Byte, TokenizerKind::Char, TokenizerKind::Word, TokenizerKind::Bpe { vocab_size: 300 }];

fn library(tokenizer: &Tokenizer) -> tokenizers::Tokenizer {
    tokenizers::Tokenizer::from_bytes(tokenizer.to_json().unwrap()).unwrap()
}

#[test]
fn ids_are_the_librarys_and_survive_saving() {
    for kind in KINDS {
        for unit in [Unit::Stream, Unit::Line] {
            let tokenizer = train(kind, unit);
            let again = Tokenizer::from_json(&tokenizer.to_json().unwrap()).unwrap();
            assert_eq!(again.to_json().unwrap(), tokenizer.to_json().unwrap(), "{kind} {unit:?}");
            assert_eq!(
                (again.kind(), again.unit(), again.vocab_size(), again.unk(), again.bos(), again.eos()),
                (
                    tokenizer.kind(),
                    unit,
                    tokenizer.vocab_size(),
                    tokenizer.unk(),
                    tokenizer.bos(),
                    tokenizer.eos()
                )
            );
            let theirs = library(&tokenizer);
            assert_eq!(theirs.get_vocab_size(true), tokenizer.vocab_size(), "{kind} {unit:?}");
            for line in ["the cat sat.", "  où\tça? \"xyz\" 123", "日本 the", ""] {
                let ours = tokenizer.encode(line).unwrap();
                assert_eq!(ours, again.encode(line).unwrap());
                let ids = theirs.encode_fast(line, false).unwrap().get_ids().to_vec();
                assert_eq!(ours, ids, "{kind} {unit:?} {line:?}");
            }
            if unit == Unit::Stream {
                let ids = theirs.encode_fast(TEXT, false).unwrap().get_ids().to_vec();
                assert_eq!(tokenizer.encode(TEXT).unwrap(), ids, "{kind}");
            }
            if unit == Unit::Line {
                assert_eq!(theirs.token_to_id(BOS), tokenizer.bos());
                assert_eq!(theirs.token_to_id(EOS), tokenizer.eos());
            }
        }
    }
}

#[test]
fn text_comes_back() {
    for kind in KINDS {
        let tokenizer = train(kind, Unit::Stream);
        let text = tokenizer.decode(&tokenizer.encode(TEXT).unwrap());
        if kind == TokenizerKind::Word {
            assert_eq!(text, TEXT.replace("  ", " ").replace('\t', " "));
        } else {
            assert_eq!(text, TEXT, "{kind}");
        }
    }
    let lines = train(TokenizerKind::Char, Unit::Line);
    let mut ids = vec![lines.bos().unwrap()];
    ids.extend(lines.encode("the cat").unwrap());
    ids.extend([lines.eos().unwrap(), lines.bos().unwrap()]);
    assert_eq!(lines.decode(&ids), "the cat\n");
}

#[test]
fn ids_have_the_documented_order() {
    let chars = train(TokenizerKind::Char, Unit::Stream);
    assert_eq!(chars.unk(), Some(0));
    let ids: Vec<u32> = chars.encode("\n\t \"").unwrap();
    // By code point: tab, newline, space, quotation mark.
    assert_eq!(ids, [2, 1, 3, 4]);
    let words = train(TokenizerKind::Word, Unit::Line);
    assert_eq!(words.encode("the cat sat unheard").unwrap(), [3, 4, 5, 0]);
    let bytes = train(TokenizerKind::Byte, Unit::Line);
    assert_eq!(
        (bytes.vocab_size(), bytes.bos(), bytes.eos(), bytes.unk()),
        (258, Some(256), Some(257), None)
    );
    assert_eq!(bytes.encode("Aé").unwrap(), [65, 0xC3, 0xA9]);
}

#[test]
fn special_names_in_a_text_are_only_text() {
    for kind in KINDS {
        let tokenizer = train(kind, Unit::Line);
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
        Unit::Stream,
        &[Span::of_text("memory", &text)],
        Reading::default(),
    )
    .unwrap();
    assert_eq!(tokenizer.vocab_size(), 280);
    assert!(tokenizer.encode("the cat").unwrap().len() < 7);
    let kind = TokenizerKind::Bpe { vocab_size: 200 };
    assert!(encode::train(kind, Unit::Stream, &[Span::of_text("memory", TEXT)], Reading::default()).is_err());
}

#[test]
fn tokens_are_shown_readably() {
    let chars = train(TokenizerKind::Char, Unit::Line);
    assert_eq!(chars.token(chars.bos().unwrap()), "<s>");
    assert_eq!(chars.token(chars.encode(" ").unwrap()[0]), "␣");
    assert_eq!(train(TokenizerKind::Byte, Unit::Stream).token(0xC3), "0xC3");
    assert_eq!(train(TokenizerKind::Byte, Unit::Stream).token(10), "⏎");
}

proptest! {
    #[test]
    fn any_text_is_encoded_as_the_library_does(text in "[ a-e\\n\\t.é日]{0,60}") {
        for kind in KINDS {
            let tokenizer = train(kind, Unit::Stream);
            let theirs = library(&tokenizer).encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
            prop_assert_eq!(tokenizer.encode(&text).unwrap(), theirs);
        }
    }

    #[test]
    fn no_bytes_make_a_tokenizer_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Tokenizer::from_json(&bytes).is_err());
    }
}
