"""One self-contained HTML page from sections of facts, tables, funnels and figures; it asks the network for nothing."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from .files import write_text

_TEMPLATES = Path(__file__).parent / "templates"
_KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
_SMALL = 60_000  # a raster file below this many bytes is embedded as it is


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    `source` is a path (`.svg` or raster), a PIL picture, or the bytes of one. Rasters are reduced to `longest_side`
    and stored as WebP at `quality`. A `wide` figure keeps a readable width on a phone and scrolls sideways.
    """

    source: Path | Image.Image | bytes
    caption: str = ""
    alt: str = ""
    wide: bool = False
    longest_side: int = 1600
    quality: int = 82


@dataclass(frozen=True)
class Bar:
    """One bar of a funnel: how many are left after this stage, and why the others went."""

    label: str
    count: int
    note: str = ""
    kind: str = "step"  # step | removed | kept | doubt


@dataclass(frozen=True)
class Funnel:
    """Count bars from all to kept; widths are relative to the largest count."""

    bars: Sequence[Bar]
    caption: str = ""
    unit: str = "pictures"


@dataclass(frozen=True)
class Table:
    """A plain table; numbers are right-aligned by themselves. `highlight` are row numbers to set off."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    highlight: Sequence[int] = ()


@dataclass(frozen=True)
class Section:
    """One chapter of a report. `alerts` are (kind, sentence) with kind good, warn or bad; `intro` is plain text."""

    id: str
    title: str
    intro: str = ""
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure | Funnel] = ()
    alerts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = field(default=())


def render_report(title: str, sections: Sequence[Section], path: Path, lead: str = "") -> Path:
    """Write one HTML file that holds everything (inline CSS, data URIs); every text is escaped. Returns `path`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_is_number, cell=_cell, share=_share)
    environment.tests["funnel"] = lambda value: isinstance(value, Funnel)
    page = environment.get_template("report.html.j2").render(
        title=title,
        lead=lead,
        sections=sections,
        embed=embed,
        made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )
    return write_text(path, page)


def embed(figure: Figure) -> dict[str, Any]:
    """`{"uri", "width", "height"}` of a figure as a data URI; width and height keep the page from jumping."""
    source = figure.source
    if isinstance(source, Path) and source.suffix.lower() == ".svg":
        return _svg(source.read_text(encoding="utf-8"))
    if isinstance(source, bytes) and source.lstrip()[:5] in (b"<svg ", b"<?xml"):
        return _svg(source.decode("utf-8"))
    if isinstance(source, Image.Image):
        return _raster(source, figure)
    data = source.read_bytes() if isinstance(source, Path) else source
    kind = _KINDS.get(source.suffix.lower()) if isinstance(source, Path) else None
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if kind and len(data) < _SMALL and max(image.size) <= figure.longest_side:
            return _uri(kind, data, image.size)
        return _raster(image, figure)


def _raster(image: Image.Image, figure: Figure) -> dict[str, Any]:
    small = image.convert("RGB")
    scale = figure.longest_side / max(small.size)
    if scale < 1:
        size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
        small = small.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=figure.quality, method=4)
    return _uri("image/webp", buffer.getvalue(), small.size)


def _uri(kind: str, data: bytes, size: tuple[int, int]) -> dict[str, Any]:
    text = base64.b64encode(data).decode("ascii")
    return {"uri": f"data:{kind};base64,{text}", "width": size[0], "height": size[1]}


def _svg(text: str) -> dict[str, Any]:
    """An SVG stays text (percent-encoded): smaller than base64, and as an <img> it cannot run anything."""
    start = text.find("<svg")
    body = text[start:] if start >= 0 else text
    return {
        "uri": "data:image/svg+xml," + quote(body, safe=" =:/;,()'-_.!*#@?&+<>{}".replace("#", "")),
        "width": None,
        "height": None,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}".replace(",", "\u2009")
    return f"{value:,}".replace(",", "\u2009") if isinstance(value, int) else str(value)


def _share(bar: Bar, funnel: Funnel) -> float:
    largest = max((other.count for other in funnel.bars), default=0)
    return round(100 * bar.count / largest, 2) if largest else 0.0
