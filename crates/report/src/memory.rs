//! Has a sample been written, or remembered? The longest run of tokens that it shares with the training text.

use std::collections::BTreeMap;

/// A run of tokens that two texts have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Common {
    /// Where it starts in the sample.
    pub(crate) start: usize,
    /// Where it starts in the text.
    pub(crate) at: usize,
    pub(crate) len: usize,
}

/// A state of the automaton that knows every part of the sample (Blumer et al. 1985).
#[derive(Debug, Default, Clone)]
struct State {
    len: usize,
    link: Option<usize>,
    next: BTreeMap<u32, usize>,
    /// Where the first occurrence of its parts ends.
    end: usize,
}

fn automaton(sample: &[u32]) -> Vec<State> {
    let mut states = vec![State::default()];
    let mut last = 0;
    for (index, &token) in sample.iter().enumerate() {
        let new = states.len();
        states.push(State { len: states[last].len + 1, end: index + 1, ..State::default() });
        let mut at = Some(last);
        while let Some(state) = at.filter(|&state| !states[state].next.contains_key(&token)) {
            states[state].next.insert(token, new);
            at = states[state].link;
        }
        states[new].link = Some(match at {
            None => 0,
            Some(state) => {
                let target = states[state].next[&token];
                if states[target].len == states[state].len + 1 {
                    target
                } else {
                    let copy = states.len();
                    states.push(State { len: states[state].len + 1, ..states[target].clone() });
                    let mut at = Some(state);
                    while let Some(state) =
                        at.filter(|&state| states[state].next.get(&token) == Some(&target))
                    {
                        states[state].next.insert(token, copy);
                        at = states[state].link;
                    }
                    states[target].link = Some(copy);
                    copy
                }
            }
        });
        last = new;
    }
    states
}

/// The longest run that `sample` and `text` share, the first of its length in `text`; in time linear in both.
pub(crate) fn longest_common(sample: &[u32], text: &[u32]) -> Common {
    let states = automaton(sample);
    let mut best = Common { start: 0, at: 0, len: 0 };
    let (mut state, mut len) = (0, 0);
    for (index, token) in text.iter().enumerate() {
        loop {
            if let Some(&next) = states[state].next.get(token) {
                (state, len) = (next, len + 1);
                break;
            }
            let Some(link) = states[state].link else {
                len = 0;
                break;
            };
            (state, len) = (link, states[link].len);
        }
        if len > best.len {
            best = Common { start: states[state].end - len, at: index + 1 - len, len };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slow(sample: &[u32], text: &[u32]) -> usize {
        let mut best = 0;
        for i in 0..sample.len() {
            for j in 0..text.len() {
                best = best.max(sample[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count());
            }
        }
        best
    }

    proptest! {
        #[test]
        fn it_is_the_longest_and_it_is_there(
            sample in prop::collection::vec(0u32..3, 0..40),
            text in prop::collection::vec(0u32..3, 0..80),
        ) {
            let found = longest_common(&sample, &text);
            prop_assert_eq!(found.len, slow(&sample, &text));
            prop_assert_eq!(
                &sample[found.start..found.start + found.len],
                &text[found.at..found.at + found.len]
            );
        }
    }
}
