"""The drop-in beside KenLM's own module: the same numbers, to the bit where models back off."""

import copy
import pickle
import random

import pytest
from conftest import FIXTURES, sentences

from surprisal_lm import kenlm as ours

try:
    import kenlm as theirs
except ImportError:
    theirs = None

needs_kenlm = pytest.mark.skipif(theirs is None, reason="KenLM's own module is not installed: nothing to compare with")
STRUCTURES = ("probing", "rest", "trie", "array", "quant", "quant_array")


def models(counted):
    return [FIXTURES / "words.arpa", counted["arpa"], *(FIXTURES / f"{name}.binary" for name in STRUCTURES)]


def texts(words: list[str]) -> list[str]:
    chance = random.Random(3)
    known = [" ".join(chance.choices(words, k=chance.randrange(12))) for _ in range(300)]
    odd = ["", "  ", "\t the\ncat\r", "unheard of", "the the the the the the", "a" * 5000, "ß 日本 é", "a\x0bb", "</s>", "<unk>"]
    return [*known, *odd, *sentences(300, seed=9)]


def vocabulary(counted) -> list[str]:
    arpa = (FIXTURES / "words.arpa").read_text("utf-8").split("\\1-grams:")[1].split("\\2-grams:")[0]
    return [line.split("\t")[1] for line in arpa.strip().splitlines() if line.split("\t")[1] not in ("<s>", "</s>")]


@needs_kenlm
def test_scores_are_kenlms_to_the_bit(counted):
    for path in models(counted):
        one, other = ours.Model(str(path)), theirs.Model(str(path))
        assert one.order == other.order and one.path == other.path and repr(one) == repr(other)
        for text in texts(vocabulary(counted)):
            for marks in ((True, True), (True, False), (False, True), (False, False)):
                assert one.score(text, *marks) == other.score(text, *marks), (path, text, marks)
                mine, its = (list(model.full_scores(text, *marks)) for model in (one, other))
                # This n-gram of words.arpa ends with one that the file lacks, which KenLM adds and counts as matched.
                if path.suffix == ".arpa" and "naïve owl sat" in text:
                    mine, its = ([(prob, oov) for prob, _, oov in found] for found in (mine, its))
                assert mine == its, (path, text)
            assert one.perplexity(text) == pytest.approx(other.perplexity(text), rel=1e-12)
            assert one.score(text.encode()) == other.score(text.encode())
            for word in text.split():
                assert (word in one) == (word in other)


@needs_kenlm
def test_states_are_equal_where_kenlms_are(counted):
    words = [*vocabulary(counted), "unheard"]
    chance = random.Random(5)
    for path in models(counted):
        pairs = []
        one, other = ours.Model(str(path)), theirs.Model(str(path))
        for _ in range(200):
            mine, its = ours.State(), theirs.State()
            if chance.random() < 0.5:
                one.BeginSentenceWrite(mine), other.BeginSentenceWrite(its)
            else:
                one.NullContextWrite(mine), other.NullContextWrite(its)
            for word in chance.choices(words, k=chance.randrange(1, 6)):
                after, its_after = ours.State(), theirs.State()
                full, its_full = one.BaseFullScore(mine, word, after), other.BaseFullScore(its, word, its_after)
                assert (full.log_prob, full.ngram_length, full.oov) == (
                    its_full.log_prob, its_full.ngram_length, its_full.oov)
                assert one.BaseScore(mine, word, after) == other.BaseScore(its, word, its_after)
                mine, its = after, its_after
            pairs.append((mine, its))
        for mine, its in pairs:
            for mine2, its2 in pairs:
                assert (mine == mine2) == (its == its2), path
                assert mine != mine2 or hash(mine) == hash(mine2)


def test_ngram_files_have_the_numbers_of_their_arpa(counted):
    ngram, arpa = (ours.Model(str(counted[suffix])) for suffix in ("ngram", "arpa"))
    for text in texts(["the", "cat", "sees", "straße"]):
        assert ngram.score(text) == pytest.approx(arpa.score(text), rel=1e-6)
        lengths = [[length for _, length, _ in model.full_scores(text)] for model in (ngram, arpa)]
        assert lengths[0] == lengths[1]


def test_the_usual_loop_works(counted):
    """What KenLM's example does: totals, matches, unknown words, and a sentence word by word."""
    model = ours.LanguageModel(str(counted["arpa"]))
    assert model.order == 4 and isinstance(model, ours.Model)
    sentence = "the cat sees the zebra ."
    assert sum(prob for prob, _, _ in model.full_scores(sentence)) == pytest.approx(model.score(sentence), abs=1e-3)
    assert [oov for _, _, oov in model.full_scores(sentence)] == [word not in model for word in [*sentence.split(), "the"]]
    state, other = ours.State(), ours.State()
    model.BeginSentenceWrite(state)
    total = 0.0
    for word in ("the", "cat", "</s>"):
        total += model.BaseScore(state, word, other)
        state, other = other, state
    assert total == pytest.approx(model.score("the cat"), abs=1e-5)
    # One state for both is what it was before.
    model.BeginSentenceWrite(state)
    assert model.BaseScore(state, "the", state) == list(model.full_scores("the"))[0][0]


def test_states_are_ordered_hashable_and_copyable(counted):
    model = ours.Model(str(counted["ngram"]))
    states = []
    for words in ("the", "the cat", "dog", "the", ""):
        state = ours.State()
        model.NullContextWrite(state)
        for word in words.split():
            model.BaseScore(state, word, state)
        states.append(state)
    assert states[0] == states[3] and len(set(states)) == 4
    ordered = sorted(states)
    assert all(a <= b and not b < a for a, b in zip(ordered, ordered[1:]))
    for make in (copy.copy, copy.deepcopy):
        copied = make(states[1])
        model.BaseScore(copied, "sees", copied)
        assert copied != states[1] and make(states[1]) == states[1]
    assert states[0] != "a word"


def test_states_of_another_model_are_refused(counted):
    ngram, binary = ours.Model(str(counted["ngram"])), ours.Model(str(FIXTURES / "probing.binary"))
    state, other = ours.State(), ours.State()
    ngram.BeginSentenceWrite(state)
    with pytest.raises(ValueError, match="another model"):
        binary.BaseScore(state, "the", other)
    binary.BaseScore(ours.State(), "the", other)


def test_models_pickle(counted):
    for kind in (ours.Model, ours.LanguageModel):
        model = kind(str(counted["arpa"]))
        again = pickle.loads(pickle.dumps(model))
        assert type(again) is kind and again.score("the cat") == model.score("the cat") and again.path == model.path


def test_configs_are_accepted(counted):
    config = ours.Config()
    config.load_method = ours.LoadMethod.LAZY
    config.show_progress = False
    config.arpa_complain = ours.ARPALoadComplain.NONE
    assert ours.Model(str(counted["arpa"]).encode(), config).order == 4


def test_wrong_arguments_are_errors(counted, run, tmp_path):
    model = ours.Model(str(counted["arpa"]))
    for wrong in (3, None, ["a"]):
        for call in (model.score, model.perplexity, model.full_scores, model.__contains__, ours.Model):
            with pytest.raises(TypeError):
                call(wrong)
    with pytest.raises(UnicodeEncodeError):
        model.score("\ud800")
    with pytest.raises(OSError, match="Cannot read model"):
        ours.Model(str(tmp_path / "none"))
    with pytest.raises(OSError, match="no n-gram model of words"):
        ours.Model(str(run.path))
