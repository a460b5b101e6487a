"""Decoding of speech with pyctcdecode, whose beams ask the language model word by word: with the drop-in in place of KenLM's
module, the same texts and scores. Needs both, and pyctcdecode needs a NumPy of its own: `.ci/wheel` has an environment for it."""

import random

import pytest
from conftest import FIXTURES, sentences

from surprisal_lm import kenlm as ours

pyctcdecode = pytest.importorskip("pyctcdecode")
theirs = pytest.importorskip("kenlm")

LETTERS = ["", " ", *"abcdefghijklmnopqrstuvwxyzß.0123456789"]


def logits(text: str, chance: random.Random):
    """Letters of `text` with noise, after each of which comes a blank."""
    import numpy

    frames = [frame for letter in text for frame in (LETTERS.index(letter), 0)]
    noise = numpy.array([[chance.gauss(0.0, 1.0) for _ in LETTERS] for _ in frames])
    noise[range(len(frames)), frames] += 2.5
    return noise - numpy.log(numpy.exp(noise).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", ["arpa", "probing", "trie"])
def test_beams_have_the_same_texts_and_scores(name, counted, monkeypatch):
    path = str(counted["arpa"] if name == "arpa" else FIXTURES / f"{name}.binary")
    texts = sentences(8, seed=4)
    words = sorted({word for text in texts for word in text.split()})
    found = []
    for module in (theirs, ours):
        monkeypatch.setattr("pyctcdecode.language_model.kenlm", module)
        model = pyctcdecode.LanguageModel(module.Model(path), words, alpha=0.7, beta=1.1)
        decoder = pyctcdecode.BeamSearchDecoderCTC(pyctcdecode.Alphabet.build_alphabet(LETTERS), model)
        chance = random.Random(2)
        beams = [decoder.decode_beams(logits(text, chance), beam_width=20) for text in texts]
        found.append([(beam[0], *beam[-2:]) for one in beams for beam in one])
    assert len(found[0]) > len(texts) and len({text for text, *_ in found[0]}) > len(texts)
    assert [text for text, *_ in found[0]] == [text for text, *_ in found[1]]
    for one, other in zip(*found):
        assert one[1:] == pytest.approx(other[1:], abs=1e-6)
