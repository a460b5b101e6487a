#!/usr/bin/env python3
"""Writes a large text of invented sentences to standard output, the same for the same seed.

    python3 scripts/large_text.py MEGABYTES [SEED] > large.txt

Words follow Zipf's law over a vocabulary of 50,000, in sentences of 3 to 20 words and paragraphs of a few sentences.
For measurements of texts that are larger than memory.
"""

import itertools
import random
import sys

BLOCK = 1 << 20


def vocabulary(rng, size=50_000):
    """Distinct words of two to five syllables."""
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
    words = {}
    while len(words) < size:
        words["".join(rng.choices(syllables, k=rng.randint(1, 4)))] = None
    return list(words)


def paragraphs(rng):
    words = vocabulary(rng)
    weights = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(len(words))))
    while True:
        # Drawn together, which is faster.
        drawn = iter(rng.choices(words, cum_weights=weights, k=200_000))
        paragraph = []
        for first in drawn:
            rest = itertools.islice(drawn, rng.randint(2, 19))
            paragraph.append(" ".join([first.capitalize(), *rest]) + rng.choice(".....?!"))
            if rng.random() < 0.2:
                yield " ".join(paragraph) + "\n"
                paragraph = []


def main():
    size = int(float(sys.argv[1]) * 1_000_000)
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    # A megabyte takes a second in Python: after 64 of them, the paragraphs are shuffled and written again.
    pool, bytes_made = [], 0
    written = 0
    source = paragraphs(rng)
    while written < size:
        if bytes_made < 64 * BLOCK:
            part = list(itertools.islice(source, 2_000))
            pool.extend(part)
            bytes_made += sum(map(len, part))
        else:
            part = rng.choices(pool, k=2_000)
        text = "".join(part)[: size - written]
        sys.stdout.write(text)
        written += len(text)


if __name__ == "__main__":
    main()
