#!/usr/bin/env python3
"""Sentence scores of an ARPA file under KenLM against scores that are given.

    /path/to/venv/bin/python scripts/check_arpa_with_kenlm.py MODEL.arpa SCORES [--tolerance 1e-5]

SCORES has one sentence a line, as either of

    TSV     the sentence's log10 probability, a tab, the sentence
    JSONL   {"log10": -12.345, "sentence": "the words of it"}; "oov", if it is there, is compared as well

and the probability is that of the words and </s> after <s>. Words are what stands between NUL, tab, newline, carriage
return and space, as in KenLM's own programs. Two scores agree if they differ by no more than the tolerance for each
token. Prints one JSON line and exits with 1 if any disagree. Needs the `kenlm` package from PyPI.
"""
import argparse
import json
import re
import sys

import kenlm

SEPARATORS = re.compile(r"[\0\t\n\r ]+")


def given(path):
    """(line number, log10, sentence, out-of-vocabulary words or None)"""
    with open(path, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removesuffix("\n")
            try:
                if line.startswith("{"):
                    entry = json.loads(line)
                    yield number, float(entry["log10"]), entry["sentence"], entry.get("oov")
                else:
                    score, sentence = line.split("\t", 1)
                    yield number, float(score), sentence, None
            except (ValueError, KeyError) as error:
                sys.exit(f"{path}, line {number}: neither TSV nor JSON as described: {error!r}")


def score(model, words):
    """log10 p(words </s> | <s>), and how many words the model lacks."""
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    total = 0.0
    for word in [*words, "</s>"]:
        total += model.BaseScore(state, word, after)
        state, after = after, state
    return total, sum(1 for word in words if word not in model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arpa", metavar="MODEL.arpa")
    parser.add_argument("scores", metavar="SCORES")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="in log10, for each token")
    arguments = parser.parse_args()
    model = kenlm.Model(arguments.arpa)
    sentences = tokens = wrong = 0
    largest, total = 0.0, 0.0
    for number, expected, sentence, oov in given(arguments.scores):
        words = [word for word in SEPARATORS.split(sentence) if word]
        theirs, unknown = score(model, words)
        sentences, tokens, total = sentences + 1, tokens + len(words) + 1, total + theirs
        difference = abs(theirs - expected) / (len(words) + 1)
        largest = max(largest, difference)
        # Written so that a score that is no number disagrees.
        if not difference <= arguments.tolerance or oov not in (None, unknown):
            wrong += 1
            if wrong <= 10:
                print(
                    f"line {number}: {expected} here, {theirs} in KenLM"
                    + (f"; {oov} and {unknown} unknown words" if oov is not None else "") + f": {sentence[:100]}",
                    file=sys.stderr,
                )
    result = {
        "order": model.order, "sentences": sentences, "tokens": tokens, "log10": total,
        "largest_difference_per_token": largest, "disagree": wrong,
    }
    print(json.dumps(result))
    sys.exit(1 if wrong or not sentences else 0)


if __name__ == "__main__":
    main()
