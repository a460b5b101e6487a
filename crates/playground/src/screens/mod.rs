//! The numbers of the screens, one file each.

pub(crate) mod comparing;
pub(crate) mod counting;
pub(crate) mod guess;
pub(crate) mod learning;
pub(crate) mod parts;
pub(crate) mod step;
pub(crate) mod surprise;
pub(crate) mod training;
