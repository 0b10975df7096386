"""The figure: shapes of one character in head units (see `scene` for the unit)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from artist.canvas import DRESS, FEATURE, HAIR, LIMB, SKIN, TRIM, Shape, ellipse, mirror, smooth
from artist.face import face_shapes
from artist.hair import hair_back, hair_front
from artist.palette import DRESS as DRESS_RGB
from artist.palette import HAIR as HAIR_RGB
from artist.palette import SILHOUETTE, Rgb, shade
from artist.palette import SKIN as SKIN_RGB
from artist.scene import Character


@dataclass(frozen=True)
class Figure:
    """Shapes in drawing order and the points of interest, all in head units."""

    shapes: tuple[Shape, ...]
    head: tuple[float, float, float, float]
    face: tuple[float, float, float, float] | None
    eyes: tuple[tuple[float, float], ...]
    mouth: tuple[float, float] | None


_BODICE = mirror([(0.26, 1.16), (0.62, 1.26), (0.96, 1.52), (0.8, 2.05), (0.6, 2.7), (0.0, 2.76)])
_SKIRT = mirror([(0.58, 2.62), (0.86, 3.2), (1.3, 4.1), (0.8, 4.26), (0.0, 4.32)])
_SLEEVE = [(0.72, 1.32), (1.02, 1.62), (1.2, 2.3), (1.32, 2.98), (0.98, 3.04), (0.86, 2.3),
           (0.66, 1.9)]  # fmt: skip


def _narrow(points: object, factor: float, shift: float = 0.0) -> np.ndarray:
    p = np.asarray(points, dtype=np.float64).copy()
    p[:, 0] = p[:, 0] * factor + shift
    return p


def _legs(narrow: float, shoe: Rgb) -> list[Shape]:
    shapes = []
    for s in (-1.0, 1.0):
        x = 0.36 * s * narrow
        leg = [(x - 0.17, 4.0), (x + 0.17, 4.0), (x + 0.13, 5.1), (x - 0.13, 5.1)]
        shapes.append(Shape(np.array(leg), shade(SKIN_RGB, 0.96), LIMB))
        shapes.append(Shape(ellipse(x + 0.04 * s, 5.16, 0.24, 0.14), shoe, TRIM))
    return shapes


def _body(view: str, dress: Rgb) -> list[Shape]:
    """Dress, sleeves, hands, legs; a profile is the same body, narrower."""
    profile = view.startswith("profile")
    narrow = 0.66 if profile else 1.0
    dark, light = shade(dress, 0.78), shade(dress, 1.35)
    bright = sum(dress) > 680
    collar = (206, 214, 236) if bright else (250, 246, 240)
    shapes = _legs(narrow, (96, 60, 52))
    shapes.append(Shape(_narrow(smooth(_SKIRT), narrow), dress, DRESS))
    for x in (-0.55, 0.0, 0.55):
        fold = np.array([(x * 0.8, 2.95), (x * 1.2, 4.1)])
        shapes.append(Shape(_narrow(fold, narrow), dark, DRESS, line=0.05))
    neck = [(-0.24, 0.7), (0.24, 0.7), (0.28, 1.3), (0.0, 1.42), (-0.28, 1.3)]
    throat = _narrow(neck, narrow, 0.12 if profile else 0.0)
    shapes.append(Shape(throat, shade(SKIN_RGB, 0.91), SKIN))
    sides = (0.0,) if profile else (-1.0, 1.0)
    shapes.append(Shape(_narrow(smooth(_BODICE), narrow), dress, DRESS))
    belt = [(-0.61, 2.52), (0.61, 2.52), (0.6, 2.76), (-0.6, 2.76)]
    shapes.append(Shape(_narrow(belt, narrow), dark, TRIM))
    if view != "back":
        shapes += [
            Shape(_narrow([(0.0, 1.5), (0.3 * s, 1.12), (0.64 * s, 1.36), (0.3 * s, 1.72)],
                          narrow), collar, TRIM)
            for s in (-1.0, 1.0)
        ]  # fmt: skip
        shapes += [
            Shape(ellipse(0.0, y, 0.06, 0.06, n=10), light if not bright else dark, FEATURE) for y in (1.86, 2.2)
        ]
    for s in sides:
        hand = ellipse(1.17 * s, 3.1, 0.17, 0.19, n=16)
        shapes.append(Shape(hand, SKIN_RGB, LIMB))
        sleeve = np.asarray(smooth(_SLEEVE)) * (s or 0.2, 1.0)
        if profile:
            sleeve = np.asarray(smooth(_SLEEVE)) * (0.7, 1.0) - (0.68, 0.0)
            shapes[-1] = Shape(ellipse(0.14, 3.1, 0.17, 0.19, n=16), SKIN_RGB, LIMB)
        shapes.append(Shape(sleeve, shade(dress, 0.9), DRESS + 8))
    return shapes


def build(character: Character, rng: np.random.Generator) -> Figure:
    """Make the figure. Whoever faces left or right is decided by `rng` for three quarters."""
    view = character.view
    hair, dress = HAIR_RGB[character.hair_color], DRESS_RGB[character.dress_color]
    turn = 0.0
    if view == "three_quarter":
        turn = 1.0 if rng.random() < 0.5 else -1.0
    side = {"profile_right": -1.0}.get(view, 1.0)
    face, anchors = face_shapes(character, turn, rng)
    body = _body(view, dress)
    back = hair_back(character.hair_style, view, hair)
    front = hair_front(character, view, hair, turn)
    shapes = body + front if view == "back" else back + body + face.base + front + face.features
    if view == "back" and character.hair_style in ("ponytail", "twin_tails"):
        shapes = body + front + back
    if side < 0:
        shapes = [Shape(s.points * (-1.0, 1.0), s.color, s.part, s.line, s.alpha) for s in shapes]
    if character.silhouette:
        shapes = [Shape(s.points, SILHOUETTE, HAIR) for s in shapes if not s.line and s.alpha == 1.0]
    eyes = tuple((x * side, y) for x, y in anchors.eyes)
    mouth = None if anchors.mouth is None else (anchors.mouth[0] * side, anchors.mouth[1])
    box = anchors.face
    if box is not None and side < 0:
        box = (-box[2], box[1], -box[0], box[3])
    return Figure(tuple(shapes), _head_box(character, side), box, eyes, mouth)


def _head_box(character: Character, side: float) -> tuple[float, float, float, float]:
    """Crown (with a bun) to chin, width of the hair on the skull; falling hair left out."""
    top = -1.78 if character.hair_style == "bun" else -1.22
    if character.view.startswith("profile"):
        x0, x1 = (-0.98, 1.14) if side > 0 else (-1.14, 0.98)
        return (x0, top, x1, 1.02)
    return (-1.08, top, 1.08, 1.02)
