//! Gradients of parameters, summed where they are made.
//!
//! The tensor library's own way with a gradient is a tensor of zeros, a sum with it, and a third tensor for the result, for each
//! use of each parameter. Inside [`Gradients::collect`] the fused operations add theirs in place to buffers that live as long as
//! the training run; what plain operations leave in the library's store is added by [`Gradients::absorb`].

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};
use surprisal_kernels::optim::accumulate;

use crate::inplace::read;

/// One buffer a parameter.
#[derive(Debug, Default)]
pub struct Gradients {
    ids: Vec<TensorId>,
    buffers: Vec<Buffer>,
}

/// A gradient, or what is left of the last step's.
#[derive(Debug, Default)]
struct Buffer {
    values: Vec<f32>,
    filled: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Gradients>> = const { RefCell::new(None) };
}

impl Gradients {
    /// Empty buffers for `parameters`, in their order.
    pub fn new<'a>(parameters: impl IntoIterator<Item = &'a Tensor>) -> Self {
        let buffer = |p: &Tensor| Buffer { values: vec![0.0; p.elem_count()], filled: false };
        let (ids, buffers) = parameters.into_iter().map(|p| (p.id(), buffer(p))).unzip();
        Self { ids, buffers }
    }

    /// Runs `f`, on this thread; backward passes within it leave gradients here.
    pub fn collect<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let outer = CURRENT.replace(Some(std::mem::take(self)));
        let result = f();
        if let Some(own) = CURRENT.replace(outer) {
            *self = own;
        }
        result
    }

    /// Adds what is in `store`.
    ///
    /// # Errors
    /// A failure of the tensor library.
    pub fn absorb(&mut self, store: &GradStore) -> Result<()> {
        for (&id, buffer) in self.ids.iter().zip(&mut self.buffers) {
            if let Some(gradient) = store.get_id(id) {
                read(gradient, |values| buffer.add(values))?;
            }
        }
        Ok(())
    }

    /// Forgets all gradients; the memory stays.
    pub fn clear(&mut self) {
        for buffer in &mut self.buffers {
            buffer.filled = false;
        }
    }

    /// The gradient of each parameter in order; `None` where nothing has arrived.
    pub fn each_mut(&mut self) -> Vec<Option<&mut [f32]>> {
        self.buffers.iter_mut().map(|b| b.filled.then_some(b.values.as_mut_slice())).collect()
    }

    /// The gradient of parameter `i`, if one has arrived.
    pub fn get(&self, i: usize) -> Option<&[f32]> {
        self.buffers.get(i).filter(|buffer| buffer.filled).map(|buffer| buffer.values.as_slice())
    }
}

impl Buffer {
    fn add(&mut self, values: &[f32]) {
        if self.filled {
            accumulate(&mut self.values, values);
        } else {
            self.values.copy_from_slice(values);
            self.filled = true;
        }
    }
}

/// Whether gradients of `parameter` are collected on this thread.
pub(crate) fn collected(parameter: &Tensor) -> bool {
    CURRENT.with_borrow(|current| current.as_ref().is_some_and(|all| all.ids.contains(&parameter.id())))
}

/// Lets `f` make the gradient of `parameter`: it adds to the slice if it is told so, else overwrites it. Where the gradient is
/// collected there is nothing more to hand on; else it is returned.
pub(crate) fn make(parameter: &Tensor, f: impl FnOnce(&mut [f32], bool)) -> Result<Option<Tensor>> {
    let mut f = Some(f);
    CURRENT.with_borrow_mut(|current| {
        let Some(all) = current else { return };
        if let Some(at) = all.ids.iter().position(|&id| id == parameter.id())
            && let Some(f) = f.take()
        {
            let buffer = &mut all.buffers[at];
            f(&mut buffer.values, buffer.filled);
            buffer.filled = true;
        }
    });
    let Some(f) = f else { return Ok(None) };
    let mut values = vec![0.0; parameter.elem_count()];
    f(&mut values, false);
    Ok(Some(Tensor::from_vec(values, parameter.shape(), parameter.device())?))
}

/// [`make`] for an `f` that only adds.
pub(crate) fn add_to(parameter: &Tensor, f: impl FnOnce(&mut [f32])) -> Result<Option<Tensor>> {
    make(parameter, |values, add| {
        if !add {
            values.fill(0.0);
        }
        f(values);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn what_is_collected_is_what_the_store_would_hold() {
        let var = |values: &[f32], shape: (usize, usize)| {
            Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
        };
        let (w, plain) = (var(&[1.0, -2.0, 0.5, 3.0], (2, 2)), var(&[2.0, 5.0], (1, 2)));
        let x = Tensor::new(&[[1.0f32, 2.0], [3.0, -1.0], [0.5, 0.5]], &Device::Cpu).unwrap();
        // Twice through the same weights, and once through a plain operation.
        let loss = || {
            let hidden = crate::linear(&crate::linear(&x, &w, None)?, &w, None)?;
            hidden.broadcast_mul(&plain)?.sum_all()
        };
        let store = loss().unwrap().backward().unwrap();
        let mut gradients = Gradients::new([w.as_tensor(), plain.as_tensor()]);
        for rounds in [1.0, 2.0] {
            let left = gradients.collect(|| loss().unwrap().backward().unwrap());
            assert!(left.get(&w).is_none(), "the store gets nothing that is collected");
            gradients.absorb(&left).unwrap();
            for (i, parameter) in [&w, &plain].into_iter().enumerate() {
                let expected = store.get(parameter).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                for (got, want) in gradients.get(i).unwrap().iter().zip(expected) {
                    assert!((got - rounds * want).abs() < 1e-5, "{got} for {rounds} · {want}");
                }
            }
        }
        gradients.clear();
        assert!(gradients.get(0).is_none() && gradients.each_mut()[1].is_none());
    }
}
