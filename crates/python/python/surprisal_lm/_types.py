"""Types of arguments."""

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any, TypeAlias, Union

Path: TypeAlias = Union[str, "PathLike[str]"]
"""The name of a file or folder."""

Lines: TypeAlias = Iterable[Union[str, bytes]]
"""Lines of text; bytes are UTF-8."""

Texts: TypeAlias = Union[str, bytes, "PathLike[str]", Lines, Iterable["PathLike[str]"]]
"""A text, lines of a text, or paths of texts: a path is a `pathlib.Path`, a string is text."""

Config: TypeAlias = Union[str, "PathLike[str]", Mapping[str, Any]]
"""A kind of model, TOML, a mapping of sections, or the path of a config."""
