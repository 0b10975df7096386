"""From a run to an export: which checkpoint, which preview, and what the training says about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..core.rundir import Checkpoint, RunDir
from ..core.types import LoraCard
from . import host
from .options import ExportedLora

if TYPE_CHECKING:
    from ..export.publish import ExportResult
    from ..trainer.job import TrainJob


def export_run(run: RunDir, name: str, step: int, card: LoraCard | None, targets: Sequence[str]) -> ExportResult:
    """Export the checkpoint of `step` (0: the last one) for all targets; for ComfyUI into its own LoRA folder."""
    from ..export.publish import export_lora
    from ..trainer.job import load_train_job

    job = load_train_job(run.job_file)
    checkpoint = find_checkpoint(run, step)
    return export_lora(
        checkpoint.path,
        name=name,
        card=_card(card or LoraCard(title=name), job),
        targets=targets,
        out=host.named_dir("exports", name),
        facts=training_facts(run, job, checkpoint.step),
        preview=preview(run, checkpoint.step),
        base=job.base if Path(job.base.path).exists() else None,
        roots={"comfyui": host.loras_dir()} if host.in_comfyui() else None,
    )


def find_checkpoint(run: RunDir, step: int) -> Checkpoint:
    """The checkpoint of a step, or the last one for step 0; BadInput naming those there are."""
    found = run.checkpoints()
    if not found:
        raise BadInput("This run has no checkpoint yet.", "Train until the first one is saved.")
    chosen = next((checkpoint for checkpoint in found if checkpoint.step == step), None)
    if step and chosen is None:
        steps = ", ".join(str(checkpoint.step) for checkpoint in found)
        raise BadInput(f"This run has no checkpoint of step {step}.", f"There are: {steps}.")
    return chosen or found[-1]


def preview(run: RunDir, step: int) -> Path | None:
    """The first validation picture of a step."""
    return next((sample.path for sample in run.samples() if sample.step == step), None)


def training_facts(run: RunDir, job: TrainJob, step: int) -> dict[str, Any]:
    """What the header may tell about the training."""
    status, config = run.status(), job.config
    train = job.dataset.split("train")
    per_step = config.schedule.batch_size * config.schedule.gradient_accumulation
    facts = {
        "resolution": config.data.resolution,
        "steps": step,
        "epochs": -(-step * per_step // max(1, len(train) * config.data.repeats)),
        "images": len(train),
        "learning_rate": config.optimizer.learning_rate,
        "optimizer": config.optimizer.name,
        "seed": config.schedule.seed,
        "started": status.get("started"),
        "ended": status.get("ended"),
        "negative": config.validation.negative,
    }
    return {key: value for key, value in facts.items() if value not in (None, "")}


def exported_wire(result: ExportResult) -> ExportedLora:
    """The export as a wire; `name` is how core LoRA loaders list the file."""
    lora = result.lora
    root = host.loras_dir().resolve()
    path = Path(lora.path).resolve()
    name = path.relative_to(root).as_posix() if root in path.parents else lora.name
    values: dict[str, Any] = {field.name: getattr(lora, field.name) for field in fields(lora)} | {"name": name}
    checks = tuple(check.to_json() for check in result.checks)
    return ExportedLora(**values, checks=checks, hints=dict(result.hints or {}), kept=result.kept)


def result_of(lora: ExportedLora) -> ExportResult:
    """What `exported_wire` was made from, for the report."""
    from ..export.checks import Check
    from ..export.publish import ExportResult

    checks = (Check(**{**check, "unused": tuple(check["unused"])}) for check in lora.checks)
    return ExportResult(lora, tuple(checks), lora.kept, (), lora.hints)


def _card(card: LoraCard, job: TrainJob) -> LoraCard:
    return card if card.trigger_words else replace(card, trigger_words=job.dataset.trigger_words)
