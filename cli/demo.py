"""`demo`: the quickstart workflow on the built-in model and sample pictures, and one report with measured numbers."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import BadInput, WorkFailed
from ..core.files import read_json, write_json
from ..core.rundir import RunDir
from ..core.types import Choice, Curation, LoraFile, Run, ScoreTable
from .curation import truth_table
from .runner import Execution
from .workflow import run_workflow
from .workflow_checks import Api

if TYPE_CHECKING:
    from ..core.report import Section

_PACK = Path(__file__).resolve().parents[1]
QUICKSTART = _PACK / "workflows" / "api" / "quickstart.json"
TRUTH = _PACK / "assets" / "samples" / "film-truth.jsonl"
BASE = _PACK / "assets" / "atelier-mini" / "model_index.json"
LONGER = 5
Wire = TypeVar("Wire", Curation, Run, Choice, ScoreTable, LoraFile)


@dataclass(frozen=True)
class Results:
    """What the workflow handed along its wires."""

    curation: Curation
    run: RunDir
    scores: ScoreTable
    choice: Choice
    lora: LoraFile


def run_demo(out: Path, *, long: bool = False) -> tuple[dict[str, Any], str]:
    """Run the workflow into `out`, with report.html and summary.json; returns (summary, the same for people)."""
    _need_assets()
    started = time.monotonic()
    api = longer(read_json(QUICKSTART)) if long else read_json(QUICKSTART)
    done = run_workflow(api, out)
    results = collect(done)
    truth = _truth(results.curation)
    report = write_report(results, truth, out / "report.html", long)
    document = summarise(results, truth, report, time.monotonic() - started)
    write_json(out / "summary.json", document)
    return document, text(document)


def _need_assets() -> None:
    missing = [path for path in (QUICKSTART, TRUTH, BASE) if not path.is_file()]
    if missing:
        raise BadInput(f"The demo needs {missing[0]}, which is not there.", "Install the package again.")


def longer(api: Mapping[str, Any]) -> Api:
    """The workflow with a training that is five times too long, in steps that keep the pictures affordable."""
    changed = {node_id: {**node, "inputs": dict(node["inputs"])} for node_id, node in api.items()}
    for node in changed.values():
        if node["class_type"] == "AtelierTrainLora":
            inputs = node["inputs"]
            inputs["max_steps"] *= LONGER
            inputs["save_every"] *= 2
            inputs["sample_every"] *= 2
    return changed


def collect(done: Execution) -> Results:
    """The last wire of each kind: nodes run in order, so it is the one that knows most."""
    run = _last(done, Run)
    return Results(
        curation=_last(done, Curation),
        run=RunDir(Path(run.path)),
        scores=_last(done, ScoreTable),
        choice=_last(done, Choice),
        lora=_last(done, LoraFile),
    )


def _last(done: Execution, kind: type[Wire]) -> Wire:
    found = [value for outputs in done.outputs.values() for value in outputs if isinstance(value, kind)]
    if not found:
        raise WorkFailed(f"The quickstart workflow gave no {kind.__name__}.")
    decided = [value for value in found if not isinstance(value, Curation) or value.rules]
    return (decided or found)[-1]


def _truth(curation: Curation) -> dict[str, Any]:
    from ..curation.evaluate import against_truth

    return against_truth(curation, TRUTH)


# --- numbers ---------------------------------------------------------------------------------------------------------


def summarise(results: Results, truth: dict[str, Any], report: Path, seconds: float) -> dict[str, Any]:
    """The document of `demo --json`, also written to summary.json."""
    from ..curation.decisions import summary
    from ..validation.selection import choice_json

    choice = choice_json(results.choice)
    step = results.choice.recommended_step or _last_step(results.run)
    return {
        "seconds": round(seconds, 1),
        "peak_memory_mb": _peak_memory(),
        "curation": {key: value for key, value in summary(results.curation, 0.0).items() if key != "seconds"},
        "truth": truth,
        "heldout_loss": heldout_loss(results.run, step),
        "style_distance": style_distance(results.scores, step),
        "choice": {key: choice[key] for key in choice if key != "curves"},
        "run": str(results.run.path),
        "exports": results.lora.files,
        "report": str(report.resolve()),
    }


def heldout_loss(run: RunDir, step: int) -> dict[str, Any]:
    """Loss of held-out pictures at fixed noise: at the start, at `step`, and the lowest seen."""
    losses = {
        int(event["step"]): float(event["loss"])
        for event in run.ledger("fixed_loss")
        if event["split"] == "heldout" and event["loss"] is not None
    }
    if 0 not in losses or len(losses) < 2:
        return {"start": None, "recommended": None, "lowest": None, "lowest_step": None}
    lowest = min(losses, key=lambda at: losses[at])
    at_step = losses.get(step, losses[max(at for at in losses if at <= step)])
    return {"start": losses[0], "recommended": at_step, "lowest": losses[lowest], "lowest_step": lowest}


def style_distance(scores: ScoreTable, step: int) -> dict[str, Any]:
    """Mean distance of validation pictures to the training pictures' style (data = 1), by prompts the LoRA is for.

    `fall` is the share by which it fell from the base model to `step`.
    """
    values = [row for row in scores.rows if row.metric == "style_distance" and row.prompt.startswith("p")]
    mean = {at: _mean([row.value for row in values if row.step == at]) for at in (0, step)}
    before, after = mean[0], mean[step]
    fall = None if before is None or after is None or before == 0 else 1 - after / before
    return {"base": before, "recommended": after, "fall": fall}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _last_step(run: RunDir) -> int:
    return run.checkpoints()[-1].step


def _peak_memory() -> int | None:
    """Largest resident size of this process or a child, in MB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3))


# --- report ----------------------------------------------------------------------------------------------------------


def write_report(results: Results, truth: dict[str, Any], path: Path, long: bool) -> Path:
    """One page from all pictures to the exported files."""
    from ..core.report import render_report
    from ..nodes.reporting import curation_section
    from ..validation import sections

    choice = results.choice
    shown = choice if choice.recommended_step else replace(choice, recommended_step=_last_step(results.run))
    chapters: list[Section] = [
        curation_section(results.curation),
        truth_section(truth),
        sections.before_after(results.run, shown),
        sections.curves(choice),
        sections.grid(results.run, choice),
        sections.loss(results.run),
        sections.run_facts(results.run),
        _exported(results.lora),
    ]
    lead = (
        "Drawn sample frames, the small base model that comes with the pack, and a LoRA of the frames' style"
        f"{', trained five times too long on purpose' if long else ''}. Every number here was measured in this run."
    )
    return render_report("LoRA Atelier: demo", chapters, path, lead)


def truth_section(truth: dict[str, Any]) -> Section:
    """The filter against the artist, who knows what is wrong with each picture."""
    from ..core.report import Section, Table

    rows = [
        (name.replace("_", " "), *map(_percent, (s["precision"], s["recall"])), s["tp"], s["fp"], s["fn"])
        for name, s in [("keep", truth["keep"]), *truth["rules"].items()]
    ]
    table = Table(("", "precision", "recall", "right", "wrong", "missed"), rows, highlight=(0,))
    intro = (
        f"The {truth['pictures']} sample pictures were drawn by a program, so what is wrong with each is known. "
        "A rule is right when it rejects a picture with its own fault, wrong when it rejects a good one; rejecting a "
        "picture for a second fault counts neither way, and a doubt is not a rejection."
    )
    return Section("truth", "How right the filter is", intro, tables=[table])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _exported(lora: LoraFile) -> Section:
    from ..export.sections import export_section
    from ..nodes.exporting import result_of
    from ..nodes.options import ExportedLora

    assert isinstance(lora, ExportedLora)
    return export_section(result_of(lora))


def text(document: dict[str, Any]) -> str:
    """The summary for people."""
    curation, choice, loss, style = (document[key] for key in ("curation", "choice", "heldout_loss", "style_distance"))
    lines = [
        f"{curation['images']} pictures: {curation['kept']} kept, {curation['rejected']} rejected, "
        f"{curation['doubt']} in doubt; against the artist's truth:",
        truth_table(document["truth"]),
        f"held-out loss at fixed noise: {_number(loss['start'])} -> {_number(loss['recommended'])}",
        f"style distance to the target (data = 1): {_number(style['base'])} -> {_number(style['recommended'])}"
        + (f", {100 * style['fall']:.0f} % less" if style["fall"] is not None else ""),
        f"choice: {choice['outcome'].replace('_', ' ')}, step {choice['recommended_step'] or '-'}",
    ]
    onsets = [f"{axis} from step {onset['step']}" for axis, onset in choice["onset"].items() if onset]
    if onsets:
        lines.append(f"over-training: {', '.join(onsets)}")
    lines.append(f"exported for: {', '.join(document['exports'])}")
    memory = f", at most {document['peak_memory_mb']} MB in one process" if document["peak_memory_mb"] else ""
    return "\n".join([*lines, f"{document['seconds']:.0f} s{memory}", f"report: {document['report']}"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
