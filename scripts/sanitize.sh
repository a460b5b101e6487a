#!/usr/bin/env bash
# The address sanitizer over the kernels (where all `unsafe` is) and over the parsers' tests. Needs a nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! rustc +nightly --version >/dev/null 2>&1; then
  echo "SKIPPED: no nightly toolchain" >&2
  exit 0
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Named outright, so that build scripts and macros are not instrumented. rayon's threads outlive the process: no leak check.
export RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 CARGO_TARGET_DIR=target/sanitize
cargo +nightly test --target "$host" --locked -p surprisal-kernels --lib --tests
[ "${1:-}" = kernels ] || cargo +nightly test --target "$host" --locked -p surprisal-formats --lib --test mutations
