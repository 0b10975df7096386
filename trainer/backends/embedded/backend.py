"""The embedded trainer as seen from outside: what it cannot do, and the command that starts its child."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ....core.pipelines import FAMILIES, SAMPLERS
from ....core.rundir import RunDir
from ....core.types import BaseModel, Dataset
from ...config import TrainConfig
from ..base import Command

_LATENT_STRIDE = 8


@dataclass(frozen=True)
class Embedded:
    """diffusers + peft in a child process; SD 1.5 and SDXL architectures."""

    name: str = "embedded"

    def problems(self, config: TrainConfig, dataset: Dataset, base: BaseModel) -> list[str]:
        """Everything this trainer cannot do with these inputs."""
        return [*_model_problems(config, base), *_data_problems(dataset), *_plan_problems(config)]

    def command(self, run: RunDir, resume: bool) -> Command:
        """The child reads everything from the run directory; nothing of the user's text is on its command line."""
        module = f"{__name__.rsplit('.', 1)[0]}.child"
        argv = (sys.executable, "-m", module, str(run.path), *(["--resume"] if resume else []))
        return Command(argv, {"TOKENIZERS_PARALLELISM": "false"})


def _model_problems(config: TrainConfig, base: BaseModel) -> Iterator[str]:
    if base.family not in FAMILIES:
        yield (
            f"the embedded trainer knows the families {' and '.join(FAMILIES)}, "
            f"but {base.name!r} is of the family {base.family!r}"
        )
    if not Path(base.path).exists():
        yield f"the base model {base.path} does not exist"
    if config.backend != "embedded":
        yield f"the configuration asks for the backend {config.backend!r}"


def _data_problems(dataset: Dataset) -> Iterator[str]:
    train = dataset.split("train")
    if not train:
        yield f"the dataset {dataset.name!r} has no pictures to train on"
    empty = [Path(item.path).name for item in dataset.items if not item.caption.strip()]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        yield f"{len(empty)} of {len(dataset.items)} pictures have no caption ({', '.join(empty[:5])}{more})"


def _plan_problems(config: TrainConfig) -> Iterator[str]:
    if config.validation.sampler not in SAMPLERS:
        yield f"there is no sampler {config.validation.sampler!r} (known: {', '.join(SAMPLERS)})"
    plan = config.plan()
    for name, size in (("width", plan.width), ("height", plan.height)):
        if size % _LATENT_STRIDE:
            yield f"validation.{name} = {size} is not a multiple of {_LATENT_STRIDE}"
