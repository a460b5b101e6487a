#!/usr/bin/env python3
"""The ∞-gram side by side with tokengrams on the bytes of a text: one process, alternating queries, medians and ratios.

    python scripts/bench_infinigram.py TEXT        # with surprisal-lm, tokengrams and numpy installed

Both index the training part of TEXT (all but its last tenth). Then the counts of the next byte, which must be equal, and its smoothed
distribution are asked for after contexts from the rest of the text. Prints one JSON object; a ratio is our time over theirs.
"""
import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

import numpy
import surprisal_lm
import tokengrams

CONTEXTS, LENGTH = 300, 24


def timed(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--vocab", type=int, default=256, help="tokengrams' vocabulary: 256, or its default of 65,536")
    arguments = parser.parse_args()
    text = arguments.text.read_bytes()
    with tempfile.TemporaryDirectory(prefix="bench_infinigram.") as work:
        run = os.path.join(work, "run")
        config = {"model": {"kind": "infinigram"}, "tokenizer": {"kind": "byte"}}
        seconds = {}
        whole, _ = timed(lambda: surprisal_lm.train(arguments.text, model=config, out=run, progress=False))
        result = surprisal_lm.Model.load(run).result
        seconds["ours, building"] = result["train_seconds"]
        ours = surprisal_lm.Model.load(os.path.join(run, "model", "model.infgram"))
        size = os.path.getsize(os.path.join(run, "model", "model.infgram"))
        tokens = result["parameters"]
        train, rest = text[:tokens], text[tokens:]
        document, index = os.path.join(work, "text.bin"), os.path.join(work, "text.idx")
        numpy.frombuffer(train, numpy.uint8).astype("<u2").tofile(document)
        seconds["theirs, building"], theirs = timed(lambda: tokengrams.MemmapIndex.build(document, index, vocab=arguments.vocab))
        times = {name: [] for name in ("our counts", "their counts", "our distribution", "their distribution")}
        step = len(rest) // CONTEXTS
        for i in range(CONTEXTS):
            context = list(rest[i * step:i * step + LENGTH])
            # The longest part of it that both have, and one token more is asked for.
            while not ours.next_counts(context):
                context = context[1:]
            took, own = timed(lambda: ours.next_counts(context))
            times["our counts"].append(took)
            took, other = timed(lambda: theirs.count_next(context))
            times["their counts"].append(took)
            assert own == {token: count for token, count in enumerate(other) if count}, context
            took, row = timed(lambda: ours.next(context))
            times["our distribution"].append(took)
            assert abs(numpy.exp(row).sum() - 1) < 1e-9
            took, _ = timed(lambda: theirs.get_smoothed_probs(context))
            times["their distribution"].append(took)
        milliseconds = {name: round(1e3 * statistics.median(of), 4) for name, of in times.items()}
        print(json.dumps({
            "vocab": arguments.vocab, "tokens": tokens, "bytes_per_token": round(size / tokens, 3), "nats_per_token": result["eval"]["nats_per_token"],
            "seconds": {name: round(took, 2) for name, took in seconds.items()},
            "milliseconds": milliseconds,
            "ratios": {
                "building": round(seconds["ours, building"] / seconds["theirs, building"], 3),
                "counts": round(milliseconds["our counts"] / milliseconds["their counts"], 3),
                "distribution": round(milliseconds["our distribution"] / milliseconds["their distribution"], 3),
            },
        }))


main()
