//! Access to a tensor's elements as a slice, without a copy on the CPU.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};

/// Calls `f` with the elements of an f32 variable on the CPU, mutable and in row-major order.
///
/// # Errors
/// A variable of another type or device, or an error of candle.
pub fn update(var: &Var, f: impl FnOnce(&mut [f32])) -> Result<()> {
    var.as_tensor().inplace_op1(&Update(RefCell::new(Some(f))))
}

/// Calls `f` with the elements of an f32 tensor, in row-major order.
///
/// # Errors
/// A tensor of another type, or an error of candle.
pub fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    // Strided tensors, such as gradients of transposed weights, and other devices need a copy.
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    if let Storage::Cpu(CpuStorage::F32(values)) = &*storage
        && let Some((start, end)) = layout.contiguous_offsets()
    {
        return Ok(f(&values[start..end]));
    }
    drop(storage);
    Ok(f(&tensor.flatten_all()?.to_vec1::<f32>()?))
}

/// Runs a closure once on the storage, which candle makes mutable only for an operation.
struct Update<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Update<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { bail!("update: the variable is not f32") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("update: the variable is not contiguous")
        };
        if let Some(f) = self.0.take() {
            f(&mut values[start..end]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn changes_and_reads_without_moving() {
        let var = Var::from_vec(vec![1f32, 2.0, 3.0, 4.0], (2, 2), &Device::Cpu).unwrap();
        update(&var, |v| v[3] = 7.0).unwrap();
        assert_eq!(read(&var, <[f32]>::to_vec).unwrap(), [1.0, 2.0, 3.0, 7.0]);
        assert_eq!(read(&var.t().unwrap(), <[f32]>::to_vec).unwrap(), [1.0, 3.0, 2.0, 7.0]);
        assert_eq!(read(&var.narrow(0, 1, 1).unwrap(), <[f32]>::to_vec).unwrap(), [3.0, 7.0]);
    }

    #[test]
    fn refuses_other_types() {
        let var = Var::zeros(3, DType::F64, &Device::Cpu).unwrap();
        assert!(update(&var, |_| ()).is_err());
        assert!(read(&var, |_| ()).is_err());
    }
}
