"""`surprisal_lm.nltk` gives NLTK's numbers where NLTK has the formula, and the formula elsewhere."""

import math
import random
import warnings
from collections import Counter
from itertools import product

import pytest

from surprisal_lm import Error, nltk as ours

theirs = pytest.importorskip("nltk.lm")
pipelines = pytest.importorskip("nltk.lm.preprocessing")

KINDS = {
    "MLE": (),
    "Lidstone": (0.3,),
    "Laplace": (),
    "StupidBackoff": (0.4,),
    "WittenBellInterpolated": (),
    "AbsoluteDiscountingInterpolated": (),
    "KneserNeyInterpolated": (),
}
WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog"]


def sentences(seed: int, count: int = 60) -> list[list[str]]:
    """Sentences in which some words are frequent and some n-grams occur once."""
    draw = random.Random(seed)
    return [draw.choices(WORDS, range(7, 0, -1), k=draw.randint(0, 7)) for _ in range(count)]


def fitted(module, kind, order, text, *, pipeline=ours.padded_everygram_pipeline, cutoff=1, **more):
    first = KINDS[kind] if kind in ("Lidstone", "StupidBackoff") else ()
    model = getattr(module, kind)(*first, order=order, **more) if first else getattr(module, kind)(order, **more)
    ngrams, words = pipeline(order, text)
    if cutoff > 1:
        model.vocab = module.Vocabulary(words, unk_cutoff=cutoff)
        words = None
    model.fit(ngrams, words)
    return model


def formula(text: list[list[str]], order: int, word: str, context: tuple[str, ...], d: float) -> float:
    """Interpolated Kneser-Ney, from lists of n-grams and the definitions alone."""
    padded = [["<s>"] * (order - 1) + words + ["</s>"] * (order - 1) for words in text]

    def grams(n):
        return [tuple(words[at : at + n]) for words in padded for at in range(len(words) - n + 1)]

    context = context[max(len(context) - order + 1, 0) :]
    longest = len(context) == order - 1
    count = Counter(grams(order)) if longest else Counter(gram[1:] for gram in set(grams(len(context) + 2)))
    after = {gram[-1]: n for gram, n in count.items() if gram[:-1] == context}
    total = sum(after.values())
    if not context:
        return after.get(word, 0) / total
    lower = formula(text, order, word, context[1:], d)
    if not total:
        return lower
    return max(after.get(word, 0) - d, 0) / total + d * len(after) / total * lower


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("cutoff", [1, 12])
def test_scores_are_those_of_nltk(kind, order, cutoff):
    text = sentences(order)
    mine, other = (fitted(module, kind, order, text, cutoff=cutoff) for module in (ours, theirs))
    assert sorted(mine.vocab) == sorted(other.vocab) and len(mine.vocab) == len(other.vocab)
    assert mine.counts.N() == other.counts.N() and len(mine.counts) == len(other.counts)
    compared = zeros = 0
    for length in range(order + 1):
        for context in product(["<s>", "</s>", "the", "mat", "dog", "zebra"], repeat=length):
            if kind == "KneserNeyInterpolated" and (order == 1 or "<s>" in context):
                continue
            for word in ["the", "dog", "<s>", "</s>", "zebra"]:
                score = mine.score(word, context)
                assert score == other.score(word, context), (word, context)
                compared += 1
                zeros += score == 0
    assert compared >= 5 or (kind, order) == ("KneserNeyInterpolated", 1)
    if kind in ("Lidstone", "Laplace"):
        assert zeros == 0
    elif compared and cutoff == 1:
        assert zeros, "a zebra was never seen"


def test_kneser_ney_is_the_formula_also_where_nltk_is_not():
    text = sentences(3)
    mine, other = (fitted(module, "KneserNeyInterpolated", 3, text) for module in (ours, theirs))
    differ = 0
    for context in [(), *product(["<s>", "</s>", *WORDS], repeat=1), *product(["<s>", "the", "dog"], repeat=2)]:
        sums = [0.0, 0.0]
        for word in ["<s>", "</s>", *WORDS]:
            score = mine.score(word, context)
            assert score == pytest.approx(formula(text, 3, word, context, 0.1), abs=1e-15)
            differ += score != other.score(word, context)
            sums[0] += score
            sums[1] += other.score(word, context)
        assert sums[0] == pytest.approx(1, abs=1e-12), context
        # NLTK's sum is 1 except after <s>.
        assert (sums[1] > 1 + 1e-9) == (context[-1:] == ("<s>",)), (context, sums[1])
        if context[-1:] != ("<s>",):
            assert sums[1] == pytest.approx(1, abs=1e-12)
    assert differ > 0
    # NLTK has no order 1.
    with pytest.raises(ZeroDivisionError):
        fitted(theirs, "KneserNeyInterpolated", 1, text).score("the")
    single = fitted(ours, "KneserNeyInterpolated", 1, text)
    assert single.score("the") == sum(line.count("the") for line in text) / sum(map(len, text))


def test_the_example_of_the_paper():
    """Two sentences, order 2, by hand: D = 0.1."""
    model = fitted(ours, "KneserNeyInterpolated", 2, [["a", "b"], ["a", "c"]])
    # Words before: <s> a | a b, a c | b </s>, c </s>: 5 bigrams, of which b ends one.
    assert model.score("b") == 1 / 5
    assert model.score("b", ["a"]) == pytest.approx((1 - 0.1) / 2 + 0.1 * 2 / 2 / 5)


def test_logarithms_are_in_bits():
    text = sentences(5)
    ngrams = [gram for line in text for gram in ours.everygrams(line, 3) if len(gram) == 3]
    mine, other = (fitted(module, "WittenBellInterpolated", 3, text) for module in (ours, theirs))
    assert mine.logscore("cat", ["the"]) == other.logscore("cat", ["the"]) == math.log2(mine.score("cat", ["the"]))
    assert mine.entropy(ngrams) == pytest.approx(other.entropy(ngrams), abs=1e-14)
    assert mine.perplexity(iter(ngrams)) == pytest.approx(2 ** mine.entropy(ngrams))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_words(kind):
    text = sentences(7)
    mine, other = (fitted(module, kind, 3, text) for module in (ours, theirs))
    start = ["the", "cat"]  # NLTK's own numbers after <s> are not the formula's
    for seed in range(20):
        assert mine.generate(random_seed=seed, text_seed=start) == other.generate(random_seed=seed, text_seed=start)
        if kind != "KneserNeyInterpolated":
            assert mine.generate(12, random_seed=seed) == other.generate(12, random_seed=seed)
    assert mine.generate(12, ["<s>", "<s>"], 3) == mine.generate(12, ["<s>", "<s>"], random.Random(3))


def test_nothing_is_infinite_without_a_warning():
    text = [["a", "b"], ["a", "b"], ["b", "a"]]
    model = fitted(ours, "MLE", 2, text)
    with pytest.warns(ours.ZeroProbability, match=r"'a' was never counted after 'a'.*Lidstone"):
        assert model.logscore("a", ["a"]) == -math.inf
    with pytest.warns(ours.ZeroProbability, match=r"'zebra' is not in the vocabulary"):
        assert model.logscore("zebra") == -math.inf
    with pytest.warns(ours.ZeroProbability, match=r"entropy is infinite: 2 of 3 n-grams have probability 0.*'zebra'"):
        assert model.entropy([("zebra",), ("a", "a"), ("a", "b")]) == math.inf
    with pytest.warns(ours.ZeroProbability):
        assert model.perplexity([("zebra",)]) == math.inf
    smoothed = fitted(ours, "Lidstone", 2, text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isfinite(smoothed.entropy([("zebra",), ("a", "a"), ("a", "zebra")]))
        assert model.score("zebra") == 0


def test_objects_of_nltk_are_taken():
    text = sentences(9)
    expected = fitted(ours, "KneserNeyInterpolated", 3, text)
    piped = fitted(ours, "KneserNeyInterpolated", 3, text, pipeline=pipelines.padded_everygram_pipeline)
    vocabulary = theirs.Vocabulary(word for line in text for word in ["<s>", "</s>", *line])
    held = fitted(ours, "KneserNeyInterpolated", 3, text, vocabulary=vocabulary, counter=theirs.NgramCounter())
    for context in [(), ("the",), ("<s>", "<s>"), ("the", "cat")]:
        scores = {model.score("sat", context) for model in (expected, piped, held)}
        assert len(scores) == 1 and scores.pop() > 0
    ngrams, words = ours.padded_everygram_pipeline(3, iter(text))
    other = theirs.MLE(3)
    other.fit(ngrams, words)
    assert other.score("sat", ("the", "cat")) == fitted(ours, "MLE", 3, text).score("sat", ("the", "cat"))


def test_counts_have_the_shape_of_nltk():
    text = sentences(11)
    mine, other = (fitted(module, "MLE", 3, text) for module in (ours, theirs))
    assert mine.counts["the"] == other.counts["the"] > 0
    assert mine.counts[["the"]]["cat"] == other.counts[["the"]]["cat"] == mine.counts[2][("the",)]["cat"]
    assert mine.counts[3].N() == other.counts[3].N() and set(mine.counts[3].conditions()) == set(other.counts[3])
    assert mine.counts[["the"]].freq("cat") == other.counts[["the"]].freq("cat")
    assert mine.counts[["the"]].B() == other.counts[["the"]].B() and 3 in mine.counts and 4 not in mine.counts
    before = mine.counts.N(), len(mine.counts[2])
    assert not mine.counts[["zebra"]] and mine.score("a", ["zebra"]) == 0
    assert (mine.counts.N(), len(mine.counts[2])) == before, "asking changes nothing"
    # Counts that are added later count.
    mine.fit([[("zebra",), ("the", "zebra")]])
    assert mine.counts[["the"]]["<UNK>"] == 1 and mine.score("zebra", ["the"]) > 0


def test_mistakes_are_named():
    text = sentences(13)
    with pytest.raises(Error, match="no vocabulary"):
        ours.MLE(2).fit([[("a",)]])
    with pytest.raises(TypeError, match="'ab' is no tuple"):
        ours.NgramCounter([["ab"]])
    with pytest.raises(Error, match="from 0 to 1"):
        ours.KneserNeyInterpolated(2, discount=2)
    with pytest.raises(Error, match="a word or more"):
        ours.MLE(0)
    with pytest.raises(Error, match="unk_cutoff"):
        ours.Vocabulary("ab", unk_cutoff=0)
    with pytest.raises(Error, match="no n-grams"):
        fitted(ours, "MLE", 2, text).entropy([])
    with pytest.raises(Error, match="fit the model"):
        ours.MLE(2).generate()
    with pytest.raises(TypeError, match="int"):
        fitted(ours, "MLE", 2, text).score(3)
