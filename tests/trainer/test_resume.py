"""Stopping, killing and resuming: nothing half-written is published, and the continued run is the same run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_atelier.core.errors import BadInput
from lora_atelier.core.files import sha256_file
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import verify_finite
from lora_atelier.core.types import BaseModel, Dataset
from lora_atelier.trainer.backends.base import backend
from lora_atelier.trainer.job import TrainJob, load_train_job, resume_job
from lora_atelier.trainer.run_writer import create_run, set_status

from . import tiny

Train = Callable[..., RunDir]
_EVENTFUL: dict[str, Any] = {
    "schedule": {"max_steps": 8, "warmup_steps": 3, "gradient_accumulation": 2},
    "network": {"dropout": 0.1, "train_text_encoder": True},
    "data": {"flip": True},
    "output": {"save_every": 3},
    "validation": {
        "every_steps": 3, "at_start": True, "steps": 2, "seeds": [1],
        "prompts": [{"id": "p1", "text": "a drawing 1"}],
    },
}  # fmt: skip


def _session(run: RunDir, job: TrainJob, resume: bool, stopping: Callable[[], bool] = lambda: False) -> bool:
    from lora_atelier.trainer.backends.embedded.session import Session

    return Session(run, job, stopping).work(resume)


def _stop_after(run: RunDir, steps: int) -> Callable[[], bool]:
    return lambda: len(run.events("step")) >= steps


def _assert_same_course(run: RunDir, reference: RunDir) -> None:
    assert tiny.losses(run) == pytest.approx(tiny.losses(reference), abs=1e-5)
    ours, theirs = ({(e["split"], e["step"]): e["loss"] for e in r.ledger("fixed_loss")} for r in (run, reference))
    assert set(theirs) <= set(ours)
    assert {key: ours[key] for key in theirs} == pytest.approx(theirs, abs=1e-5)
    assert [s.path.name for s in run.samples()] == [s.path.name for s in reference.samples()]
    assert {c.step for c in reference.checkpoints()} <= {c.step for c in run.checkpoints()}


def _assert_published_files_are_whole(run: RunDir) -> None:
    for point in run.checkpoints():
        report = verify_finite(point.path)
        assert not report.nonfinite and not report.all_zero
    for event in run.ledger("checkpoint"):
        assert sha256_file(run.path / event["path"]) == event["sha256"]
    from PIL import Image

    for sample in run.samples():
        with Image.open(sample.path) as picture:
            picture.load()


def test_stopped_run_keeps_its_work_and_resumes_to_the_same_losses(train: Train) -> None:
    reference = train(**_EVENTFUL)
    job = load_train_job(reference.job_file)
    run = create_run(job)
    assert _session(run, job, False, _stop_after(run, 5)) is False
    assert 5 in [point.step for point in run.checkpoints()]
    assert run.events("phase")[-1]["name"] == "saving"
    assert _session(run, job, True)
    assert [event["step"] for event in run.events("resumed")] == [5]
    _assert_same_course(run, reference)
    assert run.checkpoint_path(8).read_bytes() == reference.checkpoint_path(8).read_bytes()


def test_resume_without_a_readable_state_starts_again(train: Train) -> None:
    reference = train()
    job = load_train_job(reference.job_file)
    run = create_run(job)
    assert _session(run, job, False, _stop_after(run, 4)) is False
    (state,) = run.state_dir.iterdir()
    state.write_bytes(state.read_bytes()[:200])
    with run.events_file.open("ab") as file:
        file.write(b'{"type":"step","st')  # what a power cut leaves
    assert _session(run, job, True)
    assert run.events("resumed")[-1]["step"] == 0
    assert tiny.losses(run) == tiny.losses(reference)


def test_what_a_kill_left_undone_at_a_save_is_done_after_resuming(train: Train) -> None:
    reference = train(**_EVENTFUL)
    job = load_train_job(reference.job_file)
    run = create_run(job)

    def killed_while_drawing() -> bool:
        return any(event["step"] == 3 for event in run.events("checkpoint"))

    assert _session(run, job, False, killed_while_drawing) is False
    assert all(sample.step == 0 for sample in run.samples())
    assert _session(run, job, True)
    _assert_same_course(run, reference)


def test_a_run_goes_on_to_a_later_last_step_but_not_with_another_network(train: Train) -> None:
    run = train()
    set_status(run, "done")
    longer = resume_job(run.path, max_steps=8)
    assert create_run(longer).path == run.path
    assert _session(run, longer, True)
    assert sorted(tiny.losses(run)) == list(range(1, 9))
    changed = longer.config.model_copy(update={"network": longer.config.network.model_copy(update={"dim": 8})})
    with pytest.raises(BadInput, match=r"config\.network\.dim"):
        create_run(longer.model_copy(update={"config": changed}))
    set_status(run, "running")
    with pytest.raises(BadInput, match="still running"):
        create_run(longer)


@pytest.mark.skipif(os.name == "nt", reason="forking keeps the libraries loaded, which makes many kills affordable")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_broken_is_published(train: Train, kills: int) -> None:
    settings = {**_EVENTFUL, "schedule": {**_EVENTFUL["schedule"], "max_steps": 12}, "output": {"save_every": 1}}
    began = time.monotonic()
    reference = train(**settings)
    longest = time.monotonic() - began
    job = load_train_job(reference.job_file)
    run, chance = create_run(job), random.Random(kills)
    for number in range(kills):
        _kill_after(chance.uniform(0.05, 0.6) * longest, lambda: _session(run, job, number > 0))  # noqa: B023
        _assert_published_files_are_whole(run)
    assert _session(run, job, True)
    _assert_same_course(run, reference)
    assert not list(run.path.rglob("*.tmp"))


def _kill_after(seconds: float, work: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.timeout(900)
def test_the_child_trains_from_the_command_line_and_stops_on_sigterm(
    tmp_path: Path, sd15: BaseModel, pictures: Dataset
) -> None:
    settings = tiny.config(schedule={"max_steps": 100_000}, output={"save_every": 0})
    job = tiny.job(tmp_path / "runs", sd15, pictures, settings)
    run = create_run(job)
    command = backend("embedded").command(run, False)
    assert command.argv[-1] == str(run.path)
    child = subprocess.Popen(command.argv, env={**os.environ, **command.env, "OMP_NUM_THREADS": "1"}, cwd=run.path)
    try:
        deadline = time.monotonic() + 800  # on an overloaded machine the imports alone take minutes
        while len(run.events("step")) < 3 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert run.events("step")
        child.terminate()
        assert child.wait(60) == 0
    finally:
        child.kill()
    last = run.events("step")[-1]["step"]
    assert [point.step for point in run.checkpoints()] == [last]
    assert [path.name for path in run.state_dir.iterdir()] == [f"step-{last:06d}.safetensors"]
    assert run.events("phase")[-1]["name"] != "done"


def test_the_child_says_bad_input_in_one_sentence(
    tmp_path: Path, sd15: BaseModel, capfd: pytest.CaptureFixture[str]
) -> None:
    from lora_atelier.trainer.backends.embedded.child import main

    data = tiny.dataset(tmp_path / "pictures", [(64, 64)] * 2)
    run = create_run(tiny.job(tmp_path / "runs", sd15, data, tiny.config()))
    Path(data.items[0].path).unlink()
    Path(data.items[1].path).write_bytes(b"changed")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main([str(run.path)]) == 2
        assert main([str(tmp_path / "nowhere")]) == 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = capfd.readouterr().err
    assert "picture_0.png is gone" in said and "picture_1.png was changed" in said
    assert "Traceback" not in said
    assert not run.checkpoints()
