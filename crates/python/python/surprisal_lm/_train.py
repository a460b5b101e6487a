"""Training."""

import sys
from collections.abc import Mapping
from typing import Any

from . import _native
from ._errors import UsageError
from ._native import Model
from ._progress import Bar, OnEvent
from ._types import Config, Path, Texts


def train(
    texts: Texts | None = None,
    *,
    val: Texts | None = None,
    model: Config | None = None,
    budget: str | float | None = None,
    set: Mapping[str, Any] | None = None,
    init_from: Path | Model | None = None,
    out: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    progress: bool = True,
    on_event: OnEvent | None = None,
) -> Model:
    """Trains or counts a model, as `surprisal train` does, and gives it.

    `texts` is text (a str or bytes), an iterable of lines, or a `pathlib.Path` or several; None is
    the embedded stories. Text in memory is written to `runs/`, where the run's own evaluation and
    report find it again. `val` is the text to validate with, by default the last tenth.

    `model` is a kind ("transformer", "lstm", "gru", "mlp", "bigram"), a smoothing of n-grams
    ("kneser_ney", "witten_bell", …), a mapping of sections, TOML, or the path of a config; `set` has
    other settings by name: {"train.steps": 200, "model.order": 4}. `budget` is training time: "3min",
    or seconds. Where it is given and no model, all settings are chosen for it, the texts and this
    machine, and the first notes of `on_event` say why.

    The run is in the folder `out`, by default the next free one in `runs/`; with `resume` the run
    there goes on. `on_event` receives every event as a dict; the run stops after its step when it
    gives False. An interrupt (Ctrl-C) stops after the step, too, and the model so far is given: its
    `finished` is False.
    """
    from . import _inputs

    source, named = _inputs.config(model)
    if resume and (model is not None or init_from):
        raise UsageError("a run that goes on keeps its model", "change its settings with set=, or start a new run")
    if isinstance(init_from, Model):
        init_from = init_from.path
    seconds = f"{budget}s" if isinstance(budget, int | float) else budget
    named += _inputs.overrides(
        set,
        budget=("train.budget", seconds),
        init_from=("model.init_from", init_from and _inputs.quoted(init_from)),
    )
    bar = Bar(on_event)
    heard = bar if progress and bar.visible else on_event
    try:
        trained, stopped = _native.train(
            source,
            _inputs.texts(texts, "texts"),
            _inputs.texts(val, "val"),
            named,
            out,
            resume,
            threads,
            heard,
        )
    finally:
        if heard is bar:
            bar.end()
    if stopped and progress:
        words = f"stopped; the model so far is given, and train(resume=True, out={trained.path!r}) goes on"
        bar.note(words) if bar.visible else print(words, file=sys.stderr)
    return trained
