#!/usr/bin/env python3
"""One training step side by side with PyTorch: one run on one machine, alternating, two threads each, medians and ratios.

A step is forward, backward, clipping by the global norm and AdamW on nanoGPT's two character-level shapes, and on an LSTM whose
state goes on from step to step. The PyTorch model (nanogpt.py, torch.nn.LSTM) is of the same shape and steps with PyTorch's fused
AdamW and its own clipping. Run it with the interpreter of a virtual environment that has PyTorch:

    cargo build --release
    /path/to/venv/bin/python scripts/bench_step.py [rounds] [cpu | 10m | lstm] [modes, of eager,compiled,bf16,compiled_bf16]

Each measurement is a process of its own, so that peak memory is that of one case. Prints one JSON line per shape. With
SURPRISAL_ISA=avx2 PyTorch's kernels, too, are those of a processor with AVX2.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get("SURPRISAL", os.path.join(ROOT, "target", "release", "surprisal"))
THREADS = 2
if os.environ.get("SURPRISAL_ISA") == "avx2":
    # Read when PyTorch is imported.
    os.environ.update(ATEN_CPU_CAPABILITY="avx2", MKL_ENABLE_INSTRUCTIONS="AVX2", ONEDNN_MAX_CPU_ISA="AVX2")
SHAPES = {  # batch, tokens, layers, heads (0: an LSTM), width, seconds per measurement
    "cpu": (12, 64, 4, 4, 128, 3.0),
    "10m": (64, 256, 6, 6, 384, 5.0),
    "lstm": (64, 12, 2, 0, 128, 3.0),
}
VOCAB = 65


def lstm(layers, width):
    """An embedding, an LSTM and a head; each call goes on from the state after the one before (truncated back-propagation)."""
    from torch import nn

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.head = nn.Embedding(VOCAB, width), nn.Linear(width, VOCAB)
            self.rnn, self.state = nn.LSTM(width, width, layers, batch_first=True), None

        def forward(self, ids, targets):
            """The mean loss, in nats per token."""
            hidden, state = self.rnn(self.token(ids), self.state)
            self.state = tuple(part.detach() for part in state)
            return nn.functional.cross_entropy(self.head(hidden).view(-1, VOCAB), targets.view(-1))

    return Lstm()


def theirs(shape, mode):
    """Median milliseconds and peak bytes of PyTorch's step, in this process."""
    import torch
    from nanogpt import Model

    torch.set_num_threads(THREADS)
    torch.manual_seed(1)
    batch, tokens, layers, heads, width, seconds = SHAPES[shape]
    model = Model(VOCAB, tokens, layers, heads, width) if heads else lstm(layers, width)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    run = torch.compile(model) if mode.startswith("compiled") else model
    ids, targets = (torch.randint(0, VOCAB, (batch, tokens)) for _ in range(2))
    bf16 = mode.endswith("bf16")

    def step():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = run(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    for _ in range(1 if shape == "10m" else 3):
        step()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - begin))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"median_ms": statistics.median(times), "peak_bytes": peak}))


def last_line(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(shape, who):
    if who.startswith("ours_"):
        case, seconds = f"{shape}/{who[len('ours_'):]}", str(SHAPES[shape][-1])
        return last_line([BINARY, "bench", "step", "--threads", str(THREADS), "--case", case, "--seconds", seconds])
    return last_line([sys.executable, os.path.abspath(__file__), "--theirs", shape, who])


def main():
    if sys.argv[1:2] == ["--theirs"]:
        return theirs(sys.argv[2], sys.argv[3])
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    shapes = [sys.argv[2]] if len(sys.argv) > 2 else list(SHAPES)
    modes = sys.argv[3].split(",") if len(sys.argv) > 3 else ["eager", "compiled", "bf16", "compiled_bf16"]
    for shape in shapes:
        rows = []
        for _ in range(rounds):
            rows.append({who: measure(shape, who) for who in ["ours_f32", *modes, "ours_bf16"]})
            print({who: round(m["median_ms"], 1) for who, m in rows[-1].items()}, file=sys.stderr, flush=True)
        median = lambda who: statistics.median(row[who]["median_ms"] for row in rows)
        ratio = lambda a, b: statistics.median(row[a]["median_ms"] / row[b]["median_ms"] for row in rows)
        line = {"shape": shape, "ms": {who: round(median(who), 2) for who in rows[0]}}
        line["peak_mb"] = {who: round(max(row[who]["peak_bytes"] for row in rows) / 1e6) for who in rows[0]}
        for own in ["ours_f32", "ours_bf16"]:
            line[f"times_as_fast_{own}"] = {who: round(ratio(who, own), 2) for who in modes}
        line["gflop_per_s"] = {own: round(rows[-1][own]["gflop_per_s"], 1) for own in ["ours_f32", "ours_bf16"]}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
