//! Logistic mixing of probabilities, with weights learnt online, and adaptive probability maps
//! (Mahoney 2005, "Adaptive weighing of context models for lossless data compression").

/// ln(p / (1 − p)) of 12 bits, and its inverse in steps.
pub(crate) struct Logistic {
    stretched: Vec<f32>,
    squashed: Vec<f32>,
}

/// The largest logit.
pub(crate) const MAX_LOGIT: f32 = 12.0;
const STEPS: f32 = 4096.0;

impl Logistic {
    pub(crate) fn new() -> Self {
        let stretched = |i: usize| {
            let p = (i as f64 + 0.5) / 4096.0;
            libm::log(p / (1.0 - p)) as f32
        };
        let squashed = |i: usize| {
            let x = (i as f64 / STEPS as f64 * 2.0 - 1.0) * MAX_LOGIT as f64;
            (1.0 / (1.0 + libm::exp(-x))) as f32
        };
        Self {
            stretched: (0..4096).map(stretched).collect(),
            squashed: (0..=STEPS as usize + 1).map(squashed).collect(),
        }
    }

    pub(crate) fn stretch12(&self, p12: usize) -> f32 {
        self.stretched[p12]
    }

    pub(crate) fn stretch(&self, p: f32) -> f32 {
        self.stretched[((p * 4096.0) as usize).min(4095)]
    }

    pub(crate) fn squash(&self, x: f32) -> f32 {
        let x = (x.clamp(-MAX_LOGIT, MAX_LOGIT) + MAX_LOGIT) * (STEPS / (2.0 * MAX_LOGIT));
        let at = x as usize;
        let (low, high) = (self.squashed[at], self.squashed[at + 1]);
        low + (high - low) * (x - at as f32)
    }
}

/// Sets of weights, of which contexts choose one.
pub(crate) struct Mixer {
    weights: Vec<f32>,
    inputs: usize,
}

/// Inputs are summed in so many lanes, in an order of its own, whatever the processor's vectors.
pub(crate) const LANES: usize = 8;

impl Mixer {
    /// `sets` of weights that begin as `first`, whose length is a multiple of [`LANES`].
    pub(crate) fn new(sets: usize, first: &[f32]) -> Self {
        Self { weights: first.repeat(sets), inputs: first.len() }
    }

    /// Starts all sets again as `first`.
    pub(crate) fn start(&mut self, first: &[f32]) {
        self.weights.chunks_exact_mut(first.len()).for_each(|set| set.copy_from_slice(first));
    }

    fn set(&self, set: usize) -> std::ops::Range<usize> {
        set * self.inputs..(set + 1) * self.inputs
    }

    /// Σ w x.
    pub(crate) fn dot(&self, set: usize, inputs: &[f32]) -> f32 {
        let weights = &self.weights[self.set(set)];
        let mut lanes = [0.0f32; LANES];
        for (w, x) in weights.chunks_exact(LANES).zip(inputs.chunks_exact(LANES)) {
            for lane in 0..LANES {
                lanes[lane] += w[lane] * x[lane];
            }
        }
        let [a, b, c, d, e, f, g, h] = lanes;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    /// A step down the gradient of the nats: w ← w + step x, where `step` is rate (bit − p).
    pub(crate) fn learn(&mut self, set: usize, inputs: &[f32], step: f32) {
        let range = self.set(set);
        for (w, x) in self.weights[range].chunks_exact_mut(LANES).zip(inputs.chunks_exact(LANES)) {
            for lane in 0..LANES {
                w[lane] += step * x[lane];
            }
        }
    }
}

/// An adaptive probability map (secondary symbol estimation): in each context, the probability of a
/// one after a prediction of this size, interpolated between steps of its logit.
pub(crate) struct Apm {
    table: Vec<f32>,
}

const APM_STEPS: usize = 33;

impl Apm {
    pub(crate) fn new(contexts: usize, logistic: &Logistic) -> Self {
        let row: Vec<f32> = (0..APM_STEPS).map(|i| logistic.squash((i as f32 - 16.0) * 0.5)).collect();
        Self { table: row.repeat(contexts) }
    }

    /// The refined probability, and where it is, for [`Self::learn`].
    pub(crate) fn refine(&self, context: usize, logit: f32) -> (f32, (usize, f32)) {
        let x = (logit.clamp(-7.999, 7.999) + 8.0) * 2.0;
        let (low, above) = (x as usize, x - (x as usize) as f32);
        let at = context * APM_STEPS + low;
        (self.table[at] * (1.0 - above) + self.table[at + 1] * above, (at, above))
    }

    pub(crate) fn learn(&mut self, (at, above): (usize, f32), bit: bool, rate: f32) {
        let target = f32::from(bit as u8);
        for (at, near) in [(at, 1.0 - above), (at + 1, above)] {
            self.table[at] += (target - self.table[at]) * rate * near;
        }
    }
}
