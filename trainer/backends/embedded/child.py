"""The child process: `python -m lora_atelier.trainer.backends.embedded.child RUN_DIR [--resume]`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from ....core.errors import AtelierError, BadInput
from ....core.rundir import open_run
from ...job import load_train_job


class StopFlag:
    """Set by SIGTERM, SIGINT and, on Windows, CTRL_BREAK; the session asks between steps."""

    def __init__(self) -> None:
        self._set = False
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if (number := getattr(signal, name, None)) is not None:
                signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self._set

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._set = True


def main(arguments: list[str]) -> int:
    """Exit status: 0 done or stopped as asked, 1 the work failed, 2 bad input."""
    stop = StopFlag()  # before the slow imports, so that an early request is not lost
    paths = [argument for argument in arguments if argument != "--resume"]
    try:
        if len(paths) != 1:
            raise BadInput("The trainer's child takes one run directory.")
        run = open_run(Path(paths[0]))
        job = load_train_job(run.job_file)
        from .session import Session

        Session(run, job, stop).work("--resume" in arguments)
    except AtelierError as error:
        if os.environ.get("LORA_ATELIER_DEBUG"):
            traceback.print_exc()
        print(f"atelier error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
