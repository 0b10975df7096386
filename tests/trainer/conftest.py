from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import BaseModel, Dataset
from lora_atelier.trainer.run_writer import create_run

from . import tiny

Train = Callable[..., RunDir]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors: threads cost more than they bring, and one thread is deterministic everywhere."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("sd15")
    return tiny.save_base(tiny.sd15_pipeline(folder), folder / "tiny-sd15")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("sdxl")
    return tiny.save_base(tiny.sdxl_pipeline(folder), folder / "tiny-sdxl")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six square pictures to train on and two held out."""
    return tiny.dataset(tmp_path_factory.mktemp("pictures"), [(80, 80)] * 8, held=2)


@pytest.fixture
def train(tmp_path: Path, sd15: BaseModel, pictures: Dataset) -> Train:
    """Train in this process and return the finished run."""

    def start(base: BaseModel = sd15, items: Dataset = pictures, **sections: Any) -> RunDir:
        from lora_atelier.trainer.backends.embedded.session import Session

        job = tiny.job(tmp_path / "runs", base, items, tiny.config(**sections))
        run = create_run(job)
        assert Session(run, job, lambda: False).work(False)
        return run

    return start
