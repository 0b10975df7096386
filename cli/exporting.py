"""`export` and `inspect`: the LoRA as other programs read it, and what is inside a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import BadInput
from ..core.rundir import RunDir, open_run
from .output import JsonFlag, emit, table
from .runs import find_run

if TYPE_CHECKING:
    from ..core.types import LoraCard
    from ..export.publish import ExportResult

_STEP = "Checkpoint of a run by step; default: the recommended one, else the last."
Targets = Annotated[str, typer.Option("--for", help="Programs, separated by commas; 'all' for every one.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("export", rich_help_panel="Stages")(export)
    app.command("inspect", rich_help_panel="Stages")(inspect)


def export(
    source: Annotated[str, typer.Argument(metavar="LORA|RUN", help="A LoRA file, or a run.", show_default=False)],
    targets: Annotated[
        str, typer.Option("--for", help="Programs, separated by commas; 'all' for every one.")
    ] = "comfyui",
    out: Annotated[Path, typer.Option(help="Folder that gets one sub-folder per program.")] = Path("exports"),
    name: Annotated[str | None, typer.Option(help="File name without ending; default: the source's.")] = None,
    step: Annotated[int, typer.Option(min=0, help=_STEP)] = 0,
    title: Annotated[str | None, typer.Option(help="Title in lists; default: the name.")] = None,
    author: Annotated[str, typer.Option(help="Who made it.")] = "",
    licence: Annotated[str, typer.Option(help="SPDX name of the licence.")] = "",
    trigger: Annotated[str, typer.Option(help="Trigger words, separated by commas; default: the run's.")] = "",
    description: Annotated[str, typer.Option(help="What it draws and how to use it.")] = "",
    strength: Annotated[float, typer.Option(help="Recommended strength.")] = 1.0,
    base: Annotated[Path | None, typer.Option(help="Base model, to check every key against its layers.")] = None,
    dtype: Annotated[str, typer.Option(help="Storage type: fp16, bf16, fp32, keep.")] = "fp16",
    overwrite: Annotated[bool, typer.Option(help="Replace a file of that name that is not ours.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a LoRA, or a run's checkpoint, for other programs, and check every file by reading it back."""
    from ..core.types import LoraCard

    wanted = _targets(targets)
    path = Path(source)
    if base is not None and not base.exists():
        raise BadInput(f"The base model {base} does not exist.", "Check --base.")
    stem = name or (path.stem if path.is_file() else "")
    card = LoraCard(title or stem, author, licence, _words(trigger), description, strength)
    options: dict[str, Any] = {"targets": wanted, "out": out, "dtype": dtype, "overwrite": overwrite}
    if path.is_file():
        result = _export_file(path, stem, card, base, options)
    else:
        result = _export_run(open_run(find_run(source)), step, name, card, base, options)
    document = result.to_json()
    emit(document, as_json, _summary(document))


def _export_file(path: Path, name: str, card: LoraCard, base: Path | None, options: dict[str, Any]) -> ExportResult:
    from ..export.publish import export_lora

    return export_lora(path, name=name, card=card, base=base, **options)


def _export_run(
    run: RunDir, step: int, name: str | None, card: LoraCard, base: Path | None, options: dict[str, Any]
) -> ExportResult:
    """The checkpoint of a run with everything that the run knows about itself."""
    from dataclasses import replace

    from ..export.publish import export_lora
    from ..nodes.exporting import find_checkpoint, preview, training_facts
    from ..trainer.job import load_train_job

    job = load_train_job(run.job_file)
    checkpoint = find_checkpoint(run, step or _recommended(run))
    chosen = name or job.config.output.name
    card = replace(card, title=card.title or chosen, trigger_words=card.trigger_words or job.dataset.trigger_words)
    return export_lora(
        checkpoint.path,
        name=chosen,
        card=card,
        facts=training_facts(run, job, checkpoint.step),
        preview=preview(run, checkpoint.step),
        base=base or (job.base if Path(job.base.path).exists() else None),
        **options,
    )


def _recommended(run: RunDir) -> int:
    if not run.choice_file.is_file():
        return 0
    from ..core.files import read_json

    choice = read_json(run.choice_file)
    return choice.get("recommended_step") or choice.get("safe_step") or 0


def _targets(text: str) -> list[str]:
    from ..export.targets import TARGETS

    return list(TARGETS) if text.strip() == "all" else list(_words(text))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _summary(document: dict[str, Any]) -> str:
    lines = []
    for check in document["checks"]:
        lines.append(f"{check['target']}: {check['message']}")
        lines += [f"  {path}" for path in document["files"][check["target"]]]
        if hint := document["hints"].get(check["target"]):
            lines.append(f"  {hint}")
    return "\n".join(lines)


def inspect(
    file: Annotated[Path, typer.Argument(help="A LoRA file (.safetensors).", show_default=False)],
    as_json: JsonFlag = False,
) -> None:
    """Say what is inside a LoRA file: format, family, rank, norms, metadata, and whether it is sound."""
    from ..export.inspect import inspect_lora

    document = inspect_lora(file)
    emit(document, as_json, _inspection(document))


def _inspection(document: dict[str, Any]) -> str:
    simple = (str, int, float, bool)
    rows = [(key, str(value)) for key, value in document.items() if isinstance(value, simple) and value != ""]
    for key in ("ranks", "alphas", "dtypes"):
        if isinstance(counts := document.get(key), dict):
            rows.append((key, ", ".join(f"{value} ({count}x)" for value, count in counts.items())))
    norms = [(name, f"{value:.4g}") for name, value in document["norms"].items()]
    return "\n".join([table(rows), "size of the change per block:", table(norms, indent="  ")])
