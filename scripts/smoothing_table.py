"""Prints comparisons (comparison.json) side by side as the Markdown table of data/README.md.

    surprisal compare configs/compare_mle_vs_smoothing.toml --out runs/smoothing
    surprisal compare configs/compare_mle_vs_smoothing.toml input.txt --out runs/smoothing-shakespeare
    python scripts/smoothing_table.py runs/smoothing runs/smoothing-shakespeare [--without "decay 0.1"]

Nats per token and ECE with their standard errors over seeds; behind the nats what `compare` concludes about the difference to what
the variant is compared with: better, worse, or = where no difference is shown.
"""

import argparse
import json
import pathlib

parser = argparse.ArgumentParser()
parser.add_argument("comparisons", nargs="+", type=pathlib.Path)
parser.add_argument("--without", action="append", default=[])
arguments = parser.parse_args()
SHORT = {"no difference shown": "="}


def number(entry, digits, scale=1.0):
    if entry is None:
        return "–"
    text = f"{scale * entry['mean']:.{digits}f}"
    error = entry["standard_error"]
    return text if error is None else f"{text} ± {scale * error:.{digits}f}"


def cells(variant, difference):
    if variant["nats_per_token"] is None:
        nats = f"infinite: {variant['zero_probability']['mean']:,.0f} of {variant['tokens']:,.0f} with q = 0"
    else:
        nats = number(variant["nats_per_token"], 4)
    verdict = SHORT.get(difference["verdict"], difference["verdict"]) if difference else ""
    ece = number(variant["ece"], 2, 100)
    after = number(variant["ece_after_temperature"], 2, 100)
    return [f"{nats} {verdict}".strip(), f"{ece} → {after}"]


results = [json.load(open(path / "comparison.json")) for path in arguments.comparisons]
print("| variant |" + " nats per token | ECE % → after T |" * len(results))
print("|---|" + "---|---|" * len(results))
for index, variant in enumerate(results[0]["variants"]):
    name = variant["name"]
    if any(part in name for part in arguments.without):
        continue
    row = []
    for result in results:
        same = next(v for v in result["variants"] if v["name"] == name)
        row += cells(same, next((d for d in result["differences"] if d["name"] == name), None))
    print(f"| {name} | " + " | ".join(row) + " |")
