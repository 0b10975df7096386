"""Rendering a scene together with its exact truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from artist.backgrounds import paint_background
from artist.canvas import Canvas, Shape
from artist.figure import Figure, build
from artist.scene import SOLES, TALL, Character, Scene
from artist.styles import finish

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Truth:
    """What a picture shows of one character, in pixels; boxes are clipped to the frame."""

    subject_box: Box
    head_box: Box
    face_box: Box | None
    eyes: tuple[tuple[float, float], ...]
    mouth: tuple[float, float] | None
    view: str
    eyes_visible: bool
    mouth_visible: bool
    silhouette: bool
    detail: bool
    hair_color: str
    dress_color: str
    expression: str
    hair_style: str

    def to_json(self) -> dict[str, Any]:
        """Plain lists, numbers and strings."""
        values = asdict(self)
        for key in ("subject_box", "head_box", "face_box", "mouth"):
            if values[key] is not None:
                values[key] = [round(float(v), 2) for v in values[key]]
        values["eyes"] = [[round(float(v), 2) for v in eye] for eye in values["eyes"]]
        return values


def _clip(box: Box, width: int, height: int) -> Box:
    x0, y0, x1, y1 = box
    return (
        min(max(x0, 0.0), width), min(max(y0, 0.0), height),
        min(max(x1, 0.0), width), min(max(y1, 0.0), height),
    )  # fmt: skip


def _cut(points: NDArray[np.float64], axis: int, limit: float, sign: float) -> NDArray[np.float64]:
    """Keep the part of a polygon on one side of a frame edge, corners in order."""
    depth = sign * (points[:, axis] - limit)
    if len(points) == 0 or (depth >= 0).all():
        return points
    kept = []
    for n in range(len(points)):
        m = (n + 1) % len(points)
        if depth[n] >= 0:
            kept.append(points[n])
        if (depth[n] >= 0) != (depth[m] >= 0):
            share = depth[n] / (depth[n] - depth[m])
            kept.append(points[n] + share * (points[m] - points[n]))
    return np.array(kept).reshape(-1, 2)


def _extent(shapes: tuple[Shape, ...], unit: float, ox: float, oy: float, scene: Scene) -> Box:
    """Box of what lies inside the frame, in pixels: hands below the edge do not widen it."""
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for shape in shapes:
        if shape.line:
            continue
        points = np.asarray(shape.points) * unit + (ox, oy)
        for axis, size in ((0, scene.width), (1, scene.height)):
            points = _cut(_cut(points, axis, 0.0, 1.0), axis, float(size), -1.0)
        if len(points):
            low, high = np.minimum(low, points.min(0)), np.maximum(high, points.max(0))
    if not np.isfinite(low).all():
        return (0.0, 0.0, 0.0, 0.0)
    return (float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def _truth(character: Character, figure: Figure, scene: Scene, unit: float) -> Truth:
    ox, oy = character.cx * scene.width, character.base * scene.height - SOLES * unit

    def to_pixels(box: Box) -> Box:
        x0, y0, x1, y1 = box
        moved = (ox + x0 * unit, oy + y0 * unit, ox + x1 * unit, oy + y1 * unit)
        return _clip(moved, scene.width, scene.height)

    def inside(point: tuple[float, float]) -> bool:
        return 0 <= point[0] < scene.width and 0 <= point[1] < scene.height

    shown = character.detail and not character.silhouette
    eyes = tuple((ox + x * unit, oy + y * unit) for x, y in figure.eyes) if shown else ()
    eyes = tuple(eye for eye in eyes if inside(eye))
    mouth = figure.mouth if shown else None
    if mouth is not None:
        mouth = (ox + mouth[0] * unit, oy + mouth[1] * unit)
        mouth = mouth if inside(mouth) else None
    face = None if figure.face is None else to_pixels(figure.face)
    if face is not None and (face[2] - face[0] < 1 or face[3] - face[1] < 1):
        face = None
    return Truth(
        subject_box=_extent(figure.shapes, unit, ox, oy, scene), head_box=to_pixels(figure.head),
        face_box=face, eyes=eyes, mouth=mouth, view=character.view, eyes_visible=bool(eyes),
        mouth_visible=mouth is not None, silhouette=character.silhouette, detail=character.detail,
        hair_color=character.hair_color, dress_color=character.dress_color,
        expression=character.expression, hair_style=character.hair_style,
    )  # fmt: skip


def _blur_face(canvas: Canvas, box: Box) -> None:
    """Smear a face as motion or a missed focus does; the truth says `detail: false`."""
    x0, y0, x1, y1 = (int(v * canvas.ss) for v in box)
    view = canvas.rgb[y0:y1, x0:x1]
    if view.shape[0] > 4 and view.shape[1] > 4:
        view[:] = cv2.GaussianBlur(view, (0, 0), 0.16 * view.shape[0])


def render(scene: Scene) -> tuple[NDArray[np.uint8], tuple[Truth, ...], NDArray[np.uint8]]:
    """Pixels, truth and the part labels at twice the size (for losses and tests)."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(scene.width, scene.height)
    paint_background(canvas, scene.background, rng)
    truths: list[Truth] = []
    for index, character in enumerate(scene.characters):
        smear = not character.detail and not character.silhouette and (scene.seed + index) % 2
        shown = replace(character, detail=True) if smear else character
        figure = build(shown, rng)
        unit = character.height * scene.height / TALL
        offset = (character.cx * scene.width, character.base * scene.height - SOLES * unit)
        for shape in figure.shapes:
            canvas.paint(shape, (unit, unit), offset, 32 * (index + 1))
        truth = _truth(character, figure, scene, unit)
        if smear and truth.face_box is not None:
            _blur_face(canvas, truth.face_box)
        truths.append(truth)
    return finish(canvas, scene.style, rng), tuple(truths), canvas.labels


def draw(scene: Scene) -> tuple[Image.Image, tuple[Truth, ...]]:
    """Draw a scene; the same scene gives the same pixels."""
    pixels, truths, _ = render(scene)
    return Image.fromarray(pixels), truths
