//! surprisal-formats
