"""Where a command's words go: one JSON document or a short summary on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import AtelierError

if TYPE_CHECKING:
    from rich.progress import Progress

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; messages go to stderr.")]


def emit(document: Any, as_json: bool, summary: str) -> None:
    """Print the result: the document as JSON, or the summary for people."""
    text = json.dumps(document, ensure_ascii=False, indent=1) if as_json else summary
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A message for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def tell_error(error: AtelierError) -> None:
    """The sentence and what to do about it, coloured where the terminal can."""
    if not sys.stderr.isatty():
        say(f"error: {error}")
        return
    from rich.console import Console
    from rich.text import Text

    line = Text.assemble(("error: ", "bold red"), error.message)
    if error.hint:
        line.append(f"\n{error.hint}", "dim")
    Console(stderr=True, highlight=False).print(line)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function (done, total) that shows a bar on a terminal and a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        with rich_progress() as bars:
            task = bars.add_task(what, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 10:
            last = time.monotonic()
            say(f"{what}: {done} of {total}")

    yield line


def rich_progress() -> Progress:
    """The one look of all progress bars."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def table(rows: list[tuple[str, ...]], indent: str = "") -> str:
    """Left-aligned columns as plain text."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
