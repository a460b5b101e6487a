//! State shared by the screens: texts, models, runs and threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use surprisal_engine::kind::Kind;
use surprisal_engine::text::is_pipe;
use surprisal_engine::{Error, Result as EngineResult, config, outputs, runs};
use surprisal_platform::threads::Pool;

use crate::bigrams::Bigrams;
use crate::lru::{Lru, of_json};
use crate::models::{self, COUNTED, Held, Models};
use crate::problem::Result;
use crate::query::Query;
use crate::runs::Runs;
use crate::texts::{Text, Texts};

/// Bytes of the figures that are held; so many of numbers, and of counted pairs.
const HELD: usize = 16 << 20;

/// A request of a screen.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) query: Query,
    pub(crate) body: Vec<u8>,
}

/// The page.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) texts: Texts,
    pub(crate) models: Models,
    pub(crate) runs: Runs,
    /// The threads of answers; runs have others, so that answers need not wait for their steps.
    pub(crate) pool: Pool,
    /// Markup and numbers by what they show.
    pub(crate) figures: Lru<String>,
    pub(crate) losses: Lru<Value>,
    pub(crate) counts: Lru<Bigrams>,
    has_model: bool,
}

impl App {
    /// The page over `given`, a model, a run or a text, with its runs in `folder`.
    pub(crate) fn new(folder: &Path, given: Option<&Path>, threads: usize) -> EngineResult<Self> {
        let (mut text, mut model): (Option<PathBuf>, Option<PathBuf>) = (None, None);
        if let Some(path) = given {
            if is_model(path)? {
                model = Some(path.to_owned());
                text = text_of(path);
            } else if is_pipe(path) {
                return Err(Error::usage(format!("{} is a pipe, and cannot be read again", path.display()))
                    .hint("write the text to a file first"));
            } else {
                text = Some(path.to_owned());
            }
        }
        outputs::writable(folder, &[] as &[PathBuf])?;
        Ok(Self {
            texts: Texts::new(folder, text.as_deref()),
            models: Models::new(model.as_deref()),
            runs: Runs::new(folder),
            pool: Pool::new(threads)?,
            figures: Lru::new(HELD, String::len),
            losses: Lru::new(HELD, of_json),
            counts: Lru::new(HELD, Bigrams::bytes),
            has_model: model.is_some(),
        })
    }

    /// The text that a request names, or the first.
    pub(crate) fn text_id(&self, ask: &Ask) -> String {
        ask.query.get("text").filter(|id| !id.is_empty()).map_or_else(|| self.texts.first(), str::to_owned)
    }

    pub(crate) fn text(&self, id: &str) -> Result<Arc<Text>> {
        self.texts.get(id, &self.pool)
    }

    /// The counted pairs of the text `id`.
    pub(crate) fn bigrams(&self, id: &str) -> Result<Arc<Bigrams>> {
        let text = self.text(id)?;
        self.counts.get(id, || Bigrams::new(&text))
    }

    /// The model `id`, counted on the text `text` if it is a counted one.
    pub(crate) fn model(&self, id: &str, text: &str) -> Result<Arc<Held>> {
        self.models.get(id, text, &self.texts, &|name| self.runs.weights(name), &self.pool)
    }

    /// All models that screens can open; `fits` says that a run is of this text.
    pub(crate) fn models_json(&self, ask: &Ask) -> Value {
        let text = self.text_id(ask);
        let counted = COUNTED.iter().map(|(id, name, ..)| json!({ "id": id, "name": name }));
        let given =
            self.has_model.then(|| json!({ "id": models::GIVEN, "name": "the model given to serve" }));
        let runs = self.runs.json();
        let runs = runs.as_array().into_iter().flatten().filter(|run| run["model"] == true).rev();
        let runs = runs.map(|run| json!({ "id": format!("run:{}", run["name"].as_str().unwrap_or_default()), "name": run["name"], "fits": run["text"] == text }));
        counted.chain(given).chain(runs.collect::<Vec<_>>()).collect()
    }

    /// The loss of an n-gram model of the text, as an evaluation.
    pub(crate) fn loss(&self, id: &str, text: &str) -> Result<Arc<Value>> {
        self.losses.get(&format!("{id} {text}"), || {
            let (data, model) = (self.text(text)?, self.model(id, text)?);
            Ok(serde_json::to_value(data.data.evaluate(&*model.model, &self.pool)?)?)
        })
    }
}

/// Whether what is at `path` is a model, not a text.
fn is_model(path: &Path) -> EngineResult<bool> {
    use Kind::{Checkpoint, HuggingFace, Kenlm, Mixture, Model, Ngram, Run};
    let kind = Kind::detect(path)?;
    let is_arpa = kind == Kind::Arpa { preface: false };
    Ok(is_arpa || matches!(kind, Run | Checkpoint | Model | Mixture | HuggingFace | Ngram | Kenlm))
}

/// The text of the run at `path`, if it is one file that is still there.
fn text_of(path: &Path) -> Option<PathBuf> {
    let mut config = config::load(Some(&path.join("config.toml")), &[]).ok()?.config;
    runs::find_texts(path, &mut config, None);
    match config.data.train.as_slice() {
        [one] if one.is_file() => Some(one.clone()),
        _ => None,
    }
}
