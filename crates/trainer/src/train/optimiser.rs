//! AdamW over the parameters of a model, with all its state in plain vectors that a checkpoint can hold.
//!
//! Decay is decoupled (Loshchilov & Hutter 2019) and applies to matrices and embeddings only. `l2` adds the gradient of
//! ½·l2·‖θ‖² of the same parameters to theirs, which is the MAP estimate under a Gaussian prior; under Adam the two
//! are not the same, because Adam rescales whatever is in the gradient.

use candle_core::{Storage, Tensor, backprop::GradStore};
use surprisal_kernels::{optim, threads::Pool};
use surprisal_model::neural::{Neural, Parameter};

use crate::config;
use crate::failure::{Failure, Result};

/// One parameter's gradient sum and moments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    /// Σ over shards, of the current update.
    gradient: Vec<f32>,
    /// Running mean of the gradient.
    pub(crate) m: Vec<f32>,
    /// Running mean of its square.
    pub(crate) v: Vec<f32>,
}

/// The optimiser and its state.
#[derive(Debug)]
pub(crate) struct Optimiser {
    settings: config::Optim,
    /// In the order of the model's parameters.
    pub(crate) slots: Vec<Slot>,
    /// Updates done so far.
    pub(crate) step: usize,
}

impl Optimiser {
    pub(crate) fn new(neural: &Neural, settings: &config::Optim) -> Self {
        let slots = neural
            .parameters()
            .iter()
            .map(|parameter| {
                let zeros = vec![0.0; parameter.var.elem_count()];
                Slot { gradient: zeros.clone(), m: zeros.clone(), v: zeros }
            })
            .collect();
        Self { settings: settings.clone(), slots, step: 0 }
    }

    /// Sums the shards' gradients and returns their global norm; parameters are not touched yet.
    ///
    /// # Errors
    /// A parameter that no shard has a gradient for: something cut the graph.
    pub(crate) fn gather(&mut self, neural: &Neural, stores: &[GradStore], pool: &Pool) -> Result<f64> {
        let parameters = neural.parameters();
        let squares = pool.map_mut(&mut self.slots, |i, slot| {
            let tensor = parameters[i].var.as_tensor();
            let mut found = false;
            for store in stores {
                let Some(gradient) = store.get(tensor) else { continue };
                read(gradient, |values| {
                    if found {
                        optim::accumulate(&mut slot.gradient, values);
                    } else {
                        slot.gradient.copy_from_slice(values);
                    }
                })?;
                found = true;
            }
            if !found {
                return Err(Failure::failed(format!("no gradient reaches `{}`", parameters[i].name)));
            }
            Ok(optim::sum_of_squares(&slot.gradient))
        });
        // Summed in the parameters' order, so that the norm is the same bits for any number of threads.
        let mut total = 0.0;
        for square in squares {
            total += square?;
        }
        Ok(total.sqrt())
    }

    /// The gathered gradient of each parameter, in the parameters' order.
    pub(crate) fn gradients(&self) -> impl Iterator<Item = &[f32]> {
        self.slots.iter().map(|slot| slot.gradient.as_slice())
    }

    /// Clips to `grad_clip` by the global `norm` and updates every parameter in place.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub(crate) fn update(&mut self, neural: &Neural, lr: f64, norm: f64, pool: &Pool) -> Result<()> {
        self.step += 1;
        let settings = &self.settings;
        let clip = settings.grad_clip;
        let scale = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        let step = self.step;
        let parameters = neural.parameters();
        let results = pool.map_mut(&mut self.slots, |i, slot| -> Result<()> {
            let Parameter { decay, .. } = parameters[i];
            let rule = optim::AdamW {
                lr,
                beta1: settings.betas[0],
                beta2: settings.betas[1],
                eps: settings.eps,
                weight_decay: if decay { settings.weight_decay } else { 0.0 },
                l2: if decay { settings.l2 } else { 0.0 },
                grad_scale: scale,
                step: step as u64,
            };
            parameters[i].update(|weights| rule.update(weights, &slot.gradient, &mut slot.m, &mut slot.v))?;
            Ok(())
        });
        results.into_iter().collect()
    }
}

/// How many tensors and values are decayed, and how many not.
pub(crate) fn describe_groups(neural: &Neural, settings: &config::Optim) -> String {
    let count = |decay: bool| {
        let group = neural.parameters().iter().filter(|parameter| parameter.decay == decay);
        let (tensors, values) = group.fold((0, 0), |(t, n), p| (t + 1, n + p.var.elem_count() as u64));
        format!("{tensors} tensors, {} values", crate::output::thousands(values))
    };
    let (decayed, plain) = (count(true), count(false));
    let mut line = format!("weight decay {} on matrices and embeddings ({decayed})", settings.weight_decay);
    if settings.l2 > 0.0 {
        line.push_str(&format!(", l2 {} on the same", settings.l2));
    }
    format!("{line}, none on the rest ({plain})")
}

/// Hands a gradient's values to `f` without copying them.
fn read(tensor: &Tensor, f: impl FnOnce(&[f32])) -> Result<()> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(cpu) = &*storage else {
        return Err(Failure::failed("gradients are not in the CPU's memory"));
    };
    let values = cpu.as_slice::<f32>()?;
    f(&values[layout.start_offset()..layout.start_offset() + layout.shape().elem_count()]);
    Ok(())
}
