"""Prints a comparison (comparison.json) as the Markdown table of README.md.

    surprisal compare configs/compare_mle_vs_smoothing.toml --out runs/smoothing
    python scripts/smoothing_table.py runs/smoothing/comparison.json
"""

import json
import sys

EN_DASH = "–"


def mean(entry, digits, scale=1.0):
    if entry is None:
        return "inf"
    text = f"{scale * entry['mean']:.{digits}f}"
    error = entry["standard_error"]
    return text if error is None else f"{text} ± {scale * error:.{digits}f}"


result = json.load(open(sys.argv[1]))
differences = {d["name"]: d for d in result["differences"]}
print("| variant | nats a token | perplexity | Δ nats (p) | ECE % | after T |")
print("|---|---|---|---|---|---|")
for v in result["variants"]:
    d = differences.get(v["name"])
    change = EN_DASH
    if d and d["nats_per_token"]:
        p = d["p"]
        shown = "<0.0001" if p is not None and p < 1e-4 else EN_DASH if p is None else f"{p:.4f}"
        change = f"{d['nats_per_token']['mean']:+.4f} ({shown}) {d['verdict']}"
    nats = mean(v["nats_per_token"], 4)
    if v["nats_per_token"] is None:
        nats = f"inf: {v['zero_probability']['mean']:,.0f} of {v['tokens']:,.0f} impossible"
    perplexity = "inf" if v["perplexity"] is None else f"{v['perplexity']['mean']:.3f}"
    after = EN_DASH if v["ece_after_temperature"] is None else mean(v["ece_after_temperature"], 2, 100)
    ece = EN_DASH if v["ece"] is None else mean(v["ece"], 2, 100)
    print(f"| {v['name']} | {nats} | {perplexity} | {change} | {ece} | {after} |")
