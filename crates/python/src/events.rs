//! Events of the engine for a function of Python.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBool;
use serde_json::{Value, json};
use surprisal_engine::{Control, Error, Event, Events, Result, RunId, StopCriterion};

use crate::values;

/// A subscriber that calls a function with a dict. The work stops after its step when the function
/// gives False, and at once, with its exception, when it raises one.
pub(crate) struct Callback {
    function: Option<Py<PyAny>>,
    control: Control,
    raised: Mutex<Option<PyErr>>,
}

impl Callback {
    pub(crate) fn new(function: Option<Py<PyAny>>, control: &Control) -> Self {
        Self { function, control: control.clone(), raised: Mutex::new(None) }
    }

    /// The function's exception.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Events for Callback {
    fn on(&self, _: RunId, event: &Event) -> Result<()> {
        let Some(function) = &self.function else { return Ok(()) };
        let Some(event) = described(event)? else { return Ok(()) };
        let called = Python::attach(|py| -> PyResult<()> {
            let answer = function.call1(py, (values::json(py, &event)?,))?;
            if answer.bind(py).is(&*PyBool::new(py, false)) {
                self.control.stop();
            }
            Ok(())
        });
        called.map_err(|exception| {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(exception);
            Error::failed("the function of on_event raised an exception")
        })
    }
}

/// The event as JSON: recorded ones as in metrics.jsonl, and what a bar needs of the others.
fn described(event: &Event) -> Result<Option<Value>> {
    if event.is_recorded() {
        return Ok(Some(serde_json::to_value(event)?));
    }
    Ok(Some(match event {
        Event::Texts { name, train_tokens, val_tokens, vocab_size, .. } => json!({
            "event": "texts", "name": name, "train_tokens": train_tokens, "val_tokens": val_tokens,
            "vocab_size": vocab_size,
        }),
        Event::Opened { folder, .. } => json!({ "event": "opened", "run": folder.display().to_string() }),
        Event::Counted { name, parameters, eval } => {
            json!({ "event": "counted", "name": name, "parameters": parameters, "eval": eval })
        }
        Event::Planned(planned) => {
            let (unit, length) = match planned.length {
                StopCriterion::Steps(steps) => ("steps", steps as f64),
                StopCriterion::Budget(budget) => ("seconds", budget.as_secs_f64()),
            };
            json!({
                "event": "planned", "kind": planned.kind, "parameters": planned.parameters,
                "threads": planned.threads, "unit": unit, "length": length,
            })
        }
        Event::Resumed { step } => json!({ "event": "resumed", "step": step }),
        Event::Step(step) => json!({
            "event": "progress", "step": step.step, "progress": step.progress, "train_nll": step.train_nll,
            "tokens_per_second": step.tokens_per_second, "train_seconds": step.train_seconds,
        }),
        Event::Trained => json!({ "event": "trained" }),
        Event::Sampled(sampled) => json!({ "event": "sample", "text": sampled.text, "step": sampled.step }),
        Event::Checkpointed { step } => json!({ "event": "checkpoint", "step": step }),
        Event::Noted(note) => json!({ "event": "note", "text": note.to_string() }),
        Event::Comparing { variants, trials, finished, jobs, .. } => json!({
            "event": "comparing", "variants": variants, "runs": trials, "finished": finished, "jobs": jobs,
        }),
        Event::Phase { name, whole } => json!({ "event": "phase", "name": name, "length": whole }),
        Event::Advanced { steps } => json!({ "event": "advanced", "steps": steps }),
        Event::Counting { name, tokens, vocab_size, memory } => json!({
            "event": "counting", "name": name, "tokens": tokens, "vocab_size": vocab_size, "memory": memory,
        }),
        Event::Wrote { path, bytes } => {
            json!({ "event": "wrote", "path": path.display().to_string(), "bytes": bytes })
        }
        _ => return Ok(None),
    }))
}
