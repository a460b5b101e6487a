//! Numbers chosen to suit text that was not counted: discounts, the k of add-k, the λ of Jelinek-Mercer.
//!
//! The probability of a held-out word is known order by order as a function of these numbers, so each word is boiled
//! down once to the counts that it meets ([`Step`]), and the numbers are moved to lower −Σ ln q over those.

use super::config::{NgramConfig, Smoothing};
use super::counts::{Counts, find_child};
use super::smoothing::{BUCKETS, Context, Discounts, Statistics, bucket, discount};

/// No more words than this are looked at: what they tell is enough.
const MOST_WORDS: usize = 400_000;

/// What a held-out word meets at one order, in a context that was seen.
#[derive(Debug, Clone, Copy)]
struct Step {
    count: u32,
    context: Context,
}

impl Step {
    fn own(&self, discounts: &Discounts) -> f64 {
        (f64::from(self.count) - discount(discounts, self.count)).max(0.0)
    }
}

/// The steps of every held-out word, lowest order first.
#[derive(Debug)]
pub(super) struct Heldout {
    steps: Vec<Step>,
    /// Where each word's steps end.
    ends: Vec<u32>,
    /// 1 / (how many words share what unigrams leave).
    uniform: f64,
}

impl Heldout {
    /// Of `tokens`, which `counts` do not know.
    pub(super) fn of(tokens: &[u32], counts: &Counts, statistics: &Statistics, uniform: f64) -> Self {
        let order = counts.order();
        let root = Context::of(statistics.used(counts, 0), None);
        let mut heldout = Self { steps: Vec::new(), ends: Vec::new(), uniform };
        // The grams that the text so far ends with, shortest first.
        let mut nodes: Vec<usize> = Vec::new();
        for &token in tokens.iter().take(MOST_WORDS) {
            if Some(token) == counts.bos {
                nodes = vec![token as usize];
                continue;
            }
            heldout.steps.push(Step { count: statistics.used(counts, 0)[token as usize], context: root });
            let mut next = vec![token as usize];
            for (len, &node) in nodes.iter().enumerate().take(order - 1) {
                let (level, above) = (&counts.levels[len], &counts.levels[len + 1]);
                let used = statistics.used(counts, len + 1);
                let context = Context::of(&used[level.children(node)], None);
                if context.total == 0 {
                    break;
                }
                let found = find_child(level, above, node, token);
                heldout.steps.push(Step { count: found.map_or(0, |gram| used[gram]), context });
                // The prefix of a gram that is known is known: lengths have no gaps.
                if let Some(gram) = found
                    && next.len() == len + 1
                {
                    next.push(gram);
                }
            }
            heldout.ends.push(heldout.steps.len() as u32);
            next.truncate(order.saturating_sub(1));
            nodes = next;
        }
        heldout
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn words(&self) -> impl Iterator<Item = &[Step]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.steps[start as usize..end as usize])
    }

    /// The k with which the longest contexts predict best: golden-section search over ln k.
    pub(super) fn best_k(&self) -> f64 {
        let size = 1.0 / self.uniform;
        let loss = |log_k: f64| {
            let k = log_k.exp();
            let cost = |steps: &[Step]| {
                let step = steps[steps.len() - 1];
                ((step.context.total as f64 + k * size) / (f64::from(step.count) + k)).ln()
            };
            self.words().map(cost).sum::<f64>()
        };
        let (mut low, mut high) = (1e-7_f64.ln(), 100_f64.ln());
        let golden = (5_f64.sqrt() - 1.0) / 2.0;
        let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
        let (mut at_a, mut at_b) = (loss(a), loss(b));
        while high - low > 1e-3 {
            if at_a < at_b {
                (high, b, at_b) = (b, a, at_a);
                a = high - golden * (high - low);
                at_a = loss(a);
            } else {
                (low, a, at_a) = (a, b, at_b);
                b = low + golden * (high - low);
                at_b = loss(b);
            }
        }
        f64::midpoint(low, high).exp()
    }

    /// λ by expectation-maximisation: how much of the probability of held-out words each order is responsible for, of
    /// what reaches it. The likelihood never falls; it ends when it rises by less than 10⁻⁶ nats a word.
    pub(super) fn best_lambdas(&self, order: usize) -> Vec<Vec<f64>> {
        const ROUNDS: usize = 100;
        let mut lambdas = vec![vec![0.5; BUCKETS]; order];
        let mut before = f64::INFINITY;
        for _ in 0..ROUNDS {
            let mut own = vec![[0.0; BUCKETS]; order];
            let mut reached = vec![[0.0; BUCKETS]; order];
            let mut loss = 0.0;
            for steps in self.words() {
                let mut q = self.uniform;
                let mut parts = [(0.0, 0.0); super::MAX_ORDER];
                for (len, step) in steps.iter().enumerate() {
                    let lambda = lambdas[len][bucket(step.context.total)];
                    let ratio = f64::from(step.count) / step.context.total as f64;
                    q = lambda * ratio + (1.0 - lambda) * q;
                    parts[len] = (lambda * ratio, q);
                }
                loss -= q.ln();
                // From the highest order down: the share of the probability that comes from here or below.
                let mut reach = 1.0 / q;
                for (len, step) in steps.iter().enumerate().rev() {
                    let at = bucket(step.context.total);
                    own[len][at] += reach * parts[len].0;
                    reached[len][at] += reach * parts[len].1;
                    reach *= 1.0 - lambdas[len][at];
                }
            }
            for ((lambdas, own), reached) in lambdas.iter_mut().zip(&own).zip(&reached) {
                for at in 0..BUCKETS {
                    if reached[at] > 0.0 {
                        // 0 and 1 are where this would stay for ever.
                        lambdas[at] = (own[at] / reached[at]).clamp(1e-6, 1.0 - 1e-6);
                    } else if at > 0 {
                        lambdas[at] = lambdas[at - 1];
                    }
                }
            }
            if before - loss < 1e-6 * self.ends.len() as f64 {
                break;
            }
            before = loss;
        }
        lambdas
    }

    /// The discounts with which these words are likeliest, from `start` on: Newton's method on −Σ ln q, with the squared
    /// gradients for the curvature (q is linear in each discount), kept within 0 ≤ D_j ≤ j.
    pub(super) fn best_discounts(&self, start: &[Discounts], config: &NgramConfig) -> Vec<Discounts> {
        const ROUNDS: usize = 30;
        const LEAST: f64 = 1e-4;
        let tied = config.smoothing != Smoothing::ModifiedKneserNey;
        let order = start.len();
        let per_order = if tied { 1 } else { 3 };
        let n = order * per_order;
        let index = |len: usize, j: usize| if tied { len } else { len * 3 + j };
        let most = |i: usize| if tied { 1.0 } else { (i % 3 + 1) as f64 };
        let spread = |x: &[f64]| -> Vec<Discounts> {
            (0..order).map(|len| [0, 1, 2].map(|j| x[index(len, j)])).collect()
        };
        let mut x: Vec<f64> =
            (0..n).map(|i| start[i / per_order][i % per_order].clamp(LEAST, most(i) - LEAST)).collect();
        let mut loss = self.loss(&spread(&x));
        for _ in 0..ROUNDS {
            let (gradient, curvature) = self.slopes(&spread(&x), n, index);
            // A discount at its bound that would leave it stays there.
            let free: Vec<usize> = (0..n)
                .filter(|&i| {
                    !(x[i] <= LEAST && gradient[i] > 0.0 || x[i] >= most(i) - LEAST && gradient[i] < 0.0)
                })
                .collect();
            let Some(step) = solve(&curvature, &gradient, &free) else { break };
            let mut share = 1.0;
            let better = loop {
                let mut trial = x.clone();
                for (&i, step) in free.iter().zip(&step) {
                    trial[i] = (x[i] - share * step).clamp(LEAST, most(i) - LEAST);
                }
                let trial_loss = self.loss(&spread(&trial));
                if trial_loss < loss {
                    break Some((trial, trial_loss));
                }
                share /= 2.0;
                if share < 1e-3 {
                    break None;
                }
            };
            let Some((trial, trial_loss)) = better else { break };
            let gain = loss - trial_loss;
            (x, loss) = (trial, trial_loss);
            if gain < 1e-7 * self.ends.len() as f64 {
                break;
            }
        }
        spread(&x)
    }

    /// −Σ ln q with these discounts, in nats.
    fn loss(&self, discounts: &[Discounts]) -> f64 {
        let probability = |steps: &[Step]| {
            steps.iter().zip(discounts).fold(self.uniform, |q, (step, discounts)| {
                (step.own(discounts) + step.context.left(discounts) * q) / step.context.total as f64
            })
        };
        self.words().map(|steps| -probability(steps).ln()).sum()
    }

    /// The gradient of the loss by the n discounts, and Σ ∇q ∇qᵀ / q².
    fn slopes(
        &self,
        discounts: &[Discounts],
        n: usize,
        index: impl Fn(usize, usize) -> usize,
    ) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (mut gradient, mut curvature) = (vec![0.0; n], vec![vec![0.0; n]; n]);
        let mut slope = vec![0.0; n];
        for steps in self.words() {
            slope.fill(0.0);
            let mut q = self.uniform;
            for (len, (step, discounts)) in steps.iter().zip(discounts).enumerate() {
                let total = step.context.total as f64;
                let left = step.context.left(discounts) / total;
                for slope in &mut slope {
                    *slope *= left;
                }
                for j in 0..3 {
                    slope[index(len, j)] += f64::from(step.context.n[j]) * q / total;
                }
                if step.count > 0 {
                    slope[index(len, step.count.min(3) as usize - 1)] -= 1.0 / total;
                }
                q = step.own(discounts) / total + left * q;
            }
            for slope in &mut slope {
                *slope /= q;
            }
            for i in 0..n {
                if slope[i] != 0.0 {
                    gradient[i] -= slope[i];
                    for j in 0..=i {
                        curvature[i][j] += slope[i] * slope[j];
                    }
                }
            }
        }
        (gradient, curvature)
    }
}

/// Solves `A x = b` for the rows and columns `free` of a symmetric A given by its lower half (Cholesky).
fn solve(a: &[Vec<f64>], b: &[f64], free: &[usize]) -> Option<Vec<f64>> {
    let n = free.len();
    let mut l = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let mut sum = a[free[i].max(free[j])][free[i].min(free[j])];
            if i == j {
                // A discount that no word speaks of has no curvature.
                sum += 1e-6 + 1e-9 * sum;
            }
            sum -= (0..j).map(|k| l[i][k] * l[j][k]).sum::<f64>();
            if i == j {
                l[i][i] = (sum > 0.0).then(|| sum.sqrt())?;
            } else {
                l[i][j] = sum / l[j][j];
            }
        }
    }
    let mut x: Vec<f64> = free.iter().map(|&i| b[i]).collect();
    for i in 0..n {
        x[i] = (x[i] - (0..i).map(|k| l[i][k] * x[k]).sum::<f64>()) / l[i][i];
    }
    for i in (0..n).rev() {
        x[i] = (x[i] - (i + 1..n).map(|k| l[k][i] * x[k]).sum::<f64>()) / l[i][i];
    }
    Some(x)
}
