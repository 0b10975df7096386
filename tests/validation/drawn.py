"""A run directory whose pictures the project's artist drew: the style is learned step by step, faces blur later on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from artist.draw import draw
from artist.scene import Scene, random_scene
from lora_atelier.core.files import append_json_line, sha256_file, write_json, write_json_lines
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import Prompt, ValidationPlan
from PIL import Image

SIDE = 128
STEPS = (100, 200, 400, 600, 800, 1200, 1800, 2700)
BLUR_FROM = 800  # the last step at which faces are drawn with all their detail
PROMPTS = tuple(Prompt(f"p{n}", f"a drawn character, number {n}") for n in range(4))
SEEDS = (1, 2)


@cache
def film_scenes(count: int, seed: int) -> tuple[Scene, ...]:
    """Single characters seen from the front, large enough for a face to be seen."""
    rng = np.random.default_rng(seed)
    return tuple(
        random_scene(rng, style="film", size=(SIDE, SIDE), view="front", framing=("close_up", "portrait")[n % 2])
        for n in range(count)
    )


@cache
def pixels(scene: Scene, style: str = "film") -> np.ndarray:
    """RGB uint8 (128, 128, 3)."""
    return np.asarray(draw(replace(scene, style=style))[0])


def mixed(scene: Scene, learned: float) -> np.ndarray:
    """Between the flat style (0) and the film style (1)."""
    return np.rint(pixels(scene, "flat") * (1 - learned) + pixels(scene) * learned).astype(np.uint8)


@cache
def face_box(scene: Scene) -> tuple[int, int, int, int]:
    """The drawn face in whole pixels."""
    box = draw(scene)[1][0].face_box
    assert box is not None
    x0, y0, x1, y1 = (round(value) for value in box)
    return x0, y0, x1, y1


def blur_face(scene: Scene, picture: np.ndarray, sigma: float) -> np.ndarray:
    """The picture with its face blurred, nothing else touched."""
    if sigma <= 0:
        return picture
    x0, y0, x1, y1 = face_box(scene)
    result = picture.copy()
    result[y0:y1, x0:x1] = cv2.GaussianBlur(picture, (0, 0), sigma)[y0:y1, x0:x1]
    return result


def learned_at(step: int) -> float:
    """How much of the style a checkpoint has learned, 0-1."""
    return float(np.clip(np.log(max(step, 1) / 60) / np.log(700 / 60), 0, 1))


def drawn_run(
    folder: Path, steps: Sequence[int] = STEPS, prompts: Sequence[Prompt] = PROMPTS, seeds: Sequence[int] = SEEDS
) -> RunDir:
    """Write the run: manifest, job, ledger of losses, validation pictures of the base model and every step."""
    run = RunDir(folder)
    plan = ValidationPlan(tuple(prompts), tuple(seeds), width=SIDE, height=SIDE)
    config = {"validation": plan.to_json(), "data": {"resolution": SIDE}, "network": {"dim": 8}}
    write_json(run.job_file, {"kind": "train", "config": config, "base": {"name": "drawn"}})
    write_json(run.status_file, {"status": "done", "name": "drawn style", "started": 0.0, "ended": 95.0})
    _write_data(run)
    scenes = film_scenes(len(prompts) * len(seeds), 2)
    for step in (0, *steps):
        places = [(prompt, seed) for prompt in prompts for seed in seeds]
        for scene, (prompt, seed) in zip(scenes, places, strict=True):
            picture = blur_face(scene, mixed(scene, learned_at(step)), max(0.0, np.log(max(step, 1) / BLUR_FROM)) * 2.2)
            save(run, step, prompt.id, seed, picture)
        _write_losses(run, step)
    return run


def save(run: RunDir, step: int, prompt: str, seed: int, picture: np.ndarray) -> Path:
    """Write one validation picture under its name."""
    path = run.sample_path(step, prompt, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def _write_data(run: RunDir) -> None:
    folder = run.path / "data"
    folder.mkdir(parents=True)
    lines = []
    for number, scene in enumerate(film_scenes(20, 1)):
        path = folder / f"{number:02}.png"
        Image.fromarray(pixels(scene)).save(path)
        split = "heldout" if number >= 17 else "train"
        size = {"width": SIDE, "height": SIDE}
        lines.append(
            {"path": str(path), "sha256": sha256_file(path), "caption": "a drawn character", "split": split, **size}
        )
    write_json_lines(run.manifest_file, lines)


def _write_losses(run: RunDir, step: int) -> None:
    train = 0.2 * (0.45 + 0.55 * np.exp(-step / 600))
    held = train + 0.02 * max(0.0, np.log(max(step, 1) / BLUR_FROM))
    for split, loss in (("train", train), ("heldout", held)):
        append_json_line(run.events_file, {"type": "fixed_loss", "step": step, "split": split, "loss": float(loss)})
    if step:
        append_json_line(run.events_file, {"type": "step", "step": step, "loss": float(train) * 1.1, "lr": 1e-4})
