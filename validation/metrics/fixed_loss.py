"""Ratios of the fixed-noise losses that a run writes at step 0 and at every save."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def ratios(events: Iterable[dict[str, Any]], split: str) -> dict[int, float]:
    """{step: loss over the loss at step 0} of one split; empty when step 0 was not measured. Last event per step."""
    losses = {
        int(event["step"]): float(event["loss"])
        for event in events
        if event.get("type") == "fixed_loss" and event.get("split") == split and math.isfinite(float(event["loss"]))
    }
    start = losses.get(0, 0.0)
    return {step: loss / start for step, loss in sorted(losses.items())} if start > 0 else {}
