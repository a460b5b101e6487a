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
from torch import nn
from torch.nn import functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
LAYERS, HEADS, WIDTH, BLOCK, VOCAB, TOKENS = 4, 4, 128, 64, 65, 500
torch.set_num_threads(2)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.attended = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, tokens, _ = x.shape
        q, k, v = (
            part.view(batch, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(WIDTH, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attended(y.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(VOCAB, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, VOCAB, bias=False)

    def forward(self, ids):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, [-1]]))


@torch.no_grad()
def theirs(model):
    """Tokens a second."""
    ids = torch.randint(0, VOCAB, (1, BLOCK))
    start = time.perf_counter()
    for _ in range(TOKENS):
        logits = model(ids[:, -BLOCK:])[:, -1] / 0.8
        ids = torch.cat((ids, torch.multinomial(F.softmax(logits, dim=-1), 1)), dim=1)
    return TOKENS / (time.perf_counter() - start)


def ours(run):
    command = [BINARY, "sample", run, "--prompt", "a " * (BLOCK // 2), "--tokens", str(TOKENS), "--json"]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    return TOKENS / json.loads(line)["seconds"]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    model = Model().eval()
    with tempfile.TemporaryDirectory() as folder:
        run = os.path.join(folder, "run")
        config = os.path.join(ROOT, "configs", "default.toml")
        subprocess.run([BINARY, "train", config, "--set", "train.steps=1", "--out", run, "--quiet"], check=True, capture_output=True)
        theirs(model), ours(run)
        rows = [(ours(run), theirs(model)) for _ in range(rounds)]
    own, other = (statistics.median(column) for column in zip(*rows))
    ratio = statistics.median(a / b for a, b in rows)
    line = {"tokens_per_second": round(own), "pytorch": round(other), "times_as_fast": round(ratio, 1)}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
