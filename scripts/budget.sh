#!/usr/bin/env bash
# Checks that a budget is the time of the whole run:  scripts/budget.sh [SECONDS]
#
# Trains five kinds of model of at most a million parameters for the budget, with an evaluation asked for after every step, and
# a model with chosen settings, whose length is an estimate, and prints the wall time of each command. Fails if one takes more than a
# second longer.
set -euo pipefail
cd "$(dirname "$0")/.."
budget=${1:-15}
cargo build --release --locked --quiet
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
run() {
  local name=$1 started ended
  shift
  started=$(date +%s.%N)
  ./target/release/surprisal train "$@" --budget "${budget}s" --out "$folder/$name" --quiet
  ended=$(date +%s.%N)
  awk -v name="$name" -v took="$(echo "$ended $started" | awk '{ print $1 - $2 }')" -v budget="$budget" \
    'BEGIN { printf "%-12s %6.2f s of %s s\n", name, took, budget; exit took > budget + 1 }' || failed=1
}
evaluate='--set eval.every_steps=1'
small='model.kind="transformer"'
run transformer --set "$small" $evaluate
run wide --set "$small" --set model.n_embd=128 --set model.n_head=4 --set model.n_layer=4 --set eval.stride=1 $evaluate
run mlp --set 'model.kind="mlp"' $evaluate
run lstm --set 'model.kind="lstm"' $evaluate
run bigram --set 'model.kind="bigram"' $evaluate
cat crates/*/src/*.rs > "$folder/text.txt"
run chosen "$folder/text.txt"
exit $failed
