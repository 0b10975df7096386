"""How large the character is in the frame, over all pictures and over the kept ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.types import Curation
from . import facts
from .criteria import Band, FramingConsistency
from .rules import rules_of

_BINS = 32


@dataclass(frozen=True)
class Histogram:
    """Counts per bin of ratio from 0 to `end` (height of `what` over frame height), before and after the rules."""

    what: str
    end: float
    before: tuple[int, ...]
    after: tuple[int, ...]
    band: Band | None

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round ratios for the axis."""
        step = 0.2 if self.end > 0.8 else 0.1 if self.end > 0.35 else 0.05
        return tuple(round(step * index, 2) for index in range(int(self.end / step + 1e-9) + 1))

    def rows(self) -> list[tuple[str, int, int]]:
        """(range, before, after) of every bin that holds something."""
        width = self.end / len(self.before)
        pairs = enumerate(zip(self.before, self.after, strict=True))
        return [(f"{i * width:.1%} - {(i + 1) * width:.1%}", b, a) for i, (b, a) in pairs if b or a]


def framing_histogram(curation: Curation) -> Histogram | None:
    """The histogram with the band of the framing rule, if that is applied; None when no picture has a ratio."""
    rule = next((rule for rule in rules_of(curation) if isinstance(rule, FramingConsistency)), None)
    what = rule.measure if rule else "face"
    ratios = {p.path: facts.ratio(curation.measurements[p.sha256], what) for p in curation.images.pictures}
    known = {path: value for path, value in ratios.items() if value}
    if not known:
        return None
    kept = {picture.path for picture in curation.kept()}
    end = min(1.0, (int(max(known.values()) * 10) + 1) / 10)
    before, after = [0] * _BINS, [0] * _BINS
    for path, value in known.items():
        index = min(_BINS - 1, int(value / end * _BINS))
        before[index] += 1
        after[index] += path in kept
    return Histogram(what, end, tuple(before), tuple(after), rule.band(curation) if rule else None)
