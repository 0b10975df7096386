"""Training stage: settings, the job itself, and the loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import host, listing
from . import sockets as wires
from .inputs import (
    WITH_ID,
    Input,
    Node,
    Output,
    advanced,
    choice,
    integer,
    lazy,
    number,
    of_field,
    optional,
    seed,
    text,
    wire,
)

if TYPE_CHECKING:
    from ..core.types import BaseModel, Dataset, Run, ValidationPlan
    from ..trainer.config import NetworkConfig
    from .options import EmbeddedSettings, OptimizerSettings

FOLLOW, RETURN = "submit and follow", "submit and return"


class ChooseBaseModel(Node):
    """The checkpoint that the LoRA is trained on."""

    STAGE = "Training"
    DESCRIPTION = (
        "Chooses the checkpoint that the LoRA is trained on: a .safetensors file from models/checkpoints, a diffusers "
        "folder, or the small drawing model that comes with the pack."
    )
    SEARCH_ALIASES = ("checkpoint", "base model", "sd15", "sdxl")
    OUTPUTS = (Output(wires.BASE, "base", "The checkpoint with its family and hash."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {"model": choice(host.models("base"), "Checkpoint, diffusers folder or the built-in drawing model.")}

    @classmethod
    def VALIDATE_INPUTS(cls, model: str) -> bool | str:
        return True if model is None or model in host.models("base") else f"There is no base model {model!r}."

    @classmethod
    def IS_CHANGED(cls, model: str) -> str:
        facts = host.resolve_model("base", model).stat()
        return f"{facts.st_size} {facts.st_mtime_ns}"

    def run(self, model: str) -> dict[str, Any]:
        from ..trainer.base_models import describe

        base = describe(host.resolve_model("base", model), model)
        return host.show((base,), text=f"family: {base.family}")


class NetworkSettings(Node):
    """Size and reach of the LoRA."""

    STAGE = "Training"
    DESCRIPTION = "Rank, alpha and layers of the LoRA. Small ranks learn a style, larger ones also its details."
    SEARCH_ALIASES = ("rank", "dim", "alpha", "lora settings")
    OUTPUTS = (Output(wires.NETWORK, "network", "For Train LoRA."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..trainer.config import NetworkConfig

        return {
            "dim": of_field(NetworkConfig, "dim"),
            "alpha": of_field(NetworkConfig, "alpha", step=0.5),
            "dropout": of_field(NetworkConfig, "dropout"),
            "targets": of_field(NetworkConfig, "targets"),
            "train_text_encoder": of_field(NetworkConfig, "train_text_encoder"),
        }

    def run(self, **values: Any) -> dict[str, Any]:
        from ..trainer.config import NetworkConfig, checked

        return host.show((checked(NetworkConfig, values, "Network"),))


_OPTIMIZER = ("learning_rate", "text_encoder_learning_rate", "weight_decay", "max_grad_norm")
_SCHEDULE = (
    "scheduler",
    "warmup_steps",
    "cycles",
    "batch_size",
    "gradient_accumulation",
    "min_snr_gamma",
    "noise_offset",
)


class OptimizerAndSchedule(Node):
    """How fast the LoRA learns."""

    STAGE = "Training"
    DESCRIPTION = "AdamW: learning rate and its course, batch size, and how the loss is weighted."
    SEARCH_ALIASES = ("learning rate", "adamw", "scheduler", "batch size", "min snr")
    OUTPUTS = (Output(wires.OPTIMIZER, "optimizer", "For Train LoRA."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..trainer.config import OptimizerConfig, ScheduleConfig

        return {
            "learning_rate": of_field(OptimizerConfig, "learning_rate", step=1e-6),
            "text_encoder_learning_rate": advanced(
                number(0.0, 0.0, 1.0, "Learning rate of the text encoder LoRA; 0 = half of the U-Net's.", 1e-6)
            ),
            "weight_decay": advanced(of_field(OptimizerConfig, "weight_decay", step=0.001)),
            "max_grad_norm": advanced(of_field(OptimizerConfig, "max_grad_norm", step=0.1)),
            "scheduler": of_field(ScheduleConfig, "scheduler"),
            "warmup_steps": of_field(ScheduleConfig, "warmup_steps"),
            "cycles": advanced(of_field(ScheduleConfig, "cycles")),
            "batch_size": of_field(ScheduleConfig, "batch_size"),
            "gradient_accumulation": of_field(ScheduleConfig, "gradient_accumulation"),
            "min_snr_gamma": of_field(ScheduleConfig, "min_snr_gamma", step=0.1),
            "noise_offset": advanced(of_field(ScheduleConfig, "noise_offset")),
        }

    def run(self, text_encoder_learning_rate: float, **values: Any) -> dict[str, Any]:
        from ..trainer.config import OptimizerConfig, ScheduleConfig, checked
        from .options import OptimizerSettings

        values["text_encoder_learning_rate"] = text_encoder_learning_rate or None
        optimizer = checked(OptimizerConfig, {name: values[name] for name in _OPTIMIZER}, "Optimizer")
        schedule = checked(ScheduleConfig, {name: values[name] for name in _SCHEDULE}, "Schedule")
        return host.show((OptimizerSettings(optimizer, schedule),))


class MakeValidationPlan(Node):
    """What every checkpoint is asked to draw."""

    STAGE = "Training"
    DESCRIPTION = (
        "Fixed prompts and seeds that every checkpoint draws, so that pictures can be compared. Prompts about things "
        "that are not in the training pictures show whether the model has stayed free."
    )
    SEARCH_ALIASES = ("validation prompts", "sample prompts")
    OUTPUTS = (Output(wires.PLAN, "plan", "Prompts, seeds and sampler settings."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..core.pipelines import SAMPLERS
        from ..trainer.config import ValidationConfig

        return {
            "prompts": text("", "What the LoRA is for, with its trigger word; one prompt per line.", multiline=True),
            "other_prompts": text(
                "", "Things that the training pictures do not show; one prompt per line; may be empty.", multiline=True
            ),
            "seeds": text("1, 2", "Every prompt is drawn with each of these seeds; whole numbers with commas."),
            "negative": of_field(ValidationConfig, "negative"),
            "width": integer(512, 64, 4096, "Width in pixels; best the training resolution.", 8),
            "height": integer(512, 64, 4096, "Height in pixels; best the training resolution.", 8),
            "sampler": choice(list(SAMPLERS), "How the picture is drawn; all checkpoints use the same.", "ddim"),
            "steps": of_field(ValidationConfig, "steps"),
            "cfg": of_field(ValidationConfig, "cfg", step=0.1),
            "strength": of_field(ValidationConfig, "strength", step=0.05),
        }

    def run(self, prompts: str, other_prompts: str, seeds: str, **values: Any) -> dict[str, Any]:
        from ..core.errors import BadInput
        from ..core.types import ValidationPlan
        from .jobs import steps_of

        asked = (*_prompts(prompts, "p", "in_domain"), *_prompts(other_prompts, "other", "off_domain"))
        numbers = steps_of(seeds)
        if not asked or not numbers:
            raise BadInput("The validation plan needs at least one prompt and one seed.")
        plan = ValidationPlan(prompts=asked, seeds=numbers, **values)
        return host.show((plan,), text=f"{len(asked)} prompts x {len(numbers)} seeds")


def _prompts(lines: str, prefix: str, kind: Any) -> tuple[Any, ...]:
    from ..core.types import Prompt

    texts = [line.strip() for line in lines.splitlines() if line.strip()]
    return tuple(Prompt(f"{prefix}{number}", words, kind) for number, words in enumerate(texts, 1))


_DATA = ("buckets", "bucket_step", "max_aspect", "flip", "repeats", "caption_dropout", "cache")
_PRECISION = ("compute", "save", "gradient_checkpointing", "device", "threads")


class EmbeddedOptions(Node):
    """Settings of the embedded trainer."""

    STAGE = "Training"
    DESCRIPTION = (
        "Device, number format, memory and picture handling of the embedded trainer. The defaults fit most cases."
    )
    SEARCH_ALIASES = ("precision", "fp16", "bf16", "gradient checkpointing", "aspect buckets")
    OUTPUTS = (Output(wires.EMBEDDED, "options", "For Train LoRA."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..trainer.config import DataConfig, ModelConfig, PrecisionConfig

        steps = {"bucket_step": 8, "max_aspect": 0.1}
        return {
            **{name: of_field(PrecisionConfig, name) for name in _PRECISION},
            **{name: of_field(DataConfig, name, step=steps.get(name)) for name in _DATA},
            "prediction": of_field(ModelConfig, "prediction"),
        }

    def run(self, prediction: str, **values: Any) -> dict[str, Any]:
        from ..trainer.config import DataConfig, PrecisionConfig, checked
        from .options import EmbeddedSettings

        data = checked(DataConfig, {name: values[name] for name in _DATA}, "Data")
        precision = checked(PrecisionConfig, {name: values[name] for name in _PRECISION}, "Precision")
        return host.show((EmbeddedSettings(data, precision, prediction),))


_TRAIN_WIRES = ("dataset", "base", "network", "optimizer", "plan", "options")


class TrainLora(Node):
    """Hand a training to the worker and follow it."""

    STAGE = "Training"
    DESCRIPTION = (
        "Hands the training to the worker (started with 'lora-atelier worker') and follows it: progress, loss and the "
        "newest validation picture. The worker goes on if ComfyUI is closed; cancel stops it and keeps the last "
        "checkpoint."
    )
    SEARCH_ALIASES = ("train lora", "fine-tune", "finetune", "dreambooth")
    OUTPUTS = (Output(wires.RUN, "run", "The training run: checkpoints, pictures and losses."),)
    OUTPUT_NODE = True
    HIDDEN = WITH_ID

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        from ..trainer.config import DataConfig, OutputConfig, ScheduleConfig, ValidationConfig

        inputs = {
            "dataset": wire(wires.DATASET, "Captioned training pictures."),
            "base": wire(wires.BASE, "The checkpoint to train on."),
            "name": text("", "Name of the run and of the LoRA; empty = the data set's name."),
            "max_steps": of_field(ScheduleConfig, "max_steps"),
            "resolution": of_field(DataConfig, "resolution", step=8),
            "save_every": of_field(OutputConfig, "save_every"),
            "sample_every": of_field(ValidationConfig, "every_steps"),
            "seed": seed("Decides everything random in the training."),
            "mode": choice(
                (FOLLOW, RETURN), "Wait for the end, or go on with the graph as soon as the worker has begun."
            ),
            "network": optional(wire(wires.NETWORK, "Size of the LoRA; defaults without it.")),
            "optimizer": optional(wire(wires.OPTIMIZER, "Learning rate and schedule; defaults without it.")),
            "plan": optional(wire(wires.PLAN, "Validation pictures; none are drawn without it.")),
            "options": optional(wire(wires.EMBEDDED, "Device, precision and picture handling; defaults without it.")),
        }
        # Lazy, so that a missing worker is told before pictures are measured. The command line has its own worker.
        return {
            name: lazy(entry) if host.in_comfyui() and name in _TRAIN_WIRES else entry for name, entry in inputs.items()
        }

    def check_lazy_status(self, **given: Any) -> list[str]:
        """Asked by ComfyUI before anything upstream is done: refuse at once, or want every connected wire."""
        from .jobs import need_worker

        need_worker(host.spool())
        return [name for name in _TRAIN_WIRES if name in given and given[name] is None]

    def run(
        self, dataset: Dataset, base: BaseModel, mode: str, unique_id: str | None = None, **values: Any
    ) -> dict[str, Any]:
        from ..trainer.config import config_hash
        from ..trainer.job import new_train_job
        from .jobs import follow_job, need_worker, submit_job

        need_worker(host.spool())
        config = build_config(dataset, base, **values)
        job = new_train_job(config, dataset, base, host.runs_root())
        host.free_memory()
        if mode == RETURN:
            started = submit_job(job, config_hash(config), config.backend)
            return host.show((started,), text=f"{started.status}: {run_name(started) or job.id}")
        run, newest = follow_job(job, unique_id, config.schedule.max_steps)
        return host.show((run,), text=f"{run.status}: {run_name(run)}", images=[newest] if newest else [])


def run_name(run: Run) -> str:
    """The run's folder name: what Open Run lists."""
    return Path(run.path).name


def build_config(
    dataset: Dataset,
    base: BaseModel,
    *,
    name: str,
    max_steps: int,
    resolution: int,
    save_every: int,
    sample_every: int,
    seed: int,
    network: NetworkConfig | None = None,
    optimizer: OptimizerSettings | None = None,
    plan: ValidationPlan | None = None,
    options: EmbeddedSettings | None = None,
) -> Any:
    """The wires and widgets of Train LoRA as one checked TrainConfig; BadInput names every problem at once."""
    from ..trainer.config import TrainConfig, checked, validation_from_plan

    usual = checked(TrainConfig, {})
    data = options.data if options else usual.data
    validation = validation_from_plan(plan, every_steps=sample_every) if plan else usual.validation
    schedule = optimizer.schedule if optimizer else usual.schedule
    sections = {
        "model": {"base": base.path, "prediction": options.prediction if options else "auto"},
        "network": (network or usual.network).model_dump(),
        "optimizer": (optimizer.optimizer if optimizer else usual.optimizer).model_dump(),
        "schedule": schedule.model_dump() | {"max_steps": max_steps, "seed": seed},
        "data": data.model_dump() | {"resolution": resolution, "bucket_step": min(data.bucket_step, resolution)},
        "validation": validation.model_dump() | ({} if plan else {"every_steps": 0}),
        "precision": (options.precision if options else usual.precision).model_dump(),
        "output": {"name": name or dataset.name, "save_every": save_every},
    }
    return checked(TrainConfig, sections, "The training settings")


class OpenRun(Node):
    """A run that is already there."""

    STAGE = "Training"
    DESCRIPTION = "Opens an earlier or still running training, to score, choose and export without training again."
    SEARCH_ALIASES = ("load run", "resume", "existing run")
    OUTPUTS = (Output(wires.RUN, "run", "The run as it stands now."),)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {"name": choice([host.NEWEST, *host.runs()], "A run folder below output/lora_atelier/runs.")}

    @classmethod
    def VALIDATE_INPUTS(cls, name: str) -> bool | str:
        return True if name in (None, host.NEWEST, *host.runs()) else f"There is no run {name!r}."

    @classmethod
    def IS_CHANGED(cls, name: str) -> str:
        from ..core.rundir import open_run

        return listing.digest(open_run(host.resolve_run(name)).checkpoints_dir) + str(_status(name))

    def run(self, name: str) -> dict[str, Any]:
        from ..trainer.follow import run_wire

        found = run_wire(host.resolve_run(name))
        return host.show((found,), text=f"{found.status}: {run_name(found)}")


def _status(name: str) -> tuple[str, int]:
    from ..core.rundir import open_run

    run = open_run(host.resolve_run(name))
    return str(run.status().get("status")), len(run.samples())


class LossCurve(Node):
    """How the loss fell."""

    STAGE = "Training"
    DESCRIPTION = "Draws the training loss and the losses at fixed noise on training and held-out pictures."
    SEARCH_ALIASES = ("loss graph", "loss plot", "training curve")
    OUTPUTS = (Output(wires.IMAGE, "curve", "The chart as a picture."),)
    OUTPUT_NODE = True

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        return {"run": wire(wires.RUN, "A training run.")}

    def run(self, run: Run) -> dict[str, Any]:
        from ..validation.pictures import loss_curve
        from .validation import opened

        curve = loss_curve(opened(run))
        return host.show((host.to_image_tensor([curve]),), images=[curve])
