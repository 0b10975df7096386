"""Charts and picture grids: SVG that follows the reader's light or dark theme, and PNG or PIL for everything else."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, ImageDraw, ImageFont

from .files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

Theme = Literal["auto", "light", "dark"]
PALETTE: tuple[str, ...] = ("#3b82c4", "#d9576f", "#1f9e89", "#9b6bd3", "#c98613", "#6c7a89")
GOOD = "#2f9e5b"
WARN = "#d97706"


@dataclass(frozen=True)
class _Inks:
    """Colours of text, captions, grid lines and ground."""

    ink: str
    muted: str
    grid: str
    ground: str


_THEMES = {
    "light": _Inks("#20242b", "#5c6570", "#d9dde3", "#ffffff"),
    "dark": _Inks("#e8ebf0", "#a3acb8", "#333a45", "#171a20"),
    # An SVG is drawn in these marker colours, which the writer turns into CSS variables.
    "svg": _Inks("#010203", "#040506", "#070809", "#0a0b0c"),
}

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_LOCK = threading.Lock()  # matplotlib's settings are global; two nodes may draw at the same time


@dataclass(frozen=True)
class Series:
    """One curve. `low`/`high` draw a band around it; `dots` marks the points; colours are `#rrggbb` or `ink`."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    color: str | None = None
    style: Literal["line", "dashed", "points"] = "line"
    width: float = 1.8
    dots: bool = False
    alpha: float = 1.0


@dataclass(frozen=True)
class Band:
    """A shaded range of x, for instance the near-optimal steps."""

    name: str
    low: float
    high: float
    color: str = GOOD


@dataclass(frozen=True)
class Mark:
    """A vertical line at `x` with a short label at the top."""

    x: float
    label: str
    color: str = GOOD
    style: Literal["line", "dashed"] = "line"


@dataclass(frozen=True)
class Panel:
    """One coordinate system with its curves, shaded ranges and marks."""

    series: Sequence[Series]
    title: str = ""
    y_label: str = ""
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()
    guides: Sequence[tuple[float, str]] = field(default=())
    y_range: tuple[float, float] | None = None
    legend: bool = True


def line_chart(
    series: Sequence[Series],
    path: Path,
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
    guides: Sequence[tuple[float, str]] = (),
    size: tuple[int, int] = (900, 400),
    theme: Theme = "auto",
) -> Path:
    """One chart as `.svg` (follows light and dark) or `.png`; `size` in pixels. Returns `path`."""
    panel = Panel(series, title, y_label, bands, marks, guides)
    return panel_chart([panel], path, x_label=x_label, log_x=log_x, size=size, theme=theme)


def panel_chart(
    panels: Sequence[Panel],
    path: Path,
    *,
    x_label: str,
    log_x: bool = False,
    size: tuple[int, int] = (900, 640),
    columns: int = 2,
    theme: Theme = "auto",
) -> Path:
    """Several charts over the same x: the first over the full width, the others below in `columns`."""
    kind: Any = path.suffix.lstrip(".")
    return write_bytes(
        path, panel_bytes(panels, kind, x_label=x_label, log_x=log_x, size=size, columns=columns, theme=theme)
    )


def panel_image(
    panels: Sequence[Panel],
    *,
    x_label: str,
    log_x: bool = False,
    size: tuple[int, int] = (900, 640),
    columns: int = 2,
    theme: Literal["light", "dark"] = "dark",
) -> Image.Image:
    """The same as `panel_chart`, as an RGB picture."""
    data = panel_bytes(panels, "png", x_label=x_label, log_x=log_x, size=size, columns=columns, theme=theme)
    return Image.open(io.BytesIO(data)).convert("RGB")


def panel_bytes(
    panels: Sequence[Panel],
    kind: Literal["svg", "png"],
    *,
    x_label: str,
    log_x: bool = False,
    size: tuple[int, int] = (900, 640),
    columns: int = 2,
    theme: Theme = "auto",
) -> bytes:
    """The same as `panel_chart`, as the file's bytes."""
    if kind not in ("svg", "png"):
        raise ValueError(f"charts are written as .svg or .png, not .{kind}")
    with _LOCK:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        settings: dict[Any, Any] = {
            "svg.fonttype": "none",
            "svg.hashsalt": "atelier",
            "font.size": 10,
            "axes.unicode_minus": False,
        }
        with matplotlib.rc_context(settings):
            figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
            FigureCanvasAgg(figure)
            inks = _THEMES["svg" if kind == "svg" else "dark" if theme == "dark" else "light"]
            for index, axes in enumerate(_grid(figure, len(panels), columns)):
                _panel(axes, panels[index], log_x, index == 0, inks)
                if index >= len(panels) - columns or len(panels) == 1:
                    axes.set_xlabel(x_label, color=inks.muted)
            return _save(figure, kind, theme, inks)


def _grid(figure: MplFigure, count: int, columns: int) -> list[Axes]:
    if count == 1:
        return [figure.subplots()]
    rows = -(-(count - 1) // columns)
    spec = figure.add_gridspec(rows + 1, columns, height_ratios=[1.5] + [1.0] * rows)
    cells = [divmod(index, columns) for index in range(count - 1)]
    return [figure.add_subplot(spec[0, :]), *(figure.add_subplot(spec[row + 1, column]) for row, column in cells)]


def _panel(axes: Axes, panel: Panel, log_x: bool, main: bool, inks: _Inks) -> None:
    if log_x:
        axes.set_xscale("log")
    for band in panel.bands:
        axes.axvspan(band.low, band.high, color=band.color, alpha=0.16, linewidth=0, label=band.name or None)
    for value, label in panel.guides:
        axes.axhline(value, color=inks.muted, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
        axes.annotate(
            label, (1, value), xycoords=("axes fraction", "data"), xytext=(-4, 3), textcoords="offset points",
            ha="right", fontsize=8.5, color=inks.muted,
        )  # fmt: skip
    for index, series in enumerate(panel.series):
        _series(axes, series, PALETTE[index % len(PALETTE)], inks)
    _dress(axes, panel, log_x, inks)
    _marks(axes, panel.marks, main)
    if panel.legend and any(series.name for series in panel.series):
        legend = axes.legend(frameon=False, fontsize=9, labelcolor=inks.ink, ncols=3, loc="best")
        legend.set_zorder(1)


def _series(axes: Axes, series: Series, default: str, inks: _Inks) -> None:
    color = inks.ink if series.color == "ink" else series.color or default
    if series.low is not None and series.high is not None:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.17, linewidth=0)
    dashes = {"line": "-", "dashed": (0, (4, 3)), "points": ""}[series.style]
    marker = "o" if series.dots or series.style == "points" else ""
    axes.plot(
        series.x, series.y, color=color, linestyle=dashes, linewidth=series.width, alpha=series.alpha,
        marker=marker, markersize=3.6, label=series.name or None,
    )  # fmt: skip


def _marks(axes: Axes, marks: Sequence[Mark], main: bool) -> None:
    low, high = axes.get_xlim()
    for index, mark in enumerate(marks):
        style = "-" if mark.style == "line" else (0, (5, 3))
        axes.axvline(mark.x, color=mark.color, linewidth=1.8 if main else 1.4, linestyle=style, zorder=3)
        place = _fraction(axes, mark.x, low, high)
        right = place < 0.72
        axes.annotate(
            mark.label, (mark.x, 1), xycoords=("data", "axes fraction"),
            xytext=(5 if right else -5, -6 - 14 * index), textcoords="offset points",
            ha="left" if right else "right", va="top", fontsize=9.5 if main else 8.5, color=mark.color, weight="bold",
        )  # fmt: skip


def _fraction(axes: Axes, x: float, low: float, high: float) -> float:
    import math

    if axes.get_xscale() == "log":
        x, low, high = math.log(max(x, 1e-9)), math.log(max(low, 1e-9)), math.log(max(high, 1e-9))
    return (x - low) / (high - low) if high > low else 0.0


def _dress(axes: Axes, panel: Panel, log_x: bool, inks: _Inks) -> None:
    axes.set_title(panel.title, loc="left", color=inks.ink, fontsize=11, weight="bold")
    axes.set_ylabel(panel.y_label, color=inks.muted)
    axes.grid(True, color=inks.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.patch.set_alpha(0)
    axes.tick_params(which="both", colors=inks.muted, labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(inks.grid)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    axes.margins(x=0.02, y=0.24 if panel.marks and not panel.y_range else 0.12)
    if log_x:
        _step_ticks(axes)
    else:
        axes.xaxis.set_major_formatter(_plain)


def _step_ticks(axes: Axes) -> None:
    """1-2-5 ticks written as plain numbers: 200, 500, 1000, ... with at most eight of them."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = axes.get_xlim()
    ticks = [m * 10.0**e for e in range(-1, 8) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 8:
        ticks = [tick for tick in ticks if f"{tick:.0e}"[0] in "15"][-8:]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(_plain)


def _plain(value: float, _position: float | None = None) -> str:
    return f"{value:,.0f}".replace(",", "\u2009") if abs(value) >= 1 else f"{value:g}"


def _save(figure: MplFigure, kind: str, theme: Theme, inks: _Inks) -> bytes:
    buffer = io.BytesIO()
    if kind == "svg":
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _themed_svg(buffer.getvalue().decode(), theme).encode()
    figure.savefig(buffer, format="png", facecolor=inks.ground, dpi=200)
    return buffer.getvalue()


def _themed_svg(text: str, theme: Theme) -> str:
    """Turn marker colours into CSS variables with both themes' values and the fonts into the reader's own."""
    names = ("ink", "muted", "grid")
    for name in names:
        fallback = getattr(_THEMES["light"], name)
        text = text.replace(getattr(_THEMES["svg"], name), f"var(--{name}, {fallback})")
    text = re.sub(r"(font: (?:\d+ |bold )?[\d.]+px )[^;\"]+", rf"\1{_FONT}", text)

    def variables(kind: str) -> str:
        return "".join(f"--{name}:{getattr(_THEMES[kind], name)};" for name in names)

    style = f":root{{{variables('dark' if theme == 'dark' else 'light')}}}"
    if theme == "auto":
        style += f"@media (prefers-color-scheme: dark){{:root{{{variables('dark')}}}}}"
    start = text.index(">", text.index("<svg")) + 1
    return f"{text[:start]}<style>{style}</style>{text[start:]}"


def picture_grid(
    cells: Sequence[Sequence[Image.Image | None]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    cell: int = 128,
    highlight: tuple[int, int] | None = None,
    title: str = "",
    theme: Literal["light", "dark"] = "dark",
) -> Image.Image:
    """Labelled contact sheet, RGB. `highlight` is (row, column) to frame; a column of -1 frames the whole row."""
    colors, font = _THEMES[theme], font_of(max(12, cell // 9))
    columns = max((len(row) for row in cells), default=0)
    gap = max(3, cell // 32)
    left = gap * 3 + max((_text_width(font, label) for label in row_labels), default=0)
    top = gap * 2 + (_line(font) * max((label.count("\n") + 1 for label in column_labels), default=0))
    top += gap + (_line(font) + gap * 2 if title else 0)
    size = (left + columns * (cell + gap) + gap * 2, top + len(cells) * (cell + gap) + gap * 2)
    sheet = Image.new("RGB", size, colors.ground)
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap * 3, gap * 2), title, colors.ink, font)
    for index, label in enumerate(column_labels):
        _centred(draw, (left + index * (cell + gap) + cell / 2, top - gap * 2), label, colors.muted, font, cell)
    for row, pictures in enumerate(cells):
        y = top + row * (cell + gap)
        chosen = highlight is not None and highlight[0] == row
        label = row_labels[row] if row < len(row_labels) else ""
        draw.text((left - gap * 2, y + cell / 2), label, GOOD if chosen else colors.ink, font, anchor="rm")
        for column, picture in enumerate(pictures):
            _place(sheet, picture, (left + column * (cell + gap), y), cell, colors.grid)
    if highlight is not None:
        _frame(draw, highlight, (left, top), columns, cell, gap)
    return sheet


def font_of(size: int) -> Any:
    """Pillow's own scalable font, so that nothing needs to be installed."""
    return ImageFont.load_default(size)


def _text_width(font: Any, label: str) -> int:
    return max((int(font.getlength(line)) + 1 for line in label.split("\n")), default=0)


def _line(font: Any) -> int:
    box = font.getbbox("Ag")
    return int((box[3] - box[1]) * 1.5)


def _centred(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], label: str, color: str, font: Any, room: int
) -> None:
    lines = [_shorten(font, line, room) for line in label.split("\n")]
    for index, line in enumerate(reversed(lines)):
        draw.text((place[0], place[1] - index * _line(font)), line, color, font, anchor="mb")


def _shorten(font: Any, text: str, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "…") > room:
        text = text[:-1]
    return text.rstrip() + "…"


def _place(sheet: Image.Image, picture: Image.Image | None, corner: tuple[int, int], cell: int, color: str) -> None:
    x, y = corner
    if picture is None:
        draw = ImageDraw.Draw(sheet)
        draw.rectangle((x, y, x + cell - 1, y + cell - 1), outline=color)
        draw.line((x, y, x + cell - 1, y + cell - 1), color)
        return
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(small, (x + (cell - size[0]) // 2, y + (cell - size[1]) // 2))


def _frame(
    draw: ImageDraw.ImageDraw, highlight: tuple[int, int], corner: tuple[int, int], columns: int, cell: int, gap: int
) -> None:
    row, column = highlight
    first, count = (0, columns) if column < 0 else (column, 1)
    x, y = corner[0] + first * (cell + gap), corner[1] + row * (cell + gap)
    width = max(2, gap - 1)
    box = (x - width, y - width, x + count * (cell + gap) - gap + width - 1, y + cell + width - 1)
    draw.rectangle(box, outline=GOOD, width=width)
