"""Nothing ends the interpreter: wrong types, surrogates, pickles, deleted files, forks, threads."""

import multiprocessing
import os
import pickle
import resource
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import sentences
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import surprisal_lm
from surprisal_lm import Model, kenlm

anything = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.floats(),
    some.text(some.characters(codec=None), max_size=40),
    some.text("ab <s>/unk\0\n\t", max_size=40),
    some.binary(max_size=40),
    some.sampled_from(["the cat", "x" * 100_000, "\ud800", "a\0b", b"\xff", "the " * 3000, 2**70, -1]),
    some.lists(some.one_of(some.text(max_size=9), some.integers(-2, 300), some.binary(max_size=9)), max_size=6),
)
EXPECTED = (TypeError, ValueError, OverflowError, IndexError, MemoryError, OSError, surprisal_lm.Error, StopIteration)


@pytest.fixture(scope="module")
def opened(counted, run):
    return {"ngram": Model.load(counted["ngram"]), "run": run, "kenlm": kenlm.Model(str(counted["arpa"]))}


CALLS = [
    lambda it, a, b: it["ngram"].score(a, bos=b),
    lambda it, a, b: it["ngram"].score([a, b]),
    lambda it, a, b: it["run"].score([a]),
    lambda it, a, b: it["ngram"].log_probs(a, b),
    lambda it, a, b: it["run"].log_probs(a, 0),
    lambda it, a, b: it["ngram"].next(a),
    lambda it, a, b: it["run"].next(a),
    lambda it, a, b: it["ngram"].words(a),
    lambda it, a, b: it["run"].explain(a, top=b),
    lambda it, a, b: it["ngram"].encode(a),
    lambda it, a, b: it["run"].decode(a),
    lambda it, a, b: it["ngram"].token(a),
    lambda it, a, b: it["ngram"].id(a),
    lambda it, a, b: it["ngram"].evaluate(a),
    lambda it, a, b: it["ngram"].generate(a, tokens=5, temperature=b).text(),
    lambda it, a, b: it["run"].generate(tokens=5, seed=a, top_k=b).text(),
    lambda it, a, b: it["ngram"].score(["the"], threads=a),
    lambda it, a, b: Model.load(a),
    lambda it, a, b: kenlm.Model(a, b),
    lambda it, a, b: it["kenlm"].score(a, b, a),
    lambda it, a, b: list(it["kenlm"].full_scores(a, b)),
    lambda it, a, b: it["kenlm"].perplexity(a),
    lambda it, a, b: a in it["kenlm"],
    lambda it, a, b: it["kenlm"].BaseScore(a, "the", b),
    lambda it, a, b: it["kenlm"].BaseScore(kenlm.State(), a, kenlm.State()),
    lambda it, a, b: it["kenlm"].BeginSentenceWrite(a),
    lambda it, a, b: kenlm.State() < a,
    lambda it, a, b: surprisal_lm.Error(a, b),
    lambda it, a, b: surprisal_lm.mix(a, b),
    lambda it, a, b: surprisal_lm.merge([], "x.arpa", smoothing=a),
]


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(call=some.sampled_from(range(len(CALLS))), a=anything, b=anything)
def test_any_call_gives_a_value_or_an_exception(opened, call, a, b):
    # More threads than this are slow to start, not wrong.
    if call == 16 and isinstance(a, int) and a > 4:
        a = 4
    try:
        CALLS[call](opened, a, b)
    except EXPECTED:
        pass


@settings(max_examples=2000, deadline=None)
@given(cut=some.integers(0, 10_000), flip=some.integers(0, 10_000), byte=some.integers(0, 255))
def test_damaged_pickles_are_errors(opened, cut, flip, byte):
    whole = pickle.dumps((opened["ngram"], opened["kenlm"]))
    damaged = bytearray(whole[: len(whole) - cut % 20])
    # Opcodes that would call other functions are left out: a pickle may run code.
    at = flip % len(damaged)
    path = os.fsencode(opened["ngram"].path)
    start = bytes(damaged).find(path)
    if start < 0:
        return
    damaged[start + at % len(path)] = byte
    try:
        pickle.loads(bytes(damaged))
    except Exception as error:
        assert not isinstance(error, SystemError)


def test_pickles_of_other_versions_are_errors():
    def of(module, name, arguments):
        return b"\x80\x04c" + module + b"\n" + name + b"\n" + pickle.dumps(arguments, 2)[2:-1] + b"R."

    for arguments in ((), (1,), ("none", 3, 4), (None, None), ({},)):
        with pytest.raises((TypeError, surprisal_lm.Error, OSError)):
            pickle.loads(of(b"surprisal_lm._loading", b"load", arguments))
        with pytest.raises((TypeError, surprisal_lm.Error, OSError)):
            pickle.loads(of(b"surprisal_lm._native", b"KenlmModel", arguments))
    with pytest.raises(AttributeError):
        pickle.loads(of(b"surprisal_lm._native", b"OldModel", ("x",)))


def test_a_model_outlives_its_file(counted, tmp_path):
    for suffix, path in counted.items():
        copied = Path(shutil.copy(path, tmp_path / f"copy.{suffix}"))
        model, dropin = Model.load(copied), kenlm.Model(str(copied))
        expected = Model.load(path).score(["the cat sees the mouse ."])
        copied.unlink()
        assert model.score(["the cat sees the mouse ."]) == expected
        assert dropin.score("the cat") == kenlm.Model(str(path)).score("the cat")
        with pytest.raises(surprisal_lm.Error):
            pickle.loads(pickle.dumps(model))
    # An iterator keeps its model.
    assert Model.load(counted["ngram"]).generate("the", tokens=20).text().startswith("the")


def memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow(opened):
    def work(count):
        for number in range(count):
            opened["kenlm"].score("the cat sees the house .")
            list(opened["kenlm"].full_scores("the cat"))
            if number % 10 == 0:
                opened["ngram"].score(["the cat", "the dog"], threads=1)
                opened["ngram"].log_probs([1, 3, 4], 1, threads=1)

    work(20_000)
    before = memory()
    work(100_000)
    assert memory() - before < 4 << 20


def scores(path: str) -> list[float]:
    model = Model.load(path)
    return model.score(sentences(50)).tolist() + [kenlm.Model(path).score("the cat")]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_both_kinds_work(counted, opened, method):
    path = str(counted["ngram"])
    expected = scores(path)  # threads have been started here
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(scores, [path] * 4).get(60) == [expected] * 4
        # Models travel by their paths.
        again = pool.apply_async(type(opened["ngram"]).score, (opened["ngram"], ["the cat"])).get(60)
    assert again == opened["ngram"].score(["the cat"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_model_works_in_a_forked_child(opened):
    lines = sentences(3000)
    expected = opened["ngram"].score(lines).tolist()
    child = os.fork()
    if child == 0:
        try:
            same = opened["ngram"].score(lines).tolist() == expected
            same = same and opened["run"].generate("the", tokens=5).text().startswith("the")
            os._exit(0 if same else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_share_a_model(opened):
    lines = sentences(500)
    expected = opened["run"].score([f"{line}\n" for line in lines[:40]]).tolist()
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: opened["run"].score([f"{line}\n" for line in lines[:40]], threads=1).tolist(), range(8))
        assert all(one == expected for one in found)
        dropin = pool.map(lambda line: opened["kenlm"].score(line), lines)
        assert list(dropin) == [opened["kenlm"].score(line) for line in lines]
