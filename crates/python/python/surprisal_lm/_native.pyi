"""The native part of `surprisal_lm`; import its names from there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, final

import numpy
from numpy.typing import NDArray

from surprisal_lm._types import Lines, Path

__version__: str

_Floats: TypeAlias = NDArray[numpy.float64]
_OnEvent: TypeAlias = Callable[[dict[str, Any]], object]

@final
class Word:
    @property
    def word(self) -> str: ...
    @property
    def nats(self) -> float: ...
    @property
    def tokens(self) -> int: ...
    @property
    def unknown(self) -> int: ...

@final
class Token:
    @property
    def token(self) -> str: ...
    @property
    def nats(self) -> float: ...
    @property
    def unknown(self) -> bool: ...
    @property
    def rank(self) -> int: ...
    @property
    def likeliest(self) -> list[tuple[str, float]]: ...

@final
class Explanation:
    @property
    def tokens(self) -> list[Token]: ...
    @property
    def evaluation(self) -> dict[str, Any]: ...
    @property
    def html(self) -> str: ...
    def _repr_html_(self) -> str: ...

@final
class Report:
    @property
    def html(self) -> str: ...
    def save(self, path: Path) -> None: ...
    def _repr_html_(self) -> str: ...

@final
class Generation:
    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def text(self) -> str: ...

@final
class Model:
    @staticmethod
    def load(path: Path) -> Model: ...
    @property
    def path(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def order(self) -> int | None: ...
    @property
    def parameters(self) -> int: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def tokenizer(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def eos(self) -> int | None: ...
    @property
    def unk(self) -> int | None: ...
    @property
    def is_distribution(self) -> bool: ...
    @property
    def finished(self) -> bool: ...
    @property
    def result(self) -> dict[str, Any] | None: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def token(self, id: int) -> str: ...
    def id(self, word: str) -> int | None: ...
    def score(
        self, lines: Lines, *, bos: bool = True, eos: bool = True, threads: int | None = None
    ) -> _Floats: ...
    def words(self, text: str, *, threads: int | None = None) -> list[Word]: ...
    def log_probs(
        self, tokens: Sequence[int], start: int = 0, *, threads: int | None = None
    ) -> _Floats: ...
    def next(
        self, context: str | Sequence[int] | None = None, *, threads: int | None = None
    ) -> _Floats: ...
    def evaluate(
        self,
        texts: Sequence[Path] | None = None,
        *,
        stride: int | None = None,
        threads: int | None = None,
    ) -> dict[str, Any]: ...
    def generate(
        self,
        prompt: str = "",
        *,
        tokens: int | None = None,
        lines: int | None = None,
        stop: str | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
        seed: int = 1,
        number: int = 0,
        allow_unknown: bool = False,
    ) -> Generation: ...
    def explain(self, text: str, *, top: int = 5, threads: int | None = None) -> Explanation: ...
    def report(self, *, data: Path | None = None) -> Report: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

def train(
    config: tuple[str, str] | Path | None,
    texts: Sequence[Path],
    val: Sequence[Path],
    set: Sequence[tuple[str, str, str]],
    out: Path | None,
    resume: bool,
    threads: int | None,
    on_event: _OnEvent | None,
) -> tuple[Model, bool]: ...
def compare(
    config: Path,
    texts: Sequence[Path],
    set: Sequence[tuple[str, str, str]],
    seeds: Sequence[int],
    jobs: int | None,
    out: Path | None,
    threads: int | None,
    on_event: _OnEvent | None,
) -> tuple[str, list[tuple[str, list[str], list[list[tuple[str, float | None]]]]], str]: ...
def count(
    texts: Sequence[Path],
    out: Sequence[Path],
    tokenizer: str,
    unit: str,
    model: str,
    vocab: Path | None,
    min_count: int | None,
    shard: tuple[int, int] | None,
    quantize: int | None,
    threads: int | None,
    on_event: _OnEvent | None,
) -> list[tuple[str, int]]: ...
def merge(
    counts: Sequence[Path],
    out: Sequence[Path],
    model: str,
    sum: bool,
    quantize: int | None,
    threads: int | None,
    on_event: _OnEvent | None,
) -> list[tuple[str, int]]: ...
def mix(
    models: Sequence[Path],
    out: Path,
    weights: Sequence[float] | None,
    heldout: Sequence[Path],
    by_context: bool,
    threads: int | None,
) -> Model: ...
def main(arguments: Sequence[str]) -> int: ...
