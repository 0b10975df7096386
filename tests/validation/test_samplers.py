"""Drawing what is missing: never twice, never under a wrong name, with the real pipeline and in a real process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lora_atelier.core.errors import BadInput, Interrupted
from lora_atelier.core.files import write_bytes, write_json
from lora_atelier.core.rundir import Checkpoint, RunDir
from lora_atelier.core.types import BaseModel, Prompt, ValidationPlan
from lora_atelier.validation.samplers.base import SampleIndex, draw_missing, missing_work
from PIL import Image

from .conftest import ROOT, load_file

BASE = BaseModel("base", "/nowhere", "ab" * 32, "sd15")
PLAN = ValidationPlan((Prompt("p1", "a girl"), Prompt("p2", "a boy")), (1, 2), width=64, height=64)


class PlainSampler:
    """Draws one-coloured pictures and counts them; a `Sampler` without a model."""

    def __init__(self) -> None:
        self.drawn: list[tuple[int, str, int]] = []

    def draw(
        self, checkpoint: Checkpoint | None, pairs: Sequence[tuple[Prompt, int]], check: Callable[[], None] | None
    ) -> Iterator[tuple[Prompt, int, Image.Image]]:
        for prompt, seed in pairs:
            if check:
                check()
            self.drawn.append((checkpoint.step if checkpoint else 0, prompt.id, seed))
            yield prompt, seed, Image.new("RGB", (64, 64), (len(self.drawn), 0, 0))


@pytest.fixture
def bare(tmp_path: Path) -> RunDir:
    """A run with two checkpoints and no pictures."""
    run = RunDir(tmp_path / "run")
    write_json(run.status_file, {"status": "done"})
    for step in (10, 20):
        write_bytes(run.checkpoint_path(step), f"weights {step}".encode())
    return run


def _draw(run: RunDir, plan: ValidationPlan = PLAN, steps: Sequence[int] | None = None) -> list[tuple[int, str, int]]:
    index, sampler = SampleIndex(run), PlainSampler()
    draw_missing(run, sampler, missing_work(run, plan, BASE, steps, index), index)
    return sampler.drawn


def test_every_picture_is_drawn_once(bare: RunDir) -> None:
    assert len(_draw(bare)) == 3 * 2 * 2
    assert {sample.step for sample in bare.samples()} == {0, 10, 20}
    assert len(bare.events("sample")) == 12
    assert _draw(bare) == []


def test_only_what_changed_is_drawn_again(bare: RunDir) -> None:
    _draw(bare)
    write_bytes(bare.checkpoint_path(20), b"other weights")
    assert {step for step, _, _ in _draw(bare)} == {20}
    bare.sample_path(10, "p1", 2).unlink()
    assert _draw(bare) == [(10, "p1", 2)]
    reworded = dataclasses.replace(PLAN, prompts=(Prompt("p1", "a woman"), PLAN.prompts[1]))
    assert {prompt for _, prompt, _ in _draw(bare, reworded)} == {"p1"}
    assert len(_draw(bare, dataclasses.replace(reworded, cfg=7.0))) == 12


def test_pictures_of_the_trainers_own_plan_count_as_drawn(bare: RunDir) -> None:
    write_json(bare.job_file, {"config": {"validation": PLAN.to_json(), "data": {"resolution": 64}}})
    path = bare.sample_path(10, "p1", 1)
    path.parent.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(path)
    assert (10, "p1", 1) not in _draw(bare)
    assert len(_draw(bare, dataclasses.replace(PLAN, steps=30))) == 12


def test_a_stopped_job_keeps_what_it_drew(bare: RunDir) -> None:
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 5:
            raise Interrupted("The validation was asked to stop.")

    index, sampler = SampleIndex(bare), PlainSampler()
    with pytest.raises(Interrupted):
        draw_missing(bare, sampler, missing_work(bare, PLAN, BASE, None, index), index, check=stop)
    assert len(bare.samples()) == 5
    assert len(_draw(bare)) == 7


def test_steps_without_a_checkpoint_are_bad_input(bare: RunDir) -> None:
    with pytest.raises(BadInput, match="no checkpoint at step 15"):
        _draw(bare, steps=(15,))
    assert {step for step, _, _ in _draw(bare, steps=(20,))} == {0, 20}
    with pytest.raises(BadInput, match="no checkpoints"):
        _draw(RunDir(bare.path / "nothing"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tiny pipeline and two checkpoints of a LoRA with random weights, in the trainer's own file format."""
    import torch
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    tiny: ModuleType = load_file(ROOT / "tests" / "trainer" / "tiny.py", "tiny_pipelines")
    folder = tmp_path_factory.mktemp("sampler")
    base: BaseModel = tiny.save_base(tiny.sd15_pipeline(folder), folder / "base")
    run = RunDir(folder / "run")
    write_json(run.status_file, {"status": "done"})
    write_json(run.job_file, {"base": base.to_json()})
    pipe: Any = StableDiffusionPipeline.from_pretrained(base.path, safety_checker=None)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    run.checkpoints_dir.mkdir()
    for step in (5, 10):
        with torch.no_grad():
            for name, parameter in pipe.unet.named_parameters():
                if "lora" in name:
                    parameter.normal_(0, 0.3 * step / 5)
        StableDiffusionPipeline.save_lora_weights(
            run.checkpoints_dir, get_peft_model_state_dict(pipe.unet), weight_name=f"step-{step:06}.safetensors"
        )
    return run


def test_a_real_job_in_a_real_process(trained: RunDir) -> None:
    plan = ValidationPlan((Prompt("p1", "a girl"),), (3,), width=64, height=64, steps=2)
    job = trained.path / "backend" / "job.json"
    write_json(job, {"kind": "validate", "run": str(trained.path), "plan": plan.to_json(), "steps": None})
    argv = [sys.executable, "-m", "lora_atelier.validation.samplers.child", str(trained.path), str(job)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "picture 3 of 3" in done.stdout
    pictures = {sample.step: Image.open(sample.path).tobytes() for sample in trained.samples()}
    assert set(pictures) == {0, 5, 10}
    assert len(set(pictures.values())) == 3  # each LoRA was really swapped in, and the base drawn without one
    assert [(e["step"], e["prompt"], e["seed"]) for e in trained.events("sample")] == [
        (0, "p1", 3),
        (5, "p1", 3),
        (10, "p1", 3),
    ]
    again = subprocess.run(argv, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0 and "there already" in again.stdout


def test_a_bad_job_is_one_sentence(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "lora_atelier.validation.samplers.child", str(tmp_path), str(tmp_path / "no.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "not a run directory" in done.stderr and "Traceback" not in done.stderr
