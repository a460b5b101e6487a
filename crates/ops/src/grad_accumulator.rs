//! Gradient accumulation in buffers that live as long as the training run.
//!
//! candle allocates two tensors and sums them for each use of each parameter. With
//! [`Backward::Accumulate`](crate::Backward::Accumulate), the fused operations add in place;
//! [`GradAccumulator::add_grad_store`] adds those that other operations left in candle's store.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};
use surprisal_kernels::optim::accumulate;

use crate::buffer_pool::lend;
use crate::tensor_slice::read;

/// Gradient buffers, one per parameter; clones share them.
///
/// Sums follow the order of backward passes, so reproducible bits need one accumulator per shard.
#[derive(Debug, Clone)]
pub struct GradAccumulator(Arc<Shard>);

#[derive(Debug)]
struct Shard {
    gradients: Box<[(TensorId, Mutex<Buffer>)]>,
    /// Free buffers of the shard's steps.
    free: Mutex<Vec<Vec<f32>>>,
}

/// A gradient; if not `filled`, the values are those of an earlier step.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    filled: bool,
}

/// A locked gradient; backward passes wait until it is dropped.
#[derive(Debug)]
pub struct Gradient<'a>(MutexGuard<'a, Buffer>);

impl GradAccumulator {
    /// Empty buffers for `parameters`, in their order.
    pub fn new<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let buffer = |p: &Tensor| Buffer { values: vec![0.0; p.elem_count()], filled: false };
        let gradients = parameters.into_iter().map(|p| (p.id(), Mutex::new(buffer(p)))).collect();
        Self(Arc::new(Shard { gradients, free: Mutex::default() }))
    }

    /// Runs `step`, whose temporaries are this shard's own and stay with it for its next step.
    pub fn with_buffers<R>(&self, step: impl FnOnce() -> R) -> R {
        lend(&self.0.free, step)
    }

    /// Adds the gradients of `store`, which candle's `backward` returned.
    ///
    /// # Errors
    /// An error of candle.
    pub fn add_grad_store(&self, store: &GradStore) -> Result<()> {
        for (id, buffer) in &self.0.gradients {
            if let Some(gradient) = store.get_id(*id) {
                read(gradient, |values| lock(buffer).add(values))?;
            }
        }
        Ok(())
    }

    /// Marks all gradients as missing; keeps the memory.
    pub fn zero_grad(&self) {
        for (_, buffer) in &self.0.gradients {
            lock(buffer).filled = false;
        }
    }

    /// The gradient of parameter `i`, if there is one.
    pub fn get(&self, i: usize) -> Option<Gradient<'_>> {
        let (_, buffer) = self.0.gradients.get(i)?;
        Some(lock(buffer)).filter(|buffer| buffer.filled).map(Gradient)
    }

    /// Adds `values` to the gradient of parameter `i`, if there is such a parameter.
    ///
    /// # Panics
    /// If the parameter has another number of values.
    pub fn add(&self, i: usize, values: &[f32]) {
        if let Some((_, buffer)) = self.0.gradients.get(i) {
            lock(buffer).add(values);
        }
    }

    /// Whether there is a buffer for `parameter`.
    pub(crate) fn contains(&self, parameter: &Tensor) -> bool {
        self.0.gradients.iter().any(|(id, _)| *id == parameter.id())
    }

    /// The buffer for `parameter`.
    pub(crate) fn buffer(&self, parameter: &Tensor) -> Option<MutexGuard<'_, Buffer>> {
        self.0.gradients.iter().find(|(id, _)| *id == parameter.id()).map(|(_, buffer)| lock(buffer))
    }
}

/// Locks a buffer, also after a panic: every step begins with [`GradAccumulator::zero_grad`].
fn lock(buffer: &Mutex<Buffer>) -> MutexGuard<'_, Buffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    /// Calls `f(values, add)`, which adds to the values if `add`, else overwrites them.
    pub(crate) fn accumulate(&mut self, f: impl FnOnce(&mut [f32], bool)) {
        f(&mut self.values, self.filled);
        self.filled = true;
    }

    fn add(&mut self, values: &[f32]) {
        self.accumulate(|sum, add| if add { accumulate(sum, values) } else { sum.copy_from_slice(values) });
    }
}

impl Deref for Gradient<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0.values
    }
}

impl DerefMut for Gradient<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backward, Context};
    use candle_core::{DType, Device, Var};

    #[test]
    fn accumulated_gradients_are_those_of_the_store() {
        let var = |values: &[f32], shape: (usize, usize)| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let (w, plain) = (var(&[1.0, -2.0, 0.5, 3.0], (2, 2)), var(&[2.0, 5.0], (1, 2)));
        let x = Tensor::new(&[[1.0f32, 2.0], [3.0, -1.0], [0.5, 0.5]], &Device::Cpu).unwrap();
        // Twice through the same weights, and once through a plain operation.
        let loss = |context: &Context| {
            let hidden = crate::linear(context, &crate::linear(context, &x, &w, None)?, &w, None)?;
            hidden.broadcast_mul(&plain)?.sum_all()
        };
        let store = loss(&Context::default()).unwrap().backward().unwrap();
        let gradients = GradAccumulator::new([w.as_tensor(), plain.as_tensor()]);
        let context = Context { backward: Backward::Accumulate(gradients.clone()), ..Context::default() };
        for rounds in [1.0, 2.0] {
            let left = loss(&context).unwrap().backward().unwrap();
            assert!(left.get(&w).is_none(), "accumulated gradients are not in the store");
            gradients.add_grad_store(&left).unwrap();
            for (i, parameter) in [&w, &plain].into_iter().enumerate() {
                let expected = store.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (got, want) in gradients.get(i).unwrap().iter().zip(expected) {
                    assert!((got - rounds * want).abs() < 1e-5, "{got} for {rounds} · {want}");
                }
            }
        }
        gradients.zero_grad();
        assert!(gradients.get(0).is_none() && gradients.get(1).is_none());
    }

    #[test]
    fn a_panic_in_a_step_spoils_no_later_one() {
        let parameter = Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap();
        let gradients = GradAccumulator::new([&parameter]);
        let context = Context { backward: Backward::Accumulate(gradients.clone()), ..Context::default() };
        let step = || context.accumulate_grad(&parameter, |_, _| panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)).is_err());
        gradients.zero_grad();
        assert!(context.add_to_grad(&parameter, |sum| sum[1] += 3.0).unwrap().is_none());
        assert_eq!(*gradients.get(0).unwrap(), [0.0, 3.0]);
    }
}
