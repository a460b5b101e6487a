"""Comparisons."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path as FilePath
from typing import Any

from . import _native
from ._native import Report
from ._progress import Bar, OnEvent
from ._types import Config, Path, Texts

_Table = tuple[list[str], list[list[tuple[str, float | None]]]]


class Comparison:
    """Variants of a config and their paired differences; a notebook shows the tables.

    `pandas.DataFrame(comparison.columns())` and `polars.DataFrame(comparison.columns())` are tables
    of the variants; `columns("differences")` has the differences, and other names are in `tables`.
    """

    def __init__(self, numbers: dict[str, Any], tables: list[tuple[str, _Table]], page: str) -> None:
        self.numbers = numbers
        """All numbers, as in comparison.json."""
        self._tables = dict(tables)
        self.report = Report(page)
        """The page."""

    @property
    def path(self) -> str:
        """The folder with the runs."""
        return str(self.numbers["run"])

    @property
    def tables(self) -> list[str]:
        """The names of the tables."""
        return list(self._tables)

    def columns(self, table: str = "variants") -> dict[str, list[Any]]:
        """The columns of a table by heading: numbers, None where there is none, or text."""
        headings, rows = self._tables[table]
        columns: dict[str, list[Any]] = {}
        for index, heading in enumerate(headings):
            cells = [row[index] for row in rows]
            numeric = any(value is not None for _, value in cells)
            columns[heading] = [value if numeric else shown for shown, value in cells]
        if table == "variants":
            errors = [(row["nats_per_token"] or {}).get("standard_error") for row in self.numbers["variants"]]
            columns["standard error"] = errors
        return columns

    def _repr_html_(self) -> str:
        parts = []
        for headings, rows in self._tables.values():
            head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
            lines = ["".join(f"<td>{escape(shown)}</td>" for shown, _ in row) for row in rows]
            body = "".join(f"<tr>{line}</tr>" for line in lines)
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        return "".join(parts)

    def __repr__(self) -> str:
        return f"<surprisal_lm.Comparison of {len(self.numbers['variants'])} variants in {self.path}>"


def compare(
    config: Config,
    texts: Texts | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (),
    jobs: int | None = None,
    out: Path | None = None,
    threads: int | None = None,
    progress: bool = True,
    on_event: OnEvent | None = None,
) -> Comparison:
    """Trains and evaluates the variants of a config, as `surprisal compare` does.

    `config` is the path of a file, TOML, or a mapping: {"variant": [{"name": …, "model": {…}}, …]}.
    Runs are in the folder `out`; finished ones are not repeated. The other arguments are those of
    `train`; `seeds` replaces the config's, and `jobs` is the number of runs at a time.
    """
    from . import _inputs

    bar = Bar(on_event)
    heard = bar if progress and bar.visible else on_event
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(config, os.PathLike):
            path = FilePath(config)
        else:
            path = FilePath(folder, "comparison.toml")
            path.write_text(config if isinstance(config, str) else _inputs.toml(config), "utf-8")
        try:
            found = _native.compare(
                path,
                _inputs.texts(texts, "texts"),
                _inputs.overrides(set),
                list(seeds),
                jobs,
                out,
                threads,
                heard,
            )
        finally:
            if heard is bar:
                bar.end()
    return Comparison(*found)
