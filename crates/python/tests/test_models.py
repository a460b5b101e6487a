"""Models: the same numbers as the program's, and what notebooks show."""

import json
import pickle
import subprocess
from pathlib import Path

import numpy
import pytest
from conftest import PROGRAM, sentences

import surprisal_lm
from surprisal_lm import Model


def program(*arguments: object) -> list[dict]:
    """The JSON lines that the program prints."""
    command = [str(PROGRAM), *map(str, arguments), "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def test_scores_of_lines_are_the_programs(counted, heldout, run):
    lines = heldout.read_text("utf-8").splitlines()
    for path in (*counted.values(), Path(run.path)):
        model = Model.load(path)
        # A line of a stream has its newline.
        given = lines if model.unit == "line" else [f"{line}\n" for line in lines]
        scores = model.score(given)
        rows = program("score", path, heldout, "--by", "line", "--context", "line")
        expected = [row["nats"] for row in rows if row["event"] == "line"]
        assert scores.dtype == numpy.float64 and scores.tolist() == expected
        assert model.score(given, threads=1).tolist() == expected
        assert model.score([line.encode() for line in given]).tolist() == expected
        assert len(model.score([])) == 0


def test_marks_can_be_left_out(counted, run):
    model = Model.load(counted["ngram"])
    whole, without = (model.score(["the cat"], eos=eos)[0] for eos in (True, False))
    ids = [model.bos, *model.encode("the cat"), model.eos]
    log_probs = model.log_probs(ids, 1)
    assert whole == -log_probs.sum() and without == pytest.approx(-log_probs[:-1].sum())
    assert model.score([""])[0] == -model.log_probs([model.bos, model.eos], 1)[0]
    with pytest.raises(surprisal_lm.UsageError, match="without <s> and </s>"):
        run.score(["the cat"], bos=False)


def test_rows_are_distributions_and_agree_with_log_probs(counted, run):
    for model in (Model.load(counted["arpa"]), Model.load(counted["ngram"]), run):
        row = model.next("the cat ")
        assert row.shape == (model.vocab_size,)
        assert numpy.exp(row).sum() == pytest.approx(1, abs=1e-6)
        ids = ([] if model.bos is None else [model.bos]) + model.encode("the cat ")
        at = len(ids) - 1
        assert model.log_probs(ids, at)[0] == pytest.approx(model.next(ids[:at])[ids[at]], abs=1e-5)
        assert numpy.array_equal(model.next(numpy.array(ids)), row)


def test_evaluations_are_the_programs(counted, heldout, run):
    for path in (counted["ngram"], run.path):
        evaluation = Model.load(path).evaluate([heldout])
        assert evaluation == program("eval", path, heldout)[-1]["eval"]
    assert run.evaluate() == program("eval", run.path)[-1]["eval"] == run.result["eval"]
    assert run.evaluate()["nats_per_token"] < 3.5


def test_words_add_up(counted, run):
    text = "the zebra sees the house ."
    for model in (Model.load(counted["ngram"]), run):
        words = model.words(text)
        explained = model.explain(text)
        assert [word.word for word in words][:3] == ["the", "zebra", "sees"]
        assert sum(word.nats for word in words) == pytest.approx(sum(token.nats for token in explained.tokens))
    assert Model.load(counted["ngram"]).words(text)[1].unknown == 1


def test_samples_are_the_programs(counted, run):
    for path in (counted["ngram"], run.path):
        expected = program("sample", path, "--prompt", "the cat", "--tokens", 40, "--seed", 7)[-1]["text"]
        pieces = list(Model.load(path).generate("the cat", tokens=40, seed=7))
        assert "".join(pieces) == expected and len(pieces) > 5
    assert run.generate(tokens=10, seed=3).text() == run.generate(tokens=10, seed=3).text()
    # An iterator that is left early ends its thread.
    for number in range(200):
        next(run.generate("the", tokens=400, number=number))


def test_explanations_are_coloured(run):
    shown = run.explain("the cat sees")
    assert "background:rgba" in shown._repr_html_() and "nats, rank" in shown.html
    assert repr(shown).splitlines()[0].split()[1] == "t"


def test_unknown_text_is_escaped(counted):
    shown = Model.load(counted["ngram"]).explain('the <b onclick="x">&\'')
    assert "<b " not in shown.html and "&lt;b" in shown.html and "&#39;" in shown.html
    assert "onclick=&quot;x&quot;&gt;" in shown.html


def test_reports_are_shown_in_a_frame(run, tmp_path, counted):
    report = run.report()
    assert report.html.lower().startswith("<!doctype html>")
    shown = report._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "<svg" not in shown and "&lt;svg" in shown
    report.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == report.html
    with pytest.raises(surprisal_lm.Error):
        Model.load(counted["arpa"]).report()


def test_mixtures_are_models(counted, folder, text, heldout):
    other = folder / "unigrams.ngram"
    surprisal_lm.count(text, other, order=1, smoothing="witten_bell")
    mixture = surprisal_lm.mix([Model.load(counted["ngram"]), other], folder / "mixture", weights=[0.9, 0.1])
    assert mixture.kind == "mixture" and numpy.exp(mixture.next("the")).sum() == pytest.approx(1)
    parts = [Model.load(path).next("the")[mixture.id("cat")] for path in (counted["ngram"], other)]
    expected = numpy.log(0.9 * numpy.exp(parts[0]) + 0.1 * numpy.exp(parts[1]))
    assert mixture.next("the")[mixture.id("cat")] == pytest.approx(expected)
    fitted = surprisal_lm.mix([counted["ngram"], other], folder / "fitted", heldout=heldout)
    alone = Model.load(counted["ngram"]).evaluate([heldout])["nats_per_token"]
    assert fitted.evaluate([heldout])["nats_per_token"] <= alone + 1e-9
    with pytest.raises(surprisal_lm.UsageError):
        surprisal_lm.mix([counted["ngram"], other], folder / "neither")


def test_counts_of_parts_are_those_of_the_whole(folder, text):
    words = folder / "words.txt"
    words.write_text("".join(f"{word}\n" for word in sorted(set(text.read_text("utf-8").split()))), "utf-8")
    parts = []
    for part in (1, 2, 3):
        parts.append(folder / f"part-{part}.counts")
        surprisal_lm.count(text, parts[-1], order=3, vocab=words, shard=(part, 3))
    merged, whole = folder / "merged.arpa", folder / "whole.arpa"
    surprisal_lm.merge(parts, merged)
    surprisal_lm.count(text, whole, order=3, vocab=words)
    assert merged.read_bytes() == whole.read_bytes()


def test_comparisons_are_tables(folder, text):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    orders = {"variant": [{"name": str(n), "model": {"kind": "ngram", "smoothing": "witten_bell", "order": n}}
                          for n in (1, 2, 3)]}
    events = []
    found = surprisal_lm.compare(orders, text, out=folder / "orders", on_event=events.append)
    for table in (pandas.DataFrame(found.columns()), polars.DataFrame(found.columns())):
        losses = list(table["nats per token"])
        assert losses[0] > losses[1] > losses[2] and list(table["variant"]) == ["1", "2", "3"]
    assert {event["event"] for event in events} >= {"comparing", "cell"}
    assert found.numbers["variants"][2]["nats_per_token"]["mean"] == losses[2]
    assert "<table>" in found._repr_html_() and "<svg" in found.report.html
    assert len(found.columns("differences")) > 3


def test_models_pickle_by_their_paths(counted, run):
    for model in (Model.load(counted["ngram"]), run):
        again = pickle.loads(pickle.dumps(model))
        assert again.score(["the cat"]) == model.score(["the cat"]) and again.path == model.path


def test_errors_are_typed_and_have_hints(tmp_path, counted):
    with pytest.raises(surprisal_lm.FailedError) as caught:
        Model.load(tmp_path / "none")
    assert isinstance(caught.value, surprisal_lm.Error) and "none" in caught.value.message
    (tmp_path / "text").write_text("only words\n")
    with pytest.raises(surprisal_lm.FailedError) as caught:
        Model.load(tmp_path / "text")
    assert caught.value.hint and f"hint: {caught.value.hint}" in str(caught.value)
    with pytest.raises(surprisal_lm.UsageError) as caught:
        surprisal_lm.train(model={"model": {"kind": "transformer"}, "train": {"step": 3}}, out=tmp_path / "run")
    assert "step" in str(caught.value) and isinstance(caught.value, ValueError)
    with pytest.raises(surprisal_lm.UsageError) as caught:
        surprisal_lm.train(set={"steps": 3}, out=tmp_path / "run")
    assert caught.value.hint == 'did you mean set={"train.steps": …}?'
    with pytest.raises(surprisal_lm.UsageError, match="temperature"):
        Model.load(counted["arpa"]).generate(temperature=-1)
    with pytest.raises(TypeError, match=r"\[line\]"):
        Model.load(counted["arpa"]).score("one line")
    with pytest.raises(IndexError):
        Model.load(counted["arpa"]).log_probs([10**9])
    assert not (tmp_path / "run").exists()


def test_results_do_not_depend_on_threads(run):
    lines = [f"{line}\n" for line in sentences(300, seed=5)]
    assert numpy.array_equal(run.score(lines, threads=1), run.score(lines, threads=2))
