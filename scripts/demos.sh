#!/usr/bin/env bash
# Runs the demonstrations of data/README.md's section "Teach", each as it is written there, start to end on a fresh clone.
#
#   scripts/demos.sh          (about a quarter to half an hour on two cores)
set -euo pipefail
cd "$(dirname "$0")/.."
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet . "$clone"
# What is compiled already need not be compiled again; the program itself is.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
cd "$clone"
cargo build --release --quiet
export PATH="$CARGO_TARGET_DIR/release:$PATH"
sed -n '/^## Teach/,/^## /p' data/README.md | grep '^    surprisal ' > demos
count=$(wc -l < demos)
[ "$count" -eq 6 ] || { echo "data/README.md has $count demonstrations, not 6" >&2; exit 1; }
while IFS= read -r demo; do
  demo=$(sed 's/^ *//; s/ *#.*$//' <<< "$demo")
  echo "== $demo"
  started=$(date +%s)
  bash -c "$demo" < /dev/null
  echo "== done in $(($(date +%s) - started)) s"
done < demos
