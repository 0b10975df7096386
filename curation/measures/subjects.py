"""What the detector found, in one schema for all detectors: boxes as shares of the frame, sizes in full pixels."""

from __future__ import annotations

from typing import Any

from ...core.faces import Box, Subject
from . import Sample

FACE_SIDE = 96  # pixels: the fixed scale at which the sharpness of every face is measured
_BODY_IN_FACES = 7.5  # a standing person's height in heights of the face box (brow to chin)
_ABOVE_FACE = 0.45  # hair and forehead above the face box, in face heights


def measure(sample: Sample) -> dict[str, Any]:
    """`subjects`: one dict per character, largest first (see `describe`)."""
    rows = [describe(sample, subject) for subject in sample.subjects]
    return {"subjects": sorted(rows, key=lambda row: row["size"], reverse=True)}


def describe(sample: Sample, subject: Subject) -> dict[str, Any]:
    """One character.

    `score` 0-1; `face`, `head`, `body` [x0, y0, x1, y1] as shares of the frame or null; `landmarks` likewise;
    `size` height of face, else head x 0.7, else body / 7.5, over the frame's height; `face_height` face over frame
    height; `face_px` face height in pixels of the file; `face_sharpness` Laplacian variance of the face scaled to
    96x96; `luma`, `luma_spread` mean and standard deviation (0-1) of the middle of the face, else of the head, and
    `surround` the mean luma outside the figure; `subject_height` visible figure over frame height, `subject_estimated`
    true when it was extrapolated from the face; `view`, `eyes`, `mouth` as the detector said, or null.
    """
    face = _share(sample, subject.face)
    head = _share(sample, subject.head)
    body = _share(sample, subject.body)
    height = _tall(face)
    figure = _tall(body) if body else _figure(face)
    return {
        "score": round(float(subject.score), 4),
        "face": face,
        "head": head,
        "body": body,
        "landmarks": [_point(sample, x, y) for x, y in subject.landmarks],
        "size": round(height or 0.7 * (_tall(head) or 0.0) or (_tall(body) or 0.0) / _BODY_IN_FACES, 4),
        "face_height": height,
        "face_px": round(height * sample.height, 1) if height else None,
        "face_sharpness": _face_sharpness(sample, subject.face),
        **_light(sample, subject),
        "subject_height": figure,
        "subject_estimated": body is None and figure is not None,
        "view": subject.view,
        "eyes": _rounded(subject.eyes_visible),
        "mouth": _rounded(subject.mouth_visible),
    }


def _face_sharpness(sample: Sample, box: Box | None) -> float | None:
    crop = _crop(sample, box)
    if crop is None:
        return None
    import cv2

    grey = cv2.cvtColor(sample.pixels[crop], cv2.COLOR_RGB2GRAY)
    way = cv2.INTER_AREA if min(grey.shape) > FACE_SIDE else cv2.INTER_LINEAR
    fixed = cv2.resize(grey, (FACE_SIDE, FACE_SIDE), interpolation=way)
    return round(float(cv2.Laplacian(fixed, cv2.CV_64F).var()), 1)


def _light(sample: Sample, subject: Subject) -> dict[str, float | None]:
    """The middle half of the face (or head) against what lies outside the figure: a silhouette is dark and even."""
    import numpy as np

    box = subject.face or subject.head
    core = _crop(sample, _shrunk(box)) if box else None
    figure = _pixels(sample, subject.body or subject.head or _grown(subject.face))
    if core is None or figure is None:
        return {"luma": None, "luma_spread": None, "surround": None}
    outside = np.ones(sample.luma.shape, bool)
    outside[figure] = False
    ground = sample.luma[outside] if outside.mean() > 0.02 else sample.luma
    inside = sample.luma[core]
    values = {"luma": inside.mean(), "luma_spread": inside.std(), "surround": ground.mean()}
    return {name: round(float(value), 4) for name, value in values.items()}


def _shrunk(box: Box) -> Box:
    dx, dy = (box[2] - box[0]) / 4, (box[3] - box[1]) / 4
    return (box[0] + dx, box[1] + dy, box[2] - dx, box[3] - dy)


def _grown(box: Box | None) -> Box | None:
    """From a face to about head and shoulders."""
    if box is None:
        return None
    dx, dy = box[2] - box[0], box[3] - box[1]
    return (box[0] - dx / 2, box[1] - dy / 2, box[2] + dx / 2, box[3] + dy)


def _crop(sample: Sample, box: Box | None) -> tuple[slice, slice] | None:
    """Rows and columns of a box, at least 2 x 2 pixels, or None."""
    area = _pixels(sample, box)
    return area if area and all(part.stop - part.start >= 2 for part in area) else None


def _pixels(sample: Sample, box: Box | None) -> tuple[slice, slice] | None:
    if box is None:
        return None
    height, width = sample.pixels.shape[:2]
    x0, y0 = max(0, int(box[0])), max(0, int(box[1]))
    return slice(y0, min(height, round(box[3]))), slice(x0, min(width, round(box[2])))


def _share(sample: Sample, box: Box | None) -> list[float] | None:
    if box is None:
        return None
    x0, y0 = _point(sample, box[0], box[1])
    x1, y1 = _point(sample, box[2], box[3])
    return [max(0.0, x0), max(0.0, y0), min(1.0, x1), min(1.0, y1)]


def _point(sample: Sample, x: float, y: float) -> list[float]:
    height, width = sample.pixels.shape[:2]
    return [round(float(x) / width, 4), round(float(y) / height, 4)]


def _figure(face: list[float] | None) -> float | None:
    """Visible figure over frame height, guessed from where the face is: most of the body runs out of the frame."""
    if face is None:
        return None
    tall = face[3] - face[1]
    top = max(0.0, face[1] - _ABOVE_FACE * tall)
    return round(min(1.0, top + _BODY_IN_FACES * tall) - top, 4)


def _tall(box: list[float] | None) -> float | None:
    return round(max(0.0, box[3] - box[1]), 4) if box else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
