#!/usr/bin/env python3
"""The loss side by side with PyTorch: one run on one machine, alternating, two threads each, medians and ratios.

Run it with the interpreter of a virtual environment that has PyTorch (2.13 or newer for linear_cross_entropy):

    cargo build --release
    /path/to/venv/bin/python scripts/bench_loss.py [rounds] [part of a case's name]

Prints one JSON line a case, then a Markdown table. A ratio is the median over rounds of our time over the peer's in the
same round; candle_nn is candle-nn's own loss, measured by our binary. With SURPRISAL_ISA=avx2 PyTorch's kernels, too, are
those of a processor with AVX2.
"""
import json
import os
import statistics
import subprocess
import sys
import time

if os.environ.get("SURPRISAL_ISA") == "avx2":
    # Read when PyTorch is imported.
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2", ONEDNN_MAX_CPU_ISA="AVX2")

import torch
import torch.nn.functional as F

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
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
        for name, peer in peers.items():
            # A peer is a step to time, or another case of our own binary.
            theirs[name].append(ours(peer, seconds)["median_ms"] if isinstance(peer, str) else clock(peer, seconds))
    row = {"case": case, "ms": statistics.median(mine), "gb_per_s": last["gb_per_s"], "extra_bytes": last["extra_bytes"]}
    for name, times in theirs.items():
        row[name + "_ms"] = statistics.median(times)
        row["ratio_to_" + name] = statistics.median(a / b for a, b in zip(mine, times))
    print(json.dumps(row), flush=True)
    return row


def cases():
    """Every case's name, and how to make its peers."""
    for n, v in [(4096, 50257), (8192, 65)]:
        yield f"copy/{n}x{v}/0", lambda: {}
        for epsilon in [0.0, 0.1]:

            def peers(n=n, v=v, epsilon=epsilon):
                torches = {kind: from_logits(n, v, epsilon, kind == "compiled") for kind in ["eager", "compiled"]}
                return torches if epsilon else {**torches, "candle_nn": f"candle_nn/{n}x{v}/0"}

            yield f"in_place/{n}x{v}/{epsilon:g}", peers
        yield f"candle/{n}x{v}/0", lambda n=n, v=v: {"candle_nn": f"candle_nn/{n}x{v}/0"}
    kinds = ["eager", "compiled", "chunked"]
    yield "linear/4096x50257x384/0", lambda: {kind: from_hidden(4096, 50257, 384, kind) for kind in kinds}


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    rows = []
    for case, make_peers in cases():
        if wanted in case:
            peers = {name: peer for name, peer in make_peers().items() if peer}
            rows.append(compare(case, peers, rounds, 1.0))
    names = ["eager", "compiled", "chunked", "candle_nn"]
    print("\n| case | ms | GB/s | extra memory | " + " | ".join(f"{name} ms | ratio" for name in names) + " |")
    print("|---" * (4 + 2 * len(names)) + "|")
    for row in rows:
        cells = [row["case"], f"{row['ms']:.2f}", f"{row['gb_per_s']:.1f}", f"{row['extra_bytes'] / 2**20:.2f} MiB"]
        for name in names:
            there = name + "_ms" in row
            cells += [f"{row[name + '_ms']:.1f}", f"{row['ratio_to_' + name]:.3f}"] if there else ["", ""]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
