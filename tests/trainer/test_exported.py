"""A LoRA trained here and exported in every format draws the trainer's own picture in the real consumer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import read_header
from lora_atelier.core.types import BaseModel, LoraCard, Prompt
from lora_atelier.export.publish import export_lora
from lora_atelier.trainer.job import load_train_job
from PIL import Image

PROMPT = Prompt("p1", "a red square")


@pytest.fixture(scope="module")
def card() -> LoraCard:
    return LoraCard(title="Squares", trigger_words=("square",))


# kohya names of SDXL count the blocks of the real U-Net, which the tiny one here is not: see tests/export for those.
@pytest.mark.parametrize(("family", "targets"), [("sd15", ("comfyui", "diffusers")), ("sdxl", ("diffusers",))])
def test_kohya_and_diffusers_exports_draw_the_trainers_own_picture(
    train: Callable[..., RunDir],
    request: pytest.FixtureRequest,
    family: str,
    targets: tuple[str, ...],
    card: LoraCard,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    base: BaseModel = request.getfixturevalue(family)
    plan = {"prompts": [PROMPT.to_json()], "seeds": [5], "steps": 3, "every_steps": 6, "cfg": 2.0, "at_start": True}
    run = train(
        base=base, network={"targets": "attention_ff", "train_text_encoder": True, "alpha": 6.0},
        optimizer={"learning_rate": 2e-2}, validation=plan,
    )  # fmt: skip
    result = export_lora(
        run.checkpoint_path(6), name="squares", card=card, targets=targets, out=tmp_path / "out",
        family=base.family, base=Path(base.path), dtype="fp32",
    )  # fmt: skip
    own = _drawn(run, 6)
    assert np.abs(own - _drawn(run, 0)).max() > 2  # the LoRA does something
    with caplog.at_level(logging.WARNING):
        for target, files in result.lora.files.items():
            (file,) = [Path(path) for path in files if path.endswith(".safetensors")]
            picture, used = _loaded(file, run, base)
            assert np.abs(picture - own).max() <= 2, target
            assert used == sum(".alpha" not in name for name in read_header(file).tensors), target
    assert "unexpected keys" not in caplog.text
    assert "missing keys" not in caplog.text


def _drawn(run: RunDir, step: int) -> np.ndarray:
    return np.asarray(Image.open(run.sample_path(step, PROMPT.id, 5)).convert("RGB"), dtype=int)


def _loaded(file: Path, run: RunDir, base: BaseModel) -> tuple[np.ndarray, int]:
    """The picture with the exported file, and how many adapter tensors ended up in the pipeline."""
    from lora_atelier.core.pipelines import load_pipeline, render

    pipe: Any = load_pipeline(Path(base.path), base.family, "float32", "cpu")
    pipe.load_lora_weights(str(file.parent), weight_name=file.name)
    picture = np.asarray(render(pipe, load_train_job(run.job_file).config.plan(), PROMPT, 5), dtype=int)
    parts = [part for name in ("unet", "text_encoder", "text_encoder_2") if (part := getattr(pipe, name, None))]
    names = [name for part in parts for name, _ in part.named_parameters()]
    return picture, sum(".lora_A." in name or ".lora_B." in name for name in names)
