//! Three language models from nothing: no library but Rust's own, every gradient written out.
//!
//! A language model is a distribution q over the next token given the tokens before it. It is
//! judged by the cross-entropy of text that it has not seen, in nats per token, or the perplexity:
//!
//! ```text
//! L = −(1/T) Σ_t ln q(w_t | w_<t)        perplexity = e^L
//! ```
//!
//! Counting minimises L of the training text in closed form; gradient descent walks there. A file
//! given as argument is read instead of the text below. A test compares with this library's models.

#![allow(clippy::print_stdout, reason = "an example shows something")]

pub(crate) const TEXT: &str = "the rain falls on the hill and the river runs to the sea. the sun warms the sea and the mist \
    climbs the hill. the mist turns to cloud and the cloud turns to rain. then the rain falls on the hill again. \
    the miller hears the river and opens the gate. the river turns the wheel and the wheel turns the stone. the \
    stone grinds the corn and the miller sings to the stone. the baker takes the flour and the fire warms the oven. \
    then the bread is on the table and the children run to the table. the cat hears the children and climbs the \
    wall. the dog sees the cat on the wall and sings to the cat. the moon climbs the hill and the stars are on the \
    river. the miller shuts the gate and the river runs to the sea. the children hear the rain on the wall and the \
    rain sings to the children. the cat is on the table and the dog is on the hill. the river turns the wheel and \
    the stone grinds the corn again. the stars fall to the sea and the owl hears the children on the hill.";

pub(crate) const CONTEXT: usize = 4; // n: how many tokens the MLP sees
pub(crate) const N_EMBD: usize = 8; // C: the width of an embedding
pub(crate) const N_HIDDEN: usize = 32; // H: the width of the hidden layer

fn main() -> std::io::Result<()> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => TEXT.to_owned(),
    };
    // A token is a character, and its id its place in the sorted vocabulary.
    let mut vocabulary: Vec<char> = text.chars().collect();
    vocabulary.sort_unstable();
    vocabulary.dedup();
    let v = vocabulary.len();
    let tokens: Vec<usize> = text.chars().filter_map(|c| vocabulary.binary_search(&c).ok()).collect();
    // The last tenth is held out: no model learns from it, all are judged by it.
    let (train, held_out) = tokens.split_at(tokens.len() * 9 / 10);
    println!("{} training tokens, {} held out, a vocabulary of {v}", train.len(), held_out.len());

    let report = |name: &str, log_q: &dyn Fn(&[usize]) -> Vec<f64>| {
        let (seen, unseen) = (cross_entropy(train, log_q), cross_entropy(held_out, log_q));
        println!("{unseen:7.4} nats per token, perplexity {:6.3} (training {seen:.4}): {name}", unseen.exp());
    };
    report("uniform, q = 1/|V|", &|_| vec![-(v as f64).ln(); v]);
    let counts = bigram_counts(train, v);
    report("counted bigram, maximum likelihood", &|context| add_k(&counts, 0.0, context));
    report("counted bigram, add-0.1", &|context| add_k(&counts, 0.1, context));
    let table = train_bigram(train, v, 1000);
    report("bigram by gradient descent", &|context| log_softmax(&table[context[context.len() - 1]]));
    let mlp = train_mlp(train, v, 60);
    report("MLP by gradient descent", &|context| mlp.log_q(context));
    Ok(())
}

/// L = −(1/T) Σ ln q(w_t | w_<t) of all tokens but the first, before which there is none.
pub(crate) fn cross_entropy(tokens: &[usize], log_q: &dyn Fn(&[usize]) -> Vec<f64>) -> f64 {
    let log_probs = (1..tokens.len()).map(|t| log_q(&tokens[..t])[tokens[t]]);
    -log_probs.sum::<f64>() / (tokens.len() - 1) as f64
}

// 1. Counting.

/// c(a b): how often token b follows token a.
pub(crate) fn bigram_counts(tokens: &[usize], v: usize) -> Vec<Vec<f64>> {
    let mut counts = vec![vec![0.0; v]; v];
    for pair in tokens.windows(2) {
        counts[pair[0]][pair[1]] += 1.0;
    }
    counts
}

/// ln q(b | a) = ln (c(a b) + k) / (c(a) + k |V|). With k = 0 this is maximum likelihood, the
/// bigram with the smallest L on the training text; but what it has not seen has probability zero,
/// and one such token makes L infinite.
pub(crate) fn add_k(counts: &[Vec<f64>], k: f64, context: &[usize]) -> Vec<f64> {
    let row = &counts[context[context.len() - 1]];
    let total = row.iter().sum::<f64>() + k * row.len() as f64;
    row.iter().map(|c| ((c + k) / total).ln()).collect()
}

// 2. The same bigram by gradient descent: a table of logits z(a), one row per token.

/// q = softmax(z): q_j = e^{z_j} / Σ_i e^{z_i}, as logarithms. The largest z is taken out, so that
/// no power overflows.
pub(crate) fn log_softmax(z: &[f64]) -> Vec<f64> {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    z.iter().map(|z| z - log_sum).collect()
}

/// The gradient of ℓ = −ln q_target over the logits: as ln q_j = z_j − ln Σ_i e^{z_i}, it is
/// ∂ℓ/∂z_j = q_j − p_j, where p is the distribution that was right: one for the target, else zero.
pub(crate) fn q_minus_p(log_q: &[f64], target: usize) -> Vec<f64> {
    let mut dz: Vec<f64> = log_q.iter().map(|log_q| log_q.exp()).collect();
    dz[target] -= 1.0;
    dz
}

/// ∂L/∂table: row a is the sum of q(· | a) − p over the places after an a, divided by T.
pub(crate) fn bigram_gradient(table: &[Vec<f64>], tokens: &[usize]) -> Vec<Vec<f64>> {
    let mut gradient = vec![vec![0.0; table.len()]; table.len()];
    for pair in tokens.windows(2) {
        let dz = q_minus_p(&log_softmax(&table[pair[0]]), pair[1]);
        add(&mut gradient[pair[0]], &dz, 1.0 / (tokens.len() - 1) as f64);
    }
    gradient
}

/// Gradient descent with all of the text in every step: table ← table − η ∂L/∂table. It begins at
/// zero, a uniform q, and L is convex: so it ends at what counting gives.
pub(crate) fn train_bigram(tokens: &[usize], v: usize, steps: usize) -> Vec<Vec<f64>> {
    let learning_rate = 10.0;
    let mut table = vec![vec![0.0; v]; v];
    for _ in 0..steps {
        let gradient = bigram_gradient(&table, tokens);
        table.iter_mut().zip(&gradient).for_each(|(row, gradient)| add(row, gradient, -learning_rate));
    }
    table
}

// 3. A neural n-gram (Bengio et al. 2003), in which similar contexts share what they learn.
//
//     x = [e(w_{t−n}), …, e(w_{t−1})]      the embeddings of the last n tokens, side by side (n·C)
//     h = tanh(A x + d)                    the hidden layer (H)
//     z = U h + b                          the logits (|V|),  q = softmax(z)

pub(crate) struct Mlp {
    pub(crate) wte: Vec<f64>, // e: (|V| + 1, C); the last row stands for places before the text
    pub(crate) hidden: Vec<f64>, // A: (H, n·C)
    pub(crate) hidden_bias: Vec<f64>, // d: (H)
    pub(crate) head: Vec<f64>, // U: (|V|, H)
    pub(crate) head_bias: Vec<f64>, // b: (|V|)
}

impl Mlp {
    pub(crate) fn zeros(v: usize) -> Self {
        let [wte, hidden, head] = [(v + 1) * N_EMBD, N_HIDDEN * CONTEXT * N_EMBD, v * N_HIDDEN];
        let [wte, hidden, hidden_bias, head, head_bias] =
            [wte, hidden, N_HIDDEN, head, v].map(|count| vec![0.0; count]);
        Self { wte, hidden, hidden_bias, head, head_bias }
    }

    /// Random weights with mean 0 and variance 1/inputs, so that values keep their size from layer
    /// to layer.
    pub(crate) fn new(v: usize) -> Self {
        let mut mlp = Self::zeros(v);
        let mut state = 1_u64;
        let inputs = [1, CONTEXT * N_EMBD, N_HIDDEN];
        for (weights, inputs) in [&mut mlp.wte, &mut mlp.hidden, &mut mlp.head].into_iter().zip(inputs) {
            for weight in weights {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64; // in [0, 1)
                *weight = (uniform - 0.5) * (12.0 / inputs as f64).sqrt();
            }
        }
        mlp
    }

    /// The ids of the last n tokens, oldest first.
    fn window(&self, context: &[usize]) -> [usize; CONTEXT] {
        let before_the_text = self.head_bias.len();
        std::array::from_fn(|i| {
            (context.len() + i).checked_sub(CONTEXT).map_or(before_the_text, |t| context[t])
        })
    }

    /// x, h and ln q.
    fn forward(&self, window: &[usize]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let x: Vec<f64> =
            window.iter().flat_map(|&w| &self.wte[w * N_EMBD..(w + 1) * N_EMBD]).copied().collect();
        let h: Vec<f64> = affine(&self.hidden, &x, &self.hidden_bias).into_iter().map(f64::tanh).collect();
        let log_q = log_softmax(&affine(&self.head, &h, &self.head_bias));
        (x, h, log_q)
    }

    pub(crate) fn log_q(&self, context: &[usize]) -> Vec<f64> {
        self.forward(&self.window(context)).2
    }

    /// The mean of −ln q(w_t | w_<t) over `places`, and by back-propagation its gradient over every
    /// weight: the chain rule, from the loss back to the embeddings.
    pub(crate) fn gradient(&self, tokens: &[usize], places: &[usize]) -> (f64, Self) {
        let (mut loss, mut gradient) = (0.0, Self::zeros(self.head_bias.len()));
        let share = 1.0 / places.len() as f64;
        for &t in places {
            let window = self.window(&tokens[..t]);
            let (x, h, log_q) = self.forward(&window);
            loss -= log_q[tokens[t]] * share;
            // z = U h + b: ∂U = dz hᵀ, ∂b = dz, dh = Uᵀ dz.
            let dz: Vec<f64> = q_minus_p(&log_q, tokens[t]).into_iter().map(|dz| dz * share).collect();
            let dh = affine_backward(&self.head, &h, &dz, &mut gradient.head, &mut gradient.head_bias);
            // h = tanh(a), and tanh' = 1 − tanh².
            let da: Vec<f64> = dh.iter().zip(&h).map(|(dh, h)| dh * (1.0 - h * h)).collect();
            // a = A x + d, in the same way.
            let dx = affine_backward(&self.hidden, &x, &da, &mut gradient.hidden, &mut gradient.hidden_bias);
            // x is rows of e: each row gets the gradient of the places where it stood.
            for (w, dx) in window.iter().zip(dx.chunks(N_EMBD)) {
                add(&mut gradient.wte[w * N_EMBD..(w + 1) * N_EMBD], dx, 1.0);
            }
        }
        (loss, gradient)
    }
}

/// Stochastic gradient descent: each step takes the gradient of 16 places only, and every place
/// comes once an epoch.
pub(crate) fn train_mlp(tokens: &[usize], v: usize, epochs: usize) -> Mlp {
    let mut mlp = Mlp::new(v);
    // Places far apart make a batch: every 97th.
    let places: Vec<usize> = (0..97).flat_map(|first| (1 + first..tokens.len()).step_by(97)).collect();
    for epoch in 0..epochs {
        let learning_rate = 0.5 * (1.0 - epoch as f64 / epochs as f64);
        for batch in places.chunks(16) {
            let (_, gradient) = mlp.gradient(tokens, batch);
            add(&mut mlp.wte, &gradient.wte, -learning_rate);
            add(&mut mlp.hidden, &gradient.hidden, -learning_rate);
            add(&mut mlp.hidden_bias, &gradient.hidden_bias, -learning_rate);
            add(&mut mlp.head, &gradient.head, -learning_rate);
            add(&mut mlp.head_bias, &gradient.head_bias, -learning_rate);
        }
    }
    mlp
}

/// sum ← sum + factor · values.
fn add(sum: &mut [f64], values: &[f64], factor: f64) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}

/// W x + b, for a row-major W.
fn affine(w: &[f64], x: &[f64], b: &[f64]) -> Vec<f64> {
    let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
    w.chunks(x.len()).zip(b).map(|(row, b)| dot(row) + b).collect()
}

/// dx = Wᵀ dy for y = W x + b; adds dy xᵀ to `dw` and dy to `db`.
fn affine_backward(w: &[f64], x: &[f64], dy: &[f64], dw: &mut [f64], db: &mut [f64]) -> Vec<f64> {
    let mut dx = vec![0.0; x.len()];
    for (i, dy) in dy.iter().enumerate() {
        let row = i * x.len()..(i + 1) * x.len();
        add(&mut dx, &w[row.clone()], *dy);
        add(&mut dw[row], x, *dy);
        db[i] += dy;
    }
    dx
}
