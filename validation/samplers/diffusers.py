"""Drawing with diffusers: the base model is loaded once, the LoRA of each checkpoint swapped in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...core.errors import WorkFailed
from ...core.pipelines import load_pipeline, render_many
from ...core.rundir import Checkpoint
from ...core.types import BaseModel, Prompt, ValidationPlan
from .base import Pair

_ADAPTER = "atelier"


class DiffusersSampler:
    """A `Sampler` on top of a local diffusers pipeline; never with a safety checker."""

    def __init__(self, base: BaseModel, plan: ValidationPlan, dtype: str | None = None, device: str = "auto") -> None:
        self._plan = plan
        self._pipe = load_pipeline(Path(base.path), base.family, dtype or _dtype(device), device)

    def draw(
        self, checkpoint: Checkpoint | None, pairs: Sequence[Pair], check: Callable[[], None] | None
    ) -> Iterator[tuple[Prompt, int, Image.Image]]:
        """Pictures of the base model, or with the checkpoint's LoRA at the plan's strength."""
        if checkpoint is not None:
            _attach(self._pipe, checkpoint)
        try:
            yield from render_many(self._pipe, self._plan, pairs, check)
        finally:
            if checkpoint is not None:
                self._pipe.unload_lora_weights()


def _attach(pipe: Any, checkpoint: Checkpoint) -> None:
    try:
        pipe.load_lora_weights(str(checkpoint.path.parent), weight_name=checkpoint.path.name, adapter_name=_ADAPTER)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")
        raise WorkFailed(f"The checkpoint {checkpoint.path.name} cannot be loaded ({first}).") from error


def _dtype(device: str) -> str:
    """Half precision on a GPU, full precision elsewhere."""
    from ...core.pipelines import device_name

    return "float16" if device_name(device) == "cuda" else "float32"
