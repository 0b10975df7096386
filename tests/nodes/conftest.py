from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS
from lora_atelier.core.types import Curation
from lora_atelier.nodes import host

ROOT = Path(__file__).resolve().parents[2]
FILM = ROOT / "assets" / "samples" / "film"


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first twenty of the sample's frames; not to be changed."""
    folder = tmp_path_factory.mktemp("frames")
    for path in sorted(FILM.glob("*.jpg"))[:20]:
        shutil.copy(path, folder)
    return folder


def _settings(root: Path, frames: Path) -> dict[str, Any]:
    places = {f"{name}_dir": root / name for name in ("input", "output", "models", "user")}
    return {**places, "spool": None, "image_folders": {"film": frames}}


@pytest.fixture
def places(tmp_path: Path, frames: Path) -> Iterator[Path]:
    """The nodes' folders below a temporary one: input, output, models, user."""
    former = host.configure(**_settings(tmp_path, frames))
    (tmp_path / "input").mkdir()
    yield tmp_path
    host.restore(former)


@pytest.fixture
def film(places: Path) -> str:
    """The folder id of the frames."""
    return "film"


@pytest.fixture(scope="session")
def filtered(tmp_path_factory: pytest.TempPathFactory, frames: Path) -> Curation:
    """The frames after measuring and all five filters, done once."""
    former = host.configure(**_settings(tmp_path_factory.mktemp("filtered"), frames))
    try:
        return _filtered()
    finally:
        host.restore(former)


def _filtered() -> Curation:
    (images,) = call("AtelierLoadImageFolder", folder="film")["result"]
    (curation,) = call("AtelierMeasureImages", images=images)["result"]
    for name in ("CharacterCount", "FaceDetail", "View", "SubjectSize", "FramingConsistency"):
        (curation,) = call(f"AtelierFilter{name}", curation=curation)["result"]
    return curation


def call(node_id: str, **inputs: Any) -> dict[str, Any]:
    """Run a node as ComfyUI does: defaults for widgets that are not given."""
    node_class = NODE_CLASS_MAPPINGS[node_id]
    declared = {**node_class.INPUT_TYPES().get("required", {}), **node_class.INPUT_TYPES().get("optional", {})}
    defaults = {name: spec[1]["default"] for name, spec in declared.items() if "default" in spec[1]}
    return getattr(node_class(), node_class.FUNCTION)(**{**defaults, **inputs})
