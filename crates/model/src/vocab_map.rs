//! Models of different vocabularies, used with the token ids of one vocabulary that contains all.

use std::borrow::Borrow;
use std::ops::Deref;

use crate::{ContextBin, Error, LanguageModel, Result, Session, Visit, check_tokens};

/// A map from the ids of a vocabulary to those of a larger one.
///
/// A word that is only in the larger one is `<unk>` as context. As a prediction it has probability
/// zero: that of `<unk>` would count once for every such word.
///
/// ```
/// # use surprisal_model::{LanguageModel, MappedModel, VocabMap, ngram::Uniform};
/// # fn main() -> surprisal_model::Result<()> {
/// // The words of a model, <unk> and one more, are words 0 and 2 of three.
/// let (model, map) = (Uniform::new(2, None), VocabMap::new(vec![0, 2], 3, Some(0))?);
/// let next = MappedModel::new(&model, &map)?.next_log_probs(&[1])?;
/// assert_eq!(next, [0.5f64.ln(), f64::NEG_INFINITY, 0.5f64.ln()]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocabMap {
    /// The outer id of each inner word.
    ids: Vec<u32>,
    /// The inner id of each outer word, and whether it is `<unk>` because the word is missing.
    own: Vec<(u32, bool)>,
}

impl VocabMap {
    /// Maps inner word `i` to `ids[i]`, one of `vocab_size` outer words; `unk` is the inner
    /// `<unk>`.
    ///
    /// # Errors
    /// [`Error::Config`] for duplicate ids, ids outside the outer vocabulary, and outer words that
    /// are missing in an inner vocabulary without `<unk>`.
    pub fn new(ids: Vec<u32>, vocab_size: usize, unk: Option<u32>) -> Result<Self> {
        let wrong = |message: &str| Err(Error::Config(message.into()));
        let mut own: Vec<Option<u32>> = vec![None; vocab_size];
        for (word, &id) in (0..).zip(&ids) {
            match own.get_mut(id as usize) {
                Some(place @ None) => *place = Some(word),
                _ => return wrong("token ids must be different and within the larger vocabulary"),
            }
        }
        let unk = unk.filter(|&unk| (unk as usize) < ids.len());
        let own: Option<Vec<(u32, bool)>> = own
            .into_iter()
            .map(|word| word.map(|word| (word, false)).or(unk.map(|unk| (unk, true))))
            .collect();
        match own {
            Some(own) => Ok(Self { ids, own }),
            None => wrong("a vocabulary without <unk> cannot stand for words that it does not have"),
        }
    }

    /// The outer id of each inner word.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// |V| of the outer vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.own.len()
    }

    /// The number of outer words that the inner vocabulary does not have.
    pub fn lacking(&self) -> usize {
        self.own.len() - self.ids.len()
    }

    /// The inner id of an outer word as context, and whether it is `<unk>` because the word is
    /// missing.
    pub fn own(&self, id: u32) -> Option<(u32, bool)> {
        self.own.get(id as usize).copied()
    }

    fn own_tokens(&self, tokens: &[u32]) -> Result<Vec<u32>> {
        check_tokens(tokens, self.vocab_size())?;
        Ok(tokens.iter().filter_map(|&token| self.own(token)).map(|(own, _)| own).collect())
    }

    /// Sets the log-probability of missing words to −∞.
    fn without_lacking(&self, tokens: &[u32], log_probs: &mut [f64]) {
        for (&token, log_prob) in tokens.iter().zip(log_probs) {
            if self.own(token).is_some_and(|(_, lacking)| lacking) {
                *log_prob = f64::NEG_INFINITY;
            }
        }
    }

    fn outer(&self, own: &[f64]) -> Vec<f64> {
        let mut all = vec![f64::NEG_INFINITY; self.vocab_size()];
        for (&id, &log_prob) in self.ids.iter().zip(own) {
            all[id as usize] = log_prob;
        }
        all
    }
}

/// A model used with the ids of a larger vocabulary; see [`VocabMap`]. Both are borrowed or owned.
#[derive(Clone, Copy)]
pub struct MappedModel<M, N> {
    model: M,
    map: N,
}

impl<M: Deref<Target: LanguageModel>, N: Borrow<VocabMap>> MappedModel<M, N> {
    /// `model` with the outer ids of `names`.
    ///
    /// # Errors
    /// [`Error::Config`] for a map of another vocabulary.
    pub fn new(model: M, names: N) -> Result<Self> {
        let (size, named) = (model.vocab_size(), names.borrow().ids.len());
        if size != named {
            return Err(Error::Config(format!("a map of {named} words for a model of {size}")));
        }
        Ok(Self { model, map: names })
    }

    fn map(&self) -> &VocabMap {
        self.map.borrow()
    }
}

impl<M, N> LanguageModel for MappedModel<M, N>
where
    M: Deref<Target: LanguageModel> + Send + Sync,
    N: Borrow<VocabMap> + Send + Sync,
{
    fn vocab_size(&self) -> usize {
        self.map().vocab_size()
    }

    fn is_distribution(&self) -> bool {
        self.model.is_distribution()
    }

    fn log_probs(&self, tokens: &[u32], from: usize) -> Result<Vec<f64>> {
        let mut log_probs = self.model.log_probs(&self.map().own_tokens(tokens)?, from)?;
        self.map().without_lacking(&tokens[from..], &mut log_probs);
        Ok(log_probs)
    }

    fn next_log_probs(&self, context: &[u32]) -> Result<Vec<f64>> {
        Ok(self.map().outer(&self.model.next_log_probs(&self.map().own_tokens(context)?)?))
    }

    fn for_each_distribution(&self, tokens: &[u32], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        let own = self.map().own_tokens(tokens)?;
        self.model.for_each_distribution(&own, from, &mut |i, distribution| {
            visit(i, &self.map().outer(distribution));
        })
    }

    fn each_log_probs(&self, sequences: &[&[u32]], from: usize, visit: &mut Visit<'_>) -> Result<()> {
        let own: Result<Vec<Vec<u32>>> =
            sequences.iter().map(|tokens| self.map().own_tokens(tokens)).collect();
        let own = own?;
        let own: Vec<&[u32]> = own.iter().map(Vec::as_slice).collect();
        self.model.each_log_probs(&own, from, &mut |i, log_probs| {
            let mut log_probs = log_probs.to_vec();
            self.map().without_lacking(&sequences[i][from..], &mut log_probs);
            visit(i, &log_probs);
        })
    }

    fn context_bins(&self, tokens: &[u32], from: usize) -> Result<Option<Vec<ContextBin>>> {
        self.model.context_bins(&self.map().own_tokens(tokens)?, from)
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(MappedSession { map: self.map(), session: self.model.session()? }))
    }
}

struct MappedSession<'a> {
    map: &'a VocabMap,
    session: Box<dyn Session + 'a>,
}

impl Session for MappedSession<'_> {
    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f64>> {
        let own = self.session.feed(&self.map.own_tokens(tokens)?)?;
        Ok(self.map.outer(&own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ngram::{NgramConfig, NgramModel, Smoothing};

    #[test]
    fn what_is_lacking_is_unknown_before_and_impossible_after() {
        // <unk> a b, in a vocabulary of <unk> x b y a.
        let names = VocabMap::new(vec![0, 4, 2], 5, Some(0)).unwrap();
        assert_eq!((names.vocab_size(), names.lacking()), (5, 2));
        let config = NgramConfig { smoothing: Smoothing::WittenBell, unk: Some(0), ..NgramConfig::default() };
        let model = NgramModel::estimate(&[1, 2, 1, 0, 1, 1, 2], 3, &config).unwrap();
        let renamed = MappedModel::new(&model, &names).unwrap();
        let own = model.log_probs(&[1, 0, 2, 0], 0).unwrap();
        let scores = renamed.log_probs(&[4, 3, 2, 1], 0).unwrap();
        assert_eq!(scores, [own[0], f64::NEG_INFINITY, own[2], f64::NEG_INFINITY]);
        renamed.each_log_probs(&[&[4, 3, 2, 1]], 0, &mut |_, own| assert_eq!(own, scores)).unwrap();
        let next = renamed.next_log_probs(&[4, 1]).unwrap();
        assert_eq!(renamed.session().unwrap().feed(&[4, 1]).unwrap(), next);
        let own = model.next_log_probs(&[1, 0]).unwrap();
        assert_eq!(next, [own[0], f64::NEG_INFINITY, own[2], f64::NEG_INFINITY, own[1]]);
        renamed
            .for_each_distribution(&[4, 3, 2], 2, &mut |i, row| assert_eq!((i, row), (2, &next[..])))
            .unwrap();
        assert!(renamed.log_probs(&[5], 0).is_err() && renamed.log_probs(&[1], 2).is_err());
    }

    #[test]
    fn impossible_names_are_refused() {
        for (ids, unk) in
            [(vec![0, 3], Some(0)), (vec![1, 1], Some(0)), (vec![0, 1], None), (vec![0, 1], Some(2))]
        {
            assert!(VocabMap::new(ids, 3, unk).is_err());
        }
        let names = VocabMap::new(vec![1, 0], 2, None).unwrap();
        assert!(MappedModel::new(&crate::ngram::Uniform::new(3, None), &names).is_err());
    }
}
