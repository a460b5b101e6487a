#!/usr/bin/env bash
# N-gram models on tinyshakespeare, the last tenth of it held back: discounts by formula and tuned, characters and words.
#
#   scripts/ngram_results.sh path/to/tinyshakespeare.txt
set -euo pipefail
text=$(realpath "${1:?the path of tinyshakespeare.txt}")
cd "$(dirname "$0")/.."
cargo build --release --quiet
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
row() { # name, config, settings...
  local name=$1 config=$2; shift 2
  local from=$EPOCHREALTIME line
  line=$(./target/release/surprisal train "$config" "$text" "$@" --out "$out/$RANDOM$RANDOM" --json --quiet | tail -n 1)
  python3 - "$name" "$line" "$from" "$EPOCHREALTIME" <<'PY'
import json, sys
name, line, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[4]) - float(sys.argv[3])
e = line["eval"]
print(f"| {name} | {line['parameters']:,} | {e['nats_per_token']:.4f} | {e['perplexity']:.3f} | "
      f"{e['bits_per_byte']:.4f} | {seconds:.2f} s |", flush=True)
PY
}
echo '| model | n-grams | nats per token | perplexity | bits per byte | whole run |'
echo '|---|---|---|---|---|---|'
for order in 4 5 6 7 8 9 10; do
  row "characters, KN-$order, by formula" configs/char_kn6.toml --set model.order=$order --set model.tune=false
  row "characters, KN-$order, tuned" configs/char_kn6.toml --set model.order=$order
done
grep -v '^compat' configs/word_kn5.toml > "$out/word_kn.toml"
for order in 2 3 4 5; do
  row "words, KN-$order, by formula" "$out/word_kn.toml" --set model.order=$order --set tokenizer.min_count=1
  row "words, KN-$order, tuned" "$out/word_kn.toml" --set model.order=$order --set model.tune=true --set tokenizer.min_count=1
done
