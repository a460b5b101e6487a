#!/usr/bin/env bash
# The source distribution of the Python package, from the last commit:
#
#   scripts/sdist.sh FOLDER [maturin]
#
# The package is described in crates/python, and includes what lies above that folder: the other crates and configs/. maturin
# takes nothing from above the description, so it is given a copy of the tree with the description at the top.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
out=$(cd "$1" && pwd)
maturin=${2:-maturin}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive HEAD | tar -x -C "$tree"
sed -e 's|^readme = "|&crates/python/|' -e 's|^python-source = "|&crates/python/|' \
  -e 's|^module-name|manifest-path = "crates/python/Cargo.toml"\ninclude = [{ path = "configs/*.toml", format = "sdist" }]\n&|' \
  crates/python/pyproject.toml > "$tree/pyproject.toml"
rm "$tree/crates/python/pyproject.toml"
cd "$tree"
"$maturin" sdist --out "$out"
