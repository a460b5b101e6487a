//! Counts of the pairs of a text, and grids of them.

use surprisal_engine::model::ngram::Counts;
use surprisal_engine::text::Tokenizer;

use crate::problem::Result;
use crate::texts::Text;

/// Rows of a grid; rarer characters are one more row together.
const MOST: usize = 40;

/// The pairs of the training part of a text.
#[derive(Debug)]
pub(crate) struct Bigrams {
    /// All counts, which models are smoothed from.
    pub(crate) counts: Counts,
    /// The most frequent tokens, in the order of the alphabet.
    pub(crate) shown: Vec<u32>,
    /// Their names; one more, "…", where there are others.
    pub(crate) names: Vec<String>,
    /// Counts of pairs, row by row of the first token.
    pub(crate) pairs: Vec<f64>,
    /// Sums of the rows.
    pub(crate) totals: Vec<f64>,
}

impl Bigrams {
    pub(crate) fn new(text: &Text) -> Result<Self> {
        let (tokenizer, train) = (&text.data.tokenizer, &text.data.train);
        let vocab_size = tokenizer.vocab_size();
        let mut frequency = vec![0u64; vocab_size];
        train.ids.iter().for_each(|&id| frequency[id as usize] += 1);
        let mut shown: Vec<u32> = (0..vocab_size as u32).filter(|&id| frequency[id as usize] > 0).collect();
        shown.sort_by_key(|&id| std::cmp::Reverse(frequency[id as usize]));
        let has_others = shown.len() > MOST;
        shown.truncate(MOST);
        let name = |id: u32| name(tokenizer, id);
        shown.sort_by_key(|&id| name(id));
        let width = shown.len() + usize::from(has_others);
        let mut row = vec![width.saturating_sub(1); vocab_size];
        shown.iter().enumerate().for_each(|(at, &id)| row[id as usize] = at);
        let mut pairs = vec![0.0; width * width];
        for pair in train.ids.windows(2) {
            pairs[row[pair[0] as usize] * width + row[pair[1] as usize]] += 1.0;
        }
        let totals = pairs.chunks(width.max(1)).map(|row| row.iter().sum()).collect();
        let names = shown.iter().map(|&id| name(id)).chain(has_others.then(|| "…".to_owned())).collect();
        let counts = Counts::new(&train.ids, vocab_size, 2, tokenizer.bos())?;
        Ok(Self { counts, shown, names, pairs, totals })
    }

    /// About its size in memory.
    pub(crate) fn bytes(&self) -> usize {
        let ngrams: usize = self.counts.levels.iter().map(|level| level.counts.len()).sum();
        size_of::<f64>() * (2 * ngrams + self.pairs.len())
    }

    pub(crate) fn width(&self) -> usize {
        self.names.len()
    }
}

/// The name of a token as a grid shows it, with white space made visible.
pub(crate) fn name(tokenizer: &Tokenizer, id: u32) -> String {
    match tokenizer.token(id).as_str() {
        " " => "␣".to_owned(),
        "\n" => "⏎".to_owned(),
        "\t" => "⇥".to_owned(),
        other => other.to_owned(),
    }
}
