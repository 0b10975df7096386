"""One job from document to verdict: the run directory, the child, and what its end means."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import AtelierError
from ..core.files import write_json
from ..core.rundir import RunDir, open_run
from ..core.types import Status
from ..trainer.backends.base import backend
from ..trainer.job import TrainJob, ValidateJob, to_json
from ..trainer.run_writer import create_run, set_status
from ..trainer.spool import JobState, Spool
from . import supervisor
from .process import Identity
from .rules import DiskReserve, LedgerReader, NonFiniteLoss, StopRule
from .supervisor import Child, Ended
from .verdict import Verdict, judge_child, judge_training

_PUBLISH_EVERY = 2.0  # seconds between writes of the step to run.json


@dataclass
class Stepper:
    """Copies the newest step from the ledger to run.json, so that lists of runs need no ledger. Breaks nothing."""

    run: RunDir
    _reader: LedgerReader = field(init=False)
    _step: int = 0
    _published: float = 0.0

    def __post_init__(self) -> None:
        self._reader = LedgerReader(self.run.events_file)

    def broken(self) -> None:
        """Called by the supervisor about once a second."""
        steps = [int(event["step"]) for event in self._reader.new() if event.get("type") == "step"]
        now = time.monotonic()
        self._step, changed = (steps[-1], True) if steps else (self._step, False)
        if changed and now - self._published >= _PUBLISH_EVERY:
            self._published = now
            set_status(self.run, "running", step=self._step)

    def last(self) -> dict[str, int]:
        """The step to write at the end; nothing when none was seen."""
        self.broken()
        return {"step": self._step} if self._step else {}


@dataclass(frozen=True)
class Desk:
    """What a job needs from the worker: the spool, whether the worker itself must stop, and its patience for children.

    `hurry` cuts the patience short: the child is killed without waiting for its state to be saved.
    """

    spool: Spool
    stopping: Callable[[], bool]
    grace: float = supervisor.GRACE
    hurry: Callable[[], bool] = lambda: False

    def watch(self, job_id: str, child: Child, rules: Sequence[StopRule]) -> Ended:
        """Supervise a child of this job."""
        return supervisor.run_child(
            child, cancelled=self.cancelled(job_id), rules=rules, grace=self.grace, hurry=self.hurry
        )

    def cancelled(self, job_id: str) -> Callable[[], bool]:
        """Asked between looks at the child."""
        return lambda: self.stopping() or self.spool.cancelled(job_id)

    def state(self, job_id: str, status: Status, run: RunDir | None, message: str = "", hint: str = "") -> None:
        """Publish the job's state."""
        self.spool.set_state(job_id, JobState(status, str(run.path) if run else None, message, hint))


def work(desk: Desk, job_id: str) -> None:
    """Do one job; whatever is wrong with it ends up in its state, never in the worker."""
    try:
        job = desk.spool.load(job_id)
        if isinstance(job, TrainJob):
            _train(desk, job)
        else:
            _validate(desk, job)
    except AtelierError as error:
        _give_up(desk, job_id, error.message, error.hint)
    except OSError as error:
        _give_up(desk, job_id, f"{error}.", "Check the disk and its rights.")
    except Exception as error:  # a bug must cost one job, not the worker that others wait for
        traceback.print_exc()
        _give_up(desk, job_id, f"Unexpected {type(error).__name__}: {error}.", "The worker's terminal shows more.")


def _give_up(desk: Desk, job_id: str, message: str, hint: str) -> None:
    former = desk.spool.state(job_id)
    if former.run_path and (run := RunDir(Path(former.run_path))).status_file.exists():
        set_status(run, "failed", message=message, hint=hint, ended=round(time.time(), 3), pid=None)
    desk.spool.set_state(job_id, JobState("failed", former.run_path, message, hint))


def _train(desk: Desk, job: TrainJob) -> None:
    trainer = backend(job.config.backend)
    if problems := trainer.problems(job.config, job.dataset, job.base):
        desk.state(job.id, "failed", None, "; ".join(problems) + ".")
        return
    run = create_run(job)
    desk.state(job.id, "preparing", run)
    set_status(run, "preparing")
    command = trainer.command(run, job.resume is not None)
    write_json(run.path / "backend" / "command.json", {"argv": list(command.argv), "env": dict(command.env)})
    child = _start(command.argv, command.env, run, run.log_file)
    if isinstance(child, Verdict):
        finish(desk, job.id, run, child)
        return
    set_status(run, "running", started=round(time.time(), 3), **child.identity.facts())
    desk.state(job.id, "running", run)
    supervise_training(desk, job, run, child)


def supervise_training(desk: Desk, job: TrainJob, run: RunDir, child: Child) -> None:
    """Watch a training child (started or adopted) to its end and publish the verdict."""
    stepper = Stepper(run)
    rules: Sequence[StopRule] = (
        NonFiniteLoss(run.events_file),
        DiskReserve(run.path, max(1, job.config.output.reserve_mb) * 500_000),  # the trainer itself stops at twice that
        stepper,
    )
    ended = desk.watch(job.id, child, rules)
    verdict = judge_training(run, ended, job.config.schedule.max_steps)
    finish(desk, job.id, run, _for_worker_stop(desk, ended, verdict), **stepper.last())


def finish(desk: Desk, job_id: str, run: RunDir, verdict: Verdict, **facts: Any) -> None:
    """Publish how a run ended: first in the run, then in the spool, where followers look."""
    ended = round(time.time(), 3)
    set_status(run, verdict.status, message=verdict.message, hint=verdict.hint, ended=ended, pid=None, **facts)
    desk.state(job_id, verdict.status, run, verdict.message, verdict.hint)


def _for_worker_stop(desk: Desk, ended: Ended, verdict: Verdict) -> Verdict:
    if verdict.status == "stopped" and ended.cancelled and desk.stopping():
        message = verdict.message.replace("Stopped by the user", "Stopped together with the worker")
        return Verdict("stopped", message, verdict.hint, verdict.kind)
    return verdict


def _validate(desk: Desk, job: ValidateJob) -> None:
    run = open_run(Path(job.run))
    document = run.path / "backend" / f"{job.id}.json"
    write_json(document, to_json(job))
    package = __name__.rsplit(".", 2)[0]
    argv = (sys.executable, "-m", f"{package}.validation.samplers.child", str(run.path), str(document))
    child = _start(argv, {}, run, run.path / "logs" / "validate.log")
    verdict = child if isinstance(child, Verdict) else _watch_validation(desk, job, run, child)
    desk.state(job.id, verdict.status, run, verdict.message, verdict.hint)


def _watch_validation(desk: Desk, job: ValidateJob, run: RunDir, child: Child) -> Verdict:
    desk.state(job.id, "running", run)
    return judge_child(desk.watch(job.id, child, (DiskReserve(run.path),)), "The validation")


def _start(argv: Sequence[str], env: Mapping[str, str], run: RunDir, log: Path) -> Child | Verdict:
    try:
        return supervisor.start(argv, env, run.path, log)
    except OSError as error:
        return Verdict("failed", f"The program {argv[0]} cannot be started ({error.strerror}).", kind="no_program")


def recover(desk: Desk, job_id: str) -> None:
    """A job that another worker left in the middle: adopt its living child, else mark it stopped and resumable."""
    state = desk.spool.state(job_id)
    try:
        job = desk.spool.load(job_id)
        run = open_run(Path(state.run_path)) if state.run_path else None
    except AtelierError as error:
        _give_up(desk, job_id, error.message, error.hint)
        return
    if run is None or not isinstance(job, TrainJob):
        desk.state(job_id, "failed", run, "The worker ended while it did this job.", "Queue it again.")
        return
    if run.status().get("job_id") != job_id:  # somebody else has resumed the run since
        desk.state(job_id, "stopped", run, "The worker ended; another job continued the run.")
        return
    child = supervisor.adopt(Identity.from_status(run.status()), run.log_file)
    if child is not None:
        desk.state(job_id, "running", run)
        supervise_training(desk, job, run, child)
        return
    gone = Ended(None, (), ("cancelled", ""), cancelled=True)
    verdict = judge_training(run, gone, job.config.schedule.max_steps)
    message = verdict.message.replace("Stopped by the user", "The worker ended and the training with it,")
    finish(desk, job_id, run, Verdict(verdict.status, message, verdict.hint))
