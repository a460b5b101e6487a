//! The recurrence of an LSTM or a GRU layer, and back-propagation through it.
//!
//! Gates, their order and their biases are PyTorch's. With the input's share x = W_ih x_t + b_ih
//! and the state's share s = W_hh h + b_hh, both in one part of width H per gate:
//!
//! ```text
//! LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000), gates i f g o:
//!   i, f, o = σ(x + s)    g = tanh(x + s)    c' = f c + i g    h' = o tanh(c')
//! GRU (Cho et al. 2014, with the reset after the product), gates r z n:
//!   r, z = σ(x + s)       n = tanh(x + r s)                    h' = (1 − z) n + z h
//! ```
//!
//! Arrays are ordered by time, then by row: a step is contiguous.

use pulp::{Simd, WithSimd};

use crate::exp::{sigmoid, tanh_with_derivative};
use crate::matmul::{Matrix, MatrixMut, Packed, gemv};
use crate::simd::Isa;

/// A kind of recurrent layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory.
    Lstm,
    /// Gated recurrent unit.
    Gru,
}

impl Cell {
    /// The number of gates G.
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
        }
    }

    /// The vectors of a state: h, and for an LSTM c.
    pub fn states(self) -> usize {
        match self {
            Self::Lstm => 2,
            Self::Gru => 1,
        }
    }
}

/// The sizes of a recurrence over B rows and T steps.
#[derive(Debug, Clone, Copy)]
pub struct Recurrence {
    /// The layer's kind.
    pub cell: Cell,
    /// B.
    pub rows: usize,
    /// T.
    pub steps: usize,
    /// H.
    pub width: usize,
}

impl Recurrence {
    /// The elements of one state vector of all rows, B·H.
    fn state(self) -> usize {
        self.rows * self.width
    }

    fn check(self, weight: &[f32], gates: &[f32], states: [&[f32]; 2]) {
        assert_eq!(weight.len(), self.cell.gates() * self.width * self.width, "weight_hh");
        assert_eq!(gates.len(), self.steps * self.cell.gates() * self.state(), "gates");
        assert!(states.iter().all(|s| s.len() == (self.steps + 1) * self.state()), "states");
    }

    /// All steps. `weight` (G·H, H) and `bias` (G·H) are those of the state's share. `gates` (T, B,
    /// G·H) holds the input's share and becomes the gates. `h` (T + 1, B, H) begins with the state
    /// before the first step and is filled with the states after each. So is `inner`, with c, for
    /// an LSTM; for a GRU its last T blocks become the state's share of n.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn forward(self, weight: &[f32], bias: &[f32], gates: &mut [f32], h: &mut [f32], inner: &mut [f32]) {
        self.check(weight, gates, [h, inner]);
        let Self { cell, rows, width, .. } = self;
        let (state, isa) = (self.state(), Isa::current());
        let all = cell.gates() * width;
        let matrix = Matrix::new(weight, all, width).transposed();
        // With one row each step is a gemv, which needs no packing.
        let packed = (rows > 1).then(|| Packed::new(matrix));
        let add_product = |h: &[f32], into: &mut [f32]| match &packed {
            None => gemv(weight, h, into),
            Some(packed) => {
                packed.matmul(MatrixMut::new(into, rows, all), true, Matrix::new(h, rows, width));
            }
        };
        let mut share = vec![0.0; if cell == Cell::Gru { rows * all } else { 0 }];
        for (t, gates) in gates.chunks_exact_mut(rows * all).enumerate() {
            let (h, h_next) = h[t * state..(t + 2) * state].split_at_mut(state);
            let (c, inner) = inner[t * state..(t + 2) * state].split_at_mut(state);
            match cell {
                Cell::Lstm => {
                    add_product(h, gates);
                    isa.run(LstmForward { width, bias, gates, c, c_next: inner, h_next });
                }
                Cell::Gru => {
                    share.fill(0.0);
                    add_product(h, &mut share);
                    isa.run(GruForward { width, bias, gates, share: &share, h, inner, h_next });
                }
            }
        }
    }

    /// The gradients of both shares, from what [`Self::forward`] left in `gates`, `h` and `inner`.
    /// `dh` (T + 1, B, H) holds the gradients of the states after each step in its last T blocks,
    /// and is used up. `dgates` (T, B, G·H) becomes the gradient of the input's share, and for a
    /// GRU `dshare` that of the state's share; for an LSTM they are the same, and `dshare` is
    /// empty. The state before the first step gets no gradient: back-propagation is truncated
    /// there.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    #[expect(clippy::too_many_arguments, reason = "the arrays of a recurrence and their gradients")]
    pub fn backward(
        self,
        weight: &[f32],
        gates: &[f32],
        h: &[f32],
        inner: &[f32],
        dh: &mut [f32],
        dgates: &mut [f32],
        dshare: &mut [f32],
    ) {
        self.check(weight, gates, [h, inner]);
        self.check(weight, dgates, [dh, inner]);
        let Self { cell, rows, steps, width } = self;
        let (state, isa) = (self.state(), Isa::current());
        let all = cell.gates() * width;
        assert_eq!(dshare.len(), if cell == Cell::Gru { dgates.len() } else { 0 }, "dshare");
        let packed = Packed::new(Matrix::new(weight, all, width));
        let mut dc = vec![0.0; if cell == Cell::Lstm { state } else { 0 }];
        for t in (0..steps).rev() {
            let of = |step: usize| step * rows * all..(step + 1) * rows * all;
            let (dh_before, dh) = dh[t * state..(t + 2) * state].split_at_mut(state);
            let (before, after) = (t * state..(t + 1) * state, (t + 1) * state..(t + 2) * state);
            let (gates, dgates) = (&gates[of(t)], &mut dgates[of(t)]);
            let dshare = match cell {
                Cell::Lstm => {
                    let (c, c_next) = (&inner[before], &inner[after]);
                    isa.run(LstmBackward { width, gates, c, c_next, dh, dc: &mut dc, dgates });
                    dgates
                }
                Cell::Gru => {
                    let (h, inner, dshare) = (&h[before], &inner[after], &mut dshare[of(t)]);
                    isa.run(GruBackward { width, gates, h, inner, dh, dh_before, dgates, dshare });
                    dshare
                }
            };
            if t > 0 {
                let into = MatrixMut::new(dh_before, rows, width);
                packed.matmul(into, true, Matrix::new(dshare, rows, all));
            }
        }
    }
}

/// Index range (from, to) of a vector or of the last elements of a part.
type Lanes = (usize, usize);

/// Index range of elements `at..` of part `part`, where parts have `width` elements.
#[inline(always)]
fn lanes<S: Simd>(width: usize, part: usize, at: usize) -> Lanes {
    (part * width + at, part * width + width.min(at + S::F32_LANES))
}

/// A whole vector, or the last elements of a part.
#[inline(always)]
fn load<S: Simd>(simd: S, xs: &[f32], (from, to): Lanes) -> S::f32s {
    match S::as_simd_f32s(&xs[from..to]) {
        ([whole], _) => *whole,
        (_, tail) => simd.partial_load_f32s(tail),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, xs: &mut [f32], (from, to): Lanes, value: S::f32s) {
    match S::as_mut_simd_f32s(&mut xs[from..to]) {
        ([whole], _) => *whole = value,
        (_, tail) => simd.partial_store_f32s(tail, value),
    }
}

/// 1 − x.
#[inline(always)]
fn rest<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.sub_f32s(simd.splat_f32s(1.0), x)
}

/// dy σ (1 − σ): the gradient through y = σ(x).
#[inline(always)]
fn through_sigmoid<S: Simd>(simd: S, sigma: S::f32s, dy: S::f32s) -> S::f32s {
    simd.mul_f32s(dy, simd.mul_f32s(sigma, rest(simd, sigma)))
}

/// dy (1 − y²): the gradient through y = tanh(x).
#[inline(always)]
fn through_tanh<S: Simd>(simd: S, y: S::f32s, dy: S::f32s) -> S::f32s {
    simd.mul_f32s(dy, rest(simd, simd.mul_f32s(y, y)))
}

struct LstmForward<'a> {
    width: usize,
    bias: &'a [f32],
    gates: &'a mut [f32],
    c: &'a [f32],
    c_next: &'a mut [f32],
    h_next: &'a mut [f32],
}

impl WithSimd for LstmForward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { width, bias, gates, c, c_next, h_next } = self;
        for (row, gates) in gates.chunks_exact_mut(4 * width).enumerate() {
            for at in (0..width).step_by(S::F32_LANES) {
                let of: [_; 4] = std::array::from_fn(|part| lanes::<S>(width, part, at));
                let here = lanes::<S>(width, row, at);
                let mut a = [simd.splat_f32s(0.0); 4];
                for (a, of) in a.iter_mut().zip(of) {
                    *a = simd.add_f32s(load(simd, gates, of), load(simd, bias, of));
                }
                let (i, f, o) = (sigmoid(simd, a[0]).0, sigmoid(simd, a[1]).0, sigmoid(simd, a[3]).0);
                let g = tanh_with_derivative(simd, a[2]).0;
                for (of, gate) in of.into_iter().zip([i, f, g, o]) {
                    store(simd, gates, of, gate);
                }
                let c = simd.mul_add_e_f32s(f, load(simd, c, here), simd.mul_f32s(i, g));
                store(simd, c_next, here, c);
                store(simd, h_next, here, simd.mul_f32s(o, tanh_with_derivative(simd, c).0));
            }
        }
    }
}

struct LstmBackward<'a> {
    width: usize,
    gates: &'a [f32],
    c: &'a [f32],
    c_next: &'a [f32],
    dh: &'a [f32],
    dc: &'a mut [f32],
    dgates: &'a mut [f32],
}

impl WithSimd for LstmBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { width, gates, c, c_next, dh, dc, dgates } = self;
        let rows = gates.chunks_exact(4 * width).zip(dgates.chunks_exact_mut(4 * width));
        for (row, (gates, dgates)) in rows.enumerate() {
            for at in (0..width).step_by(S::F32_LANES) {
                let of: [_; 4] = std::array::from_fn(|part| lanes::<S>(width, part, at));
                let here = lanes::<S>(width, row, at);
                let mut gate = [simd.splat_f32s(0.0); 4];
                for (gate, of) in gate.iter_mut().zip(of) {
                    *gate = load(simd, gates, of);
                }
                let [i, f, g, o] = gate;
                let (tanh, slope) = tanh_with_derivative(simd, load(simd, c_next, here));
                let dh = load(simd, dh, here);
                let through = simd.mul_f32s(simd.mul_f32s(dh, o), slope);
                let dcell = simd.add_f32s(load(simd, dc, here), through);
                let di = through_sigmoid(simd, i, simd.mul_f32s(dcell, g));
                let df = through_sigmoid(simd, f, simd.mul_f32s(dcell, load(simd, c, here)));
                let dg = through_tanh(simd, g, simd.mul_f32s(dcell, i));
                let d_o = through_sigmoid(simd, o, simd.mul_f32s(dh, tanh));
                for (of, gradient) in of.into_iter().zip([di, df, dg, d_o]) {
                    store(simd, dgates, of, gradient);
                }
                store(simd, dc, here, simd.mul_f32s(dcell, f));
            }
        }
    }
}

struct GruForward<'a> {
    width: usize,
    bias: &'a [f32],
    gates: &'a mut [f32],
    share: &'a [f32],
    h: &'a [f32],
    inner: &'a mut [f32],
    h_next: &'a mut [f32],
}

impl WithSimd for GruForward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { width, bias, gates, share, h, inner, h_next } = self;
        let rows = gates.chunks_exact_mut(3 * width).zip(share.chunks_exact(3 * width));
        for (row, (gates, share)) in rows.enumerate() {
            for at in (0..width).step_by(S::F32_LANES) {
                let of: [_; 3] = std::array::from_fn(|part| lanes::<S>(width, part, at));
                let here = lanes::<S>(width, row, at);
                let mut a = [simd.splat_f32s(0.0); 3];
                for (a, of) in a.iter_mut().zip(of) {
                    *a = simd.add_f32s(load(simd, share, of), load(simd, bias, of));
                }
                store(simd, inner, here, a[2]);
                let [r_of, z_of, n_of] = of;
                let r = sigmoid(simd, simd.add_f32s(a[0], load(simd, gates, r_of))).0;
                let (z, keep) = sigmoid(simd, simd.add_f32s(a[1], load(simd, gates, z_of)));
                let n = tanh_with_derivative(simd, simd.mul_add_e_f32s(r, a[2], load(simd, gates, n_of))).0;
                for (of, gate) in [(r_of, r), (z_of, z), (n_of, n)] {
                    store(simd, gates, of, gate);
                }
                let old = simd.mul_f32s(z, load(simd, h, here));
                store(simd, h_next, here, simd.mul_add_e_f32s(keep, n, old));
            }
        }
    }
}

struct GruBackward<'a> {
    width: usize,
    gates: &'a [f32],
    h: &'a [f32],
    inner: &'a [f32],
    dh: &'a [f32],
    dh_before: &'a mut [f32],
    dgates: &'a mut [f32],
    dshare: &'a mut [f32],
}

impl WithSimd for GruBackward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { width, gates, h, inner, dh, dh_before, dgates, dshare } = self;
        let gradients = dgates.chunks_exact_mut(3 * width).zip(dshare.chunks_exact_mut(3 * width));
        for (row, (gates, (dgates, dshare))) in gates.chunks_exact(3 * width).zip(gradients).enumerate() {
            for at in (0..width).step_by(S::F32_LANES) {
                let [r_of, z_of, n_of] = std::array::from_fn(|part| lanes::<S>(width, part, at));
                let here = lanes::<S>(width, row, at);
                let (r, z) = (load(simd, gates, r_of), load(simd, gates, z_of));
                let n = load(simd, gates, n_of);
                let dh = load(simd, dh, here);
                let dn = through_tanh(simd, n, simd.mul_f32s(dh, rest(simd, z)));
                let apart = simd.sub_f32s(load(simd, h, here), n);
                let dz = through_sigmoid(simd, z, simd.mul_f32s(dh, apart));
                let dr = through_sigmoid(simd, r, simd.mul_f32s(dn, load(simd, inner, here)));
                for (of, gradient) in [(r_of, dr), (z_of, dz), (n_of, dn)] {
                    store(simd, dgates, of, gradient);
                }
                for (of, gradient) in [(r_of, dr), (z_of, dz), (n_of, simd.mul_f32s(dn, r))] {
                    store(simd, dshare, of, gradient);
                }
                let before = simd.mul_add_e_f32s(dh, z, load(simd, dh_before, here));
                store(simd, dh_before, here, before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::with_isa;
    use crate::testing::numbers;

    /// The weights and bias of the state's share, the input's share x, the state (B, states·H)
    /// before the first step, and the gradients of the states after each.
    fn arguments(sizes: Recurrence) -> [Vec<f32>; 5] {
        let Recurrence { cell, rows, steps, width } = sizes;
        let all = cell.gates() * width;
        let lengths =
            [all * width, all, steps * rows * all, rows * cell.states() * width, steps * rows * width];
        let mut seed = 0;
        lengths.map(|length| {
            seed += 1;
            numbers(length, seed)
        })
    }

    /// The sum of `out` times the states after all steps, the gradient of the input's share, and
    /// that of the state's share.
    fn run(sizes: Recurrence, [weight, bias, x, state, out]: &[Vec<f32>; 5]) -> (f64, Vec<f32>, Vec<f32>) {
        let Recurrence { cell, rows, steps, width } = sizes;
        let block = rows * width;
        let mut gates = x.clone();
        let [mut h, mut inner, mut dh] = std::array::from_fn(|_| vec![0.0; (steps + 1) * block]);
        for (row, state) in state.chunks_exact(cell.states() * width).enumerate() {
            h[row * width..(row + 1) * width].copy_from_slice(&state[..width]);
            inner[row * width..(row + 1) * width].copy_from_slice(&state[state.len() - width..]);
        }
        sizes.forward(weight, bias, &mut gates, &mut h, &mut inner);
        let sum = h[block..].iter().zip(out).map(|(h, out)| f64::from(*h) * f64::from(*out)).sum();
        dh[block..].copy_from_slice(out);
        let mut dgates = vec![0.0; x.len()];
        let mut dshare = vec![0.0; if cell == Cell::Gru { x.len() } else { 0 }];
        sizes.backward(weight, &gates, &h, &inner, &mut dh, &mut dgates, &mut dshare);
        let dshare = if cell == Cell::Gru { dshare } else { dgates.clone() };
        (sum, dgates, dshare)
    }

    #[test]
    fn portable_bits_are_the_same_everywhere() {
        let mut bits = 0_u64;
        for (cell, rows) in [(Cell::Lstm, 1), (Cell::Lstm, 3), (Cell::Gru, 1), (Cell::Gru, 3)] {
            let sizes = Recurrence { cell, rows, steps: 4, width: 7 };
            let (sum, dgates, dshare) = with_isa(Isa::PORTABLE, || run(sizes, &arguments(sizes)));
            for value in [sum].into_iter().chain(dgates.into_iter().chain(dshare).map(f64::from)) {
                bits = bits.rotate_left(5) ^ value.to_bits();
            }
        }
        assert_eq!(bits, 0xa221_f6e4_f697_b817, "{bits:#x}");
    }
}
