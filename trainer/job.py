"""Job documents: what a node or the command line asks the worker to do, as checked JSON."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ..core.errors import BadInput
from ..core.files import read_json
from ..core.types import BaseModel as BaseModelWire
from ..core.types import Dataset, ValidationPlan
from .config import TrainConfig, config_hash

JOB_ID = r"^[a-z]+-[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$"
JobId = Annotated[str, Field(pattern=JOB_ID)]


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    id: JobId
    created: float = Field(default=0.0, description="Unix seconds.")


class TrainJob(_Job):
    """Train one LoRA. `resume` is the path of an existing run to continue, else a new run is made in `runs_root`."""

    kind: Literal["train"] = "train"
    runs_root: str
    config: TrainConfig
    dataset: Dataset
    base: BaseModelWire
    resume: str | None = None


class ValidateJob(_Job):
    """Draw a plan's pictures with checkpoints of a run; `steps` None means all of them and the base model."""

    kind: Literal["validate"] = "validate"
    run: str
    plan: ValidationPlan
    steps: tuple[int, ...] | None = None


Job = TrainJob | ValidateJob
_JOB: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def new_id(kind: str) -> str:
    """A file-name-safe id that sorts by time: kind-YYYYMMDD-HHMMSS-hex6 (UTC)."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def new_train_job(
    config: TrainConfig, dataset: Dataset, base: BaseModelWire, runs_root: Path, resume: Path | None = None
) -> TrainJob:
    """A job document with a fresh id; raises BadInput naming everything the backend cannot do."""
    from .backends.base import backend

    if problems := backend(config.backend).problems(config, dataset, base):
        raise BadInput.collected(problems)
    return TrainJob(
        id=new_id("train"),
        created=round(time.time(), 3),
        runs_root=str(runs_root.resolve()),
        config=config,
        dataset=dataset,
        base=base,
        resume=str(resume.resolve()) if resume else None,
    )


def new_validate_job(run: Path, plan: ValidationPlan, steps: tuple[int, ...] | None = None) -> ValidateJob:
    """A job document that asks for validation pictures of a run."""
    return ValidateJob(
        id=new_id("validate"), created=round(time.time(), 3), run=str(run.resolve()), plan=plan, steps=steps
    )


def resume_job(run: Path, max_steps: int | None = None) -> TrainJob:
    """A job that continues an existing run with its own configuration, optionally to a later last step."""
    old = load_train_job(run / "job.json")
    config = old.config
    if max_steps is not None:
        schedule = config.schedule.model_copy(update={"max_steps": max_steps})
        config = config.model_copy(update={"schedule": schedule})
    return new_train_job(config, old.dataset, old.base, Path(old.runs_root), run)


def parse_job(value: Any, name: str = "The job") -> Job:
    """Check a JSON value as a job document; every problem is named in one BadInput."""
    try:
        return _JOB.validate_python(value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, found['loc'])) or 'value'}: {found['msg']}" for found in error.errors()[:8]]
        raise BadInput.collected([f"{name} is not a valid job document: {problems[0]}", *problems[1:]]) from error


def load_job(path: Path) -> Job:
    """Read and check a job document."""
    return parse_job(read_json(path), path.name)


def load_train_job(path: Path) -> TrainJob:
    """Read a job document that must be a training job."""
    job = load_job(path)
    if not isinstance(job, TrainJob):
        raise BadInput(f"{path.name} is not a training job.")
    return job


def job_hash(job: TrainJob) -> str:
    """The hash of the configuration that names the run."""
    return config_hash(job.config)


def to_json(job: Job) -> dict[str, Any]:
    """A plain JSON value from which `parse_job` makes an equal job."""
    return job.model_dump(mode="json")
