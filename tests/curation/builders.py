"""Measurements and curations written by hand, for tests of the pure functions on them."""

from __future__ import annotations

from typing import Any

from lora_atelier.core.types import Curation, Decision, ImageSet, Picture


def subject(height: float = 0.3, **changes: Any) -> dict[str, Any]:
    """A clear front face of `height` (share of a 640 px high frame) in the middle of the picture."""
    face = [0.4, 0.2, 0.6, round(0.2 + height, 4)]
    values = {
        "score": 0.9, "face": face, "head": None, "body": None, "landmarks": [], "size": height, "face_height": height,
        "face_px": round(640 * height, 1), "face_sharpness": 300.0, "luma": 0.6, "luma_spread": 0.2,
        "surround": 0.5, "subject_height": 0.8,
        "subject_estimated": True, "view": "front", "eyes": 0.95, "mouth": 0.9,
    }  # fmt: skip
    return {**values, **changes}


def headless(**changes: Any) -> dict[str, Any]:
    """A head without a face, as a detector that knows heads reports it."""
    nothing = {"face": None, "face_height": None, "face_px": None, "face_sharpness": None, "subject_height": None}
    return subject(**{**nothing, "head": [0.4, 0.1, 0.6, 0.4], "eyes": None, "mouth": None, **changes})


def measurement(*subjects: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {
        "width": 640, "height": 640, "brightness": 0.5, "contrast": 0.2, "black_share": 0.0, "flat_share": 0.0,
        "letterbox": 0.0, "sharpness": 400.0, "phash": "0" * 16, "drawn": 0.9, "shape_share": 0.0, "shape_height": 0.0,
        "ground_luma": 0.5, "subjects": list(subjects),
    }  # fmt: skip
    return {**values, **changes}


def curation(**measurements: dict[str, Any]) -> Curation:
    """A curation of pictures called `<name>.png` with these measurements, everything kept so far."""
    pictures = tuple(Picture(f"{name}.png", f"{name:0>64}", 640, 640) for name in measurements)
    decisions = tuple(Decision(picture.path, picture.sha256, "keep") for picture in pictures)
    known = {f"{name:0>64}": values for name, values in measurements.items()}
    return Curation(ImageSet("set", "/nowhere", pictures), "double 1", known, decisions)
