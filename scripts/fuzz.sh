#!/usr/bin/env bash
# Fuzzes one parser with libFuzzer:  scripts/fuzz.sh TARGET [SECONDS]
#
# Targets: safetensors manifest hf_config tokenizer text doors ngram infinigram arpa kenlm counts counts_tsv config (crates/fuzz). Needs no cargo-fuzz: the
# coverage counters are LLVM's own pass, which a stable compiler has, too. With a nightly one the address sanitizer is on.
set -euo pipefail
cd "$(dirname "$0")/../crates/fuzz"
target=${1:?a target: safetensors manifest hf_config tokenizer text doors ngram infinigram arpa kenlm counts counts_tsv config}
seconds=${2:-60}
seeds=seeds/$target
[ "$target" = config ] && seeds=../../configs
[ "$target" = kenlm ] && seeds=../formats/tests/fixtures/kenlm
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions"
toolchain=
if rustc +nightly --version >/dev/null 2>&1; then
  toolchain=+nightly
  flags="$flags -Zsanitizer=address"
else
  echo "no nightly toolchain: without the address sanitizer" >&2
fi
host=$(rustc -vV | sed -n 's/^host: //p')
# Named outright, so that build scripts are not instrumented.
RUSTFLAGS=$(echo $flags) cargo $toolchain build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" artifacts
exec "target/$host/release/$target" "corpus/$target" "$seeds" \
  -max_total_time="$seconds" -artifact_prefix=artifacts/ -rss_limit_mb=2048 -timeout=5 -max_len=65536 -print_final_stats=1
