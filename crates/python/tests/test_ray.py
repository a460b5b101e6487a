"""On a cluster: the same files and the same bits as in one process, also when a worker is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAM, sentences

import surprisal_lm
from surprisal_lm import FailedError, UsageError

ray = pytest.importorskip("ray")
cluster = pytest.importorskip("surprisal_lm.ray")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="kills processes")]

COMPARISON = """
[compare]
seeds = [1, 2]
[tokenizer]
kind = "char"
[train]
steps = 60
batch_size = 8
block_size = 32
[[variant]]
name = "unigram"
model = { kind = "ngram", order = 1, smoothing = "witten_bell" }
[[variant]]
name = "order {model.order}"
against = "unigram"
model = { kind = "ngram", smoothing = "kneser_ney" }
grid = { "model.order" = [2, 3] }
[[variant]]
name = "words"
model = { kind = "ngram", order = 2, smoothing = "kneser_ney" }
tokenizer = { kind = "word" }
[[variant]]
name = "table {loss.label_smoothing}"
against = "table 0"
use = "table.toml"
grid = { "loss.label_smoothing" = [0.0, 0.1] }
"""
TABLE = '[model]\nkind = "bigram"\n[optim]\nlr = 0.1\n'
PARTS = 8
TIMES = {"train_seconds", "wall_seconds", "tokens_per_second", "memory_bytes", "run", "seconds"}


@pytest.fixture(scope="module")
def marks(tmp_path_factory) -> Path:
    """A folder with a file for each worker that was killed, and for each that came back to the work."""
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def workers(marks: Path):
    """Two workers. The first that counts part 3, and the first that trains `table 0.1` with seed 2, is
    killed in the middle of it."""

    def killed_once() -> None:
        from surprisal_lm import ray as tasks

        def kill(name: str) -> None:
            try:
                os.close(os.open(marks / name, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                (marks / f"{name} again").touch()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

        count, compare = tasks._count, tasks._compare

        def counting(texts, path, *, shard, **options):
            def hear(event):
                if event["event"] == "counting" and shard == (3, PARTS):
                    kill("part 3")

            return count(texts, path, shard=shard, on_event=hear, **options)

        def comparing(config, texts, *, seeds, out, **options):
            if "on_event" in options:
                return compare(config, texts, seeds=seeds, out=out, **options)

            def hear(event):
                if event["event"] == "progress" and event["step"] >= 40 and seeds == [2] and eps == [0.1]:
                    kill("table 0.1")

            eps = config["variant"][0].get("grid", {}).get("loss.label_smoothing")
            return compare(config, texts, seeds=seeds, out=out, on_event=hear, **options)

        tasks._count, tasks._compare = counting, comparing

    ray.init(
        num_cpus=2,
        object_store_memory=100 << 20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"worker_process_setup_hook": killed_once},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Path:
    path = folder / "corpus.txt"
    path.write_text("".join(f"{line}\n" for line in sentences(20_000, seed=4)), "utf-8")
    return path


def outputs(folder: Path) -> list[Path]:
    folder.mkdir()
    return [folder / f"lm.{suffix}" for suffix in ("ngram", "arpa", "counts", "tsv")]


@pytest.mark.parametrize("settings", [{}, {"order": 3, "smoothing": "witten_bell", "tokenizer": "char"}])
def test_eight_parts_are_the_bytes_of_one_run_though_a_worker_is_killed(
    tmp_path, corpus, workers, marks, settings
):
    one, many = outputs(tmp_path / "one"), outputs(tmp_path / "many")
    surprisal_lm.count(corpus, one, **settings)
    written = cluster.count(corpus, many, parts=PARTS, **settings)
    sizes = sorted((os.fspath(path), path.stat().st_size) for path in many)
    assert sorted((os.fspath(path), size) for path, size in written) == sizes
    for own, other in zip(one, many, strict=True):
        assert own.read_bytes() == other.read_bytes(), own.name
    assert sorted(path.name for path in many[0].parent.iterdir()) == sorted(path.name for path in many)
    assert (marks / "part 3").exists() and (marks / "part 3 again").exists()


@pytest.mark.parametrize("parts", [1, 3, 6])
def test_any_number_of_parts(tmp_path, corpus, workers, parts):
    one, many = tmp_path / "one.counts", tmp_path / "many.counts"
    surprisal_lm.count(corpus, one, order=2)
    cluster.count(corpus, many, parts=parts, order=2)
    assert one.read_bytes() == many.read_bytes()


def timeless(value):
    """Without what no two runs have in common."""
    if isinstance(value, dict):
        return {key: timeless(content) for key, content in value.items() if key not in TIMES}
    return [timeless(content) for content in value] if isinstance(value, list) else value


def cells(root: Path) -> dict[str, object]:
    """The content of each run's folder: the bytes of weights and settings, and results."""
    found: dict[str, object] = {}
    for path in sorted((root / "cells").rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix in (".safetensors", ".ngram", ".toml") or path.name in ("tokenizer.json", "config.json"):
            found[name] = path.read_bytes()
        elif path.name == "cell.json":
            found[name] = timeless(json.loads(path.read_text("utf-8")))
        elif path.is_dir():
            found[name] = None
    return found


def test_cells_and_verdicts_are_those_of_one_run_though_a_worker_is_killed(tmp_path, text, workers, marks):
    config = tmp_path / "orders.toml"
    config.write_text(COMPARISON, "utf-8")
    (tmp_path / "table.toml").write_text(TABLE, "utf-8")
    one = surprisal_lm.compare(config, text, out=tmp_path / "one")
    many = cluster.compare(config, text, out=tmp_path / "many")
    own, other = cells(tmp_path / "one"), cells(tmp_path / "many")
    assert sum(name.endswith("cell.json") for name in own) == 8
    assert own.keys() == other.keys()
    assert [name for name in own if own[name] != other[name]] == []
    assert timeless(one.numbers) == timeless(many.numbers)
    assert one.numbers["differences"] == many.numbers["differences"] and len(many.numbers["differences"]) == 3
    assert one.columns("differences") == many.columns("differences")
    assert (marks / "table 0.1").exists() and (marks / "table 0.1 again").exists()
    # What is finished is not repeated.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "many" / "cells").rglob("model/model.*")}
    again = cluster.compare(config, text, out=tmp_path / "many")
    assert timeless(again.numbers) == timeless(many.numbers)
    more = cluster.compare(config, text, out=tmp_path / "many", seeds=[1, 2, 3])
    assert [len(row["seeds"]) for row in more.numbers["variants"]] == [1, 1, 1, 1, 3, 3]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "many" / "cells").rglob("model/model.*")}
    assert before.items() <= after.items() and len(after) == len(before) + 2


def test_names_that_give_one_folder_stay_apart(tmp_path, text, workers):
    variants = [
        {"name": name, "model": {"kind": "ngram", "order": order}} for name, order in [("a b", 1), ("a-b", 2)]
    ]
    config = {"tokenizer": {"kind": "char"}, "variant": variants}
    one = surprisal_lm.compare(config, text, out=tmp_path / "one")
    many = cluster.compare(config, text, out=tmp_path / "many")
    assert timeless(one.numbers) == timeless(many.numbers)
    assert cells(tmp_path / "one") == cells(tmp_path / "many")


def test_errors_of_tasks_are_the_errors_of_one_process(tmp_path, corpus, workers):
    with pytest.raises(FailedError, match="nowhere.txt"):
        cluster.count(Path("nowhere.txt"), tmp_path / "a.ngram", parts=2)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="lrr"):
        config = {"variant": [{"name": "a", "model": {"kind": "bigram"}, "optim": {"lrr": 1}}]}
        cluster.compare(config, corpus, out=tmp_path / "b")
    with pytest.raises(UsageError, match="TOML is checked"):
        cluster.compare("[[variant]\n", corpus)
    with pytest.raises(UsageError, match="parts is 0"):
        cluster.count(corpus, tmp_path / "a.ngram", parts=0)
    with pytest.raises(UsageError, match="out is empty"):
        cluster.count(corpus, [])


def test_the_array_of_slurm_gives_the_bytes_of_one_run(tmp_path, corpus):
    """The script is submitted to a stand-in that runs each task of the array as a process, and kills one."""
    script = Path(__file__).parents[1] / "examples/slurm_count.sh"
    one, many = tmp_path / "one.ngram", tmp_path / "many.ngram"
    surprisal_lm.count(corpus, one, order=4, smoothing="kneser_ney")
    stand_in = tmp_path / "bin" / "sbatch"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name('sbatch.py')} \"$@\"\n", "utf-8")
    stand_in.chmod(0o755)
    path = os.pathsep.join([str(stand_in.parent), str(PROGRAM.parent), os.environ["PATH"]])
    command = ["bash", script, corpus, many, str(PARTS), "--order", "4", "--", "--smoothing", "kneser_ney"]
    ran = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert one.read_bytes() == many.read_bytes()
    assert "killed part 2, run again" in ran.stderr
    assert not Path(f"{many}.parts").exists()
