"""Spool, job documents, run directories and following: what nodes and the worker say to each other through files."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_atelier.core.errors import BadInput, Interrupted, WorkFailed
from lora_atelier.core.types import BaseModel, Dataset, DatasetItem, Prompt, ValidationPlan
from lora_atelier.trainer import follow as following
from lora_atelier.trainer.follow import follow
from lora_atelier.trainer.job import TrainJob, new_train_job, new_validate_job, parse_job, to_json
from lora_atelier.trainer.run_writer import append_event, create_run, set_status
from lora_atelier.trainer.spool import JobState, Spool

from . import tiny


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    (tmp_path / "base").mkdir()
    base = BaseModel("base", str(tmp_path / "base"), "0" * 64, "sd15")
    items = tuple(DatasetItem(f"/p/{n}.png", f"{n:064x}", 64, 64, "a drawing") for n in range(3))
    return new_train_job(tiny.config(), Dataset("set", items), base, tmp_path / "runs")


def test_jobs_survive_the_spool(tmp_path: Path, job: TrainJob) -> None:
    spool = Spool(tmp_path / "spool")
    validate = new_validate_job(tmp_path / "run", ValidationPlan((Prompt("a", "b"),)), (3, 6))
    assert spool.submit(job) == job.id
    spool.submit(validate)
    assert spool.load(job.id) == job and spool.load(validate.id) == validate
    assert set(spool.jobs()) == set(spool.waiting()) == {job.id, validate.id}
    spool.cancel(validate.id)
    assert spool.waiting() == [job.id] and spool.cancelled(validate.id)
    spool.set_state(job.id, JobState("running", "/r"))
    assert spool.state(job.id).run_path == "/r" and spool.waiting() == []
    with pytest.raises(BadInput, match="submitted already"):
        spool.submit(job)


@given(st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_no_text_leads_out_of_the_spool(name: str) -> None:
    spool = Spool(Path("/nonexistent-spool"))
    with pytest.raises(BadInput, match="not a job id"):
        spool.cancel(name)
    with pytest.raises(BadInput, match="not a job id"):
        spool.state(f"../{name}")


def test_damaged_and_foreign_jobs_are_refused(job: TrainJob) -> None:
    value = to_json(job)
    with pytest.raises(BadInput, match="surprise: Extra"):
        parse_job({**value, "surprise": 1})
    with pytest.raises(BadInput, match="config"):
        parse_job({**value, "config": {"network": {"rank": 4}}})
    with pytest.raises(BadInput, match="not a valid job document"):
        parse_job({"kind": "rm"})
    assert parse_job(value) == job


def test_problems_of_a_job_are_said_together(tmp_path: Path) -> None:
    base = BaseModel("big", str(tmp_path / "none"), "0" * 64, "flux")
    item = DatasetItem("/p/a.png", "0" * 64, 64, 64, " ", "heldout")
    with pytest.raises(BadInput) as caught:
        new_train_job(tiny.config(validation={"sampler": "magic"}), Dataset("set", (item,)), base, tmp_path)
    for part in ("'flux'", "does not exist", "no pictures to train on", "no caption (a.png)", "'magic'"):
        assert part in caught.value.message


def test_worker_is_alive_while_it_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    assert spool.worker() is None
    me = spool.new_worker(["cpu"])
    spool.beat(me)
    found = spool.worker()
    assert found is not None and found.pid == os.getpid() and found.devices == ("cpu",)
    spool.leave(replace(me, token="somebody else"))
    assert spool.worker() is not None
    later = time.time() + 11
    monkeypatch.setattr(time, "time", lambda: later)
    assert spool.worker() is None
    spool.leave(me)
    assert not (tmp_path / "worker.json").exists()


def test_runs_of_the_same_second_do_not_share_a_directory(job: TrainJob) -> None:
    runs = [create_run(job) for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    status = runs[0].status()
    assert status["status"] == "queued" and status["max_steps"] == 6 and status["job_id"] == job.id
    set_status(runs[0], "running", step=3, pid=1)
    assert (runs[0].status()["step"], runs[0].status()["name"]) == (3, "tiny")
    assert len(runs[0].manifest()) == 3 and "# " in runs[0].config_file.read_text()


def test_ledger_leaves_out_what_a_resume_took_back(job: TrainJob) -> None:
    run = create_run(job)
    for step in (1, 2, 3):
        append_event(run, "step", step=step, loss=float(step))
    append_event(run, "resumed", step=1)
    append_event(run, "step", step=2, loss=20.0)
    assert [(event["step"], event["loss"]) for event in run.ledger("step")] == [(1, 1.0), (2, 20.0)]
    assert len(run.events("step")) == 4


def _serve(spool: Spool, job: TrainJob, ending: str, stop: threading.Event) -> threading.Thread:
    """Behaves like a worker: makes the run, writes events, ends as told or when cancelled."""

    def work() -> None:
        me = spool.new_worker()
        spool.beat(me)
        run = create_run(job)
        spool.set_state(job.id, JobState("running", str(run.path)))
        append_event(run, "step", step=1, loss=0.5)
        while ending == "cancelled" and not spool.cancelled(job.id) and not stop.is_set():
            spool.beat(me)
            time.sleep(0.02)
        status: Any = {"cancelled": "stopped"}.get(ending, ending)
        set_status(run, status)
        spool.set_state(job.id, JobState(status, str(run.path), "It broke.", "Mend it."))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_following_gives_events_and_the_outcome(tmp_path: Path, job: TrainJob) -> None:
    spool, events, stop = Spool(tmp_path / "spool"), [], threading.Event()
    spool.submit(job)
    thread = _serve(spool, job, "done", stop)
    run = follow(spool, job.id, events.append, lambda: None, poll=0.02)
    thread.join()
    assert run.status == "done" and run.job_id == job.id and [e["loss"] for e in events] == [0.5]


def test_a_failed_job_raises_its_own_sentence(tmp_path: Path, job: TrainJob) -> None:
    spool = Spool(tmp_path / "spool")
    spool.submit(job)
    thread = _serve(spool, job, "failed", threading.Event())
    with pytest.raises(WorkFailed, match="It broke"):
        follow(spool, job.id, lambda _event: None, lambda: None, poll=0.02)
    thread.join()


def test_an_interrupt_of_the_host_cancels_the_job_and_is_raised_again(tmp_path: Path, job: TrainJob) -> None:
    class HostInterrupt(BaseException):
        pass

    spool, seen, stop = Spool(tmp_path / "spool"), [], threading.Event()
    spool.submit(job)
    thread = _serve(spool, job, "cancelled", stop)

    def check() -> None:
        if seen:
            raise HostInterrupt

    try:
        with pytest.raises(HostInterrupt):
            follow(spool, job.id, seen.append, check, poll=0.02)
    finally:
        stop.set()
        thread.join()
    assert spool.cancelled(job.id) and spool.state(job.id).status == "stopped"


def test_no_worker_is_said_and_not_waited_for(tmp_path: Path, job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path / "spool")
    spool.submit(job)
    monkeypatch.setattr(following, "DEAD_AFTER_SECONDS", 0.1)
    with pytest.raises(WorkFailed, match="no sign of life"):
        follow(spool, job.id, lambda _event: None, lambda: None, poll=0.02)


def test_cancelled_before_it_began(tmp_path: Path, job: TrainJob) -> None:
    spool = Spool(tmp_path / "spool")
    spool.submit(job)
    spool.set_state(job.id, JobState("stopped", None, "Cancelled while waiting."))
    with pytest.raises(Interrupted, match="while waiting"):
        follow(spool, job.id, lambda _event: None, lambda: None, poll=0.02)
