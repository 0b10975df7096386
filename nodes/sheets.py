"""Contact sheets of a curated set."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..core.files import inside
from ..core.images import PictureError, open_rgb, shrink
from ..core.types import Curation

_COLUMNS = 6
_CELL = 128
_PILES = (("kept", "keep"), ("rejected", "reject"), ("doubt", "doubt"))


def contact_sheet(curation: Curation, columns: int = _COLUMNS, cell: int = _CELL) -> Image.Image:
    """One row per pile (kept, rejected, doubt), each with pictures spread evenly over the pile."""
    from ..core.charts import picture_grid

    root = Path(curation.images.root)
    piles = {title: [d.path for d in curation.decisions if d.decision == verdict] for title, verdict in _PILES}
    titles = [title for title, paths in piles.items() if paths]
    rows = [[_thumbnail(root, path, cell) for path in _spread(piles[title], columns)] for title in titles]
    width = max(map(len, rows), default=1)
    cells = [[*row, *([None] * (width - len(row)))] for row in rows]
    labels = [f"{title} {len(piles[title])}" for title in titles]
    return picture_grid(cells, labels, [""] * width, cell=cell)


def _spread(paths: list[str], count: int) -> list[str]:
    if len(paths) <= count:
        return paths
    return [paths[index * len(paths) // count] for index in range(count)]


def _thumbnail(root: Path, path: str, cell: int) -> Image.Image | None:
    try:
        return shrink(open_rgb(inside(root, path)), cell)
    except PictureError:  # it could be measured and has gone since
        return None
