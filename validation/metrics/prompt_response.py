"""How much a picture changes with the prompt, against the base model: 1 = as obedient as the base, 0 = deaf."""

from __future__ import annotations

from collections.abc import Sequence

from .base import Metric, Scene, Sight
from .layout import mean_distance

METRIC = Metric(
    "prompt_response", "ratio to the base model", "up", "flexibility", ("base pictures", "two prompts"),
    "difference between prompts", base=0.0, data=1.0,
)  # fmt: skip


def measure(sight: Sight, scene: Scene) -> float | None:
    """Mean distance to the same seed's pictures of other prompts, over the base model's mean for the same picture."""
    own = _distance(sight, scene.pictures)
    if "prompts" not in scene.cache:
        known = [value for other in scene.base if (value := _distance(other, scene.base)) is not None]
        scene.cache["prompts"] = sum(known) / len(known) if known else 0.0
    return own / scene.cache["prompts"] if own is not None and scene.cache["prompts"] > 0 else None


def _distance(sight: Sight, pictures: Sequence[Sight]) -> float | None:
    if sight.layout is None:
        return None
    others = (
        other.layout
        for other in pictures
        if other.seed == sight.seed and other.prompt != sight.prompt and other.layout is not None
    )
    return mean_distance(sight.layout, others)
