#!/usr/bin/env python3
"""What each switch of configs/shakespeare_speedrun.toml is worth: one row per switch, which is removed, three seeds each.

    cargo build --release
    scripts/ablation.py path/to/tinyshakespeare.txt [steps]

Every row trains the same number of steps on the same text; nats per character on the whole validation text, stride 32.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
CONFIG = os.path.join(ROOT, "configs", "shakespeare_speedrun.toml")
SEEDS = [1, 2, 3]
ROWS = {
    "nothing": [],
    "layer norm": ["model.norm=layer"],
    "learned positions": ["model.position=learned"],
    "no QK-norm": ["model.qk_norm=false"],
    "GELU": ["model.activation=gelu"],
    "SwiGLU": ["model.activation=swiglu"],
    "projections not from zero": ["model.zero_init=false"],
    "no soft cap": ["model.softcap=0"],
    "no bigram table": ["model.bigram_rows=1"],
    "tied head": ["model.tied=true"],
    "two groups of heads": ["model.n_kv_head=2"],
    "AdamW alone": ["optim.kind=adamw"],
    "cosine schedule": ["optim.schedule=cosine"],
    "f32": ["train.precision=f32"],
}


def train(text, folder, settings):
    command = [BINARY, "train", CONFIG, text, "--out", folder, "--json", "--quiet"]
    command += [argument for setting in settings for argument in ("--set", setting)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    text, steps = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "150"
    print("| removed | nats per character | ± | difference | parameters | seconds |\n|---|---|---|---|---|---|")
    base = None
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, settings) in enumerate(ROWS.items()):
            runs = []
            for seed in SEEDS:
                out = os.path.join(folder, f"{number}-{seed}")
                runs.append(train(text, out, [*settings, f"train.seed={seed}", f"train.steps={steps}"]))
            nats = [run["eval"]["nats_per_token"] for run in runs]
            mean, spread = statistics.mean(nats), statistics.stdev(nats)
            base = mean if base is None else base
            seconds = statistics.median(run["train_seconds"] for run in runs)
            print(f"| {name} | {mean:.4f} | {spread:.4f} | {mean - base:+.4f} | {runs[0]['parameters']:,} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
