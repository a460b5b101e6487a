#!/usr/bin/env bash
# Miri and the address sanitizer over the kernels (where all `unsafe` is), and the sanitizer over the parsers' tests.
# Needs a nightly toolchain; without it, or without its Miri, the part is skipped aloud.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! rustc +nightly --version >/dev/null 2>&1; then
  echo "SKIPPED: no nightly toolchain" >&2
  exit 0
fi
if cargo +nightly miri --version >/dev/null 2>&1; then
  # The portable paths: Miri offers no AVX. Sweeps over millions of numbers are left out, they would take hours.
  # crossbeam's pointers (below rayon) want Tree Borrows, and rayon's threads outlive main.
  MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-tree-borrows -Zmiri-ignore-leaks" CARGO_TARGET_DIR=target/miri \
    cargo +nightly miri test --locked -p surprisal-kernels -p surprisal-platform --lib -- \
    --skip exp_is_within --skip exp_nonpositive --skip tanh_is_within
else
  echo "SKIPPED: Miri is not installed (rustup component add miri rust-src --toolchain nightly)" >&2
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Named outright, so that build scripts and macros are not instrumented. rayon's threads outlive the process: no leak check.
export RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=target/sanitize
cargo +nightly test --target "$host" --locked -p surprisal-kernels -p surprisal-platform --lib --tests
[ "${1:-}" = kernels ] || cargo +nightly test --target "$host" --locked -p surprisal-formats --lib --test it
