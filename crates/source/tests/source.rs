//! Sources of known entropy: probabilities computed by hand, closed forms, and the embedded
//! sources.

#![cfg(test)]

use std::collections::BTreeMap;

use surprisal_source::{Error, Source};

fn source(text: &str) -> Source {
    Source::parse(text).unwrap()
}

fn probability(source: &Source, prefix: &str, text: &str) -> f64 {
    match source.nats(prefix, text) {
        Ok(nats) => (-nats).exp(),
        Err(Error::Impossible { .. }) => 0.0,
        Err(other) => panic!("{other}"),
    }
}

/// The sum of the probabilities of all strings of `length` over `alphabet` after `prefix`.
fn total(source: &Source, alphabet: &[char], prefix: &str, text: &mut String, length: usize) -> f64 {
    if length == 0 {
        return probability(source, prefix, text);
    }
    let mut sum = 0.0;
    for character in alphabet {
        text.push(*character);
        sum += total(source, alphabet, prefix, text, length - 1);
        text.pop();
    }
    sum
}

/// Ambiguous on purpose: `ab` is one word or two, and `b` is a stored cell or not.
const TOY: &str = r#"
grammar
start s
table t: x y
  2 "a" "b"
  "b" "aa"
rule s
  3 "<v = t><v.x><r><^v.y>" 2 "ab" "a<b>" 0.5 "é"
rule r
  "" 2 "c"
rule b
  "b" "bc"
"#;

const CHAIN: &str = r#"
markov
order 2
start "a"
"a": 3 "a" "b"
"b": "a" 2 "b" "é"
"ab": 5 "b" "a"
"é": "a"
"#;

#[test]
fn the_probabilities_of_all_texts_of_a_length_sum_to_one() {
    for (text, alphabet) in [(TOY, &['a', 'b', 'c', 'A', 'B', 'é'][..]), (CHAIN, &['a', 'b', 'é'])] {
        let source = source(text);
        for length in 1..=4 {
            let sum = total(&source, alphabet, "", &mut String::new(), length);
            assert!((sum - 1.0).abs() < 1e-12, "length {length}: {sum}");
        }
        let sum = total(&source, alphabet, "ab", &mut String::new(), 3);
        assert!((sum - 1.0).abs() < 1e-12, "after ab: {sum}");
    }
}

#[test]
fn predictions_sum_to_one_and_multiply_to_the_probability_of_the_text() {
    for name in Source::names() {
        let source = Source::embedded(name).unwrap();
        let text = source.sample(3, 4000);
        let (prefix, rest) = text.split_at(1357);
        let mut characters = rest.chars();
        let mut nats = 0.0;
        source
            .predictions(prefix, rest, &mut |next| {
                let came = characters.next().unwrap();
                assert!((next.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-12);
                nats -= next.iter().find(|(character, _)| *character == came).unwrap().1.ln();
            })
            .unwrap();
        assert_eq!(characters.next(), None, "{name}");
        let whole = source.nats(prefix, rest).unwrap();
        assert!((nats - whole).abs() < 1e-9 * whole, "{name}: {nats} {whole}");
    }
    assert_eq!(Source::embedded("babble").unwrap().markov_order(), Some(2));
    assert_eq!(Source::embedded("stories").unwrap().markov_order(), None);
    let other = Source::parse("grammar\nstart s\nrule s\n \"ä\" \"b\"\n").unwrap();
    assert!(matches!(other.predictions("", "b", &mut |_| {}), Err(Error::NotAscii)));
}

#[test]
fn every_derivation_is_counted() {
    let source = source(TOY);
    // The weights of s are 3, 2, 1 and 0.5 of 6.5. A first `a`: a row of t (2 of 3), or either word
    // with `a`.
    let a = 3.0 / 6.5 * 2.0 / 3.0 + 3.0 / 6.5;
    assert!((probability(&source, "", "a") - a).abs() < 1e-12);
    // `ab`: the word, and two ways of a<b>; the row a-b continues with B or cB only.
    let ab = 2.0 / 6.5 + 1.0 / 6.5;
    assert!((probability(&source, "", "ab") - ab).abs() < 1e-12);
    // `aba`: after `ab` from any of the three a new story with `a`; not after the first half of
    // `abc`.
    let aba = (2.0 / 6.5 + 0.5 / 6.5) * a;
    assert!((probability(&source, "", "aba") - aba).abs() < 1e-12);
    assert!((probability(&source, "ab", "a") - aba / ab).abs() < 1e-12);
    // The capital of the row's second cell, with and without c.
    let ac = 3.0 / 6.5 * 2.0 / 3.0;
    assert!((probability(&source, "", "aB") - ac / 3.0).abs() < 1e-12);
    assert!((probability(&source, "", "acB") - ac * 2.0 / 3.0).abs() < 1e-12);
    assert!((probability(&source, "", "bAa") - 3.0 / 6.5 / 9.0).abs() < 1e-12);
}

#[test]
fn a_second_row_is_another_one() {
    let source = source(
        "grammar\nstart s\ntable t: x\n 5 \"a\"\n 3 \"b\"\n 2 \"c\"\nrule s\n \"<v = t><w = t except v><v.x><w.x>\"\n",
    );
    assert!(probability(&source, "", "aa").abs() < 1e-300);
    assert!((probability(&source, "", "ab") - 0.5 * 3.0 / 5.0).abs() < 1e-12);
    assert!((probability(&source, "", "cb") - 0.2 * 3.0 / 8.0).abs() < 1e-12);
}

#[test]
fn a_text_may_be_cut_anywhere() {
    for name in Source::names() {
        let source = Source::embedded(name).unwrap();
        let text = source.sample(3, 3000);
        let whole = source.nats("", &text).unwrap();
        for cut in [0, 1, 777, 1500, text.len() - 1, text.len()] {
            let (before, after) = text.split_at(cut);
            let parts = source.nats("", before).unwrap() + source.nats(before, after).unwrap();
            assert!((parts - whole).abs() < 1e-9 * whole, "{name} cut at {cut}: {parts} and {whole}");
        }
    }
}

#[test]
fn the_closed_form_of_a_chain_is_the_sampled_mean() {
    // Two states that are left with probability 1/4 and 1/2: π = (2/3, 1/3), by hand.
    let two = source("markov\norder 1\nstart \"a\"\n\"a\": 3 \"a\" \"b\"\n\"b\": \"a\" \"b\"\n");
    let h = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
    let expected = 2.0 / 3.0 * h(0.25) + 1.0 / 3.0 * h(0.5);
    assert!((two.entropy_rate() - expected).abs() < 1e-14);
    // A deterministic cycle has none.
    let round = source("markov\norder 1\nstart \"a\"\n\"a\": \"b\"\n\"b\": \"c\"\n\"c\": \"a\"\n");
    assert!(round.entropy_rate().abs() < 1e-15);

    for source in [source(CHAIN), Source::embedded("babble").unwrap(), two] {
        let rate = source.entropy_rate();
        let means: Vec<f64> = (0..40)
            .map(|seed| {
                let text = source.sample(seed, 5000);
                source.nats("", &text).unwrap() / text.chars().count() as f64
            })
            .collect();
        let mean = means.iter().sum::<f64>() / 40.0;
        let variance = means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 39.0;
        let error = (variance / 40.0).sqrt();
        assert!((mean - rate).abs() < 4.0 * error, "{mean} ± {error}, closed form {rate}");
    }
}

/// No other distribution has a lower cross-entropy on a source's text, not even a unigram fitted to
/// it.
#[test]
fn a_fitted_unigram_does_not_beat_the_source() {
    for name in Source::names() {
        let source = Source::embedded(name).unwrap();
        let text = source.sample(5, 20_000);
        let mut counts = BTreeMap::new();
        for character in text.chars() {
            *counts.entry(character).or_insert(0.0) += 1.0;
        }
        let n: f64 = counts.values().sum();
        let unigram: f64 = counts.values().map(|count: &f64| -count * (count / n).ln()).sum();
        let own = source.nats("", &text).unwrap();
        assert!(own < 0.9 * unigram, "{name}: {own} and {unigram}");
    }
}

#[test]
fn a_sample_is_the_same_for_the_same_seed_and_ends_well() {
    for name in Source::names() {
        let source = Source::embedded(name).unwrap();
        let text = source.sample(1, 10_000);
        assert_eq!(text, source.sample(1, 10_000));
        assert_ne!(text, source.sample(2, 10_000));
        assert!(
            text.len() >= 10_000 && text.len() < 12_000 && text.ends_with('\n'),
            "{name}: {}",
            text.len()
        );
        assert!(
            source.sample(1, 20_000).starts_with(&text),
            "{name}: a longer sample begins with the shorter"
        );
    }
}

#[test]
fn the_stories_have_the_entropy_and_the_size_they_were_made_for() {
    let stories = Source::embedded("stories").unwrap();
    let text = stories.sample(1, 200_000);
    let rate = stories.nats("", &text).unwrap() / text.len() as f64;
    assert!((0.15..0.3).contains(&rate), "{rate} nats per character");
    let words: std::collections::BTreeSet<String> = text
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    assert!((250..500).contains(&words.len()), "{} words", words.len());
    for story in text.lines() {
        let sentences = story.matches(['.', '?']).count();
        assert!((3..=8).contains(&sentences), "{sentences} sentences: {story}");
    }
}

#[test]
fn an_impossible_text_is_located() {
    let stories = Source::embedded("stories").unwrap();
    let text = stories.sample(1, 500);
    let wrong = text.replacen("the ", "thé ", 1);
    let at = text.find("the ").unwrap() + 2;
    for (prefix, rest) in [wrong.split_at(0), wrong.split_at(at + 10), wrong.split_at(at)] {
        match stories.nats(prefix, rest).unwrap_err() {
            Error::Impossible { offset, before, found } => {
                assert_eq!((offset, found), (at, 'é'));
                assert!(before.is_empty() || before.ends_with("th"), "{before}");
            }
            other => panic!("{other}"),
        }
    }
    let babble = Source::embedded("babble").unwrap();
    assert!(matches!(babble.nats("la", "lax"), Err(Error::Impossible { offset: 4, found: 'x', .. })));
}

#[test]
fn malformed_sources_are_refused_with_their_line() {
    let grammar = |rest: &str| format!("grammar\nstart s\n{rest}");
    let nested: String = {
        let rules: Vec<_> = (0..100).map(|i| format!("rule r{i}\n \"<r{}>\"\n", i + 1)).collect();
        grammar(&format!("rule s\n \"<r0>\"\n{}rule r100\n \"x\"\n", rules.concat()))
    };
    let doubling: String = {
        let rules: Vec<_> =
            (0..40).map(|i| format!("rule r{i}\n \"<r{0}>a<r{0}>\" \"b\"\n", i + 1)).collect();
        grammar(&format!("rule s\n \"<r0>\"\n{}rule r40\n \"x\" \"y\"\n", rules.concat()))
    };
    let names: Vec<_> = (0..9).map(|i| format!("<v{i} = t>")).collect();
    let cases: Vec<(String, usize, &str)> = vec![
        (String::new(), 1, "begins with"),
        ("poem\n".into(), 1, "begins with"),
        ("grammar\n".into(), 1, "no `start RULE`"),
        (grammar("rule s\n"), 3, "no alternative"),
        (grammar("rule s\n \"x\n"), 4, "closing quote"),
        (grammar("rule s\n \"x\\q\"\n"), 4, "after `\\`"),
        (grammar("rule s\n 0 \"x\"\n"), 4, "a weight is"),
        (grammar("rule s\n 1e5 \"x\"\n"), 4, "weight or a quoted string"),
        (grammar("rule s\n 99999999999 \"x\"\n"), 4, "a weight is"),
        (grammar("rule s\n 1.2.3 \"x\"\n"), 4, "a weight is"),
        (grammar("rule s\n -1 \"x\"\n"), 4, "`-` begins nothing"),
        (grammar("rule s\n \"x\" 3\n"), 4, "the last weight"),
        (grammar("rule s\n \"<a\"\n"), 4, "without its `>`"),
        (grammar("rule s\n \"a>\"\n"), 4, "without its `>`"),
        (grammar("rule s\n \"<a b>\"\n"), 4, "it is none of"),
        (grammar("rule s\n \"<nowhere>\"\n"), 4, "no rule `nowhere`"),
        (grammar("rule s\n \"a<s>\"\n"), 3, "contains itself"),
        (grammar("rule s\n \"\"\n"), 3, "can be empty"),
        (grammar("rule s\n \"x\"\nrule s\n \"y\"\n"), 5, "two rules"),
        (grammar("  \"x\"\n"), 3, "belongs to a rule"),
        (grammar("rule s\n \"<v.x>\"\n"), 4, "nothing draws `v`"),
        (
            grammar("table t: x\n \"a\"\nrule s\n \"<r><v.x>\"\nrule r\n \"<v = t>\" \"b\"\n"),
            6,
            "may not have been drawn",
        ),
        (grammar("table t: x\n \"a\"\nrule s\n \"<v = t><v.y>\"\n"), 6, "no column `y`"),
        (grammar("table t: x\n \"a\"\nrule s\n \"<v = u>x\"\n"), 6, "no table `u`"),
        (grammar("table t: x\n \"a\"\nrule s\n \"<v = t><w = t except v>x\"\n"), 6, "two rows or more"),
        (grammar("table t: x\n \"a\" \"b\"\n"), 4, "a row is"),
        (grammar("table t: x\n \"\"\n"), 4, "a row is"),
        (grammar("table t:\n"), 3, "names of its columns"),
        (grammar(&format!("table t: x\n \"a\"\nrule s\n \"{}x\"\n", names.concat())), 6, "more than 8 names"),
        (nested, 131, "nested deeper"),
        (doubling, 0, "steps when every use"),
        ("x".repeat(2 << 20), 1, "at most"),
        ("markov\nstart \"a\"\n\"a\": \"a\"\n".into(), 3, "no `order`"),
        ("markov\norder 0.5\n".into(), 2, "the order is"),
        ("markov\norder 9\n".into(), 2, "the order is"),
        ("markov\norder 1\nstart \"a\"\n\"a\": \"bc\"\n".into(), 4, "not one character"),
        ("markov\norder 1\nstart \"a\"\n\"a\": \"b\" \"b\"\n".into(), 4, "is a duplicate"),
        ("markov\norder 1\nstart \"a\"\n\"a\": \"b\"\n\"a\": \"b\"\n".into(), 5, "is a duplicate"),
        ("markov\norder 1\nstart \"a\"\n\"a\": \"b\"\n".into(), 4, "no context matches \"b\""),
        (
            "markov\norder 1\nstart \"a\"\n\"a\": \"b\" \"c\"\n\"b\": \"b\"\n\"c\": \"c\"\n".into(),
            6,
            "no way to",
        ),
    ];
    for (text, line, problem) in cases {
        match Source::parse(&text) {
            Err(Error::Parse { line: found, problem: said }) => {
                assert!(said.contains(problem), "{said} instead of {problem}");
                assert!(line == 0 || line == found, "line {found} instead of {line}: {said}");
            }
            other => panic!("{problem}: {other:?}"),
        }
    }
    assert!(Source::embedded("poems").is_none());
}

#[test]
fn a_source_that_explodes_is_stopped() {
    let rows: Vec<_> = (0..200).map(|i| format!(" \"a{i}\"\n")).collect();
    let text = format!(
        "grammar\nstart s\ntable t: x\n{}rule s\n \"<u = t><v = t><w = t><u.x><v.x><w.x>\"\n",
        rows.concat()
    );
    let source = source(&text);
    assert!(matches!(source.nats("", "a1"), Err(Error::Ambiguous { .. })));
    assert!(source.sample(1, 10).starts_with('a'));
}
