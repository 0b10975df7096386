"""The rules: thresholds in, every reason with its measured value and limit out. Pure functions of a `Curation`."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from ..core.errors import BadInput
from ..core.types import Curation, Decision, Reason
from . import facts
from .facts import Measurement, SubjectFacts

Reasons = dict[str, tuple[Reason, ...]]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_BRIGHT = 0.45  # mean luma of a ground before which a dark shape may be a silhouette
NOBODY = "No face was found, so this picture needs a look."
VIEW_NAMES = {"front": "the front", "three_quarter": "three quarters", "profile": "the side", "back": "behind"}


class Rule(Protocol):
    """A named set of thresholds. `reasons` maps a picture's path to what speaks against it (nothing: no entry)."""

    name: ClassVar[str]

    def reasons(self, curation: Curation) -> Reasons: ...


def _each(curation: Curation, judge: _Judge) -> Reasons:
    found = {p.path: judge.judge(curation.measurements[p.sha256]) for p in curation.images.pictures}
    return {path: reasons for path, reasons in found.items() if reasons}


class _Judge(Protocol):
    def judge(self, measurement: Measurement) -> tuple[Reason, ...]: ...


@dataclass(frozen=True)
class CharacterCount:
    """How many characters share the picture.

    `minimum`, `maximum`: characters that count. `dominance` (0-1): a further face counts only when it is at least this
    share of the largest face's height, so that a small passer-by does not. `minimum_score` (0-1): detector score.
    """

    name: ClassVar[str] = "character_count"
    minimum: Annotated[int, Field(ge=0)] = 1
    maximum: Annotated[int, Field(ge=1)] = 1
    dominance: Share = 0.5
    minimum_score: Share = 0.0

    def __post_init__(self) -> None:
        _ordered(self.name, "minimum", self.minimum, "maximum", self.maximum)

    def reasons(self, curation: Curation) -> Reasons:
        return _each(curation, self)

    def judge(self, measurement: Measurement) -> tuple[Reason, ...]:
        count = facts.counted(measurement, self.dominance, self.minimum_score)
        if count > self.maximum:
            text = f"{count} characters share the picture; at most {self.maximum} may."
            return (Reason(self.name, count, self.maximum, text),)
        if count == 0 and self.minimum > 0:
            return (Reason(self.name, 0, self.minimum, NOBODY, "doubt"),)
        if count < self.minimum:
            text = f"{count} character(s) found; at least {self.minimum} wanted."
            return (Reason(self.name, count, self.minimum, text),)
        return ()


@dataclass(frozen=True)
class FaceDetail:
    """Whether the main face can be read.

    `minimum_height`: face height in pixels, counted after the picture is reduced (never enlarged) to `resolution`
    pixels on its longest side. `minimum_sharpness`: Laplacian variance of the face scaled to 96x96 pixels.
    `minimum_eyes`, `minimum_mouth` (0-1): the detector's probability that they are visible, where it knows.
    """

    name: ClassVar[str] = "face_detail"
    minimum_height: Amount = 24.0
    minimum_sharpness: Amount = 60.0
    minimum_eyes: Share = 0.5
    minimum_mouth: Share = 0.5
    resolution: Annotated[int, Field(ge=64)] = 640

    def reasons(self, curation: Curation) -> Reasons:
        return _each(curation, self)

    def judge(self, measurement: Measurement) -> tuple[Reason, ...]:
        subject = facts.main_subject(measurement)
        if subject is None:
            return (Reason(self.name, None, self.minimum_height, NOBODY, "doubt"),)
        if subject["face"] is None:
            text = "A head is there but no face was found on it."
            return (Reason(self.name, None, self.minimum_height, text, "doubt"),)
        height = facts.face_pixels(measurement, subject, self.resolution)
        checks = (
            ("face is {:.4g} px tall at a picture size of " + f"{self.resolution} px", height, self.minimum_height),
            ("face sharpness is {:.4g}", subject["face_sharpness"], self.minimum_sharpness),
            ("eyes are visible with probability {:.3g}", subject["eyes"], self.minimum_eyes),
            ("mouth is visible with probability {:.3g}", subject["mouth"], self.minimum_mouth),
        )
        return tuple(self._too_low(text, value, limit) for text, value, limit in checks if _under(value, limit))

    def _too_low(self, text: str, value: float | None, limit: float) -> Reason:
        return Reason(self.name, value, limit, f"The {text.format(value)}; at least {limit:g} wanted.")


@dataclass(frozen=True)
class View:
    """From where the main character is seen.

    `allow`: views that may stay (front, three_quarter, profile, back). A head is a silhouette when its middle is darker
    than `silhouette_luma` (0-1), more even than `silhouette_spread` (standard deviation, 0-1; a dark face with features
    is not even), and what lies around the figure is at least `ground_ratio` times as bright. No face found is a doubt,
    never "from behind".
    """

    name: ClassVar[str] = "view"
    allow: tuple[Literal["front", "three_quarter", "profile", "back"], ...] = ("front", "three_quarter", "profile")
    silhouette_luma: Share = 0.27
    silhouette_spread: Share = 0.05
    ground_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.6

    def reasons(self, curation: Curation) -> Reasons:
        return _each(curation, self)

    def judge(self, measurement: Measurement) -> tuple[Reason, ...]:
        subject = facts.main_subject(measurement)
        if subject is None:
            return (Reason(self.name, None, " ".join(self.allow), self._nobody(measurement), "doubt"),)
        silhouette = self._silhouette(subject)
        if silhouette is not None:
            return (silhouette,)
        direction = self._direction(subject)
        return (direction,) if direction is not None else ()

    def _direction(self, subject: SubjectFacts) -> Reason | None:
        seen = subject["view"]
        if seen is None and subject["face"] is None:
            text = "A head is there but neither a face nor its direction is known."
            return Reason(self.name, None, " ".join(self.allow), text, "doubt")
        if seen is None or seen in self.allow:
            return None
        text = f"The character is seen from {VIEW_NAMES[seen]}."
        return Reason(self.name, seen, " ".join(self.allow), text)

    def _silhouette(self, subject: SubjectFacts) -> Reason | None:
        luma, spread, ground = subject["luma"], subject["luma_spread"], subject["surround"]
        if luma is None or luma >= self.silhouette_luma or spread >= self.silhouette_spread:
            return None
        if ground < self.ground_ratio * luma:
            return None
        text = f"The head is an even dark shape (brightness {luma:.2f}) before a brighter ground ({ground:.2f})."
        return Reason(self.name, luma, self.silhouette_luma, text)

    def _nobody(self, measurement: Measurement) -> str:
        dark = measurement["shape_share"] > 0.02 and measurement["shape_height"] > 0.2
        if dark and measurement["ground_luma"] > _BRIGHT:
            return "No face was found, but a dark shape before a bright ground: perhaps a silhouette."
        return NOBODY


@dataclass(frozen=True)
class SubjectSize:
    """How much of the frame the main character fills, in heights over the frame's height (0-1).

    `minimum_subject`: the whole visible figure, where a detector gives a body box. `minimum_face`, `maximum_face`: the
    face box (brow to chin); they hold where no body box is known, the maximum always.
    """

    name: ClassVar[str] = "subject_size"
    minimum_subject: Share = 0.35
    minimum_face: Share = 0.06
    maximum_face: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __post_init__(self) -> None:
        _ordered(self.name, "minimum_face", self.minimum_face, "maximum_face", self.maximum_face)

    def reasons(self, curation: Curation) -> Reasons:
        return _each(curation, self)

    def judge(self, measurement: Measurement) -> tuple[Reason, ...]:
        subject = facts.main_subject(measurement)
        if subject is None:
            return (Reason(self.name, None, self.minimum_face, NOBODY, "doubt"),)
        face, body = subject["face_height"], subject["subject_height"]
        if subject["body"] is not None and _under(body, self.minimum_subject):
            return (self._small("figure", body, self.minimum_subject),)
        if subject["body"] is None and _under(face, self.minimum_face):
            return (self._small("face", face, self.minimum_face),)
        if face is not None and face > self.maximum_face:
            text = f"The face fills {face:.0%} of the frame's height; at most {self.maximum_face:.0%} wanted."
            return (Reason(self.name, face, self.maximum_face, text),)
        return ()

    def _small(self, what: str, value: float, limit: float) -> Reason:
        text = f"The {what} fills {value:.1%} of the frame's height; at least {limit:.1%} wanted."
        return Reason(self.name, value, limit, text)


@dataclass(frozen=True)
class Band:
    """Accepted ratios from `low` to `high` around `centre`, and from how many pictures that was learnt (0: given)."""

    low: float
    centre: float
    high: float
    pictures: int


@dataclass(frozen=True)
class FramingConsistency:
    """Keeps the character about equally large in all pictures, and whole.

    The ratio is the height of `measure` (face, or the whole visible figure) over the frame's height. The band is
    centred on `target`, or without one on the median of the pictures that every other rule keeps. It reaches `width`
    robust standard deviations (1.4826 x median absolute deviation of the ratio's logarithm) to both sides, and at least
    `tolerance` (0.5: down to 1/1.5 and up to 1.5 times); around a target it is `tolerance` alone. With fewer than
    `minimum_pictures` there is too little to learn a band from, and no ratio is refused. `edge`: a face box that comes
    this close to one edge of the frame (share of its width or height) but not to the opposite one is cut off; 0 turns
    that off.
    """

    name: ClassVar[str] = "framing_consistency"
    measure: Literal["face", "subject"] = "face"
    target: Annotated[float, Field(gt=0, le=1)] | None = None
    width: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.5
    tolerance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    minimum_pictures: Annotated[int, Field(ge=2)] = 8
    edge: Annotated[float, Field(ge=0, lt=0.5)] = 0.012

    def reasons(self, curation: Curation) -> Reasons:
        band = self.band(curation)
        found: Reasons = {}
        for picture in curation.images.pictures:
            measurement = curation.measurements[picture.sha256]
            pair = (self._cut_off(measurement), self._ratio(measurement, band))
            if reasons := tuple(reason for reason in pair if reason is not None):
                found[picture.path] = reasons
        return found

    def band(self, curation: Curation) -> Band | None:
        """The accepted ratios, or None when there is too little to learn them from."""
        reach = math.log1p(self.tolerance)
        if self.target is not None:
            return _band(math.log(self.target), reach, 0)
        ratios = self.population(curation)
        if len(ratios) < self.minimum_pictures:
            return None
        logs = [math.log(value) for value in ratios]
        middle = statistics.median(logs)
        spread = 1.4826 * statistics.median(abs(value - middle) for value in logs)
        return _band(middle, max(reach, self.width * spread), len(logs))

    def population(self, curation: Curation) -> list[float]:
        """Ratios of the pictures that all other rules and the user keep."""
        good = {decision.path for decision in curation.decisions if self._is_good(decision)}
        values = (
            facts.ratio(curation.measurements[picture.sha256], self.measure)
            for picture in curation.images.pictures
            if picture.path in good
        )
        return [value for value in values if value]

    def _is_good(self, decision: Decision) -> bool:
        if decision.override:
            return decision.decision == "keep"
        return decision.decision != "skip" and all(reason.rule == self.name for reason in decision.reasons)

    def _cut_off(self, measurement: Measurement) -> Reason | None:
        side = facts.cut_off(measurement, self.edge)
        if side is None:
            return None
        return Reason(self.name, side, None, f"The face is cut off by the {side} edge of the frame.")

    def _ratio(self, measurement: Measurement, band: Band | None) -> Reason | None:
        value = facts.ratio(measurement, self.measure)
        if not value:
            nobody = facts.main_subject(measurement) is None
            text = NOBODY if nobody else f"The height of the {self.measure} is not known."
            return Reason(self.name, None, _span(band) if band else None, text, "doubt")
        if band is None or band.low <= value <= band.high:
            return None
        side = "less" if value < band.low else "more"
        text = f"The {self.measure} fills {value:.0%} of the frame's height, {side} than in the other pictures"
        if self.target is not None:
            text = f"The {self.measure} fills {value:.0%} of the frame's height, {side} than the target allows"
        return Reason(self.name, value, _span(band), f"{text} ({_span(band)} is accepted).")


RULES: dict[str, type[CharacterCount | FaceDetail | View | SubjectSize | FramingConsistency]] = {
    kind.name: kind for kind in (CharacterCount, FaceDetail, View, SubjectSize, FramingConsistency)
}


def _band(centre: float, reach: float, pictures: int) -> Band:
    low, high = math.exp(centre - reach), min(1.0, math.exp(centre + reach))
    return Band(round(low, 4), round(math.exp(centre), 4), round(high, 4), pictures)


def _span(band: Band) -> str:
    return f"{band.low:.2f}-{band.high:.2f}"


def _under(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


def _ordered(rule: str, low: str, least: float, high: str, most: float) -> None:
    if least > most:
        raise BadInput(f"{rule}: {low} {least:g} is above {high} {most:g}.", "Swap or change them.")
