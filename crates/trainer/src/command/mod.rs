//! The commands other than `train`.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod compress;
pub(crate) mod count;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod manual;
pub(crate) mod mix;
pub(crate) mod sample;
pub(crate) mod score;
pub(crate) mod serve;
