"""Hair: what lies behind the body and what lies over the head."""

from __future__ import annotations

import numpy as np

from artist.canvas import HAIR, HAIR_FRONT, Points, Shape, ellipse, mirror, smooth
from artist.palette import Rgb, shade
from artist.scene import Character

_LONG = mirror([(0.0, -1.2), (0.62, -1.06), (1.04, -0.5), (1.14, 0.4), (1.24, 1.4), (1.18, 2.3),
                (0.86, 2.66), (0.5, 2.5), (0.0, 2.58)])  # fmt: skip
_SHORT = mirror([(0.0, -1.2), (0.62, -1.06), (1.04, -0.5), (1.1, 0.1), (1.06, 0.62), (0.78, 0.9),
                 (0.0, 0.8)])  # fmt: skip
_UP = mirror([(0.0, -1.18), (0.6, -1.05), (0.98, -0.5), (1.0, 0.05), (0.9, 0.45), (0.0, 0.6)])
_TAIL = [(0.7, -0.75), (1.25, -0.8), (1.62, -0.2), (1.66, 0.8), (1.42, 1.9), (1.3, 1.2),
         (1.12, 0.3)]  # fmt: skip
_TWIN = [(0.86, -0.5), (1.3, -0.5), (1.62, 0.1), (1.7, 1.0), (1.52, 2.1), (1.3, 1.6), (1.14, 0.6)]


def _strands(points: list[list[tuple[float, float]]], color: Rgb) -> list[Shape]:
    return [Shape(smooth(p, False, 5), color, HAIR, line=0.045) for p in points]


def hair_back(style: str, view: str, color: Rgb) -> list[Shape]:
    """The mass behind the head, with the tails or the bun."""
    behind = shade(color, 0.86)
    if view.startswith("profile"):
        return _profile_back(style, behind, color)
    shapes: list[Shape] = []
    if style == "ponytail":
        shapes.append(Shape(smooth(_TAIL), behind, HAIR))
        shapes.append(Shape(ellipse(0.86, -0.74, 0.16, 0.2), shade(color, 0.55), HAIR_FRONT))
    if style == "twin_tails":
        for s in (1.0, -1.0):
            shapes.append(Shape(smooth(_TWIN) * (s, 1.0), behind, HAIR))
            shapes.append(Shape(ellipse(s, -0.4, 0.15, 0.19), shade(color, 0.55), HAIR_FRONT))
    if style == "bun":
        shapes.append(Shape(ellipse(0.0, -1.34, 0.48, 0.44), behind, HAIR))
        shapes += _strands([[(-0.3, -1.4), (0.0, -1.62), (0.3, -1.4)]], shade(color, 0.68))
    if view != "back":
        mass = {"long": _LONG, "short": _SHORT}.get(style, _UP)
        shapes.append(Shape(smooth(mass), behind, HAIR))
    return shapes


def _profile_back(style: str, behind: Rgb, color: Rgb) -> list[Shape]:
    shapes: list[Shape] = []
    if style == "long":
        fall = [(-0.1, -0.9), (0.8, -0.8), (1.12, 0.1), (1.14, 1.4), (0.98, 2.6), (0.5, 2.5),
                (0.2, 1.3), (0.0, 0.2)]  # fmt: skip
        shapes.append(Shape(smooth(fall), behind, HAIR))
    if style in ("ponytail", "twin_tails"):
        tail = np.asarray(_TAIL if style == "ponytail" else _TWIN) + 0.1
        shapes.append(Shape(smooth(tail), behind, HAIR))
    if style == "bun":
        shapes.append(Shape(ellipse(0.5, -1.2, 0.46, 0.44), behind, HAIR))
    return shapes


def hair_front(character: Character, view: str, color: Rgb, turn: float) -> list[Shape]:
    """Fringe and side locks, or the whole back of the head."""
    style, dark, light = character.hair_style, shade(color, 0.76), shade(color, 1.4)
    if sum(color) > 680:
        dark, light = (196, 202, 226), (255, 255, 255)
    if view == "back":
        return _back_of_head(style, color, dark, light)
    if view.startswith("profile"):
        return _profile_front(character, color, dark)
    drop = 0.62 if character.eyes_covered else 0.0
    dx = 0.12 * turn
    top = ellipse(0.0, -0.1, 1.06, 1.12, 180, 360, 24)
    lock = 1.25 if style == "long" else 0.42
    edge = [(1.06, 0.1), (1.0, lock), (0.84, 0.1), (0.8, -0.2), (0.62 + dx, -0.08 + drop),
            (0.5 + dx, -0.4 + drop), (0.3 + dx, -0.16 + drop), (0.12 + dx, -0.44 + drop),
            (-0.1 + dx, -0.14 + drop), (-0.3 + dx, -0.42 + drop), (-0.5 + dx, -0.1 + drop),
            (-0.66 + dx, -0.4 + drop), (-0.8, -0.2), (-0.84, 0.1), (-1.0, lock),
            (-1.06, 0.1)]  # fmt: skip
    shapes = [Shape(np.concatenate([top, np.array(edge)]), color, HAIR_FRONT)]
    shapes += _strands(
        [[(0.02 + dx, -1.16), (0.3 + dx, -0.8), (0.5 + dx, -0.42)],
         [(0.0 + dx, -1.16), (-0.22 + dx, -0.8), (-0.3 + dx, -0.44)],
         [(0.02 + dx, -1.16), (0.66, -0.9), (0.92, -0.2)],
         [(-0.02 + dx, -1.16), (-0.66, -0.9), (-0.92, -0.2)]], dark
    )  # fmt: skip
    shapes.append(Shape(_shine(dx), light, HAIR_FRONT, alpha=0.6))
    return shapes


def _shine(dx: float) -> Points:
    """The soft highlight across the crown that drawn hair has."""
    return np.concatenate([ellipse(dx, 0.0, 0.72, 0.86, 216, 306, 12), ellipse(dx, 0.02, 0.7, 0.76, 306, 216, 12)])


def _profile_front(character: Character, color: Rgb, dark: Rgb) -> list[Shape]:
    drop = 0.5 if character.eyes_covered else 0.0
    top = ellipse(0.1, -0.1, 1.02, 1.12, 205, 380, 24)
    edge = [(1.1, 0.1), (0.98, 0.66), (0.6, 0.82), (0.3, 0.5), (0.16, 0.86), (0.0, 0.1),
            (-0.1, -0.3 + drop), (-0.3, -0.1 + drop), (-0.44, -0.42 + drop), (-0.66, -0.08 + drop),
            (-0.76, -0.4)]  # fmt: skip
    if character.hair_style == "long":
        edge[2:5] = [(0.7, 1.5), (0.34, 1.5), (0.2, 0.9)]
    shapes = [Shape(np.concatenate([top, np.array(edge)]), color, HAIR_FRONT)]
    return shapes + _strands(
        [[(0.1, -1.1), (0.6, -0.7), (0.84, 0.3)], [(0.0, -1.1), (-0.2, -0.7), (-0.12, -0.3)]], dark
    )


def _back_of_head(style: str, color: Rgb, dark: Rgb, light: Rgb) -> list[Shape]:
    mass = {"long": _LONG, "short": _SHORT}.get(style, _UP)
    shapes = [Shape(smooth(mass), color, HAIR_FRONT)]
    end = {"long": 2.3, "short": 0.7}.get(style, 0.45)
    shapes += _strands(
        [[(x * 0.3, -1.08), (x * 1.15, -0.3), (x * 1.25, end * 0.92)]
         for x in (-0.7, -0.36, 0.0, 0.36, 0.7)], dark
    )  # fmt: skip
    shapes.append(Shape(_shine(0.0), light, HAIR_FRONT, alpha=0.5))
    if style == "bun":
        shapes.append(Shape(ellipse(0.0, -1.3, 0.48, 0.44), shade(color, 0.92), HAIR))
    return shapes
