//! surprisal-text
