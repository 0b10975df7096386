"""Pictures that the project's own artist draws, and the project's own detector: nothing here comes from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from artist.draw import draw
from artist.scene import random_scene
from lora_atelier.core.faces import FaceFinder
from lora_atelier.core.images import scan
from lora_atelier.core.types import Curation
from lora_atelier.curation import detectors
from lora_atelier.curation.measure import measure_set

FILM = Path(__file__).resolve().parents[2] / "assets" / "samples"


@pytest.fixture(scope="session")
def finder() -> FaceFinder:
    return detectors.make("atelier")


@pytest.fixture(scope="session")
def film(finder: FaceFinder) -> Curation:
    """The sample frames, measured once."""
    return measure_set(scan(FILM / "film", "film"), finder, executor="inline")


@pytest.fixture(scope="session")
def film_truth() -> dict[str, str | None]:
    rows = (json.loads(line) for line in (FILM / "film-truth.jsonl").read_text().splitlines())
    return {row["file"]: row["fault"] for row in rows}


Drawer = Callable[..., Path]


@pytest.fixture
def drawn(tmp_path: Path) -> Drawer:
    """`drawn(count, **scene)` makes a folder of that many drawings `000.png`, ... and returns it."""

    def make(count: int, name: str = "set", seed: int = 0, **scene: object) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        for index in range(count):
            picture, _ = draw(random_scene(rng, **{"size": (160, 160), "style": "flat", **scene}))
            picture.save(folder / f"{index:03}.png")
        return folder

    return make
