"""Resume state: LoRA, optimizer moments and counters in one whole file; the old one goes when the new one stands."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....core.errors import AtelierError
from ....core.tensorfile import load, read_header, save
from .network import Network

_NAME = re.compile(r"^step-(\d+)\.safetensors$")
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class State:
    """A loaded state: the step it was written after, tensors by name, and small facts."""

    step: int
    tensors: dict[str, np.ndarray]
    facts: dict[str, Any]


def save_state(
    folder: Path, step: int, network: Network, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> Path:
    """Write the state after `step`, then remove older ones."""
    tensors = {f"lora/{key}": value for key, value in network.arrays().items()}
    for key, parameter in network.parameters.items():
        moments = optimizer.state.get(parameter, {})
        for name in _MOMENTS:
            if name in moments:
                tensors[f"{name}/{key}"] = moments[name].detach().float().cpu().numpy()
        if "step" in moments:
            facts = {**facts, "updates": int(moments["step"])}
    path = folder / f"step-{step:06d}.safetensors"
    save(path, tensors, {"atelier.state": json.dumps({**facts, "step": step})})
    for old in folder.iterdir():
        if (_NAME.match(old.name) or old.name.endswith(".tmp")) and old != path:
            old.unlink(missing_ok=True)
    return path


def latest_state(folder: Path, last_step: int) -> State | None:
    """The newest state that can be read and is not beyond `last_step`; None when there is none."""
    found = [(int(match[1]), path) for path in _files(folder) if (match := _NAME.match(path.name))]
    for step, path in sorted(found, reverse=True):
        if step > last_step:
            continue
        try:
            facts = json.loads(read_header(path).metadata["atelier.state"])
            return State(step, load(path), facts)
        except (AtelierError, KeyError, ValueError):
            continue
    return None


def restore(state: State, network: Network, optimizer: torch.optim.Optimizer) -> None:
    """Put LoRA tensors and optimizer moments back; KeyError when the state belongs to another network."""
    network.load({key.removeprefix("lora/"): value for key, value in state.tensors.items() if key.startswith("lora/")})
    updates = float(state.facts.get("updates", 0))
    fused = bool(optimizer.defaults.get("fused"))
    for key, parameter in network.parameters.items():
        if f"exp_avg/{key}" not in state.tensors:
            continue
        moments: dict[str, Any] = {
            name: torch.from_numpy(state.tensors[f"{name}/{key}"].copy()).to(parameter.device) for name in _MOMENTS
        }
        optimizer.state[parameter] = moments | {
            "step": torch.tensor(updates, device=parameter.device if fused else "cpu")  # where AdamW itself keeps it
        }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
