#!/usr/bin/env bash
# Kills runs of every kind of model and countings in bounded memory (300 times each; or: scripts/kills.sh COUNT), goes on with
# each, and compares the bits with those of a run never touched.
set -euo pipefail
cd "$(dirname "$0")/.."
SURPRISAL_KILLS=${1:-300} cargo test -p surprisal --test survive -- kill --nocapture --test-threads 1
