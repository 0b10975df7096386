"""`auto`: asks every detector at hand, believes the one that is surer of this picture, and says what it used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...core.faces import FaceFinder, Subject
from ..measures.domain import drawn_probability

if TYPE_CHECKING:
    import numpy as np

_DECODE = 1  # raise when the same answers would be weighed differently
# The own network has learnt from this project's drawings alone. Its score tells how familiar a character looks to it.
_FAMILIAR = 0.75
_AT_ALL = 0.5


class AutoFinder:
    """The pack's own network for drawings and YuNet for photographs, where both are there; else the one that is.

    Both are asked about every picture and the answer with the higher best score is taken whole. Joining the two lists
    was worse on our development pictures: each adds the other's false faces.
    """

    name = "auto"

    def __init__(self, drawn: FaceFinder | None, photo: FaceFinder | None) -> None:
        self._drawn = drawn
        self._photo = photo
        self.used = tuple(finder.name for finder in (drawn, photo) if finder is not None)
        self.version = f"{_DECODE}: " + " + ".join(f"{f.name} {f.version}" for f in (drawn, photo) if f is not None)

    def find(self, picture: np.ndarray) -> tuple[Subject, ...]:
        """All characters found, largest first."""
        photo = self._photo.find(picture) if self._photo is not None else ()
        if self._drawn is None:
            return photo
        return surer(self._drawn.find(picture), photo, drawn_probability(picture))


def surer(drawn: tuple[Subject, ...], photo: tuple[Subject, ...], drawn_probability: float) -> tuple[Subject, ...]:
    """The answer of the surer detector; `drawn` must look familiar to count on what seems to be a photograph.

    What it says about eyes and mouth is dropped for characters that do not look familiar: in other artists' styles it
    calls visible eyes hidden.
    """
    if drawn_probability < 0.5 and not _familiar(drawn):
        return photo
    if _best(drawn) <= _best(photo):
        return photo
    return tuple(s if s.score >= _FAMILIAR else replace(s, eyes_visible=None, mouth_visible=None) for s in drawn)


def _familiar(found: tuple[Subject, ...]) -> bool:
    faces = tuple(subject for subject in found if subject.face is not None)
    return _best(faces) >= _FAMILIAR or (not faces and _best(found) >= _AT_ALL)


def _best(found: tuple[Subject, ...]) -> float:
    return max((subject.score for subject in found), default=0.0)
