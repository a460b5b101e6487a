#!/usr/bin/env python3
"""The law by which `surprisal train TEXT --budget TIME` chooses sizes: makes runs, and fits its constants to them.

    cargo build --release
    scripts/fit_choice.py runs.jsonl TEXT... [--large TEXT] [--small TEXT]      # with numpy; texts of 2 MB, 10 MB and 200 kB

For each text, of TEXT... also a tenth and a hundredth, networks of configs/automatic.toml of several widths and lengths, mixed with the n-gram
model. Each run is a line of runs.jsonl, and a run that is there already is not made again. The law of a network's nats per token is

    N = nats of the text + WIDTH_NATS w^-WIDTH_POWER + STEP_NATS s^-STEP_POWER,    w = width / 128,

where s is thousands of steps over new text: of p > 1 passes those of the first, times 1 + r (1 - exp(-(p - 1) / r)) with
r = REPEATS w^-REPEATS_POWER. Of more passes a network is judged by what it brings to the mixture with an n-gram model of G nats,
G - d - t ln(1 + exp((G - N) / t)). All constants have the least squares of the errors of networks in their first pass, times 4, and of
all mixtures. crates/engine/src/choice.rs has the first six, of a fit to 61 runs: most of
these, and some with configs/shakespeare_speedrun.toml; so all runs anew give other digits.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
CONFIG = os.path.join(ROOT, "configs", "automatic.toml")
MAX_BIGRAM_ROWS = 16_384
MAX_VALIDATION = 200_000
NETWORK_WEIGHT = 4
NAMES = ["WIDTH_NATS", "WIDTH_POWER", "STEP_NATS", "STEP_POWER", "REPEATS", "REPEATS_POWER", "t", "d"]
# Width and steps of the runs with each part of a text.
SIZES = [(64, 200), (128, 200), (256, 200), (64, 800), (128, 800), (256, 800), (128, 2400)]
SMALL = [(width, steps) for steps in (50, 200, 800) for width in (32, 64, 128)]
LARGE = [(64, 200), (64, 800), (64, 3200), (128, 800), (128, 3200)]
PARTS = {0.01: SMALL, 0.1: SIZES, 1.0: [*SIZES, (192, 200), (192, 800), (64, 2400)]}


def train(text, part, width, steps):
    characters = open(text, encoding="utf-8", errors="replace", newline="").read()
    rows = (len(set(characters)) + 2) * (len(set(characters)) + 1)
    settings = {
        "data.val_fraction": min(0.1, MAX_VALIDATION / len(characters)),
        "data.train_fraction": part,
        "data.train_part": "spread",
        "model.n_embd": width,
        "model.n_head": width // 32,
        "model.bigram_rows": min(rows, MAX_BIGRAM_ROWS),
        "train.steps": steps,
        "mixture.order": 9,
        "eval.every_epochs": 0,
        "sample.tokens": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        command = [BINARY, "train", CONFIG, text, "--invalid", "replace", "--out", os.path.join(folder, "run"), "--json", "--quiet"]
        command += [argument for key, value in settings.items() for argument in ("--set", f"{key}={value}")]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    events = {event["event"]: event for event in map(json.loads, lines)}
    mixed, result = events["mixture"], events["result"]
    return {
        "passes": result["epochs"],
        "network": mixed["network"]["nats_per_token"],
        "counted": mixed["counted"]["nats_per_token"],
        "mixture": mixed["eval"]["nats_per_token"],
        "seconds": round(result["train_seconds"], 1),
    }


def fit(runs):
    """The constants with the least squares, by Levenberg and Marquardt's method."""
    texts = sorted({(run["text"], run["part"]) for run in runs})
    text = np.array([texts.index((run["text"], run["part"])) for run in runs])
    width, steps, passes = (np.array([run[key] for run in runs]) for key in ("width", "steps", "passes"))
    width, steps = width / 128, steps / 1000
    network, counted, mixture = (np.array([run[key] for run in runs]) for key in ("network", "counted", "mixture"))
    first = passes <= 1

    def errors(values):
        of_texts, (a, width_power, b, step_power, repeats, repeats_power, t, d) = values[: len(texts)], np.exp(values[len(texts) :])
        repeats = repeats * width**-repeats_power
        again = repeats * (1 - np.exp(-np.maximum(passes - 1, 0) / repeats))
        fresh = steps * (np.minimum(passes, 1) + again) / passes
        nats = of_texts[text] + a * width**-width_power + b * fresh**-step_power
        mixed = counted - d - t * np.log1p(np.exp((counted - nats) / t))
        return np.concatenate([NETWORK_WEIGHT * (nats - network)[first], mixed - mixture])

    lowest = [network[text == index].min() - 0.5 for index in range(len(texts))]
    values, damping = np.concatenate([lowest, np.log([0.1, 0.8, 0.4, 0.3, 2.0, 0.5, 0.1, 0.01])]), 0.01
    wrong = errors(values)
    for _ in range(500):
        slopes = np.array([(errors(values + one) - wrong) / 1e-6 for one in 1e-6 * np.eye(len(values))]).T
        step = np.linalg.solve(slopes.T @ slopes + damping * np.eye(len(values)), -slopes.T @ wrong)
        after = errors(values + step)
        better = after @ after < wrong @ wrong
        values, wrong, damping = (values + step, after, damping / 3) if better else (values, wrong, min(damping * 4, 1e12))
    for name, value in zip(NAMES, np.exp(values[len(texts) :])):
        print(f"{name} = {value:.4f}")
    for name, part in (("networks", wrong[: first.sum()] / NETWORK_WEIGHT), ("mixtures", wrong[first.sum() :])):
        print(f"{len(part)} {name}: root of the mean square error {np.sqrt(np.mean(part**2)):.4f} nats")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs")
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--large", action="append", default=[])
    parser.add_argument("--small", action="append", default=[])
    arguments = parser.parse_args()
    runs = [json.loads(line) for line in open(arguments.runs)] if os.path.exists(arguments.runs) else []
    done = {(run["text"], run["part"], run["width"], run["steps"]) for run in runs}
    wanted = [(text, 1.0, size) for texts, sizes in ((arguments.large, LARGE), (arguments.small, SIZES)) for text in texts for size in sizes]
    wanted += [(text, part, size) for part in PARTS for text in arguments.texts for size in PARTS[part]]
    for text, part, (width, steps) in wanted:
        name = os.path.basename(text)
        if (name, part, width, steps) not in done:
            of = {"text": name, "part": part, "width": width, "steps": steps}
            runs.append({**of, **train(text, part, width, steps)})
            with open(arguments.runs, "a") as file:
                print(json.dumps(runs[-1]), file=file)
            print(runs[-1], flush=True)
    fit(runs)


if __name__ == "__main__":
    main()
