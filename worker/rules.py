"""When a running child must be stopped although nobody asked: numbers that are not finite, a disk that fills up."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

DISK_RESERVE = 500 * 1024 * 1024


class StopRule(Protocol):
    """Asked about once a second while a child runs."""

    def broken(self) -> tuple[str, str] | None:
        """(sentence, hint) when the child must stop, else None."""
        ...


@dataclass
class LedgerReader:
    """Reads only what was appended since the last call, and only whole lines."""

    path: Path
    offset: int = 0

    def new(self) -> list[dict[str, Any]]:
        """Events written since the last call; lines that are not JSON objects are left out."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [event for line in whole.splitlines() if isinstance(event := _parse(line), dict)]


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@dataclass
class NonFiniteLoss:
    """Broken by three steps in a row whose loss is not a finite number."""

    events: Path
    limit: int = 3
    _count: int = 0
    _reader: LedgerReader | None = field(default=None, repr=False)

    def broken(self) -> tuple[str, str] | None:
        """Look at the steps written since the last call."""
        self._reader = self._reader or LedgerReader(self.events)
        for event in self._reader.new():
            if event.get("type") != "step":
                continue
            loss = event.get("loss")
            finite = isinstance(loss, (int, float)) and math.isfinite(loss)
            self._count = 0 if finite else self._count + 1
            if self._count >= self.limit:
                return (
                    f"The loss was not a finite number for {self.limit} steps in a row (step {event.get('step')}).",
                    "Lower the learning rate, or train in bf16 or fp32 instead of fp16; earlier checkpoints are kept.",
                )
        return None


@dataclass
class DiskReserve:
    """Broken when the disk of `path` has less than `reserve` bytes free."""

    path: Path
    reserve: int = DISK_RESERVE

    def broken(self) -> tuple[str, str] | None:
        """Look at the free space now."""
        free = shutil.disk_usage(self.path).free
        if free >= self.reserve:
            return None
        return (
            f"The disk of {self.path} has {free / 1e6:.0f} MB left; {self.reserve / 1e6:.0f} MB are kept in reserve.",
            "Free some space, then resume the run.",
        )
