"""Loss on the held-out pictures at fixed noise and timesteps, over its value before training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .base import Metric
from .fixed_loss import ratios

METRIC = Metric(
    "heldout_loss", "ratio to step 0", "down", "health", ("held-out pictures",), "loss on held-out pictures",
    base=1.0, data=0.0,
)  # fmt: skip


def measure(events: Iterable[dict[str, Any]]) -> dict[int, float]:
    """{step: ratio} from the run's `fixed_loss` events."""
    return ratios(events, "heldout")
