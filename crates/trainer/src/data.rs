//! From the config's texts to tokens, with everything that a person should know about them.

use std::sync::Arc;

use surprisal_text::{Corpus, DataOptions, Reading, TokenText, Tokenizer};

use crate::config::{Config, cores};
use crate::evaluate::warn_unknown;
use crate::failure::{Failure, Result};
use crate::kind;
use crate::output::{Output, bytes, many, thousands};

/// Texts ready to train on and to be judged by.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) train: Arc<TokenText>,
    pub(crate) val: TokenText,
    /// −ln p(validation text | training text) under the text's own source, where that is known.
    pub(crate) source_nats: Option<f64>,
    /// Where they came from, where that is to be asked again.
    pub(crate) corpus: Option<Corpus>,
}

/// How the config has texts read.
pub(crate) fn reading(config: &Config) -> Reading {
    Reading {
        threads: if config.train.threads == 0 { cores() } else { config.train.threads },
        literal_specials: config.data.literal_specials,
        last_line: config.data.last_line,
    }
}

/// The corpus that the config names.
pub(crate) fn corpus(config: &Config) -> Result<Corpus> {
    let data = &config.data;
    kind::check_texts(&data.train)?;
    kind::check_texts(&data.val)?;
    let options = DataOptions {
        train: data.train.clone(),
        val: data.val.clone(),
        val_fraction: data.val_fraction,
        train_fraction: data.train_fraction,
        unit: data.unit,
        reading: reading(config),
    };
    if data.train.is_empty() {
        Ok(Corpus::embedded(&data.embedded, &options)?)
    } else {
        Ok(Corpus::load(&options)?)
    }
}

impl Prepared {
    /// Reads, trains the tokenizer on the training split alone, and encodes both splits.
    ///
    /// # Errors
    /// Whatever is wrong with the texts, with the file and a hint.
    pub(crate) fn load(config: &Config, output: &Output) -> Result<Self> {
        let corpus = corpus(config)?;
        let kind = config
            .tokenizer
            .kind()
            .ok_or_else(|| Failure::usage(format!("tokenizer.kind is \"{}\"", config.tokenizer.kind)))?;
        crate::memory::check_text(corpus.bytes(), kind)?;
        // A model that was trained elsewhere knows the tokens of its own tokenizer.
        let start = config.model.init_from.as_ref().map(|folder| folder.join("tokenizer.json"));
        let (tokenizer, train) = match start.filter(|path| path.is_file()) {
            Some(path) => {
                let bytes = std::fs::read(&path)
                    .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
                let tokenizer = Tokenizer::from_json(&bytes)?;
                let train = corpus.encode_train(&tokenizer)?;
                (tokenizer, train)
            }
            None => corpus.tokenize_train(kind)?,
        };
        let val = corpus.encode_val(&tokenizer)?;
        for notice in corpus.notices() {
            output.say(format!("note: {notice}"));
        }
        let source_nats = corpus.source_nats_val()?;
        output.say(format!(
            "{}: {} ({}) to train on, {} ({}) to validate; {} vocabulary of {}",
            corpus.name(),
            tokens(&train),
            bytes(train.bytes),
            tokens(&val),
            bytes(val.bytes),
            tokenizer.kind(),
            thousands(tokenizer.vocab_size() as u64),
        ));
        warn_unknown(&val, "the validation text", "the vocabulary", output);
        Ok(Self { tokenizer, train: Arc::new(train), val, source_nats, corpus: Some(corpus) })
    }
}

fn tokens(text: &TokenText) -> String {
    many(text.scored(), "token")
}
