//! The entropy rate of a grammar in closed form.
//!
//! Stories are independent, so the rate is the expected surprisal of one story's choices over its
//! expected number of characters (renewal-reward theorem). Both are sums over nodes of the expected
//! visits, with the probability of each row of each variable on these visits.
//!
//! If the text determines the choices, this is the entropy rate. If a text has several derivations,
//! it is larger, by the entropy of the derivation given the text.

use super::automaton::{Automaton, MAX_VARIABLES, Node, START};

/// Expectations over one story.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    /// The surprisal of its choices, in nats.
    pub(super) nats: f64,
    /// Its length in characters.
    pub(super) characters: f64,
}

/// The expected number of visits of a node in a story.
#[derive(Clone, Default)]
struct Visits {
    all: f64,
    /// By variable and row: the visits with this row in the variable.
    rows: [Vec<f64>; MAX_VARIABLES],
}

impl Visits {
    fn add(&mut self, share: f64, from: &Self) {
        self.all += share * from.all;
        for (rows, from) in self.rows.iter_mut().zip(&from.rows) {
            rows.resize(rows.len().max(from.len()), 0.0);
            for (row, from) in rows.iter_mut().zip(from) {
                *row += share * from;
            }
        }
    }
}

/// Computes the expectations in one pass, from the last node to the first: a node has a higher
/// number than its successors, except [`START`], which follows every end and is visited once.
pub(super) fn expected(automaton: &Automaton) -> Expected {
    let mut visits = vec![Visits::default(); automaton.nodes.len()];
    let mut expected = Expected::default();
    let once = Visits { all: 1.0, ..Visits::default() };
    visit(automaton, START, &once, &mut visits, &mut expected);
    for node in (1..automaton.nodes.len()).rev() {
        // Taken, to free its rows after this node.
        let here = std::mem::take(&mut visits[node]);
        visit(automaton, node as u32, &here, &mut visits, &mut expected);
    }
    expected
}

fn visit(automaton: &Automaton, node: u32, here: &Visits, visits: &mut [Visits], expected: &mut Expected) {
    match &automaton.nodes[node as usize] {
        Node::Text { text, next } => {
            expected.characters += here.all * text.chars().count() as f64;
            visits[*next as usize].add(1.0, here);
        }
        Node::Cell { variable, next, .. } => {
            for (row, visits) in here.rows[*variable as usize].iter().enumerate() {
                let characters = automaton.cell(node, row).chars().count() as f64;
                expected.characters += visits * characters;
            }
            visits[*next as usize].add(1.0, here);
        }
        Node::Choice(choices) => {
            for (probability, next) in choices {
                expected.nats += here.all * entropy_term(*probability);
                visits[*next as usize].add(*probability, here);
            }
        }
        Node::Draw { variable, except, next, .. } => {
            let mut after = here.clone();
            let drawn = &mut after.rows[*variable as usize];
            drawn.clear();
            // By excluded row, whose probability is shared by the other rows.
            let excluded: Vec<(Option<usize>, f64)> = match except {
                Some(except) => here.rows[*except as usize]
                    .iter()
                    .copied()
                    .enumerate()
                    .map(|(row, visits)| (Some(row), visits))
                    .collect(),
                None => vec![(None, here.all)],
            };
            for (excluded, visits) in excluded.into_iter().filter(|(_, visits)| *visits > 0.0) {
                for (row, probability) in automaton.rows(node, excluded) {
                    let row = row as usize;
                    drawn.resize(drawn.len().max(row + 1), 0.0);
                    drawn[row] += visits * probability;
                    expected.nats += visits * entropy_term(probability);
                }
            }
            visits[*next as usize].add(1.0, &after);
        }
    }
}

/// −p ln p.
fn entropy_term(probability: f64) -> f64 {
    -probability * probability.ln()
}

#[cfg(test)]
mod tests {
    use crate::Source;

    /// −ln p and the length of each story; stories are independent.
    fn stories(source: &Source, bytes: usize) -> Vec<(f64, f64)> {
        let text = source.sample(7, bytes);
        let story = |story: &str| (source.nats("", story).unwrap(), story.chars().count() as f64);
        text.split_inclusive('\n').map(story).collect()
    }

    /// The deviation of the sampled surprisal from `rate` in standard errors of the sum over
    /// stories of nats − rate · characters, whose expectation is zero (delta method for a ratio of
    /// means).
    fn deviation(source: &Source, rate: f64, bytes: usize) -> f64 {
        let excess: Vec<f64> =
            stories(source, bytes).iter().map(|(nats, characters)| nats - rate * characters).collect();
        let squares: f64 = excess.iter().map(|excess| excess * excess).sum();
        excess.iter().sum::<f64>() / squares.sqrt()
    }

    #[test]
    fn the_closed_form_is_the_sampled_mean() {
        for name in Source::names() {
            let source = Source::embedded(name).unwrap();
            let rate = source.entropy_rate();
            let deviation = deviation(&source, rate, 1_000_000);
            assert!(deviation.abs() < 4.0, "{name}: {deviation} standard errors");
            // The test has power: it detects an error of 2 %.
            assert!(self::deviation(&source, rate * 1.02, 1_000_000) < -4.0);
        }
    }

    #[test]
    fn expectations_by_hand() {
        // The draws: ln 2 for v; then w is the other row, with probability 1. Then `bb` in 1 of 4
        // cases.
        let source = "grammar\nstart s\ntable t: x\n \"a\"\n \"éaa\"\nrule s\n \"<v = t><v.x><w = t except v><w.x><b>.\"\nrule b\n \"bb\" 3 \"\"";
        let nats = 2f64.ln() + 0.25 * 4f64.ln() + 0.75 * (4f64 / 3.0).ln();
        let rate = Source::parse(source).unwrap().entropy_rate();
        assert!((rate - nats / (4.0 + 0.5 + 1.0)).abs() < 1e-15, "{rate}");
    }

    #[test]
    fn two_derivations_are_above_the_entropy() {
        // One text with two derivations: no entropy, but a choice.
        let source = Source::parse("grammar\nstart s\nrule s\n \"ab\" \"a<b>\"\nrule b\n \"b\"").unwrap();
        assert!((source.entropy_rate() - 2f64.ln() / 2.0).abs() < 1e-15);
        assert!(source.nats("", "ababab").unwrap().abs() < 1e-15);
    }

    #[test]
    fn the_examples_of_the_readme_are_sources() {
        let readme = include_str!("../../../../data/README.md");
        let blocks = readme.split("```text\n").skip(1).filter_map(|block| block.split("```").next());
        let blocks: Vec<_> = blocks.collect();
        assert_eq!(blocks.len(), 2);
        for block in blocks {
            let source = Source::parse(block).unwrap();
            assert!(source.nats("", &source.sample(1, 1000)).unwrap() > 0.0);
            assert!(source.entropy_rate() > 0.0);
        }
    }
}
