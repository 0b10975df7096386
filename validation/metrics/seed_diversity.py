"""How much a picture changes with the seed, against the base model: 1 = as free as the base, 0 = collapsed."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Metric, Scene, Sight
from .layout import mean_distance

METRIC = Metric(
    "seed_diversity", "ratio to the base model", "up", "flexibility", ("base pictures", "two seeds"),
    "difference between seeds", base=0.0, data=1.0,
)  # fmt: skip


def measure(sight: Sight, scene: Scene) -> float | None:
    """Mean distance to the same prompt's other seeds, over the base model's mean for the same prompt."""
    own = _distance(sight, scene.pictures)
    key = f"seeds {sight.prompt}"
    if key not in scene.cache:
        free = [_distance(other, scene.base) for other in scene.base if other.prompt == sight.prompt]
        known = [value for value in free if value is not None]
        scene.cache[key] = sum(known) / len(known) if known else 0.0
    return own / scene.cache[key] if own is not None and scene.cache[key] > 0 else None


def _distance(sight: Sight, pictures: Sequence[Sight]) -> float | None:
    if sight.layout is None:
        return None
    others = (
        other.layout
        for other in pictures
        if other.prompt == sight.prompt and other.seed != sight.seed and other.layout is not None
    )
    return mean_distance(sight.layout, others)
