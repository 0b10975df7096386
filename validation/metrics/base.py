"""What every metric says about itself, and the common shape of what metrics look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

    from .reference import Reference

Axis = Literal["identity", "style", "flexibility", "health"]
AXES: tuple[Axis, ...] = ("identity", "style", "flexibility", "health")


@dataclass(frozen=True)
class Metric:
    """One number about a checkpoint's pictures.

    `direction` up = more is better, down = less is better, gate = a yes or no that comes before any ranking, watch =
    shown, not ranked. `base` and `data` are the anchors used where the table has no rows for them; `span` is the
    smallest distance between the anchors that is still used as a scale (a base model that is already as good as the
    data must not turn noise into a score). `weight` is the share within its axis.
    """

    name: str
    unit: str
    direction: Literal["up", "down", "gate", "watch"]
    axis: Axis | None
    needs: tuple[str, ...]
    meaning: str
    base: float | None = None
    data: float | None = None
    span: float = 0.5
    weight: float = 1.0
    limits: tuple[float, float] = (0.0, float("inf"))


@dataclass(frozen=True)
class Face:
    """The largest face of a picture: the detector's score (0-1) and the sharpness energy inside the box."""

    score: float
    energy: float


@dataclass(frozen=True)
class Sight:
    """Everything that metrics need to know about one picture, so that its pixels can be let go.

    `style` is the style feature vector, `layout` the contrast-free thumbnail vector, `small` a (48, 48) float32 grey
    picture for the copy finder. A picture with a `fault` has none of them.
    """

    prompt: str
    seed: int
    fault: str | None = None
    face: Face | None = None
    face_expected: bool = True
    style: np.ndarray | None = None
    layout: np.ndarray | None = None
    small: np.ndarray | None = None


@dataclass(frozen=True)
class Scene:
    """What a metric may compare a picture with: all pictures of its checkpoint, those of the base, the data."""

    pictures: Sequence[Sight]
    base: Sequence[Sight]
    reference: Reference
    cache: dict[str, float] = field(default_factory=dict)
