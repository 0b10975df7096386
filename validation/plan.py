"""The validation plan of a run, read from the documents in its directory."""

from __future__ import annotations

from typing import Any

from ..core.errors import BadInput
from ..core.rundir import RunDir
from ..core.types import Prompt, ValidationPlan

_FIELDS = ("negative", "sampler", "steps", "cfg", "strength")


def plan_of(run: RunDir) -> ValidationPlan | None:
    """The plan in the run's job document, or None when the run holds none that can be read.

    A size of 0 means the training resolution.
    """
    try:
        job = run.job()
    except BadInput:
        return None
    config = job.get("config", {}) if isinstance(job, dict) else {}
    section = config.get("validation") if isinstance(config, dict) else None
    if not isinstance(section, dict) or not section.get("prompts"):
        return None
    resolution = int(config.get("data", {}).get("resolution", 512))
    values: dict[str, Any] = {name: section[name] for name in _FIELDS if name in section}
    values |= {"prompts": section["prompts"], "seeds": section.get("seeds", (1, 2))}
    values |= {"width": section.get("width") or resolution, "height": section.get("height") or resolution}
    return ValidationPlan.from_json(values)


def prompts_by_id(plan: ValidationPlan | None) -> dict[str, Prompt]:
    """{prompt id: prompt}; empty without a plan."""
    return {prompt.id: prompt for prompt in plan.prompts} if plan else {}
