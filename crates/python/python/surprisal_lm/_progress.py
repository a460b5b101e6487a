"""A progress bar: one line of a terminal that is written again, or one line of a notebook's cell."""

import sys
import time
from collections.abc import Callable
from typing import Any

OnEvent = Callable[[dict[str, Any]], object]

_EVERY = 0.1
"""Seconds between two updates."""


def _notebook() -> Any:
    """The function that displays in a notebook, if this is one."""
    shell = sys.modules.get("IPython")
    try:
        kernel = shell is not None and shell.get_ipython().has_trait("kernel")
        return sys.modules["IPython.display"].display if kernel else None
    except (AttributeError, KeyError):
        return None


class Bar:
    """A subscriber of events that shows progress; without a terminal or notebook it shows nothing."""

    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._display = _notebook()
        self._handle: Any = None
        self._shown = 0.0
        self._width = 0
        self._length = 0.0
        self._unit = ""
        self._runs = (0, 0)

    @property
    def visible(self) -> bool:
        return self._display is not None or bool(sys.stderr and sys.stderr.isatty())

    def __call__(self, event: dict[str, Any]) -> object:
        self._hear(event)
        return self._on_event(event) if self._on_event else None

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "planned":
            self._length, self._unit = event["length"], event["unit"]
        elif kind == "progress":
            if self._runs[1]:
                return
            done = event["step"] if self._unit == "steps" else event["train_seconds"]
            rate = f"{event['tokens_per_second']:,.0f} tokens/s"
            self._show(event["progress"], f"{done:,.0f}/{self._length:,.0f} {self._unit}, "
                       f"train nll {event['train_nll']:.4f}, {rate}")
        elif kind == "comparing":
            self._runs = (event["finished"], event["runs"])
            self._show_runs("")
        elif kind == "cell":
            self._runs = (self._runs[0] + 1, self._runs[1])
            self._show_runs(event["name"])
        elif kind == "epoch" and not self._runs[1]:
            nats = event["eval"]["nats_per_token"]
            loss = "inf" if nats is None else f"{nats:.4f}"
            self._line(f"step {event['step']:,}: validation {loss} nats per token")
        elif kind in ("phase", "counting"):
            self._show(None, event["name"])

    def _show_runs(self, name: str) -> None:
        done, all_ = self._runs
        self._shown = 0.0
        self._show(done / max(all_, 1), f"{done}/{all_} runs {name}")

    def _show(self, share: float | None, words: str) -> None:
        now = time.monotonic()
        if now - self._shown < _EVERY and share != 1.0:
            return
        self._shown = now
        bar = ""
        if share is not None:
            full = round(20 * min(max(share, 0.0), 1.0))
            bar = f"{100 * share:3.0f} % [{'=' * full}{' ' * (20 - full)}] "
        self._write(bar + words)

    def _write(self, line: str) -> None:
        line = line.replace("\n", " ")
        if self._display is not None:
            content = {"text/plain": line}
            if self._handle is None:
                self._handle = self._display(content, raw=True, display_id=True)
            else:
                self._handle.update(content, raw=True)
        elif self.visible:
            sys.stderr.write(f"\r{line:<{self._width}}")
            sys.stderr.flush()
            self._width = len(line)

    def _line(self, words: str) -> None:
        """A line that stays, above the bar of a terminal."""
        if self._display is None and self.visible:
            sys.stderr.write(f"\r{words:<{self._width}}\n")
            self._width = 0

    def note(self, words: str) -> None:
        """Ends the bar with a line that stays."""
        if self._display is not None:
            self._display({"text/plain": words}, raw=True)
        else:
            self.end()
            sys.stderr.write(words + "\n")

    def end(self) -> None:
        """Removes the bar of a terminal."""
        if self._display is None and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
