"""Whether a child really succeeded: exit status, expected file, finite tensors. "Finished" is proved, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import BadInput
from ..core.rundir import RunDir
from ..core.tensorfile import verify_finite
from ..core.types import Status
from .failures import Failure, classify
from .supervisor import Ended

STOPPED_BY_CHILD = 143  # the trainer's own word for "asked to stop, state saved"


@dataclass(frozen=True)
class Verdict:
    """The status a run ends with, and what to tell the user."""

    status: Status
    message: str
    hint: str = ""
    kind: str = ""


def judge_training(run: RunDir, ended: Ended, last_step: int) -> Verdict:
    """Done only with status 0 (unknown for an adopted child) *and* a finite checkpoint of the last step."""
    problem = checkpoint_problem(run.checkpoint_path(last_step))
    if problem is None and ended.exit_code in (0, None) and (ended.cancelled or not ended.stopped):
        return Verdict("done", f"All {last_step} steps are trained.")
    if ended.cancelled:
        return Verdict("stopped", f"Stopped by the user{_after(run)}.", _how_to_go_on(run))
    if ended.stopped:
        return Verdict("failed", *ended.stopped, kind="stop_rule")
    if ended.exit_code == STOPPED_BY_CHILD:
        return Verdict(
            "stopped", f"The trainer was asked to stop and saved its state{_after(run)}.", _how_to_go_on(run)
        )
    if ended.exit_code == 0 and problem:
        return Verdict(
            "failed", f"The trainer ended without an error, but {problem}.", "See logs/output.log.", "no_result"
        )
    return _failed(classify(ended.exit_code, ended.tail))


def judge_child(ended: Ended, what: str) -> Verdict:
    """For children whose result is checked by their reader: status 0 is enough."""
    if ended.cancelled:
        return Verdict("stopped", f"{what} was stopped by the user.")
    if ended.stopped:
        return Verdict("failed", *ended.stopped, kind="stop_rule")
    if ended.exit_code in (0, None):
        return Verdict("done", f"{what} is done.")
    return _failed(classify(ended.exit_code, ended.tail))


def checkpoint_problem(path: Path) -> str | None:
    """The end of a sentence that says why the file is no result; None when it is one."""
    if not path.is_file():
        return f"the last checkpoint ({path.name}) is missing"
    try:
        report = verify_finite(path)
    except BadInput as error:
        return f"the last checkpoint cannot be read ({error.message.rstrip('.')})"
    if report.nonfinite:
        first = report.nonfinite[0]
        return (
            f"{len(report.nonfinite)} of {report.tensors} tensors of the last checkpoint are not finite ({first}, ...)"
        )
    if report.all_zero:
        return "the last checkpoint holds nothing but zeros"
    return None


def _failed(failure: Failure) -> Verdict:
    return Verdict("failed", failure.message, failure.hint, failure.kind)


def _after(run: RunDir) -> str:
    steps = [int(event["step"]) for event in run.events("step") if "step" in event]
    return f" after step {steps[-1]}" if steps else " before the first step"


def _how_to_go_on(run: RunDir) -> str:
    return f"Continue it with: lora-atelier runs resume {run.path.name}"
