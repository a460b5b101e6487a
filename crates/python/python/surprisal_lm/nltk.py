"""N-gram models in the shape of `nltk.lm`, with the same numbers, and fast.

    from surprisal_lm.nltk import KneserNeyInterpolated, padded_everygram_pipeline
    model = KneserNeyInterpolated(3)
    model.fit(*padded_everygram_pipeline(3, sentences))      # sentences are lists of words
    model.score("the", ["in"]), model.perplexity(ngrams), model.generate(10, random_seed=1)

NLTK is not needed; its pipelines, vocabularies and counters are taken, too. `logscore` and `entropy`
are in bits, as NLTK's are, and not in nats as everywhere else in `surprisal_lm`. Scores are NLTK's to
the last bit, and the words that `generate` draws are NLTK's for the same seed, but for these:

- `KneserNeyInterpolated`, where a context of a lower order was seen at the very start of a padded
  sentence. NLTK gives the lower order the weight D N₁₊(h ·) / N₁₊(· h ·), with the number of words
  that were seen after h. The formula of Chen and Goodman (1998) has those that were seen after h
  with a word before h, which are those that D was taken from; this module has the formula. They differ
  after nothing but `<s>`, where NLTK's probabilities sum to 1 + D / N₁₊(· h ·), and so after every
  context that backs off to it. Where such a context never had a word before it, NLTK divides by
  zero, and so it does for order 1; here the lower order, or the relative frequency, is the score.
- NLTK inserts every context that it is asked about into its counts. Asking changes nothing here.

As in NLTK, each sentence has order − 1 of `<s>` and of `</s>`, all of which are words that are
predicted; `StupidBackoff` gives no distribution; and all but `Lidstone` and `Laplace` give a word that
was never seen the probability 0. Its logarithm is infinite, as NLTK's is, with the warning
`ZeroProbability`, which names the cause and what has no such words. The best of that is modified
Kneser-Ney, which also counts what is too much for Python's dictionaries:
`surprisal_lm.train(pathlib.Path("text.txt"), model="modified_kneser_ney")`.
"""

import math
import random
import warnings
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, TypeAlias

from ._errors import UsageError

__all__ = [
    "MLE",
    "AbsoluteDiscountingInterpolated",
    "ConditionalFreqDist",
    "FreqDist",
    "KneserNeyInterpolated",
    "Laplace",
    "LanguageModel",
    "Lidstone",
    "NgramCounter",
    "StupidBackoff",
    "Vocabulary",
    "WittenBellInterpolated",
    "ZeroProbability",
    "everygrams",
    "pad_both_ends",
    "padded_everygram_pipeline",
]

Ngram: TypeAlias = tuple[str, ...]
Context: TypeAlias = Sequence[str] | None


class ZeroProbability(UserWarning):
    """A logarithm is infinite, because a word has probability zero."""


def pad_both_ends(sentence: Iterable[str], n: int) -> Iterator[str]:
    """The words between n − 1 of `<s>` and n − 1 of `</s>`."""
    return chain(["<s>"] * (n - 1), sentence, ["</s>"] * (n - 1))


def everygrams(words: Sequence[str], max_len: int) -> Iterator[Ngram]:
    """The n-grams of all lengths up to `max_len`, by their first word."""
    for start in range(len(words)):
        for end in range(start + 1, min(start + max_len, len(words)) + 1):
            yield tuple(words[start:end])


class _Everygrams:
    """The n-grams of each padded sentence, which can be counted without making each of them."""

    def __init__(self, order: int, sentences: Iterable[Iterable[str]]) -> None:
        self._order = order
        self._sentences = sentences

    def __iter__(self) -> Iterator[Iterator[Ngram]]:
        return (everygrams(words, self._order) for words in self.padded())

    def padded(self) -> Iterator[list[str]]:
        return (list(pad_both_ends(words, self._order)) for words in self._sentences)

    def counted(self) -> Counter[Ngram]:
        counts: Counter[Ngram] = Counter()
        for words in self.padded():
            for length in range(1, self._order + 1):
                counts.update(zip(*(words[start:] for start in range(length)), strict=False))
        return counts


def padded_everygram_pipeline(
    order: int, text: Iterable[Iterable[str]]
) -> tuple[Iterable[Iterable[Ngram]], Iterator[str]]:
    """What `fit` takes: the n-grams of each padded sentence, and all words. Unlike NLTK's, it also
    takes an iterator, which it keeps."""
    sentences = list(text) if isinstance(text, Iterator) else text
    padded = _Everygrams(order, sentences)
    return padded, chain.from_iterable(padded.padded())


class Vocabulary:
    """Words with their counts. Those below `unk_cutoff` are the word `unk_label`."""

    def __init__(
        self,
        counts: Iterable[str] | Mapping[str, int] | None = None,
        unk_cutoff: int = 1,
        unk_label: str = "<UNK>",
    ) -> None:
        if unk_cutoff < 1:
            raise UsageError(f"unk_cutoff is {unk_cutoff}", "1 keeps all words")
        self.unk_label = unk_label
        self.cutoff = unk_cutoff
        self.counts: Counter[str] = Counter()
        self.update(counts if counts is not None else ())

    def update(self, counts: Iterable[str] | Mapping[str, int]) -> None:
        """Adds words, or words with counts."""
        self.counts.update(counts)
        self._len = sum(1 for _ in self)

    def lookup(self, words: Any) -> Any:
        """The word, or `unk_label`; a tuple for several words, and for n-grams a tuple of tuples."""
        if isinstance(words, str):
            return words if words in self else self.unk_label
        if isinstance(words, Iterable):
            return tuple(self.lookup(word) for word in words)
        raise TypeError(f"a vocabulary has words, not {type(words).__name__}")

    def __getitem__(self, word: str) -> int:
        return self.cutoff if word == self.unk_label else self.counts[word]

    def __contains__(self, word: object) -> bool:
        return word == self.unk_label or self.counts.get(word, 0) >= self.cutoff  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[str]:
        known = (word for word in self.counts if word in self)
        return chain(known, [self.unk_label] if self.counts else [])

    def __len__(self) -> int:
        return self._len

    def __eq__(self, other: object) -> bool:
        def content(of: Vocabulary) -> Any:
            return of.unk_label, of.cutoff, of.counts

        return isinstance(other, Vocabulary) and content(self) == content(other)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"<Vocabulary with cutoff={self.cutoff} unk_label='{self.unk_label}' and {len(self)} items>"


class FreqDist(Counter[str]):
    """Counts of words."""

    def N(self) -> int:
        """The sum of the counts."""
        return sum(self.values())

    def B(self) -> int:
        """The number of words."""
        return len(self)

    def freq(self, word: str) -> float:
        """The relative frequency; 0 where there are no counts."""
        return self[word] / n if (n := self.N()) else 0.0


class ConditionalFreqDist(dict[Ngram, FreqDist]):
    """Counts of words by the words before them."""

    def __missing__(self, context: Ngram) -> FreqDist:
        return FreqDist()

    def conditions(self) -> list[Ngram]:
        """All contexts."""
        return list(self)

    def N(self) -> int:
        """The sum of the counts."""
        return sum(counts.N() for counts in self.values())


class NgramCounter:
    """Counts of n-grams: `counter["a"]` of a word, `counter[["a", "b"]]["c"]` after others, and
    `counter[3]` of all 3-grams by context."""

    def __init__(self, ngram_text: Iterable[Iterable[Ngram]] | None = None) -> None:
        self.unigrams = FreqDist()
        self._counts: dict[int, FreqDist | ConditionalFreqDist] = {1: self.unigrams}
        self._updates = 0
        if ngram_text is not None:
            self.update(ngram_text)

    def update(
        self,
        ngram_text: Iterable[Iterable[Ngram]],
        lookup: Callable[[str], str] | None = None,
    ) -> None:
        """Counts the n-grams of sentences, which are tuples; `lookup` gives the word for a word."""
        if isinstance(ngram_text, _Everygrams):
            found = ngram_text.counted()
        else:
            found = Counter(chain.from_iterable(ngram_text))
        for ngram in found:
            if not isinstance(ngram, tuple):
                raise TypeError(f"the n-gram {ngram!r} is no tuple, but {type(ngram).__name__}")
        words = {word: word for word in chain.from_iterable(found)}
        if lookup is not None:
            words = {word: lookup(word) for word in words}
        is_same = all(word == own for word, own in words.items())
        for ngram, count in found.items():
            if not ngram:
                continue
            own = ngram if is_same else tuple(words[word] for word in ngram)
            context, word = own[:-1], own[-1]
            if not context:
                self.unigrams[word] += count
                continue
            by_context: Any = self._counts.get(len(own))
            if by_context is None:
                by_context = self._counts[len(own)] = ConditionalFreqDist()
            counts = by_context.get(context)
            if counts is None:
                counts = by_context[context] = FreqDist()
            counts[word] += count
        self._updates += 1

    def N(self) -> int:
        """The sum of the counts of all lengths."""
        return sum(counts.N() for counts in self._counts.values())

    def __getitem__(self, item: int | str | Sequence[str]) -> Any:
        if isinstance(item, int):
            return self._counts.get(item, ConditionalFreqDist())
        if isinstance(item, str):
            return self.unigrams[item]
        return self[len(item) + 1][tuple(item)] if item else self.unigrams

    def __len__(self) -> int:
        return len(self._counts)

    def __contains__(self, length: object) -> bool:
        return length in self._counts

    def __str__(self) -> str:
        return f"<NgramCounter with {len(self)} ngram orders and {self.N()} ngrams>"


class _Level:
    """Counts of words after one context, with their sum and number."""

    __slots__ = ("counts", "n", "types")

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = counts
        self.n = sum(counts.values())
        self.types = sum(count > 0 for count in counts.values())

    def freq(self, word: str) -> float:
        return self.counts.get(word, 0) / self.n if self.n else 0.0


class LanguageModel:
    """A model that is fitted to n-grams; see the module. `vocabulary` and `counter` are filled by
    `fit`, unless they are given."""

    def __init__(self, order: int, vocabulary: Any = None, counter: Any = None) -> None:
        if order < 1:
            raise UsageError(f"order is {order}", "an n-gram has a word or more: order=3")
        self.order = order
        self.vocab = Vocabulary() if vocabulary is None else vocabulary
        self.counts = NgramCounter() if counter is None else counter
        self._levels: dict[Ngram, _Level] = {}
        self._lower: dict[Ngram, _Level] = {}
        self._of: Any = None

    def fit(
        self, text: Iterable[Iterable[Ngram]], vocabulary_text: Iterable[str] | None = None
    ) -> None:
        """Counts the n-grams of sentences. The vocabulary is that of `vocabulary_text`, unless it
        was given before."""
        if not len(self.vocab):
            if vocabulary_text is None:
                message = "there is no vocabulary, and no text to make it of"
                raise UsageError(message, "fit(*padded_everygram_pipeline(order, sentences))")
            self.vocab.update(vocabulary_text)
        if isinstance(self.counts, NgramCounter):
            self.counts.update(text, self.vocab.lookup)
        else:
            self.counts.update(self.vocab.lookup(sentence) for sentence in text)
        self._of = None

    def _prepared(self) -> None:
        """Sums of the counts, made again where these have changed."""
        of = getattr(self.counts, "_updates", 0), id(self.counts)
        if of == self._of:
            return
        self._levels = {(): _Level(self.counts.unigrams)}
        for length in range(2, self.order + 1):
            self._levels.update((context, _Level(counts)) for context, counts in self.counts[length].items())
        self._lower = self._continuations() if isinstance(self, KneserNeyInterpolated) else self._levels
        self._of = of

    def _continuations(self) -> dict[Ngram, _Level]:
        """The numbers of different words before each n-gram, in place of its count."""
        numbers: dict[Ngram, dict[str, int]] = {}
        for length in range(2, self.order + 1):
            for context, counts in self.counts[length].items():
                lower = numbers.setdefault(context[1:], {})
                for word, count in counts.items():
                    lower[word] = lower.get(word, 0) + (count > 0)
        return {context: _Level(counts) for context, counts in numbers.items()}

    def _level(self, context: Ngram) -> _Level:
        return self._levels.get(context) or _Level({})

    def context_counts(self, context: Context) -> Any:
        """The counts of words after `context`."""
        return self.counts[len(context) + 1][tuple(context)] if context else self.counts.unigrams

    def score(self, word: str, context: Context = None) -> float:
        """The probability of the word after the context; words not in the vocabulary are
        `unk_label`."""
        return self.unmasked_score(self.vocab.lookup(word), self.vocab.lookup(context or ()))

    def unmasked_score(self, word: str, context: Context = None) -> float:
        """The probability of the word after the context, both of which are in the vocabulary."""
        self._prepared()
        return self._score(word, tuple(context or ()))

    def _score(self, word: str, context: Ngram) -> float:
        raise NotImplementedError

    def logscore(self, word: str, context: Context = None) -> float:
        """log₂ of the score."""
        if score := self.score(word, context):
            return math.log(score, 2)
        self._warn(f"the logscore is infinite: {self._why(word, context)}")
        return -math.inf

    def entropy(self, text_ngrams: Iterable[Ngram]) -> float:
        """The mean of −log₂ of the scores of n-grams, in bits: the cross-entropy."""
        bits, zeros = [], []
        for ngram in text_ngrams:
            if score := self.score(ngram[-1], ngram[:-1]):
                bits.append(-math.log(score, 2))
            else:
                zeros.append(ngram)
        if zeros:
            share = f"{len(zeros):,} of {len(zeros) + len(bits):,} n-grams have probability 0"
            self._warn(f"the entropy is infinite: {share}, the first of which as "
                       f"{self._why(zeros[0][-1], zeros[0][:-1])}")
            return math.inf
        if not bits:
            raise UsageError("there are no n-grams", "an iterator gives them only once")
        return math.fsum(bits) / len(bits)

    def perplexity(self, text_ngrams: Iterable[Ngram]) -> float:
        """2 to the entropy."""
        return float(2.0 ** self.entropy(text_ngrams))

    def _why(self, word: str, context: Context) -> str:
        if word not in self.vocab:
            return f"{word!r} is not in the vocabulary, and {self.vocab.unk_label!r} was never counted"
        if self.counts.unigrams[self.vocab.lookup(word)]:
            after = f" after {' '.join(map(repr, context))}" if context else " after any word"
            return f"{word!r} was never counted{after}"
        return f"{word!r} was never counted"

    def _warn(self, what: str) -> None:
        hint = (f"Lidstone(0.1, {self.order}) and surprisal_lm.train(..., model=\"modified_kneser_ney\") "
                "give every word a probability")
        warnings.warn(f"{what}. {hint}", ZeroProbability, stacklevel=3)

    def generate(
        self,
        num_words: int = 1,
        text_seed: Sequence[str] | None = None,
        random_seed: int | random.Random | None = None,
    ) -> Any:
        """A word drawn after `text_seed`, or a list of `num_words`. They are drawn from the words
        counted after the longest context that was counted."""
        drawer = random_seed if isinstance(random_seed, random.Random) else random.Random(random_seed)
        words = list(text_seed or ())
        start = len(words)
        for _ in range(num_words):
            words.append(self._drawn(words, drawer))
        return words[-1] if num_words == 1 else words[start:]

    def _drawn(self, words: list[str], drawer: random.Random) -> str:
        context = self.vocab.lookup(words[max(len(words) - self.order + 1, 0):])
        while context and not self.context_counts(context):
            context = context[1:]
        candidates: list[str] = sorted(self.context_counts(context))
        if not candidates:
            raise UsageError("there is no word to draw", "fit the model first")
        scores = [self.score(word, context) for word in candidates]
        at = bisect(list(accumulate(scores)), math.fsum(scores) * drawer.random())
        return candidates[min(at, len(candidates) - 1)]


class MLE(LanguageModel):
    """Relative frequencies."""

    def _score(self, word: str, context: Ngram) -> float:
        return self._level(context).freq(word)


class Lidstone(LanguageModel):
    """Relative frequencies after `gamma` is added to the count of every word."""

    def __init__(self, gamma: float, order: int, vocabulary: Any = None, counter: Any = None) -> None:
        super().__init__(order, vocabulary, counter)
        self.gamma = gamma

    def _score(self, word: str, context: Ngram) -> float:
        level = self._level(context)
        return (level.counts.get(word, 0) + self.gamma) / (level.n + len(self.vocab) * self.gamma)


class Laplace(Lidstone):
    """Relative frequencies after 1 is added to the count of every word."""

    def __init__(self, order: int, vocabulary: Any = None, counter: Any = None) -> None:
        super().__init__(1, order, vocabulary, counter)


class StupidBackoff(LanguageModel):
    """The relative frequency of the longest n-gram that was counted, times `alpha` for each word
    less (Brants et al. 2007). Scores do not sum to 1."""

    def __init__(
        self, alpha: float = 0.4, order: int = 3, vocabulary: Any = None, counter: Any = None
    ) -> None:
        super().__init__(order, vocabulary, counter)
        self.alpha = alpha

    def _score(self, word: str, context: Ngram) -> float:
        score = self._level(()).freq(word)
        for length in range(1, min(len(context), self.order - 1) + 1):
            found = self._level(context[-length:]).freq(word)
            score = found if found else self.alpha * score
        return score


class _Interpolated(LanguageModel):
    """Each order's share of the probability, plus the rest times that of the next lower order."""

    def _parts(self, level: _Level, word: str) -> tuple[float, float]:
        raise NotImplementedError

    def _score(self, word: str, context: Ngram) -> float:
        own = self._levels if self.order == 1 else self._lower
        score = own[()].freq(word) if () in own else 0.0
        for length in range(1, min(len(context), self.order - 1) + 1):
            levels = self._levels if length == self.order - 1 else self._lower
            if (level := levels.get(context[-length:])) and level.n:
                alpha, gamma = self._parts(level, word)
                score = alpha + gamma * score
        return score


class WittenBellInterpolated(_Interpolated):
    """The lower order's weight is that of the different words counted after a context."""

    def _parts(self, level: _Level, word: str) -> tuple[float, float]:
        gamma = level.types / (level.types + level.n)
        return (1.0 - gamma) * level.freq(word), gamma


class AbsoluteDiscountingInterpolated(_Interpolated):
    """`discount` is taken from every count and given to the lower order."""

    def __init__(
        self, order: int, discount: float = 0.75, vocabulary: Any = None, counter: Any = None
    ) -> None:
        super().__init__(order, vocabulary, counter)
        self.discount = discount

    def _parts(self, level: _Level, word: str) -> tuple[float, float]:
        alpha = max(level.counts.get(word, 0) - self.discount, 0.0) / level.n
        return alpha, self.discount * level.types / level.n


class KneserNeyInterpolated(AbsoluteDiscountingInterpolated):
    """Absolute discounting whose lower orders count the different words before an n-gram."""

    def __init__(
        self, order: int, discount: float = 0.1, vocabulary: Any = None, counter: Any = None
    ) -> None:
        if not 0 <= discount <= 1:
            raise UsageError(f"discount is {discount}", "it is a part of a count: from 0 to 1")
        super().__init__(order, discount, vocabulary, counter)
