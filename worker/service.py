"""The worker: takes jobs from a spool in queue order, one at a time per device, and is seen to be alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import FileLock, Timeout

from ..core.errors import BadInput
from ..trainer.spool import HEARTBEAT_SECONDS, JobState, Spool, WorkerInfo
from . import supervisor
from .jobs import Desk, recover, work

_POLL = 0.2


class Worker:
    """Serves one spool on one device. `on_job` is told (job id, status) when a job begins and ends."""

    def __init__(
        self,
        spool: Spool,
        *,
        device: str = "auto",
        grace: float = supervisor.GRACE,
        on_job: Callable[[str, str], None] = lambda job_id, status: None,
    ) -> None:
        self.spool = spool
        self.device = device
        self.grace = grace
        self.on_job = on_job
        self.hurry = threading.Event()  # set: do not wait for children to save their state
        self._over: set[str] = set()
        self._info: WorkerInfo = spool.new_worker((device,))

    def serve(self, stop: threading.Event, *, until_idle: bool = False, ready: threading.Event | None = None) -> None:
        """Work until `stop` is set (a running child is then asked to save and end) or, if asked, until nothing waits.

        Raises BadInput at once when another worker serves the same spool and device.
        """
        with self._alone(), self._alive():
            if ready is not None:
                ready.set()
            desk = Desk(self.spool, stop.is_set, self.grace, self.hurry.is_set)
            for job_id in self._left_behind():
                self._do(desk, job_id, recover)
            while not stop.is_set():
                job_id = self._next()
                if job_id is not None:
                    self._do(desk, job_id, work)
                elif until_idle:
                    return
                else:
                    stop.wait(_POLL)

    def _do(self, desk: Desk, job_id: str, action: Callable[[Desk, str], None]) -> None:
        self._info = replace(self._info, job=job_id)
        self.on_job(job_id, "begins")
        try:
            action(desk, job_id)
        finally:
            self._info = replace(self._info, job=None)
        self.on_job(job_id, self.spool.state(job_id).status)

    def _next(self) -> str | None:
        """The oldest job that waits. Jobs that are over are remembered, so that an old spool costs no reading."""
        for job_id in self.spool.jobs():
            if job_id in self._over:
                continue
            state = self.spool.state(job_id)
            if self.spool.cancelled(job_id) and not state.final:
                state = JobState("stopped", None, "Cancelled before it began.")
                self.spool.set_state(job_id, state)
            if state.status == "queued":
                return job_id
            if state.final:
                self._over.add(job_id)
        return None

    def _left_behind(self) -> list[str]:
        busy = ("preparing", "running", "stopping")
        return [job_id for job_id in self.spool.jobs() if self.spool.state(job_id).status in busy]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of this spool and device; the system lets go of it when the process dies."""
        self.spool.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.spool.root / f"worker-{self.device}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            other = self.spool.worker()
            who = f" (process {other.pid})" if other else ""
            raise BadInput(
                f"Another worker{who} serves {self.spool.root} on the device {self.device!r} already.",
                "One is enough: it takes the jobs one after the other.",
            ) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Beat in a thread of its own, so that hashing or saving never looks like death."""
        over = threading.Event()

        def beat() -> None:
            while not over.is_set():
                self.spool.beat(self._info)
                over.wait(HEARTBEAT_SECONDS)

        thread = threading.Thread(target=beat, name="atelier-heartbeat", daemon=True)
        self.spool.beat(self._info)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.spool.leave(self._info)


@contextmanager
def inline(spool: Spool, *, grace: float = supervisor.GRACE) -> Iterator[Worker]:
    """A worker in a thread of this process, for `run` and `demo`; at the end it stops its child and waits for it."""
    worker, stop, ready = Worker(spool, grace=grace), threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def serve() -> None:
        try:
            worker.serve(stop, ready=ready)
        except BaseException as error:  # handed to the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=serve, name="atelier-worker", daemon=True)
    thread.start()
    while thread.is_alive() and not ready.is_set():
        time.sleep(0.01)
    if failure:
        raise failure[0]
    try:
        yield worker
    finally:
        stop.set()
        try:
            thread.join(grace + 15)
        except KeyboardInterrupt:  # the user insists: no more waiting for a saved state, but no orphan either
            worker.hurry.set()
            thread.join(15)
            raise
    if failure:
        raise failure[0]
