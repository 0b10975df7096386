"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from ...config import ScheduleConfig


def rate_factor(step: int, schedule: ScheduleConfig) -> float:
    """What the learning rate is multiplied by in `step` (counted from 1)."""
    warmup, name = schedule.warmup_steps, schedule.scheduler
    if step <= warmup and name != "constant":
        return step / warmup
    done = step - 1 - warmup
    progress = min(1.0, max(0.0, done / max(1, schedule.max_steps - warmup)))
    if name == "linear":
        return 1.0 - progress
    if name == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if name == "cosine_with_restarts":
        return 0.5 * (1.0 + math.cos(math.pi * (progress * schedule.cycles % 1.0)))
    if name == "polynomial":
        return (1.0 - progress) ** 2
    if name == "inverse_sqrt":
        return math.sqrt(max(1, warmup) / max(1, warmup, step))
    return 1.0
