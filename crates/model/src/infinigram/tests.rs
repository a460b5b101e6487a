use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The model by its definition: counts of every context, each looked for in the whole text.
struct Reference<'a> {
    text: &'a [u32],
    header: &'a Header,
}

impl Reference<'_> {
    /// The number of times that each token follows `context`, without `<s>`.
    fn counts(&self, context: &[u32]) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for window in self.text.windows(context.len() + 1) {
            let (before, token) = (&window[..context.len()], window[context.len()]);
            if before == context && Some(token) != self.header.bos {
                *counts.entry(token).or_default() += 1;
            }
        }
        counts
    }

    fn occurrences(&self, context: &[u32]) -> usize {
        if context.is_empty() {
            return self.text.len();
        }
        self.text.windows(context.len()).filter(|window| *window == context).count()
    }

    fn row(&self, history: &[u32]) -> Vec<f64> {
        let Header { vocab_size, bos, .. } = *self.header;
        let uniform = 1.0 / f64::from(vocab_size - u32::from(bos.is_some()));
        let mut row = vec![uniform; vocab_size as usize];
        for len in 0..=history.len() {
            let context = &history[history.len() - len..];
            let longer = history.len().checked_sub(len + 1).map(|start| &history[start..]);
            let of_longer = longer.map_or(0, |longer| self.occurrences(longer));
            // The longest of those with one count, but the empty one counts always.
            if len > 0 && of_longer == self.occurrences(context) {
                continue;
            }
            let counts = self.counts(context);
            let total: u32 = counts.values().sum();
            if total == 0 {
                continue;
            }
            let weight = self.header.weights.of(Bin::new(len as u32, total, counts.len() == 1));
            for (token, q) in (0..).zip(&mut row) {
                let count = counts.get(&token).copied().unwrap_or(0);
                *q = weight * f64::from(count) / f64::from(total) + (1.0 - weight) * *q;
            }
        }
        if let Some(bos) = bos {
            row[bos as usize] = 0.0;
        }
        row
    }
}

fn check(text: &[u32], vocab_size: u32, bos: Option<u32>, history: &[u32]) {
    let model = Infinigram::new(text, vocab_size, bos).unwrap();
    let reference = Reference { text, header: model.header() };
    let mut session = model.session().unwrap();
    let mut rows = vec![session.feed(&[]).unwrap()];
    rows.extend(history.iter().map(|&token| session.feed(&[token]).unwrap()));
    let scored = model.log_probs(history, 0).unwrap();
    for (read, row) in rows.iter().enumerate() {
        let expected = reference.row(&history[..read]);
        let row: Vec<f64> = row.iter().map(|log_prob| log_prob.exp()).collect();
        for (token, (q, expected)) in row.iter().zip(&expected).enumerate() {
            assert!((q - expected).abs() < 1e-12, "{token} after {:?}: {q}, {expected}", &history[..read]);
        }
        let rounding = f64::from(vocab_size) * f64::EPSILON;
        assert!((row.iter().sum::<f64>() - 1.0).abs() < rounding.max(1e-12));
        if let Some(&token) = history.get(read) {
            assert!((scored[read].exp() - expected[token as usize]).abs() < 1e-12);
        }
        let counts: Vec<(u32, u32)> = reference.counts(&history[..read]).into_iter().collect();
        if bos.is_none() {
            assert_eq!(model.next_counts(&history[..read]), counts);
        }
    }
}

/// A text of lines: `<s>` is 1 and `</s>` is 2.
fn lines(words: &[u32]) -> Vec<u32> {
    words.chunks(4).flat_map(|line| [&[1], line, &[2]].concat()).collect()
}

proptest! {
    #[test]
    fn it_is_its_definition(
        text in prop::collection::vec(0_u32..5, 0..80),
        history in prop::collection::vec(0_u32..5, 0..20),
        at in 0..80_usize,
    ) {
        check(&text, 5, None, &history);
        // Of the text itself, and with tokens of two and four bytes.
        let own = &text[at.min(text.len())..];
        check(&text, 5, None, &own[..own.len().min(12)]);
        check(&text, 300, None, &history);
        check(&text, 70_000, None, &history[..history.len().min(2)]);
    }

    #[test]
    fn a_sentence_begins_without_the_one_before(
        words in prop::collection::vec(3_u32..6, 0..80),
        history in prop::collection::vec(3_u32..6, 0..12),
    ) {
        check(&lines(&words), 6, Some(1), &[&[1], &history[..]].concat());
        check(&lines(&words), 6, Some(1), &[&[1], &history[..], &[2]].concat());
    }
}

#[test]
fn more_of_a_text_is_less_surprising() {
    let text: Vec<u32> = (0..20_000_u32).map(|i| i * i % 97 % 11).collect();
    let (train, rest) = text.split_at(15_000);
    let nats = |train: &[u32]| {
        let model = Infinigram::new(train, 11, None).unwrap();
        -model.log_probs(rest, 0).unwrap().iter().sum::<f64>() / rest.len() as f64
    };
    // It repeats itself.
    let losses = [20, 50, 15_000].map(|len| nats(&train[..len]));
    assert!(losses.is_sorted_by(|more, less| more > less), "{losses:?}");
    assert!(losses[2] < 0.01, "{losses:?}");
}

#[test]
fn a_text_scored_in_parts_is_scored_as_a_whole() {
    let text: Vec<u32> = (0..9_000_u32).map(|i| i * i % 97 % 11).collect();
    let model = Infinigram::new(&text[..4_000], 11, None).unwrap();
    let (mut session, mut row) = (model.session().unwrap(), Vec::<f64>::new());
    let log_probs = model.log_probs(&text, 100).unwrap();
    for (i, &token) in text.iter().enumerate() {
        assert!(i < 100 || (log_probs[i - 100] - row[token as usize]).abs() < 1e-12, "{i}");
        row = session.feed(&[token]).unwrap();
    }
}

/// Its own text has contexts that are as long as what was read.
#[test]
fn a_model_reads_its_own_text_in_time() {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) % 50
    };
    // A long passage occurs twice.
    let mut text: Vec<u32> = std::iter::repeat_with(next).take(30_000).collect();
    text.extend_from_within(..10_000);
    let model = Infinigram::new(&text, 50, None).unwrap();
    let log_probs = model.log_probs(&text, 0).unwrap();
    let mut reading = Reading::default();
    for (token, log_prob) in text.iter().zip(log_probs) {
        assert!((model.read(&mut reading, *token).ln() - log_prob).abs() < 1e-12);
    }
    assert_eq!(reading.contexts.last().unwrap().len, 40_000);
}

#[test]
fn frequent_contexts_have_their_counts() {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) % 7 * (state >> 28) % 5
    };
    let text: Vec<u32> = std::iter::repeat_with(next).take(40_000).collect();
    let model = Infinigram::new(&text, 5, None).unwrap();
    let reference = Reference { text: &text, header: model.header() };
    for context in [&[][..], &[0], &[0, 0], &[0, 0, 0], &[1, 0, 2, 0]] {
        let expected: Vec<(u32, u32)> = reference.counts(context).into_iter().collect();
        // Before and after they are kept.
        for _ in 0..2 {
            assert_eq!(model.next_counts(context), expected, "{context:?}");
            let row = model.next_log_probs(context).unwrap();
            for token in 0..5 {
                let scored = model.log_probs(&[context, &[token]].concat(), context.len()).unwrap();
                assert!((scored[0] - row[token as usize]).abs() < 1e-12, "{context:?}");
            }
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let model = Infinigram::new(&[0, 1, 0, 1], 2, None).unwrap();
    let [text, suffixes] = model.parts().map(Clone::clone);
    let header = model.header().clone();
    let short = suffixes.slice(0..15);
    assert!(Infinigram::from_parts(header.clone(), text.clone(), short).is_err());
    // Places outside the text are the end of it.
    let damaged = Infinigram::from_parts(header, text, vec![0xFF; 16].into()).unwrap();
    let row = damaged.next_log_probs(&[0, 1]).unwrap();
    assert!(row.iter().all(|log_prob| log_prob.is_finite()));
    assert!(Infinigram::new(&[0, 7], 2, None).is_err());
}
