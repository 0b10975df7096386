"""What a training backend is, and the table of those that exist; nothing here imports a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ...core.errors import BadInput
from ...core.rundir import RunDir
from ...core.types import BaseModel, Dataset
from ..config import TrainConfig


@dataclass(frozen=True)
class Command:
    """The program that trains a run: argument list (never a shell line) and additional environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """A trainer that runs as a child process and reports in the run's events.jsonl."""

    @property
    def name(self) -> str:
        """The value of `backend` in the configuration."""
        ...

    def problems(self, config: TrainConfig, dataset: Dataset, base: BaseModel) -> list[str]:
        """Everything that this backend cannot do with these inputs, all at once; empty when it can start."""
        ...

    def command(self, run: RunDir, resume: bool) -> Command:
        """Write what the child needs into the run directory and say how to start it."""
        ...


def backend(name: str) -> Backend:
    """The backend called `name`; raises BadInput when it does not exist."""
    from .embedded.backend import Embedded

    table: dict[str, Backend] = {"embedded": Embedded()}
    if name not in table:
        raise BadInput(f"The backend {name!r} is not part of this version.", f"Available: {', '.join(table)}.")
    return table[name]
