#!/usr/bin/env python3
"""Sentence scores of an ARPA file or a KenLM binary under KenLM against scores that are given.

    /path/to/venv/bin/python scripts/check_arpa_with_kenlm.py MODEL SCORES [--tolerance 1e-5]
    /path/to/venv/bin/python scripts/check_arpa_with_kenlm.py MODEL TEXT --print > SCORES

SCORES has one sentence a line, as either of

    TSV     the sentence's log10 probability, a tab, the sentence
    JSONL   {"log10": -12.345, "sentence": "the words of it"}; "oov" and "words", if they are there, are compared as well

where "oov" is the number of unknown words, and "words" has [log10, length of the longest n-gram found, whether it is
unknown] of each word and </s>. --print writes such lines for the sentences of a text. Probabilities are those of the
words and </s> after <s>. Words are what stands between NUL, tab, newline, carriage return and space, as in KenLM's own
programs. Two scores agree if they differ by no more than the tolerance for each
token. Prints one JSON line and exits with 1 if any disagree. Needs the `kenlm` package from PyPI.
"""
import argparse
import json
import re
import sys

import kenlm

SEPARATORS = re.compile(r"[\0\t\n\r ]+")


def given(path):
    """(line number, log10, sentence, out-of-vocabulary words or None, scores of words or None)"""
    with open(path, encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            line = line.removesuffix("\n")
            try:
                if line.startswith("{"):
                    entry = json.loads(line)
                    yield number, float(entry["log10"]), entry["sentence"], entry.get("oov"), entry.get("words")
                else:
                    score, sentence = line.split("\t", 1)
                    yield number, float(score), sentence, None, None
            except (ValueError, KeyError) as error:
                sys.exit(f"{path}, line {number}: neither TSV nor JSON as described: {error!r}")


def score(model, words):
    """[log10, length of the longest n-gram found, whether it is unknown] of each word and </s> after <s>."""
    state, after = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    scores = []
    for word in [*words, "</s>"]:
        full = model.BaseFullScore(state, word, after)
        scores.append([full.log_prob, full.ngram_length, full.oov])
        state, after = after, state
    return scores


def line(model, sentence):
    """A line of JSONL."""
    words = score(model, [word for word in SEPARATORS.split(sentence) if word])
    total, unknown = sum(word[0] for word in words), sum(word[2] for word in words)
    return {"log10": total, "oov": unknown, "sentence": sentence, "words": words}


def print_scores(model, path):
    with open(path, encoding="utf-8", newline="\n") as lines:
        for sentence in lines:
            print(json.dumps(line(model, sentence.removesuffix("\n")), ensure_ascii=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("scores", metavar="SCORES")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="in log10, for each token")
    parser.add_argument("--print", action="store_true", help="print the scores of the sentences of a text")
    arguments = parser.parse_args()
    model = kenlm.Model(arguments.model)
    if arguments.print:
        return print_scores(model, arguments.scores)
    sentences = tokens = wrong = 0
    largest, total = 0.0, 0.0
    for number, expected, sentence, oov, given_words in given(arguments.scores):
        in_kenlm = line(model, sentence)
        theirs, unknown, words = in_kenlm["log10"], in_kenlm["oov"], in_kenlm["words"]
        sentences, tokens, total = sentences + 1, tokens + len(words), total + theirs
        differences = [abs(theirs - expected) / len(words)]
        same = oov in (None, unknown)
        if given_words is not None:
            differences += [abs(one[0] - other[0]) for one, other in zip(given_words, words)]
            same &= [word[1:] for word in given_words] == [word[1:] for word in words]
        largest = max(largest, *differences)
        # Written so that a score that is no number disagrees.
        if not same or not all(difference <= arguments.tolerance for difference in differences):
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
