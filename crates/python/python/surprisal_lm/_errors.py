"""Errors, each with a hint on what to do."""


class Error(Exception):
    """An error of Surprisal: `message`, and `hint`, which may be None."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class UsageError(Error, ValueError):
    """Settings that do not fit, or too little memory for them: no work was started."""


class FailedError(Error, RuntimeError):
    """The work failed: a file that cannot be read, or is no model."""


class DivergedError(Error, ArithmeticError):
    """The loss or the gradient is not finite."""


class StoppedError(Error):
    """The work was stopped before there was a model."""
