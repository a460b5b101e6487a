"""Tiny language models, from n-gram counts to small transformers: train, score, compare, look.

    import surprisal_lm
    model = surprisal_lm.train(pathlib.Path("book.txt"), model="kneser_ney", set={"model.order": 5})
    model.score(["Call me Ishmael."])           # surprisal of each line in nats, -ln q
    model.evaluate([pathlib.Path("other.txt")])["perplexity"]
    print("".join(model.generate("Once", tokens=100)))

Logarithms are natural, and surprisals are in nats. Everything that computes releases the GIL.
`surprisal_lm.kenlm` takes the place of `import kenlm`.
"""

from ._compare import Comparison, compare
from ._counts import count, merge, mix
from ._errors import DivergedError, Error, FailedError, StoppedError, UsageError
from ._native import Explanation, Generation, Model, Report, Token, Word, __version__
from ._train import train

__all__ = [
    "Comparison",
    "DivergedError",
    "Error",
    "Explanation",
    "FailedError",
    "Generation",
    "Model",
    "Report",
    "StoppedError",
    "Token",
    "UsageError",
    "Word",
    "__version__",
    "compare",
    "count",
    "merge",
    "mix",
    "train",
]
