#!/usr/bin/env python3
"""This tree beside an earlier commit: both built, benches, counting and scoring alternately, medians and ratios; and hashes.

    scripts/bench_commit.py [COMMIT] [--rounds 5] [--text FILE] [--isa avx2] [--only PART,PART] [--programs THAT THIS]

COMMIT (e62ad18 unless another is named, so that small losses do not add up unseen) is unpacked from git and built below
target/commits/. A ratio is this tree's time over the commit's, the median over rounds of two measurements that followed each
other: above 1 it is slower. Parts: step, loss, ngram (what `bench` times), count, score, train, same. --text gives the text that
is counted and scored; without it one is generated, the same every time. --isa sets SURPRISAL_ISA for both programs; --programs
names two that are built already, the commit's first.

The part `same` times nothing. Every config of COMMIT is trained by both for a few steps, from the same file and text: the models'
bytes and the nats must be the same. Then the default run, names.toml for 150 steps, char_kn6.toml and a small comparison are made
whole by both, and the files of their folders must say the same but for times: models, metrics.jsonl, cell.json. What differs on
purpose is in WANTED, and is said; what else differs is DIFFERENT, and the exit code is 1.

Needs Python 3.11, git and cargo; nothing else may run meanwhile.
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
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
THREADS = "2"
PARTS = ["step", "loss", "ngram", "count", "score", "train", "same"]
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
COMPARED = """
[compare]
seeds = [1, 2]
[data]
embedded = "stories"
[train]
steps = 40
batch_size = 4
block_size = 16
[eval]
stride = 16
every_steps = 20
[[variant]]
name = "bigram"
model = { kind = "bigram" }
[[variant]]
name = "transformer"
against = "bigram"
model = { kind = "transformer", n_layer = 1, n_head = 2, n_embd = 8 }
"""
CLOCKS = {"seconds", "train_seconds", "wall_seconds", "tokens_per_second"}
# What differs from e62ad18 on purpose: where (the file and its keys), how ("new", a number by this much at most, or "other"), why.
WANTED = [
    (r"metrics\.jsonl 0 texts$", "new", "4d0cb4e: a record names its texts by their hashes"),
    (r"metrics\.jsonl 0 identity$", "new", "79e5086: a record names its settings, so that a model is made again only from the same"),
    (r"metrics\.jsonl 0 opening$", "new", "6ee575e: a record keeps how its text starts"),
    (r"metrics\.jsonl \d+ text$|cell\.json sample$", "other", "6ee575e: samples start as texts start"),
    (r"cell\.json measure passage \d+ apart$", "new", "3ca9a17: a passage says where a space stands between words"),
    (r"cell\.json measure passage \d+ nats$", 1e-5, "3ca9a17: a passage is scored as an evaluation scores it"),
]


def build(folder, target):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    subprocess.run(["cargo", "build", "--release", "--locked", "--quiet"], cwd=folder, env=environment, check=True)
    return target / "release" / "surprisal"


def unpack(commit):
    """The tree of a commit, in a folder of its own that is kept for the next time."""
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
    return folder


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

    def run(self, program, words, folder=None):
        started = time.perf_counter()
        command = [str(program), *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True)
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


def records(folder):
    """What the files of a run's or a comparison's folder say; not those of checkpoints, and no report."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            found[name] = [json.loads(line) for line in path.read_text().splitlines()]
        elif path.suffix == ".toml":
            found[name] = tomllib.loads(path.read_text())
        elif path.suffix != ".html":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def differences(old, new, place=()):
    """Every place where the two are not the same, with what is there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted((old.keys() | new.keys()) - CLOCKS):
            yield from differences(old.get(key, "nothing"), new.get(key, "nothing"), (*place, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new)):
            yield from differences(*pair, (*place, str(index)))
    elif old != new:
        yield " ".join(place), old, new


def wanted(place, old, new):
    """Why a difference is wanted, if it is."""
    for where, how, why in WANTED:
        if re.search(where, place):
            near = isinstance(how, float) and isinstance(old, float) and isinstance(new, float) and abs(new - old) <= how
            if near or how == "other" or (how == "new" and old == "nothing"):
                return why
    return None


def same(both, folder, work):
    """Runs from start to end by both programs, each in a folder of its own, so that their paths are the same."""
    draw = random.Random(2)
    names = ["".join(draw.choice("aaeeiioulnrstmdhk") for _ in range(draw.randint(2, 15))) for _ in range(8000)]
    configs = folder / "configs"
    files = {
        "names.txt": "\n".join(names) + "\n",
        "names.toml": re.sub(r"(?m)^epochs\s*=.*$", "steps = 150", (configs / "names.toml").read_text()),
        "char_kn6.toml": (configs / "char_kn6.toml").read_text(),
        "comparison.toml": COMPARED,
    }
    runs = {
        "the default run": ["train"],
        "names.toml, 150 steps": ["train", "names.toml", "names.txt"],
        "char_kn6.toml": ["train", "char_kn6.toml"],
        "a comparison, 2 × 2": ["compare", "comparison.toml"],
    }
    different = 0
    for name, words in runs.items():
        seen = []
        for which in (0, 1):
            here = work / f"same{which}"
            here.mkdir(exist_ok=True)
            for file, text in files.items():
                (here / file).write_text(text)
            shutil.rmtree(here / "out", ignore_errors=True)
            both.run(both.programs[which], [*words, "--out", "out", "--quiet"], here)
            seen.append(records(here / "out"))
        reasons, others = {}, []
        for found in differences(*seen):
            why = wanted(*found)
            if why is None:
                others.append(found)
            else:
                reasons[why] = reasons.get(why, 0) + 1
        verdict = "same"
        if others:
            different += 1
            place, old, new = others[0]
            verdict = f"DIFFERENT in {len(others)} places, first {place}: {str(old)[:80]} became {str(new)[:80]}"
        print(f"| {name} | {len(seen[0])} files | {verdict} |", flush=True)
        for why, places in reasons.items():
            print(f"|   wanted | {places} places | {why} |", flush=True)
    return different


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?", default="e62ad18")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--isa")
    parser.add_argument("--only", type=lambda names: names.split(","), default=PARTS)
    parser.add_argument("--programs", type=lambda path: pathlib.Path(path).resolve(), nargs=2)
    arguments = parser.parse_args()
    unknown = [name for name in arguments.only if name not in PARTS]
    if unknown:
        parser.error(f"there is no part called {unknown[0]}; there are {', '.join(PARTS)}")
    folder = unpack(arguments.commit)
    programs = arguments.programs or [
        build(folder, folder / "target"),
        build(ROOT, pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))),
    ]
    environment = {**os.environ, **({"SURPRISAL_ISA": arguments.isa} if arguments.isa else {})}
    both = Both(programs, environment, arguments.rounds)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        text = arguments.text
        if text is None:
            text = work / "text.txt"
            generated(text, 20)
        print(f"{processor()}, {THREADS} threads, {arguments.rounds} rounds{', ' + arguments.isa if arguments.isa else ''}\n")
        if arguments.only != ["same"]:
            print(f"| | {arguments.commit} | this tree | ratio |\n|---|---|---|---|")
            parts(both, arguments.only, text.resolve(), work)
        if both.slowest:
            print(f"\nthe largest ratio is {both.slowest:.3f}\n")
        if "same" not in arguments.only:
            return 0
        print(f"| config, {STEPS} steps | {arguments.commit} | this tree | |\n|---|---|---|---|")
        different = hashes(both, folder, text.resolve(), work)
        print("\n| run | | |\n|---|---|---|")
        return 1 if different + same(both, folder, work) else 0


if __name__ == "__main__":
    sys.exit(main())
