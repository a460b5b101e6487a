"""Trains a little with --log tensorboard,csv, interrupted and gone on with, and reads both back: the events with TensorBoard's own
reader, the table with Python's. Needs `pip install tensorboard`.

    cargo build --release && python scripts/check_logs.py [target/release/surprisal]
"""

import csv
import json
import math
import pathlib
import subprocess
import sys
import tempfile

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

surprisal = sys.argv[1] if len(sys.argv) > 1 else "target/release/surprisal"
surprisal = str(pathlib.Path(surprisal).resolve())
TAGS = {
    "loss/objective": ["objective"],
    "loss/train_nll": ["train_nll"],
    "loss/validation": ["eval", "nats_per_token"],
    "validation/perplexity": ["eval", "perplexity"],
    "validation/perplexity_excluding_oov": ["eval", "perplexity_excluding_oov"],
    "validation/kl": ["eval", "kl"],
}


def close(a, b):
    # Events hold 32 bits.
    return math.isclose(a, b, rel_tol=1e-6)


with tempfile.TemporaryDirectory() as folder:
    run = pathlib.Path(folder) / "run"
    small = ["--set", "model.kind=mlp", "--set", "model.n_hidden=32", "--set", "train.steps=300", "--set", "eval.every_steps=20"]
    small += ["--set", "data.train_fraction=0.05", "--set", "checkpoint.every_steps=50", "--set", "loss.label_smoothing=0.1"]
    log = ["--log", "tensorboard,csv", "--out", str(run), "--quiet"]
    process = subprocess.Popen([surprisal, "train", *small, *log])
    while process.poll() is None and not (run / "checkpoints" / "step_00000100").exists():
        pass
    process.kill()
    process.wait()
    subprocess.run([surprisal, "train", "--resume", *log], check=True)

    events = [json.loads(line) for line in open(run / "metrics.jsonl")]
    epochs = [event for event in events if event["event"] == "epoch"]
    assert len(epochs) >= 15
    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    count = 0
    for tag, path in TAGS.items():
        scalars = reader.Scalars(tag)
        assert [s.step for s in scalars] == [e["step"] for e in epochs], (tag, [s.step for s in scalars])
        for scalar, event in zip(scalars, epochs):
            for key in path:
                event = event[key]
            assert close(scalar.value, event), (tag, scalar, event)
            count += 1

    rows = list(csv.DictReader(open(run / "metrics.csv", newline="")))
    assert len(rows) == len(events)
    for row, event in zip(rows, events):
        assert row["event"] == event["event"]
        if event["event"] == "epoch":
            assert float(row["eval.nats_per_token"]) == event["eval"]["nats_per_token"]
    print(f"{count} scalars and {len(rows)} rows read back, over {len(list((run / 'tensorboard').iterdir()))} event files")
