//! The ranks beside rank 0 in a training run: they compute their shards of each update.

use serde::{Deserialize, Serialize};
use surprisal_loss::ObjectiveConfig;
use surprisal_model::neural::{Neural, NeuralConfig};
use surprisal_ops::grad_accumulator::GradAccumulator;
use surprisal_platform::threads::Pool;
use surprisal_text::{TextMode, TokenCounts, TokenText};

use super::objective::{ConfiguredObjective, depends_on_text};
use super::step::{Hidden, Step, Team};
use crate::config::{Config, Precision};
use crate::data::Dataset;
use crate::error::Result;
use crate::events::Context;
use crate::ranks::{Ranks, Reader, Work, Writer};
use crate::rng::{RngStream, rng_for};

/// A run, as the other ranks have to know it; the tokens of the training text follow.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    model: NeuralConfig,
    loss: ObjectiveConfig,
    precision: Precision,
    shards: usize,
    vocab_size: usize,
    streams: usize,
    threads: usize,
    mode: TextMode,
    bos: Option<u32>,
    tokens: usize,
}

/// A run that the other ranks take part in until this is dropped.
pub(super) struct Served<'a>(&'a Ranks);

impl<'a> Served<'a> {
    /// Lets the other ranks begin.
    pub(super) fn start(team: Team<'a>, config: &Config, neural: &Neural, data: &Dataset) -> Result<Self> {
        let text = &data.train;
        let ids = if depends_on_text(&config.loss) { &text.ids[..] } else { &[] };
        let train = &config.train;
        let mut message = Writer::new(&Job {
            model: neural.config().clone(),
            loss: config.loss.clone(),
            precision: train.precision,
            shards: team.shards,
            vocab_size: data.tokenizer.vocab_size(),
            streams: train.batch_size * train.grad_accumulation,
            threads: train.threads,
            mode: text.mode,
            bos: text.bos(),
            tokens: ids.len(),
        })?;
        message.ids(ids);
        team.ranks.begin(Work::Train, message.bytes())?;
        Ok(Self(team.ranks))
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        // After a panic the other ranks may wait for anything, and the job is ended.
        if !std::thread::panicking() {
            drop(self.0.broadcast(Vec::new()));
        }
    }
}

/// Computes this rank's shards of the run of `job` until it ends.
///
/// # Errors
/// A failure that is not one of a shard, which rank 0 is told of.
pub(crate) fn serve(job: &[u8], ctx: &Context<'_>) -> Result<()> {
    let (job, mut numbers): (Job, _) = Reader::new(job)?;
    let own_pool = (job.threads > 0).then(|| Pool::new(job.threads)).transpose()?;
    let pool = own_pool.as_ref().unwrap_or(ctx.pool);
    // The weights come with each update.
    let neural = Neural::new(&job.model, &mut rng_for(0, RngStream::Init))?;
    let ids = numbers.ids(job.tokens)?;
    let text = TokenText::from_parts(ids.into(), job.mode, job.bos, TokenCounts::default());
    let objective = ConfiguredObjective::new(&job.loss, &text, job.vocab_size, pool)?;
    drop(text);
    let team = Team { ranks: ctx.ranks, shards: job.shards, control: ctx.control };
    let parameters = || neural.parameters().iter().map(|parameter| parameter.var.as_tensor());
    let own = team.ranks.shards(team.shards);
    let mut gradients: Vec<_> = own.map(|_| GradAccumulator::new(parameters())).collect();
    let mut hidden = Hidden::new(neural.windows(), job.streams);
    let step = Step {
        neural: &neural,
        objective: &objective,
        precision: job.precision.into(),
        pool,
        team: Some(team),
    };
    loop {
        let order = ctx.ranks.broadcast(Vec::new())?;
        if order.is_empty() {
            return Ok(());
        }
        step.answer(&team, &order, &mut gradients, &mut hidden)?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use surprisal_platform::threads::Pool;

    use crate::config::{self, Override};
    use crate::error::{Error, ExitKind};
    use crate::events::{Context, Event, RunId, Silent};
    use crate::ranks::threads;
    use crate::train::{Request, own_settings, train};
    use crate::{Control, serve};

    const SHARED: &str = "[data]\nembedded = \"bells\"\nval_fraction = 0.02\n[train]\nsteps = 6\nbatch_size = 6\nblock_size = 8\nshards = 6\n\
                          [eval]\nevery_steps = 3\n[checkpoint]\nevery_steps = 2\nevery_minutes = 0\n[sample]\ntokens = 0\n";

    /// The result of a run into `out` with `size` ranks, of which the last is asked to stop when
    /// the step `stop` is made.
    fn run(size: usize, out: &Path, settings: &[&str], stop: Option<usize>) -> Option<Error> {
        let resume = out.join("config.toml").exists();
        let controls: Vec<Control> = (0..size).map(|_| Control::new()).collect();
        let ended = threads::run(size, |ranks| {
            let pool = Pool::new(1).unwrap();
            let stopped = &controls[size - 1];
            let events = |_: RunId, event: &Event| {
                if let Event::Step(step) = event
                    && Some(step.step) == stop
                {
                    stopped.stop();
                }
                Ok(())
            };
            let control = &controls[ranks.rank()];
            if ranks.rank() > 0 {
                return serve(&Context { ranks, ..Context::new(&pool, &Silent, control) }).err();
            }
            let mut loaded = if resume {
                own_settings(out, &[]).unwrap()
            } else {
                let set: Vec<_> = settings.iter().map(|set| Override::new("", set)).collect();
                config::parse("shared", SHARED, &set).unwrap()
            };
            if let Err(error) = config::check(&mut loaded) {
                return Some(error);
            }
            let request =
                Request { settings: loaded, out: Some(out.to_owned()), resume, ..Request::default() };
            train(request, &Context { ranks, ..Context::new(&pool, &events, control) }).err()
        });
        let mut ended = ended.into_iter();
        let root = ended.next().flatten();
        assert!(ended.flatten().next().is_none(), "only rank 0 fails");
        root
    }

    /// The files of the model, and the losses of the run, in `out`.
    fn bits(out: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(out.join("model")).unwrap().map(Result::unwrap) {
            files.insert(entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        }
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        for (number, line) in metrics.lines().enumerate() {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            let event = event.as_object_mut().unwrap();
            event.retain(|key, _| !key.contains("second") && key != "run" && !key.contains("memory"));
            files.insert(format!("event {number}"), serde_json::to_vec(event).unwrap());
        }
        files
    }

    fn kinds() -> [(&'static str, Vec<&'static str>); 4] {
        let transformer = ["model.kind=transformer", "model.n_layer=1", "model.n_embd=16", "model.n_head=2"];
        let muon = ["optim.kind=muon", "train.precision=bf16", "optim.ema=0.9"];
        let smooth =
            ["loss.label_smoothing=0.1", "loss.smooth_toward=kneser_ney", "train.grad_accumulation=2"];
        let lstm = ["model.kind=lstm", "model.n_embd=8", "model.n_hidden=16", "train.grad_accumulation=2"];
        [
            ("transformer", [&transformer[..], &["model.dropout=0.1"]].concat()),
            ("muon", [&transformer[..], &muon].concat()),
            ("smooth", [&transformer[..], &smooth].concat()),
            ("lstm", lstm.to_vec()),
        ]
    }

    #[test]
    fn any_number_of_ranks_gives_the_same_bits() {
        let base = tempfile::tempdir().unwrap();
        for (name, settings) in kinds() {
            let alone = base.path().join(name);
            assert_eq!(run(1, &alone, &settings, None), None);
            for size in [2, 3, 6] {
                let out = base.path().join(format!("{name}-{size}"));
                assert_eq!(run(size, &out, &settings, None), None);
                assert_eq!(bits(&out), bits(&alone), "{name}, {size} ranks");
            }
        }
    }

    #[test]
    fn a_stop_at_any_rank_makes_a_checkpoint_from_which_other_numbers_of_ranks_go_on() {
        let base = tempfile::tempdir().unwrap();
        for (name, settings) in kinds() {
            let [alone, out] =
                [name.to_owned(), format!("{name}-stopped")].map(|name| base.path().join(name));
            assert_eq!(run(1, &alone, &settings, None), None);
            for (size, stop) in [(4, Some(1)), (2, Some(4))] {
                let ended = run(size, &out, &settings, stop).unwrap();
                assert_eq!(ended.kind, ExitKind::Stopped, "{ended}");
            }
            assert_eq!(run(3, &out, &settings, None), None);
            let (alone, resumed) = (bits(&alone), bits(&out));
            for (file, bytes) in alone.iter().filter(|(file, _)| file.ends_with(".safetensors")) {
                assert!(resumed[file] == *bytes, "{name}: {file}");
            }
        }
    }

    #[test]
    fn errors_end_every_rank() {
        let base = tempfile::tempdir().unwrap();
        let out = base.path().join("run");
        let bigram = "model.kind=bigram";
        let error = run(4, &out, &[bigram, "train.shards=3"], None).unwrap();
        assert_eq!(error.kind, ExitKind::Usage);
        assert!(error.message.contains("4 ranks share 3 shards"), "{error}");
        assert!(!out.exists());
        let error = run(
            4,
            &out,
            &["model.kind=transformer", "model.n_layer=1", "optim.lr=1e9", "optim.grad_clip=0"],
            None,
        )
        .unwrap();
        assert_eq!(error.kind, ExitKind::Diverged, "{error}");
        assert!(out.join("diverged.json").exists());
    }
}
