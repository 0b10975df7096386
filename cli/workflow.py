"""`run` and `demo`: a whole workflow without ComfyUI, with the worker in a thread of this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.types import Wire
from .output import JsonFlag, emit, say
from .runner import Execution, execute, load_workflow, validate_workflow

if TYPE_CHECKING:
    from .workflow_checks import Api

_MOST_ENTRIES = 64
Out = Annotated[Path, typer.Option(help="Folder for everything that is written.")]
Long = Annotated[bool, typer.Option("--long", help="Train five times too long, to see over-training found.")]
InputDir = Annotated[Path, typer.Option(help="Folder whose sub-folders are offered as picture folders.")]
ModelsDir = Annotated[Path, typer.Option(help="Folder with checkpoints/, diffusers/, loras/.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("demo", rich_help_panel="Start here")(demo)
    app.command("run", rich_help_panel="Start here")(run)


def demo(
    out: Out = Path("demo-out"),
    long: Annotated[
        bool, typer.Option("--long", help="Train five times too long, to see over-training found.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show the whole chain on the built-in small model and sample pictures, in minutes on a CPU."""
    from .demo import run_demo

    document, summary = run_demo(out, long=long)
    emit(document, as_json, summary)


def run(
    workflow: Annotated[Path, typer.Argument(help="Workflow in API format (JSON).", show_default=False)],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NODE.INPUT=VALUE; NODE is an id or a title; repeatable.")
    ] = None,
    out: Out = Path("output"),
    input_dir: Annotated[Path, typer.Option(help="Folder whose sub-folders are offered as picture folders.")] = Path(
        "input"
    ),
    models_dir: Annotated[Path, typer.Option(help="Folder with checkpoints/, diffusers/, loras/.")] = Path("models"),
    as_json: JsonFlag = False,
) -> None:
    """Run a workflow graph without ComfyUI, training included."""
    api = load_workflow(workflow, set_ or ())
    started = time.monotonic()
    done = run_workflow(api, out, input_dir=input_dir, models_dir=models_dir)
    document = {"workflow": str(workflow), "seconds": round(time.monotonic() - started, 3), **describe(api, done)}
    emit(document, as_json, _summary(document))


def run_workflow(
    api: Api, out: Path, *, input_dir: Path = Path("input"), models_dir: Path = Path("models"), quiet: bool = False
) -> Execution:
    """Check the workflow, then run it with a worker of its own; nothing is written when the check fails.

    Results lie in `out`, job documents and caches in `out/.atelier`. Raises BadInput for a workflow that cannot run,
    and whatever a node raises; an interrupt stops a running training first (its state is saved).
    """
    from ..nodes import host
    from ..trainer.spool import Spool
    from ..worker.service import inline

    work = out.resolve() / ".atelier"
    with ExitStack() as stack:
        former = host.configure(
            input_dir=input_dir, output_dir=out.resolve(), models_dir=models_dir, user_dir=work, spool=work / "spool"
        )
        stack.callback(host.restore, former)
        classes = node_classes()
        warnings = validate_workflow(api, classes)
        for warning in warnings:
            say(f"warning: {warning}")
        on_node, on_progress = (_quiet, _quiet) if quiet else stack.enter_context(_display(len(api)))
        host.configure(on_progress=on_progress)
        stack.enter_context(inline(Spool(work / "spool")))
        done = execute(api, classes, on_node=on_node)
    done.warnings = warnings
    return done


def node_classes() -> Mapping[str, Any]:
    """The pack's own node classes, as ComfyUI sees them."""
    from .. import NODE_CLASS_MAPPINGS

    return NODE_CLASS_MAPPINGS


def describe(api: Api, done: Execution) -> dict[str, Any]:
    """The finished workflow as a JSON value: per output node what it showed, per node its wires."""
    titles = {node_id: (node.get("_meta") or {}).get("title", node["class_type"]) for node_id, node in api.items()}
    return {
        "warnings": done.warnings,
        "nodes": {
            node_id: {
                "class": api[node_id]["class_type"],
                "title": titles[node_id],
                "outputs": [_plain(value) for value in outputs],
                "ui": done.ui.get(node_id, {}),
            }
            for node_id, outputs in done.outputs.items()
        },
    }


def _plain(value: Any) -> Any:
    """A wire as JSON; pictures and models only by what they are."""
    if isinstance(value, Wire):
        return _shortened(value.to_json())
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    shape = getattr(value, "shape", None)
    return {"type": type(value).__name__, **({"shape": list(shape)} if shape is not None else {})}


def _shortened(value: Any) -> Any:
    """Long lists and tables become their length: thousands of pictures on eight wires are no result to print."""
    if isinstance(value, (list, dict)) and len(value) > _MOST_ENTRIES:
        return {"count": len(value)}
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    return [_shortened(item) for item in value] if isinstance(value, list) else value


def _summary(document: dict[str, Any]) -> str:
    lines = []
    for node in document["nodes"].values():
        for text in node["ui"].get("text", ()):
            lines.append(f"{node['title']}: {text}")
        for report in node["ui"].get("atelier_report", ()):
            lines.append(f"{node['title']}: report {report}")
    return "\n".join([*lines, f"Done in {document['seconds']:.0f} s."])


def _quiet(*_: Any) -> None:
    """Nobody is watching."""


@contextmanager
def _display(nodes: int) -> Iterator[tuple[Callable[[str, str], None], Callable[[str, int, int, str], None]]]:
    """(on_node, on_progress): bars on a terminal, else a line per node and one every few seconds."""
    import sys

    if sys.stderr.isatty():
        with _bars(nodes) as pair:
            yield pair
        return
    lines = _Lines()
    yield lines.node, lines.progress


@contextmanager
def _bars(nodes: int) -> Iterator[tuple[Callable[[str, str], None], Callable[[str, int, int, str], None]]]:
    from .output import rich_progress

    with rich_progress() as bars:
        whole = bars.add_task("workflow", total=nodes)
        current = bars.add_task("", total=None)
        count, name = -1, ""

        def on_node(node_id: str, title: str) -> None:
            nonlocal count, name
            count, name = count + 1, title
            bars.update(whole, completed=count)
            bars.reset(current, description=title, total=None)

        def on_progress(node_id: str, done: int, total: int, text: str) -> None:
            bars.update(current, description=f"{name} {text}".strip(), completed=done, total=total)

        yield on_node, on_progress


class _Lines:
    """Progress where there is no terminal: a log that a person can still follow."""

    EVERY = 10.0

    def __init__(self) -> None:
        self.started = self.last = time.monotonic()
        self.name = ""

    def node(self, node_id: str, title: str) -> None:
        self.name, self.last = title, time.monotonic()
        say(f"[{self.last - self.started:6.1f} s] {title}")

    def progress(self, node_id: str, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= self.EVERY:
            self.last = now
            say(f"[{now - self.started:6.1f} s] {self.name}: {done} of {total} {text}".rstrip())
