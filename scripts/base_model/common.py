"""What the two training scripts share: recipe, pictures, schedule, atomic files."""

from __future__ import annotations

import json
import math
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent
ROOT = SCRIPTS.parent
if str(SCRIPTS) not in sys.path:
    sys.path.insert(0, str(SCRIPTS))


def recipe() -> dict[str, Any]:
    """The hyper-parameters; nothing is set elsewhere."""
    return tomllib.loads((HERE / "recipe.toml").read_text(encoding="utf-8"))


def save_atomic(state: dict[str, Any], path: Path) -> None:
    """Write beside the final name and rename, so that a kill leaves the previous file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def cosine(progress: float, step: int, warmup: int) -> float:
    """Warm-up over the first steps, then cosine to zero over the whole run."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


@dataclass
class Clock:
    """Progress of a run that ends after a number of steps or minutes, whichever is first.

    The seconds of earlier, interrupted parts of the run are kept, so a resumed run carries on
    along the same schedule.
    """

    steps: int
    minutes: float
    before: float = 0.0
    began: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds of training so far, over all parts of the run."""
        return self.before + time.monotonic() - self.began

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        return max(step / self.steps, self.seconds() / (60.0 * self.minutes))


class Ema:
    """Exponential moving average of parameters, with a short memory at first."""

    def __init__(self, modules: dict[str, torch.nn.Module], decay: float) -> None:
        self.decay = decay
        self.modules = modules
        self.shadow = {
            name: {k: v.detach().clone() for k, v in module.state_dict().items()} for name, module in modules.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Blend the current weights in."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, module in self.modules.items():
            shadow = self.shadow[name]
            for key, value in module.state_dict().items():
                if value.dtype.is_floating_point:
                    shadow[key].lerp_(value, 1.0 - decay)


def log(path: Path, row: dict[str, Any]) -> None:
    """Append one JSON line and show it."""
    line = json.dumps(row)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")
    print(line, flush=True)


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """(N, H, W, 3) bytes to (N, 3, H, W) floats in -1..1."""
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1.0).permute(0, 3, 1, 2)


def to_pixels(batch: torch.Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_tensor`."""
    values = (batch.detach().float().clamp(-1, 1) + 1.0) * 127.5
    return values.permute(0, 2, 3, 1).round().byte().cpu().numpy()


def save_sheet(rows: list[NDArray[np.uint8]], path: Path) -> None:
    """Rows of pictures of one size as a contact sheet."""
    from PIL import Image

    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
