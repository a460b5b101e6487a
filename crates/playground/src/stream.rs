//! Live events: what a screen sends again and again over one connection.

use crate::app::App;

/// The next event of a stream.
#[derive(Debug)]
pub(crate) enum Next {
    /// JSON, sent as it is.
    Event(String),
    /// Nothing has changed.
    Nothing,
    /// There will be no more.
    End,
}

/// A source of events, asked several times a second.
pub(crate) struct Stream(Box<dyn FnMut(&App) -> Next + Send>);

impl Stream {
    pub(crate) fn new(next: impl FnMut(&App) -> Next + Send + 'static) -> Self {
        Self(Box::new(next))
    }

    pub(crate) fn next(&mut self, app: &App) -> Next {
        (self.0)(app)
    }
}
