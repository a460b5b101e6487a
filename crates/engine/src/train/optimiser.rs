//! Optimizers of a model's parameters, with their state in plain vectors for checkpoints.
//!
//! Weight decay is decoupled (Loshchilov & Hutter 2019) and applies to matrices and embeddings
//! only. `l2` adds the gradient of ½·l2·‖θ‖² of the same parameters: the MAP estimate under a
//! Gaussian prior. Under Adam, which rescales gradients, the two differ. Muon is for hidden
//! matrices, beside AdamW for embeddings, head, norms and biases.

use surprisal_kernels::muon::Muon;
use surprisal_kernels::optim;
use surprisal_model::neural::{Neural, Parameter};
use surprisal_ops::Precision;
use surprisal_ops::grad_accumulator::{GradAccumulator, Gradient};
use surprisal_platform::threads::Pool;

use super::reduce::gradient;
use crate::config::{self, OptimKind};
use crate::error::{Error, Result};
use crate::events::Group;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    AdamW,
    Sgd,
    Muon,
}

impl Rule {
    fn for_parameter(kind: OptimKind, parameter: &Parameter) -> Self {
        match kind {
            OptimKind::Sgd => Self::Sgd,
            OptimKind::Muon if !parameter.hidden_matrix_rows.is_empty() => Self::Muon,
            OptimKind::AdamW | OptimKind::Muon => Self::AdamW,
        }
    }
}

/// State of one parameter; vectors that its rule does not need are empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    rule: Rule,
    /// Running mean of the gradient; for SGD its running sum.
    pub(crate) m: Vec<f32>,
    /// Running mean of its square.
    pub(crate) v: Vec<f32>,
    pub(crate) ema: Vec<f32>,
}

impl Slot {
    /// The state with the name prefixes of a checkpoint.
    pub(crate) fn state(&self) -> [(&'static str, &Vec<f32>); 3] {
        [("m.", &self.m), ("v.", &self.v), ("average.", &self.ema)]
    }

    pub(crate) fn state_mut(&mut self) -> [(&'static str, &mut Vec<f32>); 3] {
        [("m.", &mut self.m), ("v.", &mut self.v), ("average.", &mut self.ema)]
    }
}

#[derive(Debug)]
pub(crate) struct Optimiser {
    settings: config::Optim,
    precision: Precision,
    /// One for each parameter, in the model's order.
    pub(crate) slots: Vec<Slot>,
    /// The gradients of each shard of this rank; their sums are where [`gradient`] finds them.
    pub(crate) gradients: Vec<GradAccumulator>,
    pub(crate) step: usize,
}

impl Optimiser {
    pub(crate) fn new(
        neural: &Neural,
        settings: &config::Optim,
        precision: Precision,
        shards: usize,
    ) -> Result<Self> {
        let parameters = neural.parameters();
        let slot = |parameter: &Parameter| -> Result<Slot> {
            let rule = Rule::for_parameter(settings.kind, parameter);
            let zeros = |wanted: bool| vec![0.0; if wanted { parameter.var.elem_count() } else { 0 }];
            let average = if settings.ema > 0.0 { parameter.read(<[f32]>::to_vec)? } else { Vec::new() };
            Ok(Slot {
                rule,
                m: zeros(rule != Rule::Sgd || settings.momentum > 0.0),
                v: zeros(rule == Rule::AdamW),
                ema: average,
            })
        };
        let slots = parameters.iter().map(slot).collect::<Result<_>>()?;
        let shard = || GradAccumulator::new(parameters.iter().map(|parameter| parameter.var.as_tensor()));
        let gradients = (0..shards).map(|_| shard()).collect();
        Ok(Self { settings: settings.clone(), precision, slots, gradients, step: 0 })
    }

    /// The global norm of the gradients, which are summed over shards.
    ///
    /// # Errors
    /// A parameter without a gradient.
    pub(crate) fn gradient_norm(&self, neural: &Neural, pool: &Pool) -> Result<f64> {
        let parameters = neural.parameters();
        let squares = pool.map(parameters.len(), |i| match self.gradient(i) {
            Some(sum) => Ok(optim::sum_of_squares(&sum)),
            None => Err(Error::failed(format!("no gradient reaches `{}`", parameters[i].name))),
        });
        // Summed in the parameters' order, so that the norm does not depend on threads.
        let mut total = 0.0;
        for square in squares {
            total += square?;
        }
        Ok(total.sqrt())
    }

    pub(crate) fn gradient(&self, i: usize) -> Option<Gradient<'_>> {
        gradient(&self.gradients, i)
    }

    /// Clips gradients to `grad_clip` by the global `norm` and updates every parameter. `lr` is the
    /// scheduled rate; Muon's rate follows the same schedule.
    pub(crate) fn update(&mut self, neural: &Neural, lr: f64, norm: f64, pool: &Pool) -> Result<()> {
        self.step += 1;
        let Self { settings, precision, slots, gradients, step } = self;
        let clip = settings.grad_clip;
        let grad_scale = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        let step = *step;
        let parameters = neural.parameters();
        let results = pool.map_mut(slots, |i, slot| -> Result<()> {
            let parameter = &parameters[i];
            let gradient = gradient(gradients, i);
            let gradient = gradient.as_deref().unwrap_or_default();
            let weight_decay = if parameter.decay { settings.weight_decay } else { 0.0 };
            let l2 = if parameter.decay { settings.l2 } else { 0.0 };
            match slot.rule {
                Rule::AdamW => {
                    let [beta1, beta2] = settings.betas;
                    let (eps, step) = (settings.eps, step as u64);
                    let rule = optim::AdamW { lr, beta1, beta2, eps, weight_decay, l2, grad_scale, step };
                    parameter.update(|weights| rule.update(weights, gradient, &mut slot.m, &mut slot.v))?;
                }
                Rule::Sgd => {
                    let (momentum, nesterov) = (settings.momentum, settings.nesterov);
                    let rule = optim::Sgd { lr, momentum, nesterov, weight_decay, l2, grad_scale };
                    if slot.m.is_empty() {
                        let mut none = vec![0.0; gradient.len()];
                        parameter.update(|weights| rule.update(weights, gradient, &mut none))?;
                    } else {
                        parameter.update(|weights| rule.update(weights, gradient, &mut slot.m))?;
                    }
                }
                Rule::Muon => {
                    let rule = Muon {
                        lr: lr / settings.lr * settings.muon_lr,
                        momentum: settings.momentum,
                        weight_decay,
                        grad_scale,
                        precision: *precision,
                    };
                    let columns = parameter.var.dims()[1];
                    parameter.update(|weights| {
                        rule.update(weights, gradient, &mut slot.m, columns, &parameter.hidden_matrix_rows);
                    })?;
                }
            }
            if settings.ema > 0.0 {
                // EMA warm-up: otherwise the initial weights would dominate for long.
                let decay = settings.ema.min((1.0 + step as f64) / (10.0 + step as f64));
                parameter.read(|weights| optim::ema_update(&mut slot.ema, weights, decay))?;
            }
            Ok(())
        });
        results.into_iter().collect()
    }

    /// Swaps the weights with their running means, if there are any; a second call swaps them back.
    pub(crate) fn swap_ema(&mut self, neural: &Neural) -> Result<()> {
        for (parameter, slot) in neural.parameters().iter().zip(&mut self.slots) {
            if !slot.ema.is_empty() {
                parameter.update(|weights| weights.swap_with_slice(&mut slot.ema))?;
            }
        }
        Ok(())
    }
}

/// Groups of parameters: with decay, without, and those that Muon updates.
pub(crate) fn groups(neural: &Neural, settings: &config::Optim) -> (Group, Group, Option<Group>) {
    let group = |which: &dyn Fn(&Parameter) -> bool| {
        let group = neural.parameters().iter().filter(|parameter| which(parameter));
        let (tensors, values) = group.fold((0, 0), |(t, n), p| (t + 1, n + p.var.elem_count() as u64));
        Group { tensors, values }
    };
    let muon = (settings.kind == OptimKind::Muon)
        .then(|| group(&|p| Rule::for_parameter(OptimKind::Muon, p) == Rule::Muon));
    (group(&|p| p.decay), group(&|p| !p.decay), muon)
}
