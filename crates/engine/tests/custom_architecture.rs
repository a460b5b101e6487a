//! An architecture from outside, by the public API alone: trained, evaluated, sampled, saved,
//! opened again.

#![allow(clippy::unwrap_used, reason = "a test fails where something is wrong")]

use std::sync::Arc;

use candle_core::Tensor;
use serde_json::{Value, json};
use surprisal_engine::evaluate::evaluate;
use surprisal_engine::generation::generate;
use surprisal_engine::model;
use surprisal_engine::model::neural::{
    Architecture, Blueprint, Init, Mode, Output, ParameterBuilder, Registry,
};
use surprisal_engine::platform::threads::Pool;
use surprisal_engine::sampling::Sampling;
use surprisal_engine::train::{Request, own_settings, train};
use surprisal_engine::{Context, Control, Silent, config, models};
use surprisal_ops::{Context as OpsContext, embedding};

/// logits = a row of a table for each of the last tokens, summed: a log-linear n-gram.
#[derive(Debug)]
struct LogLinear {
    tables: Vec<Tensor>, // (V, V) each
}

#[derive(Debug)]
struct LogLinearBlueprint {
    tables: usize,
}

impl Blueprint for LogLinearBlueprint {
    fn name(&self) -> &'static str {
        "log_linear"
    }

    fn settings(&self) -> Value {
        json!({ "tables": self.tables })
    }

    fn build(
        &self,
        vocab_size: usize,
        _block_size: usize,
        parameters: &mut ParameterBuilder<'_>,
    ) -> model::Result<Box<dyn Architecture>> {
        let table =
            |i| parameters.get(&format!("table.{i}.weight"), &[vocab_size, vocab_size], Init::Constant(0.0));
        Ok(Box::new(LogLinear { tables: (0..self.tables).map(table).collect::<model::Result<_>>()? }))
    }
}

impl Architecture for LogLinear {
    fn forward(
        &self,
        context: &OpsContext,
        ids: &Tensor,
        _state: Option<&[f32]>,
        _mode: &Mode,
    ) -> model::Result<(Output, Vec<f32>)> {
        let mut logits: Option<Tensor> = None;
        let rows = ids.to_vec2::<u32>()?;
        for (back, table) in self.tables.iter().enumerate() {
            // A row's first token stands in for those before it.
            let earlier: Vec<u32> = rows
                .iter()
                .flat_map(|row| (0..row.len()).map(move |i| row[i.saturating_sub(back)]))
                .collect();
            let earlier = Tensor::from_vec(earlier, ids.elem_count(), ids.device())?;
            let own = embedding(context, &earlier, table)?;
            logits = Some(match logits {
                None => own,
                Some(others) => (others + own)?,
            });
        }
        let logits = logits.ok_or_else(|| model::Error::Config("there is no table".into()))?;
        Ok((Output::Logits(logits), Vec::new()))
    }
}

fn read(settings: &Value) -> model::Result<Arc<dyn Blueprint>> {
    let tables = settings["tables"].as_u64().unwrap_or(1) as usize;
    Ok(Arc::new(LogLinearBlueprint { tables }))
}

#[test]
fn an_architecture_from_outside_trains_samples_and_opens_again() {
    let text = "[data]\ntrain_fraction = 0.2\n[train]\nsteps = 60\nbatch_size = 16\nshards = 2\n\
                [optim]\nlr = 0.05\n[eval]\nevery_epochs = 0\n";
    let folder = tempfile::tempdir().unwrap();
    let (pool, control) = (Pool::new(2).unwrap(), Control::new());
    let ctx = Context::new(&pool, &Silent, &control);
    let mut nats = Vec::new();
    for tables in [1, 2] {
        let mut settings = config::parse("outside", text, &[]).unwrap();
        config::check(&mut settings).unwrap();
        let out = folder.path().join(tables.to_string());
        let architecture: Arc<dyn Blueprint> = Arc::new(LogLinearBlueprint { tables });
        let request = Request {
            settings,
            out: Some(out.clone()),
            architecture: Some(architecture),
            ..Request::default()
        };
        let run = train(request, &ctx).unwrap();
        let registry = Registry::default().with("log_linear", read);
        let loaded = models::load_with(&out, &registry, &ctx).unwrap();
        let (text, source_nats) =
            loaded.evaluation_text(&[], &surprisal_text::InputOptions::default(), &ctx).unwrap();
        let unk = loaded.tokenizer.unk();
        let evaluation = evaluate(&*loaded.model, &text.tokens, unk, source_nats, &pool).unwrap();
        assert_eq!(evaluation.nats_per_token(), run.eval.nats_per_token());
        nats.push(evaluation.nats_per_token());

        let (mut sample, sampling) = (String::new(), Sampling::new(0.8, None, None).unwrap());
        let emit = |piece: &str| {
            sample.push_str(piece);
            Ok(())
        };
        let opening = loaded.opening().unwrap();
        generate(&*loaded.model, &loaded.tokenizer, &opening, 20, sampling, 1, emit).unwrap();
        assert!(sample.chars().count() >= 20, "{sample}");
        let next = loaded.model.next_log_probs(&[1, 2]).unwrap();
        assert!((next.iter().map(|log_prob| log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-5);

        let error = models::load(&out, &ctx).err().unwrap().to_string();
        assert!(error.contains("log_linear") && error.contains("registry"), "{error}");
        assert_eq!(own_settings(&out, &[]).unwrap().config.model.kind(), "custom");
    }
    assert!(nats[1] < nats[0], "two tokens of context are worth more than one: {nats:?}");
}
