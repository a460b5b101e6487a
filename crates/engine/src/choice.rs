//! Settings for a text and a time, where a run is given neither a config nor settings of its own.
//!
//! A law of the loss by width, steps and passes over the text says which network pays;
//! `scripts/fit_choice.py` makes the runs that it is fitted to. The times of a step and of counting
//! are measured on this machine.

use std::time::{Duration, Instant};

use surprisal_model::neural::NeuralConfig;
use surprisal_model::ngram::{Counts, NgramConfig, NgramModel};
use surprisal_ops::Precision;
use surprisal_platform::threads::Pool;

use crate::bench::step::{Case, Training};
use crate::config::{Config, Loaded, Override, TokenizerType};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::events::{Context, Silent};
use crate::train::neural;
use crate::wording::{duration, many, thousands};

/// The recipe whose tokens, sizes and length are chosen.
pub const RECIPE: &str = include_str!("../../../configs/automatic.toml");
/// A text with more distinct characters is cut into parts of words.
const MAX_CHARACTERS: usize = 400;
const BPE_TOKENS: usize = 2048;
const MAX_BIGRAM_ROWS: usize = 16_384;
/// More validation text does not make the figure more certain than seeds leave it, nor more
/// held-out text the weights of the mixture.
const MAX_VALIDATION: f64 = 200e3;
/// Widths of the network; a head is 32 wide.
const WIDTHS: [usize; 7] = [32, 64, 128, 192, 256, 384, 512];
/// Tokens of the first part of the text whose counting is timed, and the part of the time for that
/// after which no longer one is counted.
const COUNTED_TOKENS: usize = 250_000;
const MEASURING: f64 = 0.03;
/// The more tokens, the more of them end n-grams that were seen before: 2 and 40 MB of C.
const COUNTING_POWER: f64 = 0.85;
/// The steps that evaluating the tokens of a step takes: a forward pass, of windows that overlap by
/// half.
const EVALUATION_STEPS: f64 = 0.9;
/// Part of the time that is left for saving, a sample and what the estimates miss.
const MARGIN: f64 = 0.06;
/// The largest part of the time for counting: on texts for which it matters, an n-gram of a higher
/// order gives more than the steps that it costs.
const MAX_COUNTING: f64 = 0.6;
/// The largest part of the time for evaluations before the last one, and their number.
const MAX_EVALUATING: f64 = 0.1;
const MAX_EVALUATIONS: f64 = 9.0;
/// The largest part where the text is not read twice: none of them will be the best but the last.
const MAX_EVALUATING_ONCE: f64 = 0.03;
/// A run is not made shorter than this.
const FEW_STEPS: f64 = 50.0;
/// Neither twice the steps nor a wider network is taken where the law expects less gain from it.
const WORTH_NATS: f64 = 0.002;

/// The law that `scripts/fit_choice.py` fits: nats per token of a network above those of an
/// infinitely wide one that is trained for ever on an endless text. Only differences between
/// networks on one text mean anything.
const WIDTH_NATS: f64 = 0.0943;
const WIDTH_POWER: f64 = 0.8960;
const STEP_NATS: f64 = 0.8129;
const STEP_POWER: f64 = 0.1555;
/// The passes over new text that further passes over the same text are worth, at most.
const REPEATS: f64 = 0.7221;
const REPEATS_POWER: f64 = 0.7450;

fn excess(width: usize, steps: f64, passes: f64) -> f64 {
    let width = width as f64 / 128.0;
    let repeats = REPEATS * width.powf(-REPEATS_POWER);
    // Muennighoff et al. 2023, "Scaling data-constrained language models": equation 5.
    let again = repeats * (1.0 - (-(passes - 1.0).max(0.0) / repeats).exp());
    let steps = steps / 1000.0 * (passes.min(1.0) + again) / passes;
    WIDTH_NATS * width.powf(-WIDTH_POWER) + STEP_NATS * steps.powf(-STEP_POWER)
}

/// The settings of a run and why.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Changes of [`RECIPE`]: those that were chosen, and then the settings of the user.
    pub set: Vec<Override>,
    /// A line each.
    pub reasons: Vec<String>,
}

/// Whether `set` has a time, and nothing that says what to train in it, or how.
pub fn is_asked(set: &[Override]) -> bool {
    let free = |set: &Override| match set.key().split_once('.') {
        Some(("data" | "sample" | "checkpoint", _)) => true,
        Some(("train", key)) => matches!(key, "budget" | "seed" | "threads"),
        _ => false,
    };
    set.iter().any(|set| set.key() == "train.budget") && set.iter().all(free)
}

/// Chooses settings for the texts and the time of `given`, which are [`RECIPE`] with the user's
/// settings.
///
/// # Errors
/// An error in the texts, or a text too short to train on.
pub fn choose(given: &Loaded, ctx: &Context<'_>) -> Result<Choice> {
    let started = Instant::now();
    let mut config = given.config.clone();
    let own_pool = if config.train.threads == 0 { None } else { Some(Pool::new(config.train.threads)?) };
    let ctx = &Context { events: &Silent, pool: own_pool.as_ref().unwrap_or(ctx.pool), ..*ctx };
    let hint = "write the text to a file first, or give a config";
    data::refuse_pipes(&config, hint)?;
    let Some(budget) = config.train.budget.as_ref().map(|budget| budget.duration().as_secs_f64()) else {
        return Err(Error::failed("settings are chosen for a time, and none is given"));
    };
    let (mut set, mut reasons) = (Vec::new(), Vec::new());

    let mut data = Dataset::load(&config, false, None, ctx)?;
    let different = thousands(data.tokenizer.vocab_size() as u64);
    let mut reading = started.elapsed().as_secs_f64();
    if data.tokenizer.vocab_size() > MAX_CHARACTERS {
        (config.tokenizer.kind, config.tokenizer.vocab_size) = (TokenizerType::Bpe, Some(BPE_TOKENS));
        set.extend([("tokenizer.kind", "bpe".to_owned()), ("tokenizer.vocab_size", BPE_TOKENS.to_string())]);
        let started = Instant::now();
        data = Dataset::load(&config, false, None, ctx)?;
        reading = started.elapsed().as_secs_f64();
        let tokens = data.tokenizer.vocab_size();
        reasons.push(format!(
            "tokens: {tokens} parts of words, as the text has {different} different characters"
        ));
    } else {
        reasons.push(format!("tokens: characters, as the text has {different} different ones"));
    }
    let vocab_size = data.tokenizer.vocab_size();
    let (mut tokens, mut validation) = (data.train.ids.len() as f64, data.val.scored() as f64);
    if tokens <= 2.0 * config.train.block_size as f64 {
        return Err(Error::failed(format!("the training text has {}", many(tokens as u64, "token")))
            .hint("give more text, or a config with a smaller train.block_size"));
    }
    let is_asked = given.override_as_written("data.val_fraction").is_some();
    if config.data.val.is_empty() && !is_asked && validation > MAX_VALIDATION {
        let share = (MAX_VALIDATION / (tokens + validation) * 1e4).ceil() / 1e4;
        (validation, tokens) = (share * (tokens + validation), (1.0 - share) * (tokens + validation));
        set.push(("data.val_fraction", share.to_string()));
    }

    let mut heldout = config.mixture.clone().unwrap_or_default().heldout;
    if heldout * tokens > MAX_VALIDATION {
        heldout = (MAX_VALIDATION / tokens * 1e4).ceil() / 1e4;
        set.push(("mixture.heldout", heldout.to_string()));
    }

    let (order, counting, baselines) = count(&config, &data, (tokens, MAX_COUNTING * budget), ctx)?;
    set.push(("mixture.order", order.to_string()));
    reasons.push(format!(
        "an n-gram model of order {order} beside the network, counted in about {counting:.1} s"
    ));

    let rows = bigram_rows(vocab_size);
    set.push(("model.bigram_rows", rows.to_string()));
    let batch = (config.train.batch_size * config.train.block_size) as f64;
    let (mut times, mut last) = (Vec::new(), f64::INFINITY);
    let room = || {
        let fixed = started.elapsed().as_secs_f64() + reading + baselines + counting;
        Room { budget, fixed, tokens, validation, heldout: heldout * tokens, batch }
    };
    for width in WIDTHS {
        let model = sized(&config, vocab_size, (width, rows))?;
        let seconds = time_step(&config, model, Duration::from_millis(150), ctx)?;
        let network = room().network(width, seconds);
        if network.most < FEW_STEPS && !times.is_empty() {
            break;
        }
        times.push((width, seconds));
        // Still wider ones would be worse, too.
        if network.excess > last {
            break;
        }
        last = network.excess;
    }
    let networks: Vec<Network> = times.into_iter().map(|(width, time)| room().network(width, time)).collect();
    let least = networks.iter().map(|network| network.excess).fold(f64::INFINITY, f64::min);
    // The narrowest where others are hardly better.
    let best = networks.iter().position(|network| network.excess < least + WORTH_NATS).unwrap_or(0);
    let beside = [best.wrapping_sub(1), best + 1].into_iter().filter_map(|at| networks.get(at));
    let beside: Vec<String> = beside
        .map(|other| format!("{:+.3} nats with width {}", other.excess - networks[best].excess, other.width))
        .collect();
    let width = networks[best].width;
    set.extend([("model.n_embd", width.to_string()), ("model.n_head", (width / 32).to_string())]);
    // Its time fills the budget, so that it is measured for longer.
    let longer = Duration::from_secs_f64(MEASURING / 2.0 * budget);
    let step_seconds = time_step(&config, sized(&config, vocab_size, (width, rows))?, longer, ctx)?;
    let Network { most, steps, passes, seconds, between, .. } = room().network(width, step_seconds);
    reasons.push(format!(
        "network: 4 blocks of width {width}, {:.1} ms a step here; a law of the loss expects {}",
        1e3 * step_seconds,
        if beside.is_empty() { "no wider one to pay".to_owned() } else { beside.join(" and ") }
    ));
    let warmup = (steps / 10.0).floor().min(config.optim.warmup as f64);
    set.extend([("train.steps", steps.to_string()), ("optim.warmup", warmup.to_string())]);
    let every = if between > 0.0 { (steps / (between + 1.0)).ceil() } else { 0.0 };
    set.push(("eval.every_steps", every.to_string()));
    let length = many(steps as u64, "step");
    reasons.push(format!("{length} of {} tokens, {passes:.1} passes over the text", batch.min(tokens)));
    if steps < most {
        reasons.push(format!(
            "about {} in all: more time would not pay, as twice the steps would gain less than {WORTH_NATS} nats; more text would",
            duration(seconds)
        ));
    }
    let chosen = set.into_iter().map(|(key, value)| Override::from(&format!("{key}={value}")));
    let own = given.overrides.iter().filter(|set| set.key() != "train.budget").cloned();
    Ok(Choice { set: chosen.chain(own).collect(), reasons })
}

/// The time and the text for a network.
struct Room {
    budget: f64,
    /// The time that does not depend on the network.
    fixed: f64,
    tokens: f64,
    validation: f64,
    /// Tokens that the weights of the mixture are fitted to.
    heldout: f64,
    /// Tokens of a batch.
    batch: f64,
}

/// A network that could be chosen.
struct Network {
    width: usize,
    /// The steps that there is time for, and those that pay.
    most: f64,
    steps: f64,
    passes: f64,
    excess: f64,
    /// The time of the whole run.
    seconds: f64,
    /// Evaluations before the last one.
    between: f64,
}

impl Room {
    fn network(&self, width: usize, step_seconds: f64) -> Network {
        let evaluating = |tokens: f64| tokens / self.batch * step_seconds * EVALUATION_STEPS;
        let evaluation = evaluating(self.validation);
        let passes = |steps: f64| steps * self.batch.min(self.tokens) / self.tokens;
        // The mixture has an evaluation of its own.
        let fixed = |between: f64| self.fixed + evaluating(self.heldout) + (between + 2.0) * evaluation;
        let most =
            |between: f64| (((1.0 - MARGIN) * self.budget - fixed(between)) / step_seconds).floor().max(1.0);
        let share = if passes(most(0.0)) > 1.0 { MAX_EVALUATING } else { MAX_EVALUATING_ONCE };
        let between = (share * self.budget / evaluation).floor().min(MAX_EVALUATIONS);
        let (fixed, most) = (fixed(between), most(between));
        let at = |steps: f64| excess(width, steps, passes(steps));
        // Halved as long as that costs next to nothing.
        let mut steps = most;
        while steps >= 2.0 * FEW_STEPS && at(steps / 2.0) - at(steps) < WORTH_NATS {
            steps = (steps / 2.0).floor();
        }
        let (passes, excess, seconds) = (passes(steps), at(steps), fixed + steps * step_seconds);
        Network { width, most, steps, passes, excess, seconds, between }
    }
}

/// The network of `config` with another width and number of bigrams.
fn sized(config: &Config, vocab_size: usize, (width, rows): (usize, usize)) -> Result<NeuralConfig> {
    let mut model = crate::architecture::neural_config(config, vocab_size)?;
    if let NeuralConfig::Transformer(model) = &mut model {
        (model.n_embd, model.n_head, model.bigram_rows) = (width, width / 32, rows);
    }
    Ok(model)
}

/// A row for each pair of tokens, or as many as their gradients leave fast.
fn bigram_rows(vocab_size: usize) -> usize {
    ((vocab_size + 1) * vocab_size).min(MAX_BIGRAM_ROWS)
}

/// The order of the n-gram model and the time for counting it, twice: without and with the part of
/// the text that the weights are fitted to, and that for the baselines. A lower order where memory
/// or the time `most` is short.
fn count(
    config: &Config,
    data: &Dataset,
    (tokens, most): (f64, f64),
    ctx: &Context<'_>,
) -> Result<(usize, f64, f64)> {
    let vocab_size = data.tokenizer.vocab_size();
    let (bos, unk) = (data.val.bos(), data.tokenizer.unk());
    let mixture = config.mixture.clone().unwrap_or_default();
    let mut settings = mixture.ngram(config.tokenizer.kind, bos, unk);
    let free = surprisal_platform::memory::available().unwrap_or(1 << 42) / 2;
    while settings.order > 2 && Counts::memory(tokens as usize, vocab_size, settings.order) > free {
        settings.order -= 1;
    }
    let longest = time_counting((&data.train.ids, tokens), vocab_size, &settings, (most, ctx))?;
    let per_order = longest / settings.order as f64;
    let seconds = |order: usize| 2.0 * per_order * order as f64;
    let mut order = settings.order;
    while order > 2 && seconds(order) > most {
        order -= 1;
    }
    Ok((order, seconds(order), seconds(1)))
}

/// The time of counting `tokens` tokens on this machine, in seconds, from that of parts of `ids`,
/// each twice as long, until they took a small part of the time `most`.
fn time_counting(
    (ids, tokens): (&[u32], f64),
    vocab_size: usize,
    settings: &NgramConfig,
    (most, ctx): (f64, &Context<'_>),
) -> Result<f64> {
    let (started, mut len) = (Instant::now(), COUNTED_TOKENS);
    loop {
        let part = &ids[..ids.len().min(len)];
        let counting = Instant::now();
        ctx.pool.install(|| NgramModel::estimate(part, vocab_size, settings))?;
        let seconds = counting.elapsed().as_secs_f64();
        if part.len() == ids.len() || started.elapsed().as_secs_f64() > MEASURING * most {
            return Ok(seconds * (tokens / part.len() as f64).powf(COUNTING_POWER));
        }
        len *= 2;
    }
}

/// The median time of a step on this machine, in seconds, of as many as `time` suffices for, three
/// at least.
fn time_step(config: &Config, model: NeuralConfig, time: Duration, ctx: &Context<'_>) -> Result<f64> {
    let precision: Precision = neural::precision(config);
    let case = Case { name: String::new(), batch_size: config.train.batch_size, model, precision, flop: 0.0 };
    let mut training = Training::new(&case, &config.optim, neural::shards(config), ctx.pool)?;
    for _ in 0..2 {
        training.step(ctx.pool)?;
    }
    let (started, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || started.elapsed() < time {
        times.push(training.step(ctx.pool)?[0]);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_wants_wider_networks_for_longer_and_fewer_passes() {
        let best = |steps: f64, passes: f64| {
            let nats = |width: &usize| excess(*width, steps * 128.0 / *width as f64, passes);
            *WIDTHS.iter().min_by(|a, b| nats(a).total_cmp(&nats(b))).unwrap()
        };
        assert!(best(200.0, 0.1) < best(5000.0, 0.1), "{} {}", best(200.0, 0.1), best(5000.0, 0.1));
        assert!(best(5000.0, 50.0) < best(5000.0, 0.1));
        assert!(excess(128, 1000.0, 1.0) < excess(128, 1000.0, 20.0));
    }

    #[test]
    fn a_run_fills_its_time_unless_the_text_is_small() {
        let room = |tokens| {
            let heldout = 2e4;
            Room { budget: 100.0, fixed: 5.0, tokens, validation: 2e4, heldout, batch: 2048.0 }
        };
        let large = room(1e8).network(128, 0.02);
        assert!(large.steps == large.most && (85.0..95.0).contains(&large.seconds), "{}", large.seconds);
        let small = room(2e5).network(128, 0.02);
        assert!(small.steps < small.most && small.seconds < 50.0, "{}", small.seconds);
        assert!((3.0..20.0).contains(&small.passes), "{}", small.passes);
        // Slow steps leave time for one at least.
        assert!((room(1e8).network(128, 200.0).steps - 1.0).abs() < 1e-9);
    }

    #[test]
    fn only_settings_that_leave_the_choice_leave_it() {
        let asked = |set: &[&str]| is_asked(&set.iter().map(Override::from).collect::<Vec<_>>());
        assert!(asked(&["train.budget=1min"]));
        assert!(asked(&["train.budget=1min", "train.seed=3", "data.field=text", "sample.tokens=0"]));
        assert!(!asked(&["train.seed=3"]));
        for other in
            ["model.n_embd=64", "mixture.order=3", "tokenizer.kind=bpe", "optim.lr=1e-3", "train.steps=5"]
        {
            assert!(!asked(&["train.budget=1min", other]), "{other}");
        }
    }
}
