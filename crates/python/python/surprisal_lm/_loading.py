"""Models from their pickles, which have paths."""

from os import PathLike

from ._native import Model


def load(path: "str | PathLike[str]", stride: int | None = None) -> Model:
    return Model.load(path, stride=stride)
