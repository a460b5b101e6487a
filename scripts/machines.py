#!/usr/bin/env python3
"""From which size on more machines pay: the figures of crates/engine/MACHINES.md.

    python3 scripts/machines.py                              # the tables, from the measurements below
    python3 scripts/machines.py --program target/release/surprisal   # measures on this machine first (built with mpi)

A step of training on R hosts takes

    compute / R + 2 · levels · (latency + 4 · parameters / bandwidth) + update,      levels = ceil(log2 R):

the weights go down the binary tree of ranks, and the gradients come up. Counting takes per host and pass its part of the bytes
over the disk's or the network's bandwidth; the merge of the parts' counts is made by rank 0 alone.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Hosts as they are assumed in the tables: cores, the network's latency in seconds, and bytes per second of disk and memory.
CORES, LATENCY, DISK, MEMORY = 16, 30e-6, 2e9, 50e9
NETWORKS = {"10 Gbit/s": 10e9 / 8, "100 Gbit/s": 100e9 / 8}
HOSTS = [1, 2, 4, 8, 16, 32, 64]
# Measured by --program on two cores of the machine that this page names: floating-point operations per second of a core in
# training, and of counting: words per second of a core, n-grams per word, bytes of an n-gram in a file, and n-grams per second of a
# core in a merge.
MEASURED = {"flops": 53000000000.0, "count": 3440000.0, "grams": 3.79, "gram_bytes": 3.32, "merge": 3010000.0}
# Shapes: parameters, and tokens of a step.
SHAPES = {
    "default, 0.8 M parameters, 2,048 tokens": (0.8e6, 2048),
    "0.8 M parameters, 65,536 tokens": (0.8e6, 65536),
    "GPT-2 small, 124 M parameters, 16,384 tokens": (124e6, 16384),
    "GPT-2 small, 124 M parameters, 524,288 tokens": (124e6, 524288),
}


def levels(hosts):
    return math.ceil(math.log2(hosts))


def step(parameters, tokens, hosts, bandwidth, measured):
    """Seconds of a step, and of these the exchange's."""
    compute = 6 * parameters * tokens / (measured["flops"] * CORES)
    exchange = 2 * levels(hosts) * (LATENCY + 4 * parameters / bandwidth)
    # AdamW reads four numbers of a parameter and writes three.
    update = 28 * parameters / MEMORY
    return compute / hosts + exchange + update, exchange


def least_tokens(hosts, bandwidth, measured):
    """Tokens of a step at which R hosts are half as fast as R times one: the exchange takes as long as the compute."""
    return hosts * 2 * levels(hosts) * 4 / bandwidth * measured["flops"] * CORES / 6


def counting(tokens, hosts, bandwidth, measured, text_bytes=6.0):
    """Seconds of the parts of a count of words up to order 5: reading, counting, sending the parts' counts, merging them."""
    constants = (ROOT / "crates/engine/src/count/external.rs").read_text()
    number = lambda name: float(re.search(rf"const {name}: f64 = ([0-9.e]+);", constants)[1])
    temporary = number("RUN_BYTES") + number("STREAM_BYTES") / 3
    grams = measured["grams"] * tokens
    read = 2 * text_bytes * tokens / hosts / DISK
    count = tokens / hosts / (measured["count"] * CORES)
    spill = 2 * temporary * tokens / hosts / DISK
    send = grams * measured["gram_bytes"] * (hosts - 1) / hosts / min(bandwidth, DISK)
    merge = grams / (measured["merge"] * CORES) if hosts > 1 else 0.0
    return {"read": read, "count": count, "temporary files": spill, "send": send, "merge on rank 0": merge}


def duration(seconds):
    for size, unit in [(86400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")]:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "0 s" if seconds == 0 else f"{seconds * 1e6:.3g} µs"


def tables(measured):
    print(f"Hosts of {CORES} cores with {measured['flops'] / 1e9:.1f} GFLOP/s each, latency {LATENCY * 1e6:.0f} µs.\n")
    for name, bandwidth in NETWORKS.items():
        print(f"A step of training at {name}, and how many times as fast as on one host:\n")
        print("| shape | " + " | ".join(f"{hosts}" for hosts in HOSTS) + " |\n|---|" + "---|" * len(HOSTS))
        for shape, (parameters, tokens) in SHAPES.items():
            one = step(parameters, tokens, 1, bandwidth, measured)[0]
            cells = [step(parameters, tokens, hosts, bandwidth, measured)[0] for hosts in HOSTS]
            print(f"| {shape} | " + " | ".join(f"{duration(cell)}, {one / cell:.2g}×" for cell in cells) + " |")
        print()
    print("Tokens of a step from which the exchange takes no longer than the compute:\n")
    print("| network | " + " | ".join(f"{hosts}" for hosts in HOSTS[1:]) + " |\n|---|" + "---|" * len(HOSTS[1:]))
    for name, bandwidth in NETWORKS.items():
        cells = [least_tokens(hosts, bandwidth, measured) for hosts in HOSTS[1:]]
        print(f"| {name} | " + " | ".join(f"{cell:,.0f}" for cell in cells) + " |")
    for tokens in [1e9, 1e12]:
        for name, bandwidth in NETWORKS.items():
            print(f"\nA count of {tokens:.0e} words up to order 5 at {name}:\n")
            parts = [counting(tokens, hosts, bandwidth, measured) for hosts in HOSTS]
            print("| part | " + " | ".join(f"{hosts}" for hosts in HOSTS) + " |\n|---|" + "---|" * len(HOSTS))
            for part in parts[0]:
                print(f"| {part} | " + " | ".join(duration(cell[part]) for cell in parts) + " |")
            print("| sum | " + " | ".join(duration(sum(cell.values())) for cell in parts) + " |")


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(program):
    """Measures one core, and what 1, 2 and 4 ranks take here."""
    program = Path(program).resolve()
    mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n"]
    settings = ["train.steps=20", "train.threads=1", "train.shards=4", "sample.tokens=0", "eval.every_epochs=0",
                "train.precision=f32", "checkpoint.every_minutes=0", "optim.kind=adamw"]
    flags = [word for setting in settings for word in ("--set", setting)]
    measured, seconds = dict(MEASURED), {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks in [1, 2, 4]:
            # The best of two: other work on the machine only adds.
            for attempt in range(2):
                command = [*mpirun, str(ranks), program, "train", *flags, "--json", "--out", f"run-{ranks}-{attempt}"]
                result = run(command, folder)
                own = result["train_seconds"] / result["steps"]
                seconds[ranks] = min(seconds.get(ranks, own), own)
            print(f"{ranks} ranks of one thread: {duration(seconds[ranks])} per step", file=sys.stderr)
        same = {(Path(folder) / f"run-{ranks}-0/model/model.safetensors").read_bytes() for ranks in [1, 2, 4]}
        print("the same bits" if len(same) == 1 else "OTHER BITS", file=sys.stderr)
        parameters, tokens = result["parameters"], 32 * 64
        measured["flops"] = 6 * parameters * tokens / seconds[1]
        # Pairs of words of three kinds of frequency: more different n-grams than English has.
        words, state = [], 1
        for _ in range(500_000):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            words.append(f"w{int(200_000 ** ((state >> 33) / 2**31))}")
        text = Path(folder) / "text.txt"
        text.write_text("".join(word + ("\n" if at % 20 == 19 else " ") for at, word in enumerate(words)))
        counts = {}
        for ranks in [1, 2, 4]:
            command = [*mpirun, str(ranks), program, "count", text, "--order", "5", "--threads", "1", "--json", "--out", "t.counts"]
            result = min((run(command, folder) for _ in range(2)), key=lambda result: result["seconds"])
            counts[ranks] = result["seconds"]
            print(f"{ranks} ranks of one thread: {duration(counts[ranks])} per count of {len(words):,} words", file=sys.stderr)
        measured["count"] = len(words) / counts[1]
        measured["grams"] = result["ngrams"] / len(words)
        measured["gram_bytes"] = (Path(folder) / "t.counts").stat().st_size / result["ngrams"]
        for part in [1, 2]:
            run([program, "count", text, "--order", "5", "--shard", f"{part}/2", "--json", "--out", f"{part}.counts"], folder)
        merge = [program, "merge", "1.counts", "2.counts", "--threads", "1", "--json", "--out", "m.counts"]
        merged = min((run(merge, folder) for _ in range(2)), key=lambda result: result["seconds"])
        measured["merge"] = merged["ngrams"] / merged["seconds"]
    print(f"MEASURED = {json.dumps(measured)}", file=sys.stderr)
    return measured


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", help="measures with this program, built with the feature mpi")
    arguments = parser.parse_args()
    tables(measure(arguments.program) if arguments.program else MEASURED)


if __name__ == "__main__":
    main()
