"""The worker with real child processes: queue, cancel, resume, crash, adoption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lora_atelier.core.errors import BadInput
from lora_atelier.core.files import read_json
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import verify_finite
from lora_atelier.trainer.backends.base import Command
from lora_atelier.trainer.job import TrainJob, resume_job
from lora_atelier.trainer.spool import JobState, Spool
from lora_atelier.worker import jobs
from lora_atelier.worker.process import Identity
from lora_atelier.worker.service import Worker, inline

scripted = sys.modules["scripted_trainer"]
Behave = Callable[..., None]
NewJob = Callable[..., TrainJob]
LONG = {"schedule": {"max_steps": 100_000}, "output": {"save_every": 50}}
posix = pytest.mark.skipif(os.name == "nt", reason="signals")


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def end_of(spool: Spool, job_id: str) -> JobState:
    wait_for(lambda: spool.state(job_id).final)
    return spool.state(job_id)


def run_of(spool: Spool, job_id: str) -> RunDir:
    path = spool.state(job_id).run_path
    assert path is not None
    return RunDir(Path(path))


def trained_steps(spool: Spool, job_id: str) -> int:
    state = spool.state(job_id)
    return len(RunDir(Path(state.run_path)).events("step")) if state.run_path else 0


def start_worker(spool: Spool) -> subprocess.Popen[bytes]:
    """A worker as the user starts it: a process of its own."""
    command = [sys.executable, scripted.__file__, "worker", str(spool.root)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: spool.worker() is not None and spool.worker().pid == process.pid)  # type: ignore[union-attr]
    return process


def child_of(run: RunDir) -> psutil.Process:
    known = Identity.from_status(run.status())
    assert known is not None
    process = known.alive()
    assert process is not None
    return process


@pytest.fixture
def serving(spool: Spool, behave: Behave) -> Iterator[Worker]:
    behave()
    with inline(spool, grace=20) as worker:
        yield worker


def test_a_job_is_done_in_its_run_directory(spool: Spool, serving: Worker, new_job: NewJob) -> None:
    job_id = spool.submit(new_job())
    state = end_of(spool, job_id)
    run = run_of(spool, job_id)
    assert (state.status, state.message) == ("done", "All 6 steps are trained.")
    status = run.status()
    assert (status["status"], status["step"], status["max_steps"], status["job_id"]) == ("done", 6, 6, job_id)
    assert status["pid"] is None
    assert status["ended"] >= status["started"] >= status["created"]
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [3, 6]
    assert verify_finite(run.checkpoints()[-1].path).nonfinite == ()
    assert (run.path / "backend" / "command.json").is_file()
    assert run.log_file.exists()


def test_a_cancelled_job_can_be_resumed_to_its_end(spool: Spool, serving: Worker, new_job: NewJob) -> None:
    job_id = spool.submit(new_job(**LONG))
    wait_for(lambda: trained_steps(spool, job_id) >= 3)
    waiting = spool.submit(new_job())
    spool.cancel(waiting)
    spool.cancel(job_id)
    state = end_of(spool, job_id)
    assert state.status == "stopped"
    assert "Stopped by the user after step" in state.message
    assert "runs resume" in state.hint
    assert end_of(spool, waiting) == JobState(
        "stopped", None, "Cancelled before it began.", "", spool.state(waiting).updated
    )
    run = run_of(spool, job_id)
    reached = run.checkpoints()[-1].step
    assert reached == run.events("step")[-1]["step"] == run.status()["step"]

    again = spool.submit(resume_job(run.path, max_steps=reached + 4))
    assert end_of(spool, again).status == "done"
    assert run_of(spool, again).path == run.path
    assert run.events("resumed")[-1]["step"] == reached
    assert run.checkpoints()[-1].step == reached + 4


@posix
def test_a_killed_child_is_a_failure_with_a_reason(spool: Spool, serving: Worker, new_job: NewJob) -> None:
    job_id = spool.submit(new_job(**LONG))
    wait_for(lambda: trained_steps(spool, job_id) >= 1)
    os.kill(child_of(run_of(spool, job_id)).pid, signal.SIGKILL)
    state = end_of(spool, job_id)
    assert state.status == "failed"
    assert "killed" in state.message
    assert spool.worker() is not None


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("nan", "1 of 1 tensors of the last checkpoint are not finite"),
        ("silent", "(step-000006.safetensors) is missing"),
    ],
)
def test_status_zero_alone_is_no_success(
    spool: Spool, behave: Behave, new_job: NewJob, behaviour: str, message: str
) -> None:
    behave(behaviour)
    with inline(spool):
        state = end_of(spool, spool.submit(new_job()))
    assert state.status == "failed"
    assert message in state.message


def test_a_program_that_cannot_be_started_is_named(
    spool: Spool, new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(scripted.Scripted):
        def command(self, run: RunDir, resume: bool) -> Command:
            return Command(("/no/such/python",))

    monkeypatch.setattr(jobs, "backend", lambda name: Missing())
    with inline(spool):
        state = end_of(spool, spool.submit(new_job()))
    assert state.status == "failed"
    assert "/no/such/python cannot be started" in state.message


@posix
def test_a_restarted_worker_adopts_the_living_child(spool: Spool, behave: Behave, new_job: NewJob) -> None:
    first = start_worker(spool)
    try:
        job_id = spool.submit(new_job(schedule={"max_steps": 400}, output={"save_every": 400}))
        wait_for(lambda: trained_steps(spool, job_id) >= 1)
        child = child_of(run_of(spool, job_id))
    finally:
        first.kill()
        first.wait()
    assert child.is_running()
    behave()
    with inline(spool):
        assert end_of(spool, job_id).status == "done"
    run = run_of(spool, job_id)
    assert not run.events("resumed")
    assert [event["step"] for event in run.events("step")] == list(range(1, 401))
    assert run.status()["status"] == "done"


@posix
def test_after_worker_and_child_were_killed_the_run_can_be_resumed(
    spool: Spool, behave: Behave, new_job: NewJob
) -> None:
    first = start_worker(spool)
    try:
        job_id = spool.submit(new_job(**{**LONG, "output": {"save_every": 5}}))
        wait_for(lambda: trained_steps(spool, job_id) >= 12)
        run = run_of(spool, job_id)
        child = child_of(run)
    finally:
        first.kill()
        first.wait()
    child.kill()
    wait_for(lambda: not child.is_running())
    for checkpoint in run.checkpoints():
        assert verify_finite(checkpoint.path).nonfinite == ()
    behave()
    with inline(spool):
        state = end_of(spool, job_id)
        assert state.status == "stopped"
        assert "worker ended" in state.message
        saved = read_json(run.state_dir / "state.json")["step"]  # the kill may have come between checkpoint and state
        last = run.checkpoints()[-1].step + 3
        again = spool.submit(resume_job(run.path, max_steps=last))
        assert end_of(spool, again).status == "done"
    assert run.events("resumed")[-1]["step"] == saved
    assert run.checkpoints()[-1].step == last


@posix
def test_ending_the_worker_stops_its_child_with_its_state_saved(spool: Spool, behave: Behave, new_job: NewJob) -> None:
    behave()
    with inline(spool, grace=30):
        job_id = spool.submit(new_job(**LONG))
        wait_for(lambda: trained_steps(spool, job_id) >= 2)
        child = child_of(run_of(spool, job_id))
    assert not child.is_running()
    state = spool.state(job_id)
    assert state.status == "stopped"
    assert "together with the worker" in state.message
    assert spool.worker() is None
    assert list(run_of(spool, job_id).state_dir.iterdir())


def test_two_workers_never_share_a_spool(spool: Spool, serving: Worker) -> None:
    with pytest.raises(BadInput, match=rf"Another worker \(process {os.getpid()}\)"):
        Worker(spool).serve(threading.Event())
    other = threading.Event()
    other.set()
    Worker(spool, device="cuda:1").serve(other)  # another device of the same spool is fine


def test_a_damaged_job_document_costs_only_that_job(spool: Spool, tmp_path: Path) -> None:
    (spool.root / "jobs").mkdir(parents=True)
    bad = "train-20260101-000000-abcdef"
    (spool.root / "jobs" / f"{bad}.json").write_text('{"kind": "train"}')
    Worker(spool).serve(threading.Event(), until_idle=True)
    assert spool.state(bad).status == "failed"
    assert "not a valid job document" in spool.state(bad).message


def test_a_job_for_a_run_that_others_continued_is_left_alone(spool: Spool, new_job: NewJob) -> None:
    from lora_atelier.trainer.run_writer import create_run, set_status

    job = new_job()
    run = create_run(job)
    spool.submit(job)
    spool.set_state(job.id, JobState("running", str(run.path)))
    set_status(run, "done", job_id="train-20260101-000000-abcdef", message="by another")
    Worker(spool).serve(threading.Event(), until_idle=True)
    assert spool.state(job.id).status == "stopped"
    assert run.status()["status"] == "done"


@pytest.mark.timeout(900)
def test_a_real_training_goes_through_the_worker(spool: Spool, tiny: Any, tmp_path: Path) -> None:
    base = tiny.save_base(tiny.sd15_pipeline(tmp_path), tmp_path / "tiny-sd15")
    pictures = tiny.dataset(tmp_path / "pictures", [(80, 80)] * 4, held=1)
    settings = tiny.config(precision={"threads": 1}, schedule={"max_steps": 4}, output={"save_every": 2})
    with inline(spool):
        state = end_of(spool, spool.submit(tiny.job(tmp_path / "runs", base, pictures, settings)))
    assert (state.status, state.message) == ("done", "All 4 steps are trained.")
    run = RunDir(Path(state.run_path or ""))
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 4]
    assert run.status()["step"] == 4
