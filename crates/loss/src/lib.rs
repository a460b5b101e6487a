//! surprisal-loss
