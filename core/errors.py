"""The few kinds of failure that a user is told about; everything else is a bug and shows a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class AtelierError(Exception):
    """A failure with one clear sentence (`message`) and what to do about it (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class BadInput(AtelierError):
    """The user's input cannot be used; always raised before any work starts."""

    exit_code = 2

    @classmethod
    def collected(cls, problems: Iterable[str], hint: str = "") -> BadInput:
        """Join several problems into one error, so that the user can mend them all at once."""
        return cls("; ".join(problem.rstrip(".") for problem in problems) + ".", hint)


class WorkFailed(AtelierError):
    """The work started and could not be finished."""


class Interrupted(AtelierError):
    """The user asked to stop."""

    exit_code = 130
