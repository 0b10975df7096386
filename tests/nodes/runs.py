"""A small finished run as training leaves it: real files of every kind, written in a moment and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lora_atelier.core.files import append_json_line, write_json
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import save
from lora_atelier.core.types import BaseModel, Dataset, Run
from lora_atelier.trainer.config import TrainConfig, config_hash
from lora_atelier.trainer.follow import run_wire
from lora_atelier.trainer.job import TrainJob, new_id
from lora_atelier.trainer.run_writer import create_run
from PIL import Image, ImageEnhance

STEPS = (20, 40, 60, 80)
_LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def finished(root: Path, config: TrainConfig, dataset: Dataset, base: BaseModel) -> Run:
    """A run whose validation pictures move from pale copies of the training pictures to the pictures themselves."""
    job = TrainJob(id=new_id("train"), runs_root=str(root), config=config, dataset=dataset, base=base)
    run = create_run(job)
    _events(run)
    for step in STEPS:
        _checkpoint(run, step, config)
    _samples(run, config, dataset)
    status = run.status()
    write_json(run.status_file, {**status, "status": "done", "step": STEPS[-1]})
    return run_wire(run.path)


def _events(run: RunDir) -> None:
    for step in range(1, STEPS[-1] + 1):
        append_json_line(
            run.events_file, _event("step", step=step, loss=0.2 / step**0.2, lr=1e-4, epoch=1, seconds=0.1)
        )
    for step in (0, *STEPS):
        for split, fall in (("train", 0.002), ("heldout", 0.001)):
            append_json_line(run.events_file, _event("fixed_loss", step=step, split=split, loss=0.3 - fall * step))


def _event(kind: str, **facts: Any) -> dict[str, Any]:
    return {"type": kind, "time": 1.0, **facts}


def _checkpoint(run: RunDir, step: int, config: TrainConfig) -> None:
    rng = np.random.default_rng(step)
    tensors = {
        f"{_LAYER}.lora_A.weight": rng.normal(0, 0.02, (4, 32)).astype(np.float32),
        f"{_LAYER}.lora_B.weight": rng.normal(0, 0.02, (32, 4)).astype(np.float32),
    }
    metadata = {"atelier.step": str(step), "atelier.family": "sd15", "atelier.config_hash": config_hash(config)}
    run.checkpoints_dir.mkdir(exist_ok=True)
    save(run.checkpoint_path(step), tensors, metadata)


def _samples(run: RunDir, config: TrainConfig, dataset: Dataset) -> None:
    run.samples_dir.mkdir(exist_ok=True)
    pictures = [Image.open(item.path).convert("RGB").resize((128, 128)) for item in dataset.items]
    pairs = [(prompt.id, seed) for prompt in config.validation.prompts for seed in config.validation.seeds]
    for step in (0, *STEPS):
        for index, (prompt, seed) in enumerate(pairs):
            picture = ImageEnhance.Color(pictures[index % len(pictures)]).enhance(0.2 + step / 100)
            picture.save(run.sample_path(step, prompt, seed))
