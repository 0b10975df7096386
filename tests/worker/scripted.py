"""A trainer without torch that keeps the contract (ledger, checkpoints, state, TERM), to test the worker with.

`scripted.py worker SPOOL` serves a spool with it; `scripted.py train RUN_DIR [--resume]` is its child.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lora_atelier.core.files import append_json_line, write_json
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.tensorfile import save
from lora_atelier.core.types import BaseModel, Dataset
from lora_atelier.trainer.backends.base import Command
from lora_atelier.trainer.config import TrainConfig
from lora_atelier.trainer.spool import Spool
from lora_atelier.worker import jobs, service

SECONDS_PER_STEP = 0.01


@dataclass(frozen=True)
class Scripted:
    """`behaviour`: train, nan (checkpoints that are not finite), silent (leaves without a result)."""

    name: str = "embedded"
    behaviour: str = "train"

    def problems(self, config: TrainConfig, dataset: Dataset, base: BaseModel) -> list[str]:
        return []

    def command(self, run: RunDir, resume: bool) -> Command:
        argv = (sys.executable, __file__, self.behaviour, str(run.path), *(["--resume"] if resume else []))
        return Command(argv, {"LORA_ATELIER_TEST": "1"})


def train(run: RunDir, behaviour: str, resume: bool) -> int:
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    config = run.job()["config"]
    last, every = config["schedule"]["max_steps"], config["output"]["save_every"]
    step = 0
    if resume:
        step = json.loads((run.state_dir / "state.json").read_text())["step"]
        event(run, "resumed", step=step)
    while step < last and not asked:
        time.sleep(SECONDS_PER_STEP)
        step += 1
        event(run, "step", step=step, loss=1.0 / step, lr=1e-4, epoch=0.0, seconds=SECONDS_PER_STEP)
        if behaviour == "silent":
            return 0
        if step % every == 0 or step == last:
            publish(run, step, behaviour)
    if asked:
        publish(run, step, behaviour)
    return 0


def publish(run: RunDir, step: int, behaviour: str) -> None:
    value = np.float32("nan") if behaviour == "nan" else np.float32(step)
    save(run.checkpoint_path(step), {"unet.x.lora_A.weight": np.full((4, 4), value)}, {"atelier.step": str(step)})
    write_json(run.state_dir / "state.json", {"step": step})
    event(run, "checkpoint", step=step, path=str(run.checkpoint_path(step)))


def event(run: RunDir, kind: str, **facts: Any) -> None:
    append_json_line(run.events_file, {"type": kind, **facts, "time": time.time()})


def use(behaviour: str = "train") -> None:
    """Let the worker of this process train with the script."""
    jobs.backend = lambda name: Scripted(behaviour=behaviour)  # type: ignore[assignment]


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        use()
        service.Worker(Spool(Path(sys.argv[2])), grace=10).serve(threading.Event())
    else:
        sys.exit(train(RunDir(Path(sys.argv[2])), sys.argv[1], "--resume" in sys.argv))
