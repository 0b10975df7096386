"""Validation stage: draw with every checkpoint, score the pictures, choose, and show why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.rundir import RunDir, open_run
from . import host
from . import sockets as wires
from .inputs import WITH_ID, Input, Node, Output, advanced, choice, number, optional, seed, text, wire

if TYPE_CHECKING:
    from ..core.types import Choice, Run, ScoreTable, ValidationPlan


def opened(run: Run) -> RunDir:
    """The run directory behind a wire; BadInput when training has not made it yet."""
    from ..core.errors import BadInput

    if not run.path:
        raise BadInput("This training has not started yet.", "Open the run later with Open Run.")
    return open_run(Path(run.path))


class ValidateCheckpoints(Node):
    """Draw the plan's pictures with the checkpoints of a run, in the worker."""

    STAGE = "Validation"
    DESCRIPTION = (
        "Draws the plan's prompts and seeds with the checkpoints of a finished or running training, and with the base "
        "model for comparison. The worker does it with diffusers, without any safety checker. Pictures that are there "
        "already are not drawn again."
    )
    SEARCH_ALIASES = ("sample checkpoints", "xyz plot", "validation images")
    OUTPUTS = (Output(wires.RUN, "run", "The same run, now with the pictures."),)
    HIDDEN = WITH_ID

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "run": wire(wires.RUN, "A training run with checkpoints."),
            "plan": wire(wires.PLAN, "Prompts, seeds and sampler settings."),
            "steps": text("", "Checkpoints to draw with, as steps separated by commas; empty = all."),
        }

    def run(self, run: Run, plan: ValidationPlan, steps: str, unique_id: str | None = None) -> dict[str, Any]:
        from ..trainer.job import new_validate_job
        from .jobs import follow_job, steps_of

        job = new_validate_job(opened(run).path, plan, steps_of(steps))
        finished, last = follow_job(job, unique_id, len(plan.prompts) * len(plan.seeds))
        count = len(opened(finished).samples())
        return host.show((finished,), text=f"{count} validation pictures", images=[last] if last else [])


class ScoreCheckpoints(Node):
    """Measure every validation picture against the base model and the training pictures."""

    STAGE = "Validation"
    DESCRIPTION = (
        "Scores the validation pictures of every checkpoint: is the frame usable, is there a face, how sharp is it, "
        "how near is the style to the training pictures, how free is the model still. Nothing is drawn here."
    )
    SEARCH_ALIASES = ("evaluate lora", "metrics", "score")
    OUTPUTS = (Output(wires.SCORES, "scores", "One value per checkpoint, prompt, seed and metric."),)
    HIDDEN = WITH_ID

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..curation.detectors import NAMES

        return {
            "run": wire(wires.RUN, "A run with validation pictures."),
            "detector": choice(NAMES, "Who finds the faces; best the same as in Measure Images."),
        }

    def run(self, run: Run, detector: str, unique_id: str | None = None) -> dict[str, Any]:
        from ..curation import detectors
        from ..validation.score import score_run

        finder = detectors.make(detector, folders=host.detector_folders())
        report = host.progress(unique_id)
        table = score_run(
            opened(run),
            finder,
            progress=lambda done, total: report(done, total, text=f"{done} of {total} pictures"),
            check=host.check_interrupt,
        )
        steps = {row.step for row in table.rows if isinstance(row.step, int) and row.step > 0}
        metrics = {row.metric for row in table.rows}
        return host.show(
            (table,), text=f"{len(table.rows)} values: {len(metrics)} metrics over {len(steps)} checkpoints"
        )


class ChooseCheckpoint(Node):
    """Recommend a checkpoint, or say honestly that none stands out."""

    STAGE = "Validation"
    DESCRIPTION = (
        "Recommends a checkpoint from the scores with its uncertainty, names the range that is as good, and says from "
        "which step quality falls again. 'No clear winner' is a possible answer."
    )
    SEARCH_ALIASES = ("best checkpoint", "overtraining", "overfitting", "select")
    OUTPUTS = (
        Output(wires.CHOICE, "choice", "The recommendation with its reasons and curves."),
        Output("INT", "step", "The recommended step; 0 when there is none."),
    )

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "scores": wire(wires.SCORES, "Scores of all checkpoints."),
            "dial": number(
                0.5,
                0.0,
                1.0,
                "0 weighs likeness to the training pictures most, 1 the freedom to follow other prompts.",
                0.05,
            ),
            "seed": advanced(seed("Seed of the resampling behind the intervals.")),
        }

    def run(self, scores: ScoreTable, dial: float, seed: int) -> dict[str, Any]:
        from ..core.files import write_json
        from ..validation.selection import choice_json, choose

        chosen = choose(scores, dial=dial, seed=seed)
        if scores.run:
            write_json(open_run(Path(scores.run)).choice_file, choice_json(chosen))
        return host.show((chosen, chosen.recommended_step or 0), text=describe_choice(chosen))


def describe_choice(chosen: Choice) -> str:
    """The outcome in a few lines."""
    step = f": step {chosen.recommended_step}" if chosen.recommended_step else ""
    onsets = (f"{axis}: {onset.message}" for axis, onset in chosen.onset.items() if onset and onset.message)
    return "\n".join([f"{chosen.outcome.replace('_', ' ')}{step}", *chosen.reasons, *onsets])


class CheckpointGrid(Node):
    """All validation pictures, one row per checkpoint."""

    STAGE = "Validation"
    DESCRIPTION = "Shows the validation pictures as a grid of checkpoints and prompts; the recommended one is framed."
    SEARCH_ALIASES = ("xyz plot", "comparison", "contact sheet")
    OUTPUTS = (Output(wires.IMAGE, "grid", "The grid as a picture."),)
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {
            "run": wire(wires.RUN, "A run with validation pictures."),
            "choice": optional(wire(wires.CHOICE, "Frames the recommended checkpoint.")),
        }

    def run(self, run: Run, choice: Choice | None = None) -> dict[str, Any]:
        from ..validation.pictures import checkpoint_grid

        grid = checkpoint_grid(opened(run), choice)
        return host.show((host.to_image_tensor([grid]),), images=[grid])


class QualityCurves(Node):
    """How the scores moved over training, with the recommendation marked."""

    STAGE = "Validation"
    DESCRIPTION = (
        "Draws the quality curves with their uncertainty, the recommended step and the start of over-training."
    )
    SEARCH_ALIASES = ("metrics plot", "curves", "overtraining")
    OUTPUTS = (Output(wires.IMAGE, "curves", "The chart as a picture."),)
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {"choice": wire(wires.CHOICE, "A recommendation.")}

    def run(self, choice: Choice) -> dict[str, Any]:
        from ..validation.pictures import quality_curves

        curves = quality_curves(choice)
        return host.show((host.to_image_tensor([curves]),), images=[curves])
