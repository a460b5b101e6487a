//! surprisal-ops
