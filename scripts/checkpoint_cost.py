#!/usr/bin/env python3
"""What surviving costs: a checkpoint against the time it protects, and an interruption against a run left alone.

    cargo build --release && scripts/checkpoint_cost.py

Prints seconds a checkpoint (from runs with and without, alternating), its share of the default five minutes, and for a
run of three epochs that a signal stops halfway and that is then resumed: the extra time, in all and without the start
of a second process (reading and encoding the text), beside one step and one checkpoint.
"""

import json
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/surprisal"
# The default model, shorter.
SHORT = ["--set", "train.steps=120", "--set", "eval.every_steps=0", "--set", "sample.tokens=0", "--set", "data.val_fraction=0.01"]


def run(*arguments):
    """Runs the binary to its end; seconds, and the last event."""
    started = time.monotonic()
    done = subprocess.run([BINARY, *map(str, arguments), "--json", "--quiet"], capture_output=True, check=True)
    return time.monotonic() - started, json.loads(done.stdout.splitlines()[-1])


def checkpoint_seconds(folder):
    """Medians over alternating runs: (wall with 60 checkpoints − wall without) / 60."""
    differences = []
    for i in range(3):
        without, _ = run("train", *SHORT, "--out", folder / f"without{i}")
        with_, _ = run("train", *SHORT, "--set", "checkpoint.every_steps=2", "--out", folder / f"with{i}")
        differences.append((with_ - without) / 60)
    return statistics.median(differences)


def interruption(folder):
    """A run of three epochs left alone, and one stopped halfway by SIGTERM and resumed."""
    config = [ROOT / "configs/mlp.toml", "--set", "data.embedded=stories", "--set", "sample.tokens=0"]
    extra, inside, steps = [], [], []
    for i in range(3):
        whole, result = run("train", *config, "--out", folder / f"whole{i}")
        steps.append(result["train_seconds"] / result["steps"])
        started = time.monotonic()
        out = folder / f"stopped{i}"
        process = subprocess.Popen([BINARY, "train", *map(str, config), "--out", out, "--quiet"])
        time.sleep(whole / 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        first = time.monotonic() - started
        second, resumed = run("train", "--resume", "--out", out)
        extra.append(first + second - whole)
        # train_seconds counts steps alone: work that was done twice would be in it.
        inside.append(resumed["train_seconds"] - result["train_seconds"])
        assert (out / "model/model.safetensors").read_bytes() == (folder / f"whole{i}/model/model.safetensors").read_bytes()
        print(f"  whole {whole:.2f} s, stopped {first:.2f} s + resumed {second:.2f} s, the same bits")
    return statistics.median(extra), statistics.median(inside), statistics.median(steps), result["steps"]


def startup(folder):
    """What a second process costs before its first step: a run of one step."""
    times = []
    for i in range(3):
        seconds, result = run("train", ROOT / "configs/mlp.toml", "--set", "train.epochs=0.000001", "--set",
                              "sample.tokens=0", "--set", "eval.stride=64", "--out", folder / f"start{i}")
        times.append(seconds)
    return statistics.median(times)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checkpoint = checkpoint_seconds(folder)
        print(f"checkpoint of the default model: {checkpoint * 1e3:.1f} ms, {100 * checkpoint / 300:.4f} % of the default 5 minutes")
        extra, inside, step, steps = interruption(folder)
        print(f"interrupted at epochs = 3 ({steps} steps): {extra:.2f} s more wall time, {inside:+.2f} s in steps")
        print(f"one step {step * 1e3:.1f} ms; a process that makes one step and evaluates takes {startup(folder):.2f} s")


main()
