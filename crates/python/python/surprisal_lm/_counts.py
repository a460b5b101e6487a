"""Counting without a run, merging, mixing."""

import json
from collections.abc import Iterable, Sequence
from os import PathLike, fspath
from typing import Any

from . import _native
from ._native import Model
from ._progress import OnEvent
from ._types import Path, Texts

Written = list[tuple[str, int]]


def _paths(given: Path | Iterable[Path]) -> list[str]:
    """One path or several."""
    return [fspath(given)] if isinstance(given, str | PathLike) else [fspath(path) for path in given]


def _model(order: int, smoothing: str, settings: dict[str, Any]) -> str:
    return json.dumps({"order": order, "smoothing": smoothing, **settings})


def count(
    texts: Texts,
    out: Path | Sequence[Path],
    *,
    order: int = 5,
    smoothing: str = "modified_kneser_ney",
    tokenizer: str = "word",
    unit: str = "line",
    vocab: Path | None = None,
    min_count: int | None = None,
    shard: tuple[int, int] | None = None,
    quantize: int | None = None,
    threads: int | None = None,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Written:
    """Counts n-grams of `texts` and writes each file of `out`, as `surprisal count` does.

    The suffix of a file is its format: `.ngram` and `.arpa` are models, `.counts` and `.tsv` counts,
    which `merge` adds up. `shard=(i, n)` counts part i of n, from 1, with the words of the list
    `vocab`. `settings` are others of the smoothing (k, alpha, prune, …). Gives paths and sizes.
    """
    from . import _inputs

    paths = _inputs.texts(texts, "texts")
    model = _model(order, smoothing, settings)
    return _native.count(
        paths, _paths(out), tokenizer, unit, model, vocab, min_count, shard, quantize, threads, on_event
    )


def merge(
    counts: Sequence[Path],
    out: Path | Sequence[Path],
    *,
    smoothing: str = "modified_kneser_ney",
    sum: bool = False,
    quantize: int | None = None,
    threads: int | None = None,
    on_event: OnEvent | None = None,
    **settings: Any,
) -> Written:
    """Adds up the counts of all parts of a text in their order, or with `sum` of any texts, and writes
    each file of `out`, as `surprisal merge` does. Gives paths and sizes."""
    model = _model(2, smoothing, settings)
    return _native.merge(_paths(counts), _paths(out), model, sum, quantize, threads, on_event)


def mix(
    models: Sequence[Model | Path],
    out: Path,
    *,
    weights: Sequence[float] | None = None,
    heldout: Path | Sequence[Path] = (),
    by_context: bool = False,
    threads: int | None = None,
) -> Model:
    """Writes the mixture of models as the folder `out`, and opens it: q = Σ λ q_m.

    The weights λ are given, or fitted to the texts `heldout`, with `by_context` for each kind of
    context.
    """
    paths = [model.path if isinstance(model, Model) else model for model in models]
    return _native.mix(
        paths, out, weights=weights, heldout=_paths(heldout), by_context=by_context, threads=threads
    )
