"""Wires that only nodes know: the parts of `TrainConfig` that one node sets, and an export with its load checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core.types import LoraFile, Wire
from ..trainer.config import DataConfig, OptimizerConfig, PrecisionConfig, ScheduleConfig


@dataclass(frozen=True)
class OptimizerSettings(Wire):
    """How fast and how long: set by Optimizer and Schedule."""

    optimizer: OptimizerConfig
    schedule: ScheduleConfig


@dataclass(frozen=True)
class EmbeddedSettings(Wire):
    """What only the embedded trainer needs to know: set by Embedded Options."""

    data: DataConfig
    precision: PrecisionConfig
    prediction: str = "auto"


@dataclass(frozen=True)
class ExportedLora(LoraFile):
    """An exported LoRA with the load check and the way of use per target."""

    checks: tuple[dict[str, Any], ...] = ()
    hints: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
