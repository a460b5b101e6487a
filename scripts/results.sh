#!/usr/bin/env bash
# Reproduces the results table of scripts/README.md: one row per model on the embedded stories, and, where a copy of
# tinyshakespeare is given as the first argument, nanoGPT's laptop recipe over three seeds.
#
#   scripts/results.sh [path/to/tinyshakespeare.txt]
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
row() { # name, config, settings...
  local name=$1; shift
  local line
  line=$(./target/release/surprisal train "$@" --out "$out/$RANDOM$RANDOM" --json --quiet | tail -n 1)
  python3 - "$name" "$line" <<'PY'
import json, sys
name, line = sys.argv[1], json.loads(sys.argv[2])
e = line["eval"]
number = lambda x, f: format(x, f) if x is not None else "inf"
gap = number(e["kl"], "+.4f") if e.get("kl") is not None else ""
print(f"| {name} | {line['parameters']:,} | {number(e['nats_per_token'], '.4f')} | {number(e['perplexity'], '.3f')} | "
      f"{number(e['bits_per_byte'], '.4f')} | {gap} | {line['train_seconds']:.1f} s |", flush=True)
PY
}
echo '| model | parameters | nats per token | perplexity | bits per byte | gap to H(p) | training |'
echo '|---|---|---|---|---|---|---|'
row 'bigram, counted (MLE)' configs/bigram_mle.toml
row 'bigram, trained' configs/bigram_neural.toml
row '5-gram, add-0.01' configs/bigram_mle.toml --set model.order=5 --set model.smoothing=add_k --set model.k=0.01
row '6-gram, Dirichlet' configs/char_dirichlet.toml
row '6-gram, Kneser-Ney' configs/char_kn6.toml
row 'MLP, 8 characters' configs/mlp.toml
row 'LSTM' configs/lstm.toml
row 'GRU' configs/gru.toml
row 'transformer' configs/default.toml
row 'transformer, label smoothing 0.1' configs/default.toml --set loss.label_smoothing=0.1
if [ $# -ge 1 ]; then
  for seed in 1 2 3; do
    row "tinyshakespeare, shakespeare_char_cpu, seed $seed" configs/shakespeare_char_cpu.toml "$1" --set train.seed=$seed
  done
fi
