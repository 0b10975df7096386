"""The metrics, one file each: name, unit, direction, what it needs, and `measure`."""

from __future__ import annotations

from types import ModuleType

from . import (
    face_confidence,
    face_found,
    face_sharpness,
    heldout_loss,
    nearest_training_percentile,
    prompt_response,
    seed_diversity,
    style_distance,
    train_loss,
    valid_frame,
)
from .base import AXES, Axis, Metric

MODULES: tuple[ModuleType, ...] = (
    valid_frame,
    face_found,
    face_confidence,
    face_sharpness,
    style_distance,
    seed_diversity,
    prompt_response,
    nearest_training_percentile,
    heldout_loss,
    train_loss,
)
METRICS: dict[str, Metric] = {module.METRIC.name: module.METRIC for module in MODULES}
PICTURE_MODULES: tuple[ModuleType, ...] = MODULES[1:8]

__all__ = ["AXES", "METRICS", "MODULES", "PICTURE_MODULES", "Axis", "Metric"]
