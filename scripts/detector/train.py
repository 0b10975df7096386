"""Trains the detector on the pool: one process draws batches, one learns; can be stopped and started again."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.augment import augment
from detector.network import Detector, losses
from detector.pool import Pool, load_recipe
from detector.targets import collate


class Batches(IterableDataset[Any]):
    """Endless batches from the pool; `start` shifts the seed so that a resumed run sees new pictures."""

    def __init__(self, folder: Path, recipe: dict[str, Any], start: int) -> None:
        self.folder, self.recipe, self.start = folder, recipe, start

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        rng = np.random.default_rng((self.recipe["training"]["seed"], self.start))
        pool, side = Pool(self.folder), self.recipe["training"]["side"]
        count = pool.refresh()
        while True:
            picks = rng.integers(count, size=self.recipe["training"]["batch"])
            yield collate([augment(rng, pool.get(int(index)), side) for index in picks])


def rate(step: int, recipe: dict[str, Any]) -> float:
    """Learning rate of a step: in every cycle a short rise and a cosine fall."""
    for steps, top in zip(recipe["cycles"], recipe["lr"], strict=True):
        if step < steps:
            share, warm = step / steps, recipe["warmup"]
            if share < warm:
                return top * (0.05 + 0.95 * share / warm)
            return top * (0.005 + 0.995 * 0.5 * (1 + math.cos(math.pi * (share - warm) / (1 - warm))))
        step -= steps
    return recipe["lr"][-1] * 0.005


class Trainer:
    """Network, averaged copy, optimizer, steps done and seconds spent."""

    def __init__(self, recipe: dict[str, Any], checkpoint: Path) -> None:
        self.recipe, self.checkpoint = recipe, checkpoint
        torch.manual_seed(recipe["training"]["seed"])
        self.model = Detector(recipe["network"]["widths"])
        self.average = Detector(recipe["network"]["widths"])
        self.average.load_state_dict(self.model.state_dict())
        settings = recipe["training"]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), settings["lr"][0], weight_decay=settings["weight_decay"]
        )
        self.step, self.seconds = 0, 0.0
        if checkpoint.exists():
            self._load(torch.load(checkpoint, weights_only=True))

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Write the checkpoint; it appears whole or not at all."""
        part = self.checkpoint.with_suffix(".part")
        state = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": self.seconds}
        torch.save(state, part)
        part.replace(self.checkpoint)

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.recipe["training"]["ema"], (1 + self.step) / (10 + self.step))
        for name, value in self.average.state_dict().items():
            fresh = self.model.state_dict()[name]
            value.lerp_(fresh, 1 - keep) if value.is_floating_point() else value.copy_(fresh)

    def learn(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate(self.step, self.recipe["training"])
        pictures = batch["pictures"].permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
        parts = losses(self.model(pictures), batch)
        loss = torch.stack(list(parts.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self._average()
        return {"loss": float(loss.detach()), **{name: float(part.detach()) for name, part in parts.items()}}


def run(work: Path, recipe: dict[str, Any]) -> None:
    """Train until the steps of the recipe are done; a checkpoint every half minute."""
    trainer = Trainer(recipe, work / "detector.pt")
    trainer.model.to(memory_format=torch.channels_last).train()
    loader = DataLoader(Batches(work / "detector-pool", recipe, trainer.step), batch_size=None, num_workers=1)
    sums: dict[str, float] = {}
    count = 0
    saved = clock = time.monotonic()
    for batch in loader:
        for name, value in trainer.learn(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        now = time.monotonic()
        trainer.seconds, clock = trainer.seconds + now - clock, now
        if trainer.step % 50 == 0:
            line = {name: round(value / count, 4) for name, value in sums.items()}
            print(json.dumps({"step": trainer.step, "seconds": round(trainer.seconds), **line}), flush=True)
            sums, count = {}, 0
        done = trainer.step >= sum(recipe["training"]["cycles"])
        if done or now - saved > 30:
            trainer.save()
            saved = now
        if done:
            break


def main() -> None:
    """Command line: train.py WORK."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path)
    torch.set_num_threads(1)
    run(parser.parse_args().work, load_recipe())


if __name__ == "__main__":
    main()
