//! The library behind the surprisal binary.
