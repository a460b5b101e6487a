"""Texts and configs from Python's values."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

from ._errors import UsageError
from ._types import Config, Texts

_LINES = 1 << 16
"""Bytes that are written at once."""


def texts(given: Texts | None, name: str, folder: Path = Path("runs")) -> list[Path]:
    """The paths of texts; text in memory is written to `folder`, under the name of its hash."""
    if given is None:
        return []
    if isinstance(given, PathLike):
        return [Path(given)]
    if isinstance(given, str | bytes):
        short = len(given) < 4096 and not any(c in os.fsdecode(given) for c in "\n\0")
        if short and os.path.exists(given):
            path = os.fsdecode(given)
            raise UsageError(
                f"{name} is {path!r}, which is the text itself, and also the name of a file",
                f"for the file: pathlib.Path({path!r}); for the text: a list with it",
            )
        return [_written([given], folder)]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"{name} is a text, lines or paths, not {type(given).__name__}")
    parts = iter(given)
    first = next(parts, None)
    if first is None:
        raise UsageError(f"{name} is empty", "give a text, or leave it away for the embedded one")
    if isinstance(first, PathLike):
        paths = [first, *parts]
        if not all(isinstance(path, PathLike) for path in paths):
            raise TypeError(f"{name} has paths and texts: give either")
        return [Path(path) for path in cast("list[PathLike[str]]", paths)]

    def lines() -> Iterable[str | bytes]:
        yield first
        yield from cast("Iterable[str | bytes]", parts)

    return [_written(lines(), folder)]


def _written(lines: Iterable[str | bytes], folder: Path) -> Path:
    """A file with `lines`, to each of which a newline is added if it has none."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(digest_size=6)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    try:
        with open(handle, "wb", _LINES) as file:
            for line in lines:
                if not isinstance(line, str | bytes):
                    raise TypeError(f"a text is a str or bytes, not {type(line).__name__}")
                data = line.encode() if isinstance(line, str) else line
                data = data if data.endswith(b"\n") else data + b"\n"
                file.write(data)
                digest.update(data)
            file.flush()
            os.fsync(file.fileno())
        path = folder / f"text-{digest.hexdigest()}.txt"
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


_SMOOTHINGS = (
    "mle",
    "add_k",
    "dirichlet",
    "jelinek_mercer",
    "witten_bell",
    "absolute",
    "kneser_ney",
    "modified_kneser_ney",
    "katz",
    "stupid_backoff",
)


def overrides(
    given: Mapping[str, Any] | None, **named: tuple[str, Any]
) -> list[tuple[str, str]]:
    """Overrides with their names in messages; `named` are arguments with their keys and values."""
    found = []
    for key, value in (given or {}).items():
        found.append((f"{key}={_value(value)}", f"set={{{key!r}: {value!r}}}"))
    for argument, (key, value) in named.items():
        if value is not None:
            found.append((f"{key}={_value(value)}", f"{argument}={value!r}"))
    return found


def _value(value: Any) -> str:
    """A value in TOML, which has JSON's numbers, strings and lists; text is as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(key), ensure_ascii=False)} = {quoted(one)}" for key, one in value.items()) + "}"
    return quoted(value)


def quoted(value: Any) -> str:
    if isinstance(value, PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        return _value(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(quoted, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def toml(sections: Mapping[str, Any]) -> str:
    """The TOML of a mapping of sections, or of a list of them."""
    text = []
    for section, content in sections.items():
        tables = content if isinstance(content, list | tuple) else [content]
        for table in tables:
            if not isinstance(table, Mapping):
                raise UsageError(
                    f"the config has {section} = {table!r}, which is no section",
                    'for example {"model": {"kind": "ngram"}, "train": {"seed": 1}}',
                )
            text.append(f"[[{section}]]" if isinstance(content, list | tuple) else f"[{section}]")
            text += [f"{key} = {quoted(value)}" for key, value in table.items() if value is not None]
    return "\n".join(text) + "\n"


def config(model: Config | None) -> tuple[tuple[str, str] | Path | None, list[tuple[str, str]]]:
    """A config's source, None for the default one, and the overrides that `model` stands for."""
    if model is None:
        return None, []
    if isinstance(model, PathLike):
        return Path(model), []
    if isinstance(model, Mapping):
        return ("the config", toml(model)), []
    if not isinstance(model, str):
        raise TypeError(f"model is a name, TOML, a mapping or a path, not {type(model).__name__}")
    if "\n" in model or "=" in model:
        return ("the config", model), []
    if model == "transformer":
        return None, [("model.kind=transformer", f"model={model!r}")]
    if model in _SMOOTHINGS:
        section = {"model": {"kind": "ngram", "smoothing": model, "order": 5}}
        return (f"model={model!r}", toml(section)), []
    return (f"model={model!r}", toml({"model": {"kind": model}})), []
