"""Takes the place of `import kenlm`: the same classes, the same numbers.

    import surprisal_lm.kenlm as kenlm
    model = kenlm.Model("lm.arpa")
    model.score("this is a sentence .")       # log10, summed as 32-bit floats like KenLM's

Reads ARPA files, KenLM binaries and `.ngram` files. A `<s>` within a sentence begins a new one.
"""

from typing import Any

from ._native import FullScoreReturn, KenlmModel, KenlmState

__all__ = ["ARPALoadComplain", "Config", "FullScoreReturn", "LanguageModel", "LoadMethod", "Model", "State"]

State = KenlmState
Model = KenlmModel


class LoadMethod:
    """Ways to load: all of them map the file."""

    LAZY = 0
    POPULATE_OR_LAZY = 1
    POPULATE_OR_READ = 2
    READ = 3
    PARALLEL_READ = 4


class ARPALoadComplain:
    """Ways to complain of ARPA files: errors are raised always."""

    ALL = 0
    EXPENSIVE = 1
    NONE = 2


class Config:
    """Options of loading, which are accepted and have no effect."""

    def __init__(self) -> None:
        self.load_method: Any = LoadMethod.POPULATE_OR_READ
        self.show_progress = True
        self.arpa_complain: Any = ARPALoadComplain.ALL


class LanguageModel(Model):
    """The older name of `Model`."""
