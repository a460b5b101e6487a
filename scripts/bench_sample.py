#!/usr/bin/env python3
"""Sampling side by side with PyTorch: one run on one machine, alternating, two threads each, medians and ratios.

nanoGPT's laptop shape (4 layers, 4 heads, 128 wide, block 64) draws 500 tokens after a prompt that fills the block. PyTorch does
what nanoGPT's `generate` does: the last block of tokens goes through the whole model for each new one. Surprisal keeps keys and
values. Weights do not matter for time: ours are those of one step, PyTorch's are random.

    cargo build --release
    /path/to/venv/bin/python scripts/bench_sample.py [rounds]

Prints one JSON line.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from nanogpt import Model
from torch.nn import functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
LAYERS, HEADS, WIDTH, BLOCK, VOCAB, TOKENS = 4, 4, 128, 64, 65, 500
torch.set_num_threads(2)


@torch.no_grad()
def theirs(model):
    """Tokens per second."""
    ids = torch.randint(0, VOCAB, (1, BLOCK))
    start = time.perf_counter()
    for _ in range(TOKENS):
        logits = model.next(ids[:, -BLOCK:]) / 0.8
        ids = torch.cat((ids, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
    return TOKENS / (time.perf_counter() - start)


def ours(run):
    command = [BINARY, "sample", run, "--prompt", "a " * (BLOCK // 2), "--tokens", str(TOKENS), "--json"]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return TOKENS / json.loads(line)["seconds"]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    model = Model(VOCAB, BLOCK, LAYERS, HEADS, WIDTH).eval()
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        config = os.path.join(ROOT, "configs", "default.toml")
        # nanoGPT's architecture.
        settings = ["train.steps=1", "model.norm=layer", "model.position=learned", "model.activation=gelu", "model.tied=true"]
        sets = [word for setting in settings for word in ("--set", setting)]
        subprocess.run([BINARY, "train", config, *sets, "--out", run, "--quiet"], check=True, capture_output=True)
        theirs(model), ours(run)
        rows = [(ours(run), theirs(model)) for _ in range(rounds)]
    own, other = (statistics.median(column) for column in zip(*rows))
    ratio = statistics.median(a / b for a, b in rows)
    line = {"tokens_per_second": round(own), "pytorch": round(other), "times_as_fast": round(ratio, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
