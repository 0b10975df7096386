"""Charts and grids: whole files, readable in light and dark, nothing heavy at import."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from lora_atelier.core.charts import GOOD, Band, Mark, Panel, Series, line_chart, panel_image, picture_grid
from PIL import Image

STEPS = [100, 200, 400, 800]
SERIES = [Series("quality", STEPS, [0.1, 0.5, 0.9, 0.4], [0, 0.4, 0.8, 0.3], [0.2, 0.6, 1.0, 0.5], color="ink")]


def _chart(path: Path, **more: object) -> Path:
    return line_chart(SERIES, path, title="Quality <now> & later", x_label="step", y_label="score", log_x=True, **more)  # type: ignore[arg-type]


def test_svg_is_well_formed_and_follows_the_readers_theme(tmp_path: Path) -> None:
    text = _chart(tmp_path / "c.svg", bands=[Band("good", 200, 400)], marks=[Mark(400, "best 400")]).read_text()
    root = ElementTree.fromstring(text)
    words = " ".join(root.itertext())
    assert "Quality <now> & later" in words and "best 400" in words and "good" in words
    assert "prefers-color-scheme: dark" in text
    assert "var(--ink" in text and "#010203" not in text
    assert "http" not in "".join(v for e in root.iter() for k, v in e.attrib.items() if "href" in k)


def test_the_same_data_gives_the_same_svg(tmp_path: Path) -> None:
    assert _chart(tmp_path / "a.svg").read_bytes() == _chart(tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(("theme", "bright"), [("light", True), ("dark", False)])
def test_png_has_the_theme_and_size_asked_for(tmp_path: Path, theme: str, bright: bool) -> None:
    with Image.open(_chart(tmp_path / "c.png", theme=theme, size=(500, 300))) as image:
        assert image.size == (1000, 600)
        pixels = np.asarray(image.convert("L"))
    assert (np.median(pixels) > 128) == bright
    assert pixels.std() > 5  # text and curve stand out from the ground


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="svg"):
        _chart(tmp_path / "c.pdf")
    assert list(tmp_path.iterdir()) == []


def test_panels_stand_in_one_picture() -> None:
    panels = [Panel(SERIES, title) for title in ("one", "two", "three")]
    assert panel_image(panels, x_label="step", size=(600, 400)).size == (1200, 800)


def test_grid_places_labels_pictures_and_the_frame() -> None:
    red = Image.new("RGB", (40, 20), (255, 0, 0))
    grid = picture_grid([[red, None], [red, red]], ["a", "b"], ["one", "two"], cell=64, highlight=(1, -1))
    pixels = np.asarray(grid).astype(int)
    frame = tuple(int(GOOD[index : index + 2], 16) for index in (1, 3, 5))
    framed = np.argwhere((np.abs(pixels - frame).sum(axis=2)) < 3)
    reds = np.argwhere(np.abs(pixels - (255, 0, 0)).sum(axis=2) < 3)
    assert len(framed) > 200
    assert framed[:, 0].min() > reds[:, 0].min()  # only the second row is framed
    # A 2:1 picture keeps its shape inside a square cell.
    assert 3 * 64 * 32 * 0.9 <= len(reds) <= 3 * 64 * 32 * 1.1


def test_a_grid_of_nothing_is_still_a_picture() -> None:
    assert picture_grid([], [], []).size[0] > 0


def test_importing_charts_loads_no_drawing_library() -> None:
    code = (
        "import sys, lora_atelier.core.charts, lora_atelier.core.report\n"
        "print([m for m in ('matplotlib', 'jinja2', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
