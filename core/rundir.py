"""The layout of a run directory and how to read it; only the worker and the trainer write there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import read_json, read_json_lines

_SAMPLE = re.compile(r"^validation_(\d+)_(.+)_(\d+)\.png$")
_KEYS = {  # what makes two events of a kind the same one
    "step": ("step",),
    "fixed_loss": ("step", "split"),
    "checkpoint": ("step",),
    "sample": ("step", "prompt", "seed"),
}
_CHECKPOINT = re.compile(r"^step-(\d+)\.safetensors$")


@dataclass(frozen=True)
class Sample:
    """One validation picture; step 0 is the base model without the LoRA."""

    step: int
    prompt: str
    seed: int
    path: Path


@dataclass(frozen=True)
class Checkpoint:
    """One published LoRA file."""

    step: int
    path: Path


@dataclass(frozen=True)
class RunDir:
    """Paths and reading of one run; the object itself never creates anything."""

    path: Path

    @property
    def status_file(self) -> Path:
        return self.path / "run.json"

    @property
    def job_file(self) -> Path:
        return self.path / "job.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def manifest_file(self) -> Path:
        return self.path / "dataset" / "manifest.jsonl"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log_file(self) -> Path:
        return self.path / "logs" / "output.log"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def state_dir(self) -> Path:
        return self.path / "state"

    @property
    def samples_dir(self) -> Path:
        return self.path / "samples"

    @property
    def evaluation_dir(self) -> Path:
        return self.path / "evaluation"

    @property
    def scores_file(self) -> Path:
        return self.evaluation_dir / "scores.jsonl"

    @property
    def choice_file(self) -> Path:
        return self.evaluation_dir / "choice.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of an absolute step stands once it is published."""
        return self.checkpoints_dir / f"step-{step:06d}.safetensors"

    def sample_path(self, step: int, prompt: str, seed: int) -> Path:
        """Where the validation picture of (step, prompt id, seed) stands."""
        return self.samples_dir / f"validation_{step:06d}_{prompt}_{seed}.png"

    def status(self) -> dict[str, Any]:
        """The content of run.json: status, backend, config_hash, message, times."""
        return read_json(self.status_file)

    def job(self) -> dict[str, Any]:
        """The validated job document the run was made from."""
        return read_json(self.job_file)

    def manifest(self) -> list[dict[str, Any]]:
        """One dict per dataset picture: path, sha256, width, height, caption, split."""
        return read_json_lines(self.manifest_file)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The ledger, optionally only events whose `type` is `kind`."""
        events = read_json_lines(self.events_file)
        return [event for event in events if kind is None or event.get("type") == kind]

    def ledger(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind as they hold today, by step: without what a resume took back, of doubles the last one.

        A run that was resumed from step s did everything after s again; earlier events beyond s no longer count.
        """
        present: dict[tuple[Any, ...], dict[str, Any]] = {}
        for event in self.events():
            if event.get("type") == "resumed":
                present = {key: old for key, old in present.items() if old.get("step", 0) <= event["step"]}
            elif event.get("type") == kind:
                present[tuple(event.get(name) for name in _KEYS.get(kind, ("time",)))] = event
        return sorted(present.values(), key=lambda event: event.get("step", 0))

    def checkpoints(self) -> list[Checkpoint]:
        """Published checkpoints by step."""
        found = ((_CHECKPOINT.match(path.name), path) for path in _files(self.checkpoints_dir))
        return sorted((Checkpoint(int(m[1]), path) for m, path in found if m), key=lambda c: c.step)

    def samples(self) -> list[Sample]:
        """Validation pictures by (step, prompt, seed)."""
        found = ((_SAMPLE.match(path.name), path) for path in _files(self.samples_dir))
        samples = (Sample(int(m[1]), m[2], int(m[3]), path) for m, path in found if m)
        return sorted(samples, key=lambda s: (s.step, s.prompt, s.seed))


def open_run(path: Path) -> RunDir:
    """The run in `path`, or BadInput when there is none."""
    run = RunDir(path)
    if not run.status_file.is_file():
        raise BadInput(f"{path} is not a run directory (it has no run.json).", "Give the folder that training made.")
    return run


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
