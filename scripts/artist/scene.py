"""What a picture shows: frozen descriptions and a generator of random ones.

Placement. `cx` is the horizontal centre of the character over the picture width. `height` is the
height of the whole standing figure (crown to soles, a bun not counted) over the picture height,
also where the body runs out of the frame (a close-up has a height of about 1.8). `base` is where
the soles stand, over the picture height, and may lie below the frame (> 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from artist.palette import DRESS, HAIR

HAIR_COLORS: tuple[str, ...] = tuple(HAIR)
HAIR_STYLES: tuple[str, ...] = ("long", "short", "bun", "ponytail", "twin_tails")
DRESS_COLORS: tuple[str, ...] = tuple(DRESS)
EXPRESSIONS: tuple[str, ...] = ("smiling", "sad", "surprised", "neutral")
VIEWS: tuple[str, ...] = ("front", "three_quarter", "profile_left", "profile_right", "back")
BACKGROUNDS: tuple[str, ...] = ("room", "meadow", "night", "sea", "plain")
BASE_STYLES: tuple[str, ...] = ("flat", "pastel", "cel")
TARGET_STYLE = "film"
STYLES: tuple[str, ...] = (*BASE_STYLES, TARGET_STYLE)
FRAMINGS: tuple[str, ...] = ("close_up", "portrait", "half", "full", "tiny")

# The figure in units of half a head: crown at -1.2, centre of the face at 0, soles at 5.3.
CROWN = -1.2
SOLES = 5.3
TALL = SOLES - CROWN

# framing -> (unit over picture height, centre of the head over picture height), as ranges
_FRAMES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "close_up": ((0.255, 0.295), (0.42, 0.46)),
    "portrait": ((0.195, 0.23), (0.37, 0.42)),
    "half": ((0.15, 0.175), (0.3, 0.34)),
    "full": ((0.125, 0.138), (0.215, 0.235)),
    "tiny": ((0.03, 0.048), (0.5, 0.7)),
}


@dataclass(frozen=True)
class Character:
    """One figure; see the module text for `cx`, `height` and `base`."""

    hair_color: str
    hair_style: str
    dress_color: str
    expression: str
    view: str
    detail: bool
    silhouette: bool
    cx: float
    height: float
    base: float
    eyes_covered: bool = False
    mouth_covered: bool = False


@dataclass(frozen=True)
class Scene:
    """A whole picture; characters are drawn in order, the last one in front."""

    characters: tuple[Character, ...]
    background: str
    style: str
    width: int
    height: int
    seed: int


def framing_of(character: Character) -> str:
    """Name the framing from the size of the figure; the inverse of what `random_scene` chose."""
    unit = character.height / TALL
    for name, limit in (("close_up", 0.243), ("portrait", 0.185), ("half", 0.144), ("full", 0.08)):
        if unit >= limit:
            return name
    return "tiny"


def _pick(rng: np.random.Generator, options: tuple[str, ...], weights: Any = None) -> str:
    return str(options[int(rng.choice(len(options), p=weights))])


def _place(
    rng: np.random.Generator, framing: str, aspect: float, lane: tuple[float, float] | None
) -> tuple[float, float, float]:
    """Choose (cx, height, base) for a framing; narrow pictures get a smaller figure."""
    units, centres = _FRAMES[framing]
    unit = float(rng.uniform(*units)) * min(1.0, max(0.72, aspect))
    centre = float(rng.uniform(*centres))
    spread = 0.04 if framing in ("close_up", "portrait") else 0.07
    cx = 0.5 + float(rng.uniform(-spread, spread))
    if framing == "tiny":
        cx = float(rng.uniform(0.2, 0.8))
    if lane is not None:
        cx = float(rng.uniform(*lane))
    return cx, unit * TALL, centre + unit * SOLES


def random_character(
    rng: np.random.Generator,
    *,
    framing: str = "portrait",
    view: str | None = None,
    detail: bool = True,
    silhouette: bool = False,
    aspect: float = 1.0,
    lane: tuple[float, float] | None = None,
    **fixed: Any,
) -> Character:
    """Draw a character's properties at random; `fixed` overrides any field."""
    cx, height, base = _place(rng, framing, aspect, lane)
    values: dict[str, Any] = {
        "hair_color": _pick(rng, HAIR_COLORS),
        "hair_style": _pick(rng, HAIR_STYLES, (0.3, 0.25, 0.17, 0.14, 0.14)),
        "dress_color": _pick(rng, DRESS_COLORS),
        "expression": _pick(rng, EXPRESSIONS, (0.4, 0.2, 0.2, 0.2)),
        "view": view or _pick(rng, VIEWS, (0.72, 0.14, 0.04, 0.04, 0.06)),
        "detail": detail,
        "silhouette": silhouette,
        "cx": cx,
        "height": height,
        "base": base,
    }
    values.update(fixed)
    return Character(**values)


def random_scene(
    rng: np.random.Generator,
    *,
    style: str | None = None,
    characters: int = 1,
    framing: str | None = None,
    view: str | None = None,
    detail: bool = True,
    silhouette: bool = False,
    size: tuple[int, int] = (128, 128),
    **fixed: Any,
) -> Scene:
    """Make a random scene; `fixed` may name fields of `Character` and `background`.

    With several characters the frame is shared out in lanes; sometimes the first one is a small
    far figure, which is the case that counting by size alone would miss.
    """
    width, height = size
    background = str(fixed.pop("background", None) or _pick(rng, BACKGROUNDS))
    chosen = framing or _pick(rng, FRAMINGS[:4], (0.28, 0.42, 0.25, 0.05))
    people: list[Character] = []
    if characters > 1 and framing is None:
        chosen = _pick(rng, ("portrait", "half", "full"))
    far = characters > 1 and bool(rng.random() < 0.35)
    for index in range(characters):
        lane, aspect, name = None, width / height, chosen
        if characters > 1:
            share = 0.84 / characters
            left = 0.08 + index * share
            lane = (left + 0.35 * share, left + 0.65 * share)
            aspect *= {2: 0.8, 3: 0.75}.get(characters, 0.72)
            if far and index == 0:
                name = "full"
        person = random_character(
            rng, framing=name, view=view, detail=detail, silhouette=silhouette,
            aspect=aspect, lane=lane, **fixed,
        )  # fmt: skip
        if far and index == 0 and not {"height", "base"} & set(fixed):
            scale = float(rng.uniform(0.3, 0.5))
            person = Character(**{**person.__dict__, "height": person.height * scale, "base": 0.82, "cx": 0.14})
        people.append(person)
    return Scene(
        characters=tuple(people), background=background,
        style=style or _pick(rng, BASE_STYLES), width=width, height=height,
        seed=int(rng.integers(2**31)),
    )  # fmt: skip
