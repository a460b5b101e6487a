//! The addresses of the page: its files, and the numbers of its screens.

use hyper::Method;
use serde_json::Value;

use crate::app::{App, Ask};
use crate::problem::{Problem, Result};
use crate::screens::{comparing, counting, guess, learning, parts, step, surprise, training};
use crate::stream::Stream;

/// The files of the page: name, kind, content.
pub(crate) const FILES: &[(&str, &str, &str)] = &[
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("figure.css", "text/css; charset=utf-8", surprisal_report::figures::STYLE),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("common.js", "text/javascript; charset=utf-8", include_str!("page/common.js")),
    ("guess.js", "text/javascript; charset=utf-8", include_str!("page/guess.js")),
    ("parts.js", "text/javascript; charset=utf-8", include_str!("page/parts.js")),
    ("comparing.js", "text/javascript; charset=utf-8", include_str!("page/comparing.js")),
    ("counting.js", "text/javascript; charset=utf-8", include_str!("page/counting.js")),
    ("learning.js", "text/javascript; charset=utf-8", include_str!("page/learning.js")),
    ("training.js", "text/javascript; charset=utf-8", include_str!("page/training.js")),
    ("step.js", "text/javascript; charset=utf-8", include_str!("page/step.js")),
    ("surprise.js", "text/javascript; charset=utf-8", include_str!("page/surprise.js")),
];

/// An address with numbers.
pub(crate) enum Handler {
    /// Numbers at once.
    Numbers(fn(&App, &Ask) -> Result<Value>),
    /// Numbers as they come.
    Live(fn(&App, &Ask) -> Result<Stream>),
}

use Handler::{Live, Numbers};

/// The addresses behind `api/`.
const HANDLERS: &[(&Method, &str, Handler)] = &[
    (&Method::GET, "texts", Numbers(|app, _| Ok(app.texts.json()))),
    (&Method::POST, "texts", Numbers(add)),
    (&Method::GET, "models", Numbers(|app, ask| Ok(app.models_json(ask)))),
    (&Method::GET, "loss", Numbers(loss)),
    (&Method::GET, "grid", Numbers(counting::grid)),
    (&Method::GET, "grid/sample", Numbers(counting::sample)),
    (&Method::GET, "descent", Numbers(learning::state)),
    (&Method::GET, "descent/live", Live(learning::stream)),
    (&Method::GET, "runs", Numbers(training::runs)),
    (&Method::POST, "runs", Numbers(training::start)),
    (&Method::POST, "runs/control", Numbers(training::control)),
    (&Method::GET, "runs/watch", Numbers(training::watched)),
    (&Method::GET, "runs/live", Live(training::stream)),
    (&Method::GET, "guess", Numbers(guess::game)),
    (&Method::GET, "parts", Numbers(parts::parts)),
    (&Method::GET, "parts/training", Numbers(parts::over_training)),
    (&Method::GET, "parts/consistency", Numbers(parts::consistency)),
    (&Method::POST, "comparisons", Numbers(comparing::start)),
    (&Method::GET, "comparisons", Numbers(comparing::state)),
    (&Method::GET, "comparisons/live", Live(comparing::stream)),
    (&Method::GET, "step", Numbers(step::step)),
    (&Method::POST, "step/dragged", Numbers(step::dragged)),
    (&Method::GET, "surprise", Numbers(surprise::surprisals)),
    (&Method::GET, "surprise/next", Numbers(surprise::next)),
    (&Method::GET, "surprise/attention", Numbers(surprise::attention)),
    (&Method::GET, "surprise/sample", Numbers(surprise::sample)),
];

/// The handler of a method at `path`, which is behind `api/`.
pub(crate) fn handler(method: &Method, path: &str) -> Result<&'static Handler> {
    let of_path = || HANDLERS.iter().filter(|(_, at, _)| *at == path);
    if let Some((.., handler)) = of_path().find(|(of, ..)| *of == method) {
        return Ok(handler);
    }
    Err(match of_path().next() {
        Some(_) => {
            Problem::new(hyper::StatusCode::METHOD_NOT_ALLOWED, format!("this does not take {method}"))
        }
        None => Problem::not_found("there is nothing at this address"),
    })
}

fn add(app: &App, ask: &Ask) -> Result<Value> {
    app.texts.add(ask.query.text("name", "text"), &ask.body, &app.pool)
}

fn loss(app: &App, ask: &Ask) -> Result<Value> {
    Ok((*app.loss(ask.query.text("model", "bigram"), &app.text_id(ask))?).clone())
}
