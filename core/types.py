"""What flows along the wires: frozen, JSON-able values that carry paths and ids, never tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .errors import BadInput

Verdict = Literal["keep", "reject", "doubt", "skip"]
Split = Literal["train", "heldout"]
Outcome = Literal["clear", "range", "no_clear_winner", "not_enough_evidence", "still_improving", "all_failed"]
Status = Literal["queued", "preparing", "running", "stopping", "stopped", "failed", "done"]
FINAL_STATUSES: frozenset[str] = frozenset({"stopped", "failed", "done"})


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class Wire:
    """JSON in and out for the frozen dataclasses below; unknown keys are refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """A plain JSON value from which `from_json` makes an equal object."""
        return _adapter(type(self)).dump_python(self, mode="json")

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Validate a JSON value; raise BadInput naming the first wrong field."""
        try:
            return _adapter(cls).validate_python(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "value"
            raise BadInput(f"Not a valid {cls.__name__}: {where}: {first['msg']}.") from error


@dataclass(frozen=True)
class Picture(Wire):
    """One picture file; `path` is relative to its set's root, sizes are pixels of the upright picture."""

    path: str
    sha256: str
    width: int
    height: int
    caption: str | None = None


@dataclass(frozen=True)
class Skipped(Wire):
    """A file that could not be used as a picture, and why."""

    path: str
    rule: str
    message: str


@dataclass(frozen=True)
class ImageSet(Wire):
    """The pictures of one folder. `root_id` is the name the user chose it by, `root` its absolute path."""

    root_id: str
    root: str
    pictures: tuple[Picture, ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Reason(Wire):
    """Why a rule spoke against a picture: what was measured and the limit it crossed."""

    rule: str
    measured: int | float | str | None
    limit: int | float | str | None
    message: str
    verdict: Literal["reject", "doubt"] = "reject"


@dataclass(frozen=True)
class Decision(Wire):
    """The verdict on one file with *all* reasons; `override` is True when the user decided."""

    path: str
    sha256: str
    decision: Verdict
    reasons: tuple[Reason, ...] = ()
    override: bool = False


@dataclass(frozen=True)
class Curation(Wire):
    """An image set with its measurements (by sha256) and decisions under the rules applied so far.

    `rules` holds one `{"rule": name, field: value, ...}` per applied rule, in order, so that a report can say
    which thresholds led here. `out` is the folder that holds `decisions.jsonl` and the report, once written.
    """

    images: ImageSet
    detector: str
    measurements: dict[str, dict[str, Any]]
    decisions: tuple[Decision, ...]
    rules: tuple[dict[str, Any], ...] = ()
    out: str | None = None

    def kept(self) -> tuple[Picture, ...]:
        """The pictures whose verdict is keep, in set order."""
        kept = {decision.path for decision in self.decisions if decision.decision == "keep"}
        return tuple(picture for picture in self.images.pictures if picture.path in kept)


@dataclass(frozen=True)
class DatasetItem(Wire):
    """One captioned training picture; `path` is absolute."""

    path: str
    sha256: str
    width: int
    height: int
    caption: str
    split: Split = "train"


@dataclass(frozen=True)
class Dataset(Wire):
    """Kept pictures with captions, split into train and held-out."""

    name: str
    items: tuple[DatasetItem, ...]
    trigger_words: tuple[str, ...] = ()

    def split(self, which: Split) -> tuple[DatasetItem, ...]:
        """The items of one split, in order."""
        return tuple(item for item in self.items if item.split == which)


@dataclass(frozen=True)
class BaseModel(Wire):
    """The checkpoint a LoRA is trained on: a `.safetensors` file or a diffusers folder (absolute path)."""

    name: str
    path: str
    sha256: str
    family: str


@dataclass(frozen=True)
class Prompt(Wire):
    """One validation prompt; `id` is short and file-name safe. `kind` says what it probes."""

    id: str
    text: str
    kind: Literal["in_domain", "off_domain", "no_trigger", "class_only"] = "in_domain"


@dataclass(frozen=True)
class ValidationPlan(Wire):
    """What every checkpoint is asked to draw: prompts x seeds with fixed settings (sizes in pixels)."""

    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...] = (1, 2)
    negative: str = ""
    width: int = 512
    height: int = 512
    sampler: str = "ddim"
    steps: int = 20
    cfg: float = 5.0
    strength: float = 1.0


@dataclass(frozen=True)
class Run(Wire):
    """A training run: where it lives and how it ended (or `running`)."""

    path: str
    backend: str
    status: Status
    config_hash: str
    job_id: str = ""


@dataclass(frozen=True)
class Score(Wire):
    """One measured value; `step` 0 is the base model, "data" the training pictures themselves."""

    step: int | Literal["data"]
    prompt: str
    seed: int
    metric: str
    value: float


@dataclass(frozen=True)
class ScoreTable(Wire):
    """Checkpoint x prompt x seed x metric. `run` is the run directory it was measured in, if any."""

    rows: tuple[Score, ...]
    run: str | None = None


@dataclass(frozen=True)
class Excluded(Wire):
    """A checkpoint that failed a gate."""

    step: int
    reason: str


@dataclass(frozen=True)
class Onset(Wire):
    """The step from which an axis gets worse, with its interval."""

    step: int
    low: int
    high: int
    message: str = ""


@dataclass(frozen=True)
class Choice(Wire):
    """The recommended checkpoint, or an honest other outcome; field names are the contract of `select --json`.

    `curves` has one `{"step": n, axis: {"mean", "low", "high"}, ...}` per checkpoint.
    """

    outcome: Outcome
    recommended_step: int | None
    near_optimal_steps: tuple[int, ...]
    safe_step: int | None
    strongest_step: int | None
    excluded: tuple[Excluded, ...]
    onset: dict[str, Onset | None]
    curves: tuple[dict[str, Any], ...]
    reasons: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class LoraCard(Wire):
    """What the author says about the LoRA; goes into the header and the sidecars."""

    title: str
    author: str = ""
    licence: str = ""
    trigger_words: tuple[str, ...] = ()
    description: str = ""
    strength: float = 1.0
    tags: tuple[str, ...] = ()
    preview: str | None = None


@dataclass(frozen=True)
class LoraFile(Wire):
    """An exported LoRA; `name` is what core LoRA loaders list, `files` everything written per target."""

    name: str
    path: str
    family: str
    sha256: str
    trigger_words: tuple[str, ...] = ()
    files: dict[str, list[str]] = field(default_factory=dict)
