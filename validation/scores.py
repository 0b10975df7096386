"""The bare scores file: one JSON object per line, `{"step", "prompt", "seed", "metric", "value"}`.

`step` 0 is the base model without the LoRA, "data" the training pictures themselves. Every line is checked, and
everything wrong is named at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import write_json_lines
from ..core.types import Score, ScoreTable
from .metrics import METRICS

_KEYS = {"step", "prompt", "seed", "metric", "value"}
_EXAMPLE = '{"step": 290, "prompt": "p1", "seed": 7, "metric": "face_sharpness", "value": 0.83}'
_MAX_BYTES = 256 * 1024 * 1024
_MAX_LINES_NAMED = 40


def load(path: Path) -> ScoreTable:
    """Read and check a scores file; BadInput names every malformed line in one sentence."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BadInput(f"{path} is larger than 256 MiB; that is no scores file.")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text.", f"A scores file has lines like {_EXAMPLE}.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror or error}).", "Check the path.") from error
    return parse(text, str(path))


def parse(text: str, name: str = "The scores") -> ScoreTable:
    """The table in a scores file's text; BadInput as `load`."""
    rows: list[Score] = []
    problems: dict[str, list[int]] = {}
    seen: set[tuple[Any, ...]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _row(line)
        if isinstance(row, Score):
            key = (row.step, row.prompt, row.seed, row.metric)
            if key not in seen:
                seen.add(key)
                rows.append(row)
                continue
            row = "the same step, prompt, seed and metric stand on an earlier line"
        problems.setdefault(row, []).append(number)
    if problems:
        raise BadInput.collected(
            [f"{name}: " + "; ".join(f"{_lines(numbers)}: {what}" for what, numbers in problems.items())],
            f"A line looks like {_EXAMPLE}.",
        )
    if not rows:
        raise BadInput(f"{name} holds no scores.", f"A line looks like {_EXAMPLE}.")
    return ScoreTable(tuple(rows))


def save(path: Path, table: ScoreTable) -> Path:
    """Write the table as a scores file, atomically; `load` gives the same rows back."""
    return write_json_lines(path, [as_json(row) for row in table.rows])


def as_json(row: Score) -> dict[str, Any]:
    """One line of the file."""
    return {"step": row.step, "prompt": row.prompt, "seed": row.seed, "metric": row.metric, "value": row.value}


def unknown_metrics(rows: Iterable[Score]) -> list[str]:
    """Metric names in the rows that this version does not know; they are carried along, and not used."""
    return sorted({row.metric for row in rows} - METRICS.keys())


def _row(line: str) -> Score | str:
    """The line's score, or what is wrong with the line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    if not isinstance(value, dict):
        return "not a JSON object"
    if missing := sorted(_KEYS - value.keys()):
        return f"without {', '.join(missing)}"
    if extra := sorted(value.keys() - _KEYS):
        return f"with unknown keys ({', '.join(key[:40] for key in extra[:5])})"
    return _wrong_field(value) or Score(
        value["step"], value["prompt"], value["seed"], value["metric"], float(value["value"])
    )


def _wrong_field(value: dict[str, Any]) -> str | None:
    step, number = value["step"], value["value"]
    if step != "data" and (not _whole(step) or not 0 <= step < 10**9):
        return 'step is neither a whole number from 0 on nor "data"'
    if not _whole(value["seed"]) or abs(value["seed"]) >= 2**64:
        return "seed is not a whole number"
    if not isinstance(value["prompt"], str) or len(value["prompt"]) > 1000:
        return "prompt is not a short text"
    if not isinstance(value["metric"], str) or not 0 < len(value["metric"]) <= 100:
        return "metric is not a name"
    if isinstance(number, bool) or not isinstance(number, int | float):
        return "value is not a number"
    return _out_of_range(value["metric"], number)


def _out_of_range(name: str, number: float) -> str | None:
    try:
        finite = math.isfinite(number) and abs(number) < 1e12
    except OverflowError:
        finite = False
    if not finite:
        return "value is not a finite number"
    metric = METRICS.get(name)
    if metric is not None and not metric.limits[0] <= number <= metric.limits[1]:
        low, high = metric.limits
        return f"{name} is outside {low:g} to {high:g}" if high < float("inf") else f"{name} is below {low:g}"
    return None


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:_MAX_LINES_NAMED])
    more = f" and {len(numbers) - _MAX_LINES_NAMED} more" if len(numbers) > _MAX_LINES_NAMED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
