"""One drawn run and one finder for the whole room."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from lora_atelier.core.faces import FaceFinder
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import ScoreTable
from lora_atelier.curation import detectors
from lora_atelier.validation.score import score_run

from .drawn import drawn_run

ROOT = Path(__file__).resolve().parents[2]


def load_file(path: Path, name: str) -> ModuleType:
    """A module from a file that is in no package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def simulation() -> ModuleType:
    """benchmarks/choice.py: simulated runs with known truth."""
    return load_file(ROOT / "benchmarks" / "choice.py", "choice_benchmark")


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    return detectors.make("atelier")


@pytest.fixture(scope="session")
def _drawn(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return drawn_run(tmp_path_factory.mktemp("drawn") / "run")


@pytest.fixture(scope="session")
def scored(_drawn: RunDir, finder: FaceFinder) -> tuple[RunDir, ScoreTable]:
    """The drawn run with its scores; read only."""
    return _drawn, score_run(_drawn, finder)


@pytest.fixture
def run(_drawn: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the drawn run to change."""
    return RunDir(Path(shutil.copytree(_drawn.path, tmp_path / "run")))
