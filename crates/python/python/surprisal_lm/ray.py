"""Counting and comparing on a Ray cluster: the same files and the same bits as on one machine.

    import ray, surprisal_lm.ray
    ray.init(address="auto")
    surprisal_lm.ray.count(pathlib.Path("corpus.txt"), "lm.ngram", order=5)
    surprisal_lm.ray.compare(pathlib.Path("comparison.toml")).columns()

Texts and outputs are in folders that all machines share, and `surprisal_lm` is installed on all. A task
whose worker dies is started again, up to `retries` times: what it had written is whole or is not there,
and a run goes on from its checkpoint. Ray is not a dependency: `pip install surprisal-lm[ray]`.
"""

import contextlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path as FilePath
from typing import Any

from . import _inputs
from ._compare import Comparison
from ._compare import compare as _compare
from ._counts import Written, _paths
from ._counts import count as _count
from ._counts import merge as _merge
from ._errors import Error, FailedError, StoppedError, UsageError
from ._types import Config, Path, Texts

__all__ = ["compare", "count"]

_COUNTED = ("ngram", "uniform")
"""Kinds of models that do not depend on the seed."""


def _ray() -> Any:
    """The module ray, which need not be installed for the rest."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise UsageError("Ray is not installed", "pip install ray") from None


@contextlib.contextmanager
def _within(folder: str) -> Iterator[None]:
    """Paths are as in the process that asks, so that files that name them are the same."""
    own = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(own)


def _task(function: Callable[..., Any], threads: int, retries: int) -> Callable[..., Any]:
    task = _ray().remote(num_cpus=threads, max_retries=retries)(function)
    call: Callable[..., Any] = task.remote
    return call


def _results(started: Sequence[Any], retries: int) -> list[Any]:
    """The results of tasks; after an error the others are stopped."""
    ray = _ray()
    try:
        results: list[Any] = ray.get(list(started))
        return results
    except BaseException as error:
        for one in started:
            ray.cancel(one, force=True)
        if isinstance(error, ray.exceptions.WorkerCrashedError):
            message = f"a worker died, and so did those of {retries} retries"
            raise FailedError(message, "look for its end in Ray's log: a lack of memory?") from None
        cause = getattr(error, "cause", None)
        raise (cause if isinstance(cause, Error) else error) from None


def count(
    texts: Texts,
    out: Path | Sequence[Path],
    *,
    parts: int | None = None,
    order: int = 5,
    smoothing: str = "modified_kneser_ney",
    tokenizer: str = "word",
    vocab: Path | None = None,
    quantize: int | None = None,
    threads: int = 1,
    retries: int = 3,
    **settings: Any,
) -> Written:
    """Counts n-grams of lines as `surprisal_lm.count` does, in tasks of `threads` threads.

    Each of `parts` tasks counts a part, and their counts are added up in a tree, for which a power of
    two is best; by default there is one for each processor of the cluster. The files are those of one
    run, to the byte. While it works, the counts of the parts are beside the first file of `out`.
    """
    ray = _ray()
    paths, outputs, cwd = _inputs.texts(texts, "texts"), _paths(out), os.getcwd()
    if not outputs:
        raise UsageError("out is empty", "name a file: lm.ngram, lm.arpa, lm.counts or lm.tsv")
    if not ray.is_initialized():
        ray.init()
    if parts is None:
        processors = int(ray.cluster_resources().get("CPU", 1)) // threads
        parts = 1 << max(processors - 1, 0).bit_length()
    if parts < 1:
        raise UsageError(f"parts is {parts}", "one for each processor")
    options = {"order": order, "smoothing": smoothing, "threads": threads, **settings}
    beside = FilePath(outputs[0]).absolute()
    folder = tempfile.mkdtemp(prefix=f".{beside.name}.parts-", dir=beside.parent)
    try:
        counting, adding = _task(_count_part, threads, retries), _task(_add_parts, threads, retries)
        shared = {"tokenizer": tokenizer, "vocab": vocab and os.fspath(vocab), **options}
        started = [
            counting(cwd, paths, f"{folder}/1-{part}.counts", (part, parts), shared)
            for part in range(1, parts + 1)
        ]
        level, depth = list(started), 1
        while (several := _factor(len(level))) < len(level):
            depth += 1
            level = [
                adding(cwd, f"{folder}/{depth}-{at}.counts", threads, *level[at : at + several])
                for at in range(0, len(level), several)
            ]
            started += level
        del options["order"]
        last = _task(_write_whole, threads, retries)(cwd, outputs, {"quantize": quantize, **options}, *level)
        written: Written = _results([*started, last], retries)[-1]
        return written
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _factor(number: int) -> int:
    """The smallest prime factor: so many neighbouring parts make a larger part of the text."""
    return next((factor for factor in range(2, number) if number % factor == 0), number)


def _count_part(
    cwd: str, texts: list[FilePath], path: str, shard: tuple[int, int], options: dict[str, Any]
) -> str:
    with _within(cwd):
        if not os.path.exists(path):
            _count(texts, path, shard=shard, **options)
    return path


def _add_parts(cwd: str, path: str, threads: int, *counts: str) -> str:
    with _within(cwd):
        if not os.path.exists(path):
            _merge(counts, path, sum=True, threads=threads)
    return path


def _write_whole(cwd: str, out: list[str], options: dict[str, Any], *counts: str) -> Written:
    with _within(cwd):
        return _merge(counts, out, **options)


def compare(
    config: Config,
    texts: Texts | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    out: Path | None = None,
    threads: int = 1,
    retries: int = 3,
) -> Comparison:
    """Trains and evaluates the variants of a config as `surprisal_lm.compare` does, each run in a task
    of `threads` threads.

    The runs are those of one machine, to the bit, and so are their differences. Runs that were
    finished, or begun, before are not repeated when the same is asked again.
    """
    paths = _inputs.texts(texts, "texts")
    table, name = _table(config)
    root = FilePath(out if out is not None else FilePath("runs", name))
    asked: dict[str, Any] = {"set": set, "seeds": seeds, "out": root}
    if _waiting(config, paths or None, asked):
        _run_cells(list(_cells(table, set or {}, seeds)), paths or None, dict(set or {}), root, threads, retries)
    return _compare(config, paths or None, **asked)


def _waiting(config: Config, texts: Any, asked: dict[str, Any]) -> int:
    """The number of runs that are not finished; errors in the config and the texts come here, before
    any work."""
    waiting = 0

    def hear(event: dict[str, Any]) -> bool:
        nonlocal waiting
        if event["event"] == "comparing":
            waiting = event["runs"] - event["finished"]
            return False
        return True

    with contextlib.suppress(StoppedError):
        _compare(config, texts, **asked, progress=False, on_event=hear)
    return waiting


def _run_cells(
    cells: list[tuple[int, dict[str, Any], int]],
    texts: Any,
    overrides: dict[str, Any],
    root: FilePath,
    threads: int,
    retries: int,
) -> None:
    """Runs each cell as a comparison of its own, and moves its run to where the whole one has it."""
    work = root / "cells" / ".ray"
    work.mkdir(parents=True, exist_ok=True)
    run, cwd = _task(_run_cell, threads, retries), os.getcwd()
    started = [
        run(cwd, cell, [seed], os.fspath(work / str(at)), (texts, overrides, threads))
        for at, (_, cell, seed) in enumerate(cells)
    ]
    found = _results(started, retries)
    # Variants whose names give the same folder are left to the comparison, which tells them apart.
    owners: dict[str, list[int]] = {}
    for (variant, _, _), folders in zip(cells, found, strict=True):
        for folder in folders:
            owners.setdefault(FilePath(folder).parts[0], []).append(variant)
    for at, folders in enumerate(found):
        for folder in folders:
            own, target = work / str(at) / "cells" / folder, root / "cells" / folder
            if len({*owners[FilePath(folder).parts[0]]}) == 1 and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(own, target)
    shutil.rmtree(work, ignore_errors=True)


def _run_cell(
    cwd: str, config: dict[str, Any], seeds: list[int], out: str, shared: tuple[Any, Any, int]
) -> list[str]:
    """Runs a comparison of one variant and one seed; gives the folders of its runs."""
    texts, overrides, threads = shared
    with _within(cwd):
        if _is_finished(config, texts, overrides, seeds, FilePath(out)):
            return []
        _compare(config, texts, set=overrides, seeds=seeds, jobs=1, out=out, threads=threads, progress=False)
        cells = FilePath(out, "cells")
        return [os.fspath(path.parent.relative_to(cells)) for path in sorted(cells.rglob("cell.json"))]


def _is_finished(config: Any, texts: Any, overrides: Any, seeds: list[int], out: FilePath) -> bool:
    """Whether the runs of the whole comparison have this one: a comparison of it alone, in a folder
    whose runs are those, finds it."""
    whole, known = out.parent.parent, out.with_name(f"{out.name}-known")
    if not any(path.name != ".ray" for path in whole.iterdir()):
        return False
    shutil.rmtree(known, ignore_errors=True)
    known.mkdir()
    (known / "cells").symlink_to(whole.absolute(), target_is_directory=True)
    try:
        return not _waiting(config, texts, {"set": overrides, "seeds": seeds, "out": known})
    except UsageError:  # its folder has the run of a variant with a similar name
        return False


def _table(config: Config) -> tuple[dict[str, Any], str]:
    """The config as a mapping with full paths of what variants `use`, and its name."""
    if isinstance(config, Mapping):
        return dict(config), "comparison"
    path = FilePath(config) if isinstance(config, os.PathLike) else None
    try:
        table = _toml(path.read_text("utf-8") if path else str(config))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    except ValueError as error:
        raise UsageError(f"{path or 'the config'}: {error}", "TOML is checked by `surprisal compare`") from None
    if path:
        for variant in table.get("variant", []):
            if "use" in variant:
                variant["use"] = os.fspath(path.absolute().parent / variant["use"])
    return table, path.stem if path else "comparison"


def _toml(text: str) -> dict[str, Any]:
    for name in ("tomllib", "tomli"):
        with contextlib.suppress(ImportError):
            table: dict[str, Any] = importlib.import_module(name).loads(text)
            return table
    raise UsageError("a config as TOML needs Python 3.11", "give it as a mapping, or pip install tomli")


def _cells(
    table: Mapping[str, Any], overrides: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any], int]]:
    """A number, a config of one variant, and one seed, for each point of each variant's grid."""
    shared = {key: value for key, value in table.items() if key not in ("compare", "variant")}
    seeds = list(seeds) or table.get("compare", {}).get("seeds") or [1]
    number = 0
    for variant in table.get("variant", []):
        own = {key: value for key, value in variant.items() if key not in ("against", "grid")}
        grid = variant.get("grid", {})
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            cell = {**shared, "variant": [{**own, **({"grid": {key: [it] for key, it in point.items()}} if grid else {})}]}
            kinds = [overrides.get("model.kind"), point.get("model.kind")]
            kinds += [of.get("model", {}).get("kind") for of in (own, shared)]
            kind = next((kind for kind in kinds if kind), None)
            # Of a kind that is not known here, every seed is asked for, and the engine knows.
            for seed in seeds[:1] if kind in _COUNTED else seeds:
                yield number, cell, seed
            number += 1
