#!/usr/bin/env python3
"""The Python module side by side with KenLM's: alternating rounds in one process, medians and ratios.

    python scripts/bench_wheel.py --build-binary PATH_OF_KENLMS TEXT     # with surprisal-lm, kenlm and numpy installed

Counts a model of TEXT's lines, and has KenLM make its probing file of the same ARPA file. Then the lines are scored, a
million of them, again from the first if there are fewer: by a loop over KenLM's `score` of its probing file, by the
drop-in's `score` in the same loop, of each file, by `Model.score` at once, of our file and of KenLM's, and by
`Model.score` of our file with threads=1 in one Python thread and in two.
A ratio is KenLM's time over ours, or one thread's over two threads' for each line: more is better. Prints one JSON line
a measurement, with the time of loading first, then a Markdown table.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time

import kenlm as theirs

import surprisal_lm
from surprisal_lm import kenlm as ours

LINES = 1_000_000


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def loop(model, lines):
    score = model.score
    for line in lines:
        score(line)


def in_threads(work, parts):
    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def models(arguments, work):
    """The paths of one model as each kind of file."""
    paths = {kind: os.path.join(work, f"model.{kind}") for kind in ("ngram", "arpa", "probing")}
    if not all(map(os.path.exists, paths.values())):
        text = os.path.join(work, "text")
        pathlib.Path(text).write_text("".join(f"{line}\n" for line in arguments.lines), "utf-8")
        surprisal_lm.count(pathlib.Path(text), [paths["ngram"], paths["arpa"]], order=arguments.order)
        made = [arguments.build_binary, "probing", paths["arpa"], paths["probing"]]
        subprocess.run(made, check=True, stderr=subprocess.DEVNULL)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--build-binary", default="build_binary", help="KenLM's program; default: on PATH")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=LINES, help="how many are scored")
    parser.add_argument("--work", help="a folder for the files, which are kept; default: a temporary one")
    arguments = parser.parse_args()
    count, text = arguments.lines, pathlib.Path(arguments.text).read_bytes().decode("utf-8", "replace")
    arguments.lines = [line for line in text.split("\n") if line.strip()]
    with tempfile.TemporaryDirectory(prefix="bench_wheel.") as temporary:
        paths = models(arguments, arguments.work or temporary)
        lines = (arguments.lines * (count // len(arguments.lines) + 1))[:count]
        loads = [seconds(lambda: surprisal_lm.Model.load(paths["ngram"])) for _ in range(11)]
        size = os.path.getsize(paths["ngram"])
        print(json.dumps({"case": "load", "bytes": size, "milliseconds": [round(1e3 * load, 2) for load in loads]}))
        model, probing = (surprisal_lm.Model.load(paths[kind]) for kind in ("ngram", "probing"))
        reference = theirs.Model(paths["probing"])
        drop_in = {kind: ours.Model(path) for kind, path in paths.items()}
        halves = lines[: count // 2], lines[count // 2 :]
        alone = lambda part: model.score(part, threads=1)
        cases = {
            "KenLM, a loop over score": lambda: loop(reference, lines),
            **{f"drop-in, .{kind}": lambda one=one: loop(one, lines) for kind, one in drop_in.items()},
            "Model.score(lines), .ngram": lambda: model.score(lines),
            "Model.score(lines), .probing": lambda: probing.score(lines),
            "threads=1, one Python thread": lambda: alone(lines),
            "threads=1, two Python threads": lambda: in_threads(alone, halves),
        }
        times = {name: [] for name in cases}
        for _ in range(arguments.rounds + 1):  # the first is not counted
            for name, work in cases.items():
                times[name].append(seconds(work))
        medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}
        print(f"\n{len(lines)} lines, {sum(len(line.split()) for line in lines)} words, order {arguments.order}")
        print("\n| | seconds | words and ends a second | ratio |\n|---|---|---|---|")
        tokens = sum(len(line.split()) + 1 for line in lines)
        for name, median in medians.items():
            of = "threads=1, one Python thread" if name.endswith("two Python threads") else "KenLM, a loop over score"
            row = {"case": name, "seconds": [round(taken, 3) for taken in times[name][1:]], "ratio": medians[of] / median}
            print(f"| {name} | {median:.2f} | {tokens / median / 1e6:.1f} M | {row['ratio']:.2f} |", flush=True)
            if arguments.work:
                with open(os.path.join(arguments.work, "rounds.jsonl"), "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
