#!/usr/bin/env python3
"""The loss side by side with PyTorch: one run on one machine, alternating, two threads each, medians and ratios.

Run it with the interpreter of a virtual environment that has PyTorch (2.13 or newer for linear_cross_entropy):

    cargo build --release
    /path/to/venv/bin/python scripts/bench_loss.py [rounds]

Prints one JSON line a case, then a Markdown table.
"""
import json
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.path.join(ROOT, "target", "release", "surprisal")
THREADS = 2
torch.set_num_threads(THREADS)


def ours(case, seconds):
    command = [BINARY, "bench", "loss", "--threads", str(THREADS), "--seconds", str(seconds), "--case", case]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return next(line for line in map(json.loads, lines) if line["name"] == case)


def clock(step, seconds):
    """Median milliseconds of `step`, after one run that warms up."""
    step()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def from_logits(rows, vocab, epsilon, compiled):
    logits = torch.randn(rows, vocab, requires_grad=True)
    targets = torch.randint(0, vocab, (rows,))
    loss = lambda x: F.cross_entropy(x, targets, label_smoothing=epsilon)
    if compiled:
        loss = torch.compile(loss)

    def step():
        logits.grad = None
        loss(logits).backward()

    return step


def from_hidden(rows, vocab, width, kind):
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = (0.05 * torch.randn(vocab, width)).requires_grad_()
    targets = torch.randint(0, vocab, (rows,))
    if kind == "chunked":
        options = torch.nn.LinearCrossEntropyOptions() if hasattr(torch.nn, "LinearCrossEntropyOptions") else None
        if not hasattr(F, "linear_cross_entropy"):
            return None
        if options is None:
            options = F.LinearCrossEntropyOptions() if hasattr(F, "LinearCrossEntropyOptions") else None
        if options is None:
            return None
        loss = lambda: F.linear_cross_entropy(hidden, weight, targets, options=options)
    else:
        plain = lambda h, w: F.cross_entropy(F.linear(h, w), targets)
        if kind == "compiled":
            plain = torch.compile(plain)
        loss = lambda: plain(hidden, weight)

    def step():
        hidden.grad = weight.grad = None
        loss().backward()

    return step


def compare(case, peers, rounds, seconds):
    mine, theirs, last = [], {name: [] for name in peers}, None
    for _ in range(rounds):
        last = ours(case, seconds)
        mine.append(last["median_ms"])
        for name, step in peers.items():
            theirs[name].append(clock(step, seconds))
    row = {"case": case, "ms": statistics.median(mine), "gb_per_s": last["gb_per_s"], "extra_bytes": last["extra_bytes"]}
    for name, times in theirs.items():
        row[name + "_ms"] = statistics.median(times)
        row["ratio_to_" + name] = statistics.median(a / b for a, b in zip(mine, times))
    print(json.dumps(row), flush=True)
    return row


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = []
    for n, v in [(4096, 50257), (8192, 65)]:
        rows.append(compare(f"copy/{n}x{v}/0", {}, rounds, 1.0))
        for epsilon in [0.0, 0.1]:
            peers = {
                "eager": from_logits(n, v, epsilon, False),
                "compiled": from_logits(n, v, epsilon, True),
            }
            rows.append(compare(f"in_place/{n}x{v}/{epsilon:g}", peers, rounds, 1.0))
        candle = [compare(f"{variant}/{n}x{v}/0", {}, rounds, 1.0) for variant in ["candle", "candle_nn"]]
        rows += candle
    peers = {kind: from_hidden(4096, 50257, 384, kind) for kind in ["eager", "compiled", "chunked"]}
    peers = {kind: step for kind, step in peers.items() if step}
    rows.append(compare("linear/4096x50257x384/0", peers, rounds, 1.0))
    print("\n| case | ms | GB/s | extra memory | PyTorch eager | compiled | ratio to eager | to compiled |")
    print("|---|---|---|---|---|---|---|---|")
    number = lambda row, key, form: format(row[key], form) if key in row else ""
    for row in rows:
        extra = f"{row['extra_bytes'] / 2**20:.2f} MiB"
        print(
            f"| {row['case']} | {row['ms']:.2f} | {row['gb_per_s']:.1f} | {extra} | {number(row, 'eager_ms', '.1f')} | "
            f"{number(row, 'compiled_ms', '.1f')} | {number(row, 'ratio_to_eager', '.3f')} | "
            f"{number(row, 'ratio_to_compiled', '.3f')} |"
        )


if __name__ == "__main__":
    main()
