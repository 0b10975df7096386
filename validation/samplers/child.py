"""The child process: `python -m lora_atelier.validation.samplers.child RUN_DIR JOB.json`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from ...core.errors import AtelierError, BadInput, Interrupted
from ...core.files import read_json
from ...core.rundir import RunDir, open_run
from ...core.types import BaseModel, ValidationPlan
from .base import SampleIndex, draw_missing, missing_work


class StopRequest:
    """Raises `Interrupted` from `check` once SIGTERM, SIGINT or, on Windows, CTRL_BREAK has come."""

    def __init__(self) -> None:
        self._set = False
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if (number := getattr(signal, name, None)) is not None:
                signal.signal(number, self._on_signal)

    def check(self) -> None:
        """Called between denoising steps."""
        if self._set:
            raise Interrupted("The validation was asked to stop.")

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._set = True


def sample_run(run: RunDir, job: dict[str, Any], stop: StopRequest) -> int:
    """Draw what a validate job asks for and is not there yet; returns the number of pictures drawn."""
    plan = ValidationPlan.from_json(job.get("plan"))
    if not plan.prompts or not plan.seeds:
        raise BadInput("The validation plan has no prompts or no seeds.", "Give at least one of each.")
    base = BaseModel.from_json(run.job().get("base"))
    index = SampleIndex(run)
    work = missing_work(run, plan, base, job.get("steps"), index)
    if not work:
        print("every picture is there already", flush=True)
        return 0
    from .diffusers import DiffusersSampler  # torch is loaded only when there is something to draw

    stop.check()
    sampler = DiffusersSampler(base, plan)
    return draw_missing(run, sampler, work, index, progress=_report, check=stop.check)


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 130 stopped as asked (what was drawn stays), 1 the work failed, 2 bad input."""
    stop = StopRequest()  # before the slow imports, so that an early request is not lost
    try:
        if len(arguments) != 2:
            raise BadInput("The sampler's child takes a run directory and a job document.")
        sample_run(open_run(Path(arguments[0])), read_json(Path(arguments[1])), stop)
    except AtelierError as error:
        if os.environ.get("LORA_ATELIER_DEBUG"):
            traceback.print_exc()
        print(f"atelier error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _report(done: int, total: int) -> None:
    print(f"picture {done} of {total}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
