#!/usr/bin/env python3
"""This tree beside an earlier commit: both built, benches, counting and scoring alternately, medians and ratios; and hashes.

    scripts/bench_commit.py [COMMIT] [--rounds 5] [--text FILE] [--isa avx2] [--only PART,PART] [--skip-hashes]

COMMIT (e62ad18 unless another is named, so that small losses do not add up unseen) is unpacked from git and built below
target/commits/. A ratio is this tree's time over the commit's, the median over rounds of two measurements that followed each
other: above 1 it is slower. Parts: step, loss, ngram (what `bench` times), count, score, train. --text gives the text that is
counted and scored; without it one is generated, the same every time. --isa sets SURPRISAL_ISA for both programs. Then every
config of COMMIT is trained by both for a few steps, from the same file and text: the models' bytes and the nats must be the
same, or the line says DIFFERENT and the exit code is 1. Needs Python 3.11, git and cargo; nothing else may run meanwhile.
"""
import argparse
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
THREADS = "2"
PARTS = ["step", "loss", "ngram", "count", "score", "train"]
# Of the benches, what stands for the rest and takes little time.
CASES = {"step": ["cpu/f32", "cpu/bf16"], "loss": ["in_place/4096x50257", "in_place/8192x65"], "ngram": [""]}
TRAINED = """
[data]
embedded = "stories"
[tokenizer]
kind = "char"
[train]
steps = 150
threads = 2
[eval]
stride = 64
every_epochs = 0
[sample]
tokens = 0
"""
STEPS = 6  # of every config whose bits are compared


def build(folder, target):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, env=environment, check=True)
    return target / "release" / "surprisal"


def build_commit(commit):
    """The program of a commit, in a folder of its own that is kept for the next time."""
    full = subprocess.run(
        ["git", "rev-parse", "--verify", f"{commit}^{{commit}}"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    folder = ROOT / "target" / "commits" / full[:12]
    if not (folder / "Cargo.toml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.Popen(["git", "archive", full], cwd=ROOT, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=archive.stdout, check=True)
        if archive.wait() != 0:
            sys.exit(f"git cannot unpack {full}")
    return folder, build(folder, folder / "target")


def processor():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return "unknown processor"


def generated(path, megabytes):
    """Sentences of words with Zipf's frequencies, each word leaning on the one before."""
    draw = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(draw.choice(letters[: 6 + i % 20]) for _ in range(2 + i % 7)) for i in range(60_000)]
    with open(path, "w", encoding="ascii") as out:
        size, word = 0, 0
        while size < megabytes * 1_000_000:
            line = []
            for _ in range(draw.randint(4, 24)):
                rank = int(len(words) ** draw.random()) - 1
                word = (word * 7 + rank % 16) % len(words) if draw.random() < 0.5 else rank
                line.append(words[word])
            text = " ".join(line) + "\n"
            size += len(text)
            out.write(text)


class Both:
    """The two programs, and what was measured of them."""

    def __init__(self, programs, environment, rounds):
        self.programs, self.environment, self.rounds = programs, environment, rounds
        self.slowest = 0.0

    def run(self, program, words):
        started = time.perf_counter()
        done = subprocess.run([str(program), *map(str, words)], env=self.environment, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{program} {' '.join(map(str, words))}: exit {done.returncode}\n{done.stderr}")
        return seconds, done.stdout

    def alternate(self, name, unit, measure):
        """measure(program, which) gives one number or a dict of them; the first round warms up."""
        found = []
        for round_ in range(self.rounds + 1):
            # Who goes first changes, so that a drift of the machine takes from both alike.
            order = [0, 1] if round_ % 2 == 0 else [1, 0]
            pair = [None, None]
            for which in order:
                value = measure(self.programs[which], which)
                pair[which] = value if isinstance(value, dict) else {"": value}
            if round_ > 0:
                found.append(pair)
        for key in found[0][0]:
            values = [[pair[which][key] for pair in found] for which in (0, 1)]
            old, new = (statistics.median(v) for v in values)
            ratio = statistics.median(b / a for a, b in zip(*values))
            self.slowest = max(self.slowest, ratio)
            label = f"{name} {key}".strip()
            print(f"| {label} | {old:.4g} {unit} | {new:.4g} {unit} | {ratio:.3f} |", flush=True)


def parts(both, wanted, text, work):
    def bench(what, case):
        def measure(program, _):
            words = ["bench", what, "--threads", THREADS, "--seconds", "1", *(["--case", case] if case else [])]
            lines = [json.loads(line) for line in both.run(program, words)[1].splitlines()]
            return {line["name"]: line["median_ms"] for line in lines}

        both.alternate(f"bench {what}", "ms", measure)

    for what in ["step", "loss", "ngram"]:
        if what in wanted:
            for case in CASES[what]:
                bench(what, case)

    def count(end):
        def measure(program, which):
            out = work / f"{which}.{end}"
            out.unlink(missing_ok=True)
            os.sync()
            words = ["count", text, "--order", "5", "--threads", THREADS, "--literal-specials", "skip", "--out", out]
            return both.run(program, words)[0]

        return measure

    if "count" in wanted:
        for end in ["arpa", "ngram"]:
            both.alternate(f"count to .{end}, whole process", "s", count(end))
            same = (work / f"0.{end}").read_bytes() == (work / f"1.{end}").read_bytes()
            print(f"|   the two .{end} files | | | {'the same bytes' if same else 'DIFFERENT'} |", flush=True)
    if "score" in wanted:
        scored = work / "scored.txt"
        with open(text, "rb") as whole:
            whole.seek(max(0, os.path.getsize(text) - 4_000_000))
            whole.readline()
            scored.write_bytes(whole.read())
        for which in (0, 1):
            if not (work / f"{which}.ngram").exists():
                count("ngram")(both.programs[which], which)
        both.alternate(
            "score 4 MB, whole process",
            "s",
            lambda program, which: both.run(program, ["eval", work / f"{which}.ngram", scored, "--threads", THREADS])[0],
        )
    if "train" in wanted:
        config = work / "train.toml"
        config.write_text(TRAINED)

        def train(program, which):
            out = work / f"run{which}"
            shutil.rmtree(out, ignore_errors=True)
            wall, lines = both.run(program, ["train", config, "--out", out, "--json", "--quiet"])
            result = json.loads(lines.splitlines()[-1])
            return {"150 steps": result["train_seconds"], "whole process": wall}

        both.alternate("train", "s", train)


def shortened(config):
    """The config with a few steps in the place of its own length."""
    text = re.sub(r"(?m)^(epochs|steps|budget|warmup|every_steps|every_epochs|ramp_steps|block_start|batch_start)\s*=.*$", "", config)
    text = re.sub(r"(?m)^\[train\].*$", f"[train]\nsteps = {STEPS}", text)
    text = re.sub(r"(?m)^\[optim\].*$", "[optim]\nwarmup = 2", text)
    text = re.sub(r"(?m)^\[eval\].*$", "[eval]\nevery_epochs = 0", text)
    return text if re.search(r"(?m)^\[train\]", text) else f"{text}\n[train]\nsteps = {STEPS}\n"


def hashes(both, folder, text, work):
    """Every config of the commit, trained by both programs."""
    little = work / "little.txt"
    with open(text, "rb") as whole:
        little.write_bytes(whole.read(300_000).rsplit(b"\n", 1)[0] + b"\n")
    different = 0
    for path in sorted((folder / "configs").glob("*.toml")):
        if path.name.startswith("compare_"):
            continue
        config = path.read_text()
        counted = 'kind = "ngram"' in config
        short = work / path.name
        short.write_text(config if counted else shortened(config))
        seen = []
        for which in (0, 1):
            out = work / f"bits{which}"
            shutil.rmtree(out, ignore_errors=True)
            words = ["train", short, little, "--out", out, "--json", "--quiet", "--set", "sample.tokens=0"]
            result = json.loads(both.run(both.programs[which], words)[1].splitlines()[-1])
            models = sorted(file for file in (out / "model").iterdir() if file.suffix in (".safetensors", ".ngram"))
            hashed = hashlib.sha256(b"".join(file.read_bytes() for file in models)).hexdigest()[:16]
            seen.append((hashed, result["eval"]["nats_per_token"]))
        same = seen[0] == seen[1]
        different += not same
        print(f"| {path.name} | {seen[0][0]} | {seen[1][0]} | {'the same' if same else f'DIFFERENT {seen}'} |", flush=True)
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="e62ad18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--isa")
    parser.add_argument("--only", type=lambda names: names.split(","), default=PARTS)
    parser.add_argument("--skip-hashes", action="store_true")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.only if name not in PARTS and name]
    if unknown:
        parser.error(f"there is no part called {unknown[0]}; there are {', '.join(PARTS)}")
    folder, old = build_commit(arguments.commit)
    new = build(ROOT, pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")))
    environment = {**os.environ, **({"SURPRISAL_ISA": arguments.isa} if arguments.isa else {})}
    both = Both([old, new], environment, arguments.rounds)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        text = arguments.text
        if text is None:
            text = work / "text.txt"
            generated(text, 20)
        print(f"{processor()}, {THREADS} threads, {arguments.rounds} rounds{', ' + arguments.isa if arguments.isa else ''}\n")
        print(f"| | {arguments.commit} | this tree | ratio |\n|---|---|---|---|")
        parts(both, arguments.only, text.resolve(), work)
        if both.slowest:
            print(f"\nthe largest ratio is {both.slowest:.3f}")
        if arguments.skip_hashes:
            return 0
        print(f"\n| config, {STEPS} steps | {arguments.commit} | this tree | |\n|---|---|---|---|")
        return 1 if hashes(both, folder, text.resolve(), work) else 0


if __name__ == "__main__":
    sys.exit(main())
