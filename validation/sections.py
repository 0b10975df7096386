"""Chapters of a report about a run, made of `core.report.Section`; `write_report` puts them on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.report import Figure, Section, Table, render_report
from ..core.rundir import RunDir
from ..core.types import Choice
from . import pictures
from .plan import plan_of
from .words import AXIS_NAMES, count

_HEADINGS = {
    "clear": ("good", "A clear winner"),
    "range": ("good", "A range of equally good checkpoints"),
    "no_clear_winner": ("warn", "No clear winner"),
    "still_improving": ("warn", "Still improving"),
    "not_enough_evidence": ("warn", "Not enough evidence"),
    "all_failed": ("bad", "Every checkpoint failed"),
}


def run_facts(run: RunDir) -> Section:
    """What was trained, how, and how it ended."""
    status, manifest = run.status(), run.manifest()
    train = sum(1 for item in manifest if item.get("split", "train") == "train")
    steps = run.ledger("step")
    facts = [
        ("status", str(status.get("status", "unknown"))),
        ("trainer", str(status.get("backend", "unknown"))),
        ("pictures", f"{train} to train on, {len(manifest) - train} held out"),
        ("steps", f"{steps[-1]['step']}" if steps else "none yet"),
        ("checkpoints", str(len(run.checkpoints()))),
        ("time", _duration(status)),
    ]
    facts += _settings(run)
    alerts = [("bad", status["message"])] if status.get("status") == "failed" and status.get("message") else []
    return Section("run", "The run", facts=[(name, value) for name, value in facts if value], alerts=alerts)


def loss(run: RunDir) -> Section:
    """Training loss and the losses at fixed noise."""
    caption = (
        "Above: the loss of each training step, which jumps with the noise drawn. Below: the same pictures with "
        "the same noise every time. Once the held-out curve turns up while the other falls, pictures are being learned "
        "by heart."
    )
    return Section("loss", "Loss", figures=[Figure(pictures.loss_curve_svg(run), caption, "Loss curves over steps")])


def grid(run: RunDir, choice: Choice | None = None, *, rows: int = 12, columns: int = 8) -> Section:
    """The checkpoint grid: every row one checkpoint, the same prompts and seeds in every row."""
    picture = pictures.checkpoint_grid(run, choice, rows=rows, columns=columns)
    caption = "Each row is one checkpoint, each column one prompt and seed; the first row is the base model."
    if choice and choice.recommended_step is not None:
        caption += " The framed row is the recommended checkpoint."
    figure = Figure(picture, caption, "Validation pictures by step, prompt and seed", wide=True, longest_side=1800)
    return Section("grid", "Checkpoints side by side", figures=[figure], alerts=_broken(run))


def curves(choice: Choice) -> Section:
    """The choice in words, the quality curves, and a table of the checkpoints."""
    kind, heading = _HEADINGS[choice.outcome]
    alerts = [(kind, f"{heading}. {choice.reasons[0] if choice.reasons else ''}".strip())]
    alerts += [("warn", onset.message) for onset in choice.onset.values() if onset and onset.message]
    alerts += [("bad", f"Step {item.step} is left out: {item.reason}.") for item in choice.excluded]
    figures: list[Figure] = []
    tables: list[Table] = []
    if choice.curves:
        caption = (
            "0 is the base model, 1 the training pictures. The bands hold 90 % of the draws when prompts and "
            "seeds are drawn again; green marks the checkpoints that cannot be told from the recommended one."
        )
        figures.append(Figure(pictures.quality_curves_svg(choice), caption, "Quality curves over steps"))
        tables.append(_table(choice))
    notes = [*choice.reasons[1:], *choice.missing]
    return Section("choice", "Which checkpoint?", "", _facts(choice), tables, figures, alerts, notes)


def before_after(run: RunDir, choice: Choice) -> Section:
    """The same prompts and seeds before and after, above the pictures that were the aim."""
    caption = (
        f"Above: the base model. Middle: the same prompts and seeds with the LoRA of step {choice.recommended_step}. "
        "Below: some of the pictures it was trained on."
    )
    figure = Figure(pictures.before_after(run, choice), caption, "Base model, LoRA and training pictures", wide=True)
    return Section("before-after", "Before and after", figures=[figure])


def all_sections(run: RunDir, choice: Choice) -> list[Section]:
    """Every chapter that this run has something for, in reading order."""
    sections: list[Section] = [curves(choice)]
    if choice.recommended_step is not None:
        sections.insert(0, before_after(run, choice))
    sections.append(grid(run, choice))
    if run.ledger("step") or run.ledger("fixed_loss"):
        sections.append(loss(run))
    return [*sections, run_facts(run)]


def write_report(run: RunDir, choice: Choice, path: Path | None = None, more: Sequence[Section] = ()) -> Path:
    """The run's self-contained page (`report.html` unless `path` says otherwise); `more` chapters come first."""
    name = str(run.status().get("name") or run.path.name)
    return render_report(name, [*more, *all_sections(run, choice)], path or run.report_file, _lead(choice))


def _lead(choice: Choice) -> str:
    if choice.recommended_step is None:
        return choice.reasons[0] if choice.reasons else ""
    if choice.outcome in ("clear", "range"):
        return f"Take step {choice.recommended_step}."
    return f"Step {choice.recommended_step} has the highest estimate; read the warning before you take it."


def _facts(choice: Choice) -> list[tuple[str, str]]:
    facts = [
        ("recommended", choice.recommended_step),
        ("safe (earliest as good)", choice.safe_step),
        ("strongest (latest as good)", choice.strongest_step),
    ]
    known = [(name, f"step {value}") for name, value in facts if value is not None]
    return [*known, ("compared", count(len(choice.curves), "checkpoint"))]


def _table(choice: Choice) -> Table:
    axes = [axis for axis in ("overall", "identity", "style", "flexibility", "health") if axis in choice.curves[0]]
    rows = [
        (entry["step"], *(_interval(entry.get(axis)) for axis in axes), _remark(choice, entry["step"]))
        for entry in choice.curves
    ]
    columns = ("step", *(AXIS_NAMES[axis] for axis in axes), "")
    hit = [index for index, entry in enumerate(choice.curves) if entry["step"] == choice.recommended_step]
    return Table(columns, rows, "Estimate with its 90 % interval.", hit)


def _interval(value: dict[str, float] | None) -> str:
    if not value:
        return "–"
    # No-break space and word joiners keep an interval on one line.
    return f"{value['mean']:.2f}\u00a0({value['low']:.2f}\u2060–\u2060{value['high']:.2f})"


def _remark(choice: Choice, step: int) -> str:
    if step == choice.recommended_step:
        return "recommended"
    return "as good" if step in choice.near_optimal_steps else ""


def _broken(run: RunDir) -> list[tuple[str, str]]:
    from .score import faults

    found = faults(run)
    lines = [
        ("bad", f"Step {sample.step}, prompt {sample.prompt}, seed {sample.seed} is {fault.cause}.")
        for sample, fault in found[:6]
    ]
    if len(found) > 6:
        lines.append(("bad", f"{count(len(found) - 6, 'more picture')} like this; none of them was scored."))
    return lines


def _settings(run: RunDir) -> list[tuple[str, str]]:
    """The few settings that people compare runs by, from the job document."""
    job: dict[str, Any] = run.job() if run.job_file.is_file() else {}
    config = job.get("config", {})
    network, optimizer = config.get("network", {}), config.get("optimizer", {})
    plan = plan_of(run)
    return [
        ("base model", str(job.get("base", {}).get("name", ""))),
        ("rank", str(network.get("dim", ""))),
        ("learning rate", f"{optimizer['learning_rate']:g}" if "learning_rate" in optimizer else ""),
        ("resolution", f"{config['data']['resolution']} px" if config.get("data", {}).get("resolution") else ""),
        ("validation", f"{len(plan.prompts)} prompts × {len(plan.seeds)} seeds" if plan else ""),
    ]


def _duration(status: dict[str, Any]) -> str:
    started, ended = status.get("started"), status.get("ended")
    if not started:
        return ""
    seconds = max(0.0, float(ended or time.time()) - float(started))
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"
