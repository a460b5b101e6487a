//! `surprisal train`: trains or counts a model.

use std::path::{Path, PathBuf};

use serde_json::json;
use surprisal_engine::config::{self, Config, Loaded, LrSchedule, OptimKind, Override, SmoothToward};
use surprisal_engine::count::{Files, Room};
use surprisal_engine::text::is_pipe;
use surprisal_engine::train::{self, Csv, Request, TensorBoard};
use surprisal_engine::{Context, Event, Events, RunId, choice, data, kind, outputs, runs};
use surprisal_platform::threads::Pool;

use crate::cli;
use crate::command::count;
use crate::comparison;
use crate::error::{Error, Result};
use crate::output::Output;
use crate::signals::ShutdownFlag;
use crate::wording::{many, shown};

/// The config of a run that is given none.
pub const DEFAULT_CONFIG: &str = include_str!("../../../configs/default.toml");
const AUDITED_STEPS: usize = 2;

/// Runs the command; returns the run if a report is to be written.
pub(crate) fn run(
    arguments: &cli::TrainArgs,
    ctx: &Context<'_>,
    output: &Output,
    stop: &ShutdownFlag,
) -> Result<Option<PathBuf>> {
    let set = overrides(arguments);
    let settings = if arguments.resume {
        resumed(arguments, &set)?
    } else if is_to_choose(arguments, &set, output) {
        chosen(arguments, &set, ctx, output)?
    } else {
        configure(arguments, &set)?
    };
    let new_texts = !(arguments.inputs.is_empty() && arguments.val.is_empty())
        || set.iter().any(|set| matches!(set.key(), "data.train" | "data.val"));
    // Checked before reading texts, which a finished run does not need.
    let mut done = arguments.out.as_ref().filter(|_| arguments.resume).and_then(|out| runs::done(out));
    if let (Some(out), Some(_)) = (&arguments.out, &done)
        && (new_texts || settings.config != train::own_settings(out, &[])?.config)
    {
        done = None;
    }
    if let (Some(result), Some(out)) = (done, &arguments.out) {
        output.event(&result)?;
        let steps = many(result["steps"].as_u64().unwrap_or(0), "step");
        let run = shown(out);
        output.info(format!("{run}: this run is finished ({steps}); it is not changed"));
        if !settings.config.model.is_counted() {
            output.info(format!(
                "to train it further: surprisal train --resume --out {run} --set train.steps=+N; a new run from its \
                 weights: surprisal train TEXT --from {run} --out NEW"
            ));
        }
        if arguments.audit || arguments.tui || !arguments.log.is_empty() {
            return Err(Error::usage("--log, --audit and --tui have no effect on a finished run")
                .hint("--report writes its report"));
        }
        return Ok(arguments.report.then(|| out.clone()));
    }
    check_use(arguments, &settings, ctx, output)?;
    if let Some(seeds) = arguments.seeds {
        comparison::of_seeds(&settings, seeds, arguments.out.clone(), ctx, output, stop)?;
        return Ok(None);
    }
    if arguments.report {
        data::refuse_pipes(
            &settings.config,
            "a report reads the texts again: write the text to a file first",
        )?;
    }
    let (tensorboard, csv) = (TensorBoard::default(), Csv);
    let mut events: Vec<&dyn Events> = vec![output];
    for log in &arguments.log {
        events.push(match log {
            cli::LogFormat::Tensorboard => &tensorboard,
            cli::LogFormat::Csv => &csv,
        });
    }
    let events = |run: RunId, event: &Event| events.iter().try_for_each(|heard| heard.on(run, event));
    let own_pool = match settings.config.train.threads {
        0 => None,
        threads => Some(Pool::new(threads)?),
    };
    let ctx = Context { events: &events, pool: own_pool.as_ref().unwrap_or(ctx.pool), ..*ctx };
    if arguments.tui {
        output.start_dashboard(ctx.control)?;
    }
    let audit = if arguments.audit { AUDITED_STEPS } else { 0 };
    let (out, resume) = (arguments.out.clone(), arguments.resume);
    let room = room(arguments)?;
    let request = Request { settings, out, resume, new_texts, audit, room, ..Request::default() };
    let run = train::train(request, &ctx)?.run;
    // An existing report of a resumed run is out of date.
    Ok((arguments.report || run.join(outputs::PAGE).exists()).then_some(run))
}

/// The room for counting, if it is limited; its temporary files are beside the run's folder.
fn room(arguments: &cli::TrainArgs) -> Result<Option<Room>> {
    if arguments.room.memory.is_none() && arguments.room.temp.is_none() {
        return Ok(None);
    }
    let run = arguments.out.clone().unwrap_or_else(|| PathBuf::from("runs/run"));
    count::room(&arguments.room, &Files::new(&[run.with_extension("ngram")])?, false).map(Some)
}

/// The overrides on the command line.
fn overrides(arguments: &cli::TrainArgs) -> Vec<Override> {
    let mut set: Vec<Override> = arguments.set.iter().map(|set| Override::new("--set ", set)).collect();
    set.extend(arguments.budget.as_ref().map(|budget| Override {
        set: format!("train.budget={budget}"),
        ..Override::new("--budget ", budget)
    }));
    set.extend(arguments.from.as_ref().map(|from| Override {
        set: format!("model.init_from={}", json!(from.to_string_lossy())),
        ..Override::new("--from ", &shown(from))
    }));
    if arguments.extend_vocab {
        set.push(Override { set: "model.extend_vocab=true".into(), ..Override::new("--extend-vocab", "") });
    }
    let reading = &arguments.reading;
    let lists = [("include", &reading.include), ("exclude", &reading.exclude)];
    let single =
        [("field", &reading.field), ("invalid", &reading.invalid), ("normalize", &reading.normalize)];
    // JSON's texts and lists are TOML's, too.
    let single = single.into_iter().filter_map(|(key, value)| Some((key, json!(value.as_ref()?))));
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, json!(list)));
    set.extend(single.chain(lists).map(|(key, value)| Override {
        set: format!("data.{key}={value}"),
        ..Override::new(&format!("--{key} "), &value.to_string())
    }));
    set
}

fn is_config(path: &Path) -> bool {
    path.extension().is_some_and(|it| it.eq_ignore_ascii_case("toml"))
}

/// The configuration that the program chooses for the texts, the time and this machine.
fn chosen(
    arguments: &cli::TrainArgs,
    set: &[Override],
    ctx: &Context<'_>,
    output: &Output,
) -> Result<Loaded> {
    let choice = choice::choose(&configure_from(choice::RECIPE, arguments, set)?, ctx)?;
    output.info("chosen for this text, its time and this machine:");
    for reason in &choice.reasons {
        output.info(format!("  {reason}"));
    }
    configure_from(choice::RECIPE, arguments, &choice.set)
}

/// Whether settings are to be chosen: of a text without a config, where nothing else says what to
/// train.
fn is_to_choose(arguments: &cli::TrainArgs, set: &[Override], output: &Output) -> bool {
    if arguments.inputs.first().is_none_or(|first| is_config(first)) || !choice::is_asked(set) {
        return false;
    }
    let pipe = arguments.inputs.iter().chain(&arguments.val).find(|path| is_pipe(path));
    if let Some(pipe) = pipe {
        output.warn(format!(
            "note: settings are chosen for a text that can be read twice; {} is a pipe, and gets the default config",
            shown(pipe)
        ));
    }
    pipe.is_none()
}

/// The validated configuration from the command line.
fn configure(arguments: &cli::TrainArgs, set: &[Override]) -> Result<Loaded> {
    configure_from(DEFAULT_CONFIG, arguments, set)
}

/// As [`configure`], of `default` where there is no config.
fn configure_from(default: &str, arguments: &cli::TrainArgs, set: &[Override]) -> Result<Loaded> {
    let (path, texts) = match arguments.inputs.split_first() {
        Some((first, rest)) if is_config(first) => (Some(first.as_path()), rest),
        _ => (None, arguments.inputs.as_slice()),
    };
    if let Some(second) = texts.iter().find(|path| is_config(path)) {
        return Err(Error::usage(format!("{} cannot be used as a text: it is a config", second.display()))
            .hint("give one config, first"));
    }
    let mut loaded = match path {
        Some(_) => config::load(path, set)?,
        None => config::parse("the default config", default, set)?,
    };
    if texts.is_empty() {
        config::texts(&loaded, "train")?;
    } else {
        if let Some(set) = set.iter().find(|set| set.set.trim_start().starts_with("data.train=")) {
            let message = format!("{} and {} both give a training text", set.as_written, texts[0].display());
            return Err(Error::usage(message).hint("keep one of them"));
        }
        loaded.config.data.train = texts.to_vec();
    }
    if !arguments.val.is_empty() {
        loaded.config.data.val.clone_from(&arguments.val);
        let unsplit = Config::default().data;
        (loaded.config.data.split, loaded.config.data.split_seed) = (unsplit.split, unsplit.split_seed);
    }
    config::texts(&loaded, "val")?;
    config::check(&mut loaded)?;
    Ok(loaded)
}

/// Refuses flags without an effect, and prints notes about settings without an effect and texts
/// that look like configs.
fn check_use(arguments: &cli::TrainArgs, loaded: &Loaded, ctx: &Context<'_>, output: &Output) -> Result<()> {
    let config = &loaded.config;
    let texts = [&config.data.train[..], &config.data.val].concat();
    kind::note_configs(&texts, ctx)?;
    let kind = config.model.kind();
    let counted = config.model.is_counted();
    for (flag, given) in [("budget", arguments.budget.is_some()), ("audit", arguments.audit)] {
        if given && counted {
            return Err(Error::usage(format!(
                "--{flag} means nothing here: a model of kind \"{kind}\" is counted, not trained step by step"
            ))
            .hint("leave it away, or choose another model.kind"));
        }
    }
    let cli::RoomArgs { memory, temp } = &arguments.room;
    for (flag, given) in [("memory", memory.is_some()), ("temp", temp.is_some())] {
        if given && config.model.ngram(None, None).is_none() {
            return Err(Error::usage(format!(
                "--{flag} means nothing here: it is for counting n-grams, and the model is of kind \"{kind}\""
            ))
            .hint("leave it away, or choose model.kind = \"ngram\""));
        }
    }
    for set in &arguments.set {
        let name = set.split('=').next().unwrap_or_default().trim();
        let of_steps =
            ["optim.", "train.", "eval.", "checkpoint."].iter().any(|section| name.starts_with(section));
        let why = if counted && of_steps && !matches!(name, "train.seed" | "train.threads") {
            format!(": a model of kind \"{kind}\" is counted")
        } else if has_effect(name, config) {
            continue;
        } else {
            " beside the other settings".to_owned()
        };
        output.warn(format!("note: {name} has no effect{why}"));
    }
    Ok(())
}

/// Whether a setting has an effect together with the others.
fn has_effect(name: &str, config: &Config) -> bool {
    let Config { model, optim, train, .. } = config;
    let descends = |kinds: &[OptimKind]| kinds.contains(&optim.kind);
    let ngram = model.ngram(None, None).unwrap_or_default();
    if let Some(key) = name.strip_prefix("model.") {
        return !model.is_counted() || ngram.has_effect(key);
    }
    match name {
        "optim.momentum" => descends(&[OptimKind::Sgd, OptimKind::Muon]),
        "optim.nesterov" => descends(&[OptimKind::Sgd]),
        "optim.muon_lr" => descends(&[OptimKind::Muon]),
        "optim.betas" | "optim.eps" => descends(&[OptimKind::AdamW, OptimKind::Muon]),
        "optim.cooldown" => optim.schedule == LrSchedule::Wsd,
        "optim.min_lr" => optim.schedule != LrSchedule::Constant,
        "train.ramp_steps" => train.batch_start.is_some() || train.block_start.is_some(),
        "loss.smooth_order" => config.loss.smooth_toward == SmoothToward::KneserNey,
        "data.val_fraction" => config.data.val.is_empty(),
        "data.train_part" => config.data.train_fraction < 1.0,
        "data.embedded" => config.data.train.is_empty(),
        "sample.temperature" => config.sample.tokens > 0,
        "tokenizer.min_count" | "tokenizer.vocab_size" | "tokenizer.vocab" => model.init_from.is_none(),
        _ => true,
    }
}

/// The configuration of the run to resume, with the changes on the command line.
fn resumed(arguments: &cli::TrainArgs, set: &[Override]) -> Result<Loaded> {
    let Some(out) = &arguments.out else {
        return Err(Error::usage("--resume needs --out").hint("name the run folder to resume"));
    };
    if let Some(path) = arguments.inputs.iter().find(|path| is_config(path)) {
        return Err(Error::usage(format!("--resume takes the run's own config, not {}", path.display()))
            .hint("change its settings with --set; a new run takes a config"));
    }
    if arguments.from.is_some() || arguments.extend_vocab {
        return Err(Error::usage("--from starts a new run, and --resume goes on with one")
            .hint("leave --resume away, and give --out another folder"));
    }
    let mut loaded = train::own_settings(out, set)?;
    for (key, given) in [("train", &arguments.inputs), ("val", &arguments.val)] {
        let data = &mut loaded.config.data;
        if !given.is_empty() {
            if key == "val" { &mut data.val } else { &mut data.train }.clone_from(given);
            config::texts(&loaded, key)?;
        }
    }
    Ok(loaded)
}
