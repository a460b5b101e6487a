//! The dashboard of a build without the feature `tui`: it never opens.

use std::convert::Infallible;

use surprisal_engine::{Evaluated, Step};

use crate::error::{Error, Result};

/// A dashboard that cannot be.
pub(crate) struct Dashboard(Infallible);

const WHY: &str = "this build has no dashboard, so that it builds faster (with --features tui it has)";

pub(crate) fn unusable_terminal() -> Option<&'static str> {
    Some(WHY)
}

impl Dashboard {
    pub(crate) fn open() -> Result<Self> {
        Err(Error::failed(WHY))
    }

    pub(crate) fn log(&mut self, _: &str) {
        match self.0 {}
    }

    pub(crate) fn start(&mut self, _: u64, _: &str) {
        match self.0 {}
    }

    pub(crate) fn advance(&mut self, _: u64, _: impl FnOnce() -> String) {
        match self.0 {}
    }

    pub(crate) fn step(&mut self, _: &Step) {
        match self.0 {}
    }

    pub(crate) fn evaluated(&mut self, _: &Evaluated) {
        match self.0 {}
    }

    pub(crate) fn sample(&mut self, _: &str) {
        match self.0 {}
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        match self.0 {}
    }
}
