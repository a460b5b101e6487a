//! What can be timed: a step of training, a counted model. (The loss has benches of its own, in its crate.)

pub mod ngram;
pub mod step;
