"""The embedded trainer on tiny pipelines: it learns, repeats itself exactly, and its files load elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.core.errors import WorkFailed
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import load, read_header
from lora_atelier.core.types import BaseModel, Dataset, Prompt, ValidationPlan
from lora_atelier.trainer.job import load_train_job
from lora_atelier.trainer.run_writer import create_run

from . import tiny

Train = Callable[..., RunDir]
PROMPT = Prompt("p1", "a drawing 1")


def test_loss_falls_on_an_easy_case_and_the_ledger_tells_the_story(train: Train) -> None:
    run = train(
        optimizer={"learning_rate": 1e-2},
        schedule={"max_steps": 40, "scheduler": "constant"},
        network={"targets": "all", "dim": 16, "alpha": 16.0},
        output={"save_every": 20},
    )
    fixed = {(event["split"], event["step"]): event["loss"] for event in run.ledger("fixed_loss")}
    assert set(fixed) == {(split, step) for split in ("train", "heldout") for step in (0, 20, 40)}
    assert fixed["train", 40] < 0.8 * fixed["train", 0]
    assert sorted(tiny.losses(run)) == list(range(1, 41))
    assert [point.step for point in run.checkpoints()] == [20, 40]
    phases = [event["name"] for event in run.events("phase")]
    assert phases[:3] == ["loading", "caching", "training"] and phases[-1] == "done"
    assert len(list(run.state_dir.iterdir())) == 1


def test_same_seed_gives_the_same_losses_and_files(train: Train) -> None:
    first, second = train(), train()
    assert first.path != second.path
    assert tiny.losses(first) == tiny.losses(second)
    assert first.checkpoint_path(6).read_bytes() == second.checkpoint_path(6).read_bytes()
    assert tiny.losses(train(schedule={"seed": 4})) != tiny.losses(first)


def test_accumulated_batches_equal_the_larger_batch(train: Train) -> None:
    large = train(schedule={"batch_size": 4})
    small = train(schedule={"batch_size": 1, "gradient_accumulation": 4})
    assert tiny.losses(small) == pytest.approx(tiny.losses(large), abs=1e-5)
    ours, theirs = load(small.checkpoint_path(6)), load(large.checkpoint_path(6))
    assert max(float(np.abs(ours[key] - theirs[key]).max()) for key in theirs) < 1e-3


def test_cache_on_disk_changes_nothing_and_is_used(train: Train) -> None:
    run = train(data={"cache": "disk", "flip": True})
    files = list((run.path / "cache").rglob("*.safetensors"))
    assert len(files) == 8 + 6 + 4  # pictures, mirrored training pictures, captions with the empty one
    assert tiny.losses(run) == tiny.losses(train(data={"flip": True}))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("text", [False, True], ids=["unet", "unet+text"])
def test_checkpoint_loads_in_diffusers_and_draws_the_trainers_own_picture(
    train: Train, request: pytest.FixtureRequest, family: str, text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from lora_atelier.core.pipelines import load_pipeline, render

    base: BaseModel = request.getfixturevalue(family)
    targets = "all" if text else "attention_ff"
    plan = {"prompts": [PROMPT.to_json()], "seeds": [5], "steps": 3, "every_steps": 6, "strength": 0.8, "cfg": 2.0}
    run = train(
        base=base, network={"targets": targets, "train_text_encoder": text, "alpha": 6.0},
        optimizer={"learning_rate": 2e-2}, validation={**plan, "at_start": True},
    )  # fmt: skip
    settings = load_train_job(run.job_file).config.plan()
    pipe = load_pipeline(Path(base.path), family, "float32", "cpu")
    control = np.asarray(render(pipe, settings, PROMPT, 5), dtype=int)
    pipe.load_lora_weights(str(run.checkpoints_dir), weight_name=run.checkpoint_path(6).name)
    loaded = np.asarray(render(pipe, settings, PROMPT, 5), dtype=int)
    assert np.abs(loaded - _pixels(run, 6)).max() <= 2
    assert np.abs(control - _pixels(run, 0)).max() <= 2
    assert np.abs(loaded - control).max() > 2  # the LoRA does something
    used = sum(".lora_A." in name or ".lora_B." in name for part in _parts(pipe) for name, _ in part.named_parameters())
    assert used == len(read_header(run.checkpoint_path(6)).tensors)
    assert "unexpected keys" not in caplog.text and "missing keys" not in caplog.text


def _pixels(run: RunDir, step: int) -> np.ndarray:
    from PIL import Image

    with Image.open(run.sample_path(step, "p1", 5)) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def _parts(pipe: Any) -> list[Any]:
    return [part for name in ("unet", "text_encoder", "text_encoder_2") if (part := getattr(pipe, name, None))]


def test_header_says_where_a_checkpoint_comes_from(train: Train) -> None:
    run = train(output={"save_every": 0}, precision={"save": "fp16"})
    header = read_header(run.checkpoint_path(6))
    assert {info.dtype for info in header.tensors.values()} == {"F16"}
    assert all(name.startswith("unet.") for name in header.tensors)
    assert header.metadata["atelier.step"] == "6"
    assert header.metadata["atelier.family"] == "sd15"
    assert json.loads(header.metadata["atelier.trigger_words"]) == ["atl"]
    assert json.loads(header.metadata["lora_adapter_metadata"])["unet.r"] == 4
    (event,) = run.ledger("checkpoint")
    assert event["bytes"] == run.checkpoint_path(6).stat().st_size


def test_v_prediction_and_other_shapes_train(train: Train, tmp_path: Path) -> None:
    base = tiny.save_base(tiny.sd15_pipeline(tmp_path, prediction="v_prediction"), tmp_path / "v")
    data = tiny.dataset(tmp_path / "wide", [(96, 64), (64, 96), (64, 64), (200, 100)], held=1)
    run = train(base=base, items=data, schedule={"max_steps": 12}, precision={"gradient_checkpointing": True})
    fixed = [event["loss"] for event in run.ledger("fixed_loss") if event["split"] == "train"]
    assert len(tiny.losses(run)) == 12 and fixed[-1] < fixed[0]
    assert read_header(run.checkpoint_path(12)).metadata["atelier.prediction"] == "v_prediction"


@pytest.mark.parametrize("compute", ["bf16"])
def test_half_precision_stays_near_full_precision(train: Train, compute: str) -> None:
    half, full = tiny.losses(train(precision={"compute": compute})), tiny.losses(train())
    assert half == pytest.approx(full, rel=0.05)


def test_a_loss_that_is_not_finite_stops_the_run_and_publishes_nothing(
    tmp_path: Path, sd15: BaseModel, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_atelier.trainer.backends.embedded.session import Session

    job = tiny.job(tmp_path / "runs", sd15, pictures, tiny.config(schedule={"max_steps": 9}, output={"save_every": 5}))
    run = create_run(job)
    plain = Session._loss
    monkeypatch.setattr(Session, "_loss", lambda self, *a: plain(self, *a) * (float("nan") if self.step >= 2 else 1.0))
    with pytest.raises(WorkFailed, match=r"3 times in a row \(step 5\)"):
        Session(run, job, lambda: False).work(False)
    assert [event["loss"] is None for event in run.events("step")] == [False, False, True, True, True]
    assert not run.checkpoints()


def test_values_that_are_not_finite_are_never_published(tmp_path: Path) -> None:
    from lora_atelier.trainer.backends.embedded.publish import publish_checkpoint

    path = tmp_path / "step-000001.safetensors"
    with pytest.raises(WorkFailed, match="not finite"):
        publish_checkpoint(path, {"a": np.array([1.0, np.nan], np.float32)}, {})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_before_the_work(
    tmp_path: Path, sd15: BaseModel, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_atelier.trainer.backends.embedded import publish, session

    job = tiny.job(tmp_path / "runs", sd15, pictures, tiny.config(output={"reserve_mb": 100}))
    run = create_run(job)
    usage = type("Usage", (), {"free": 90_000_000})
    monkeypatch.setattr(publish.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(WorkFailed, match="90 MB left, and 100 MB"):
        session.Session(run, job, lambda: False).work(False)
    assert not run.events("step")


def test_pictures_do_not_depend_on_their_batch(sd15: BaseModel) -> None:
    from lora_atelier.core.pipelines import load_pipeline, render, render_many

    pipe = load_pipeline(Path(sd15.path), "sd15", "float32", "cpu")
    for sampler in ("ddim", "euler_a", "dpmpp_2m"):
        plan = ValidationPlan((PROMPT,), (1, 2), width=64, height=64, sampler=sampler, steps=3)
        together = [picture for _, _, picture in render_many(pipe, plan, [(PROMPT, 1), (PROMPT, 2)])]
        alone = render(pipe, plan, PROMPT, 2)
        assert np.abs(np.asarray(together[1], dtype=int) - np.asarray(alone, dtype=int)).max() <= 1
        assert np.asarray(together[0]).tobytes() != np.asarray(together[1]).tobytes()
