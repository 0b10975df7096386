"""Jobs for the worker, and the modules beside these tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from lora_atelier.core.types import BaseModel, Dataset, DatasetItem
from lora_atelier.trainer.config import config_from
from lora_atelier.trainer.job import TrainJob, new_train_job
from lora_atelier.trainer.spool import Spool
from lora_atelier.worker import jobs

NewJob = Callable[..., TrainJob]


def load(name: str, path: Path) -> ModuleType:
    """A helper module by path: tests are not a package that could be imported from."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


scripted = load("scripted_trainer", Path(__file__).with_name("scripted.py"))


@pytest.fixture
def tiny() -> ModuleType:
    """The trainer room's builders of tiny models and pictures."""
    return load("tiny_models", Path(__file__).parents[1] / "trainer" / "tiny.py")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the worker of this process train with the script."""

    def use(behaviour: str = "train") -> None:
        monkeypatch.setattr(jobs, "backend", lambda name: scripted.Scripted(behaviour=behaviour))

    return use


@pytest.fixture
def new_job(tmp_path: Path) -> NewJob:
    """A training job of six steps; `sections` change its configuration."""

    def make(**sections: Any) -> TrainJob:
        values: dict[str, Any] = {
            "schedule": {"max_steps": 6},
            "output": {"name": "tiny", "save_every": 3, "reserve_mb": 1},
        }
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        item = DatasetItem(str(tmp_path / "0.png"), "0" * 64, 64, 64, "a drawing")
        base = BaseModel("base", str(tmp_path), "0" * 64, "sd15")
        return new_train_job(config_from(values), Dataset("tiny", (item,)), base, tmp_path / "runs")

    return make
