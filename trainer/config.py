"""The one training configuration: nodes, command line, TOML files and every backend share this schema."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core.errors import BadInput
from ..core.files import safe_name, sha256_json
from ..core.types import Prompt, ValidationPlan

TargetPreset = Literal["attention", "attention_ff", "all"]
Scheduler = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"
]
Count = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]
Steps = Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
PixelSize = Annotated[int, Field(ge=64, le=4096, multiple_of=8, strict=True)]
Text = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]


def _file_name(value: str) -> str:
    try:
        return safe_name(value)
    except BadInput as error:
        raise ValueError(error.message) from error


class Section(BaseModel):
    """Frozen, unknown keys refused, strict about true/false, no silent numbers from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


class ModelConfig(Section):
    """The base model; `base` is used by the command line, nodes hand it over on a wire."""

    base: Text = Field(default="", description="Base model: a diffusers folder or a .safetensors file.")
    prediction: Literal["auto", "epsilon", "v_prediction"] = Field(
        default="auto", description="What the base model predicts; auto reads it from the model."
    )


class NetworkConfig(Section):
    """The LoRA itself."""

    dim: Annotated[int, Field(ge=1, le=1024, strict=True)] = Field(default=16, description="Rank of the LoRA matrices.")
    alpha: Annotated[float, Field(gt=0, le=4096, allow_inf_nan=False)] = Field(
        default=16.0, description="Scale: the LoRA is multiplied by alpha / dim."
    )
    dropout: Share = Field(default=0.0, description="Share of LoRA inputs that is dropped while training.")
    targets: TargetPreset = Field(
        default="attention_ff",
        description="U-Net layers: attention, attention and feed-forward, or all linear and convolution.",
    )
    train_text_encoder: bool = Field(
        default=False, strict=True, description="Also train a LoRA on the text encoder(s)."
    )


class OptimizerConfig(Section):
    """AdamW and its settings."""

    name: Literal["adamw"] = Field(default="adamw", description="The optimizer.")
    learning_rate: Rate = Field(default=1e-4, description="Learning rate of the U-Net LoRA.")
    text_encoder_learning_rate: Rate | None = Field(
        default=None, description="Learning rate of the text encoder LoRA; half the U-Net's when left out."
    )
    weight_decay: Rate = Field(default=0.01, description="Weight decay.")
    beta1: Share = Field(default=0.9, description="AdamW beta 1.")
    beta2: Share = Field(default=0.999, description="AdamW beta 2.")
    eps: Annotated[float, Field(gt=0, le=1e-2, allow_inf_nan=False)] = Field(default=1e-8, description="AdamW epsilon.")
    max_grad_norm: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = Field(
        default=1.0, description="Gradients are scaled down to this norm; 0 switches it off."
    )


class ScheduleConfig(Section):
    """How long, how much at once, and how the learning rate moves."""

    max_steps: Steps = Field(default=1500, description="Optimizer steps to train.")
    scheduler: Scheduler = Field(default="cosine", description="Course of the learning rate.")
    warmup_steps: Count = Field(default=0, description="Steps over which the learning rate rises from zero.")
    cycles: Annotated[int, Field(ge=1, le=1000, strict=True)] = Field(
        default=1, description="Number of cosine cycles (cosine_with_restarts)."
    )
    batch_size: Annotated[int, Field(ge=1, le=512, strict=True)] = Field(default=1, description="Pictures at once.")
    gradient_accumulation: Annotated[int, Field(ge=1, le=1024, strict=True)] = Field(
        default=1, description="Batches that make one optimizer step."
    )
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        default=0, description="Seed of everything random."
    )
    min_snr_gamma: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = Field(
        default=5.0, description="Min-SNR loss weighting; 0 switches it off."
    )
    noise_offset: Rate = Field(
        default=0.0, description="Random shift of the noise per channel, for darker and lighter pictures."
    )


class DataConfig(Section):
    """The pictures: sizes, repeats and what is dropped or mirrored."""

    folder: Text = Field(default="", description="Folder with pictures and .txt captions (command line).")
    held_out: Share = Field(default=0.15, description="Share of the pictures kept away from training (command line).")
    resolution: PixelSize = Field(
        default=512, description="Edge of a square picture with the training area, in pixels."
    )
    buckets: bool = Field(
        default=True, strict=True, description="Keep aspect ratios in buckets; otherwise crop to squares."
    )
    bucket_step: Annotated[int, Field(ge=8, le=512, multiple_of=8, strict=True)] = Field(
        default=64, description="Bucket edges are multiples of this many pixels."
    )
    max_aspect: Annotated[float, Field(ge=1, le=8, allow_inf_nan=False)] = Field(
        default=2.0, description="Widest bucket, as long edge over short edge."
    )
    flip: bool = Field(default=False, strict=True, description="Mirror half of the pictures, by chance.")
    repeats: Annotated[int, Field(ge=1, le=10_000, strict=True)] = Field(
        default=1, description="Uses per picture and epoch."
    )
    caption_dropout: Share = Field(
        default=0.05, description="Share of captions left empty, so that guidance keeps working."
    )
    cache: Literal["memory", "disk"] = Field(
        default="memory", description="Where latents and text embeddings are kept."
    )


class ValidationConfig(Section):
    """Pictures drawn and losses measured while training."""

    every_steps: Count = Field(
        default=250, description="Draw validation pictures every so many steps; 0 switches it off."
    )
    at_start: bool = Field(default=True, strict=True, description="Draw them with the base model first, as a control.")
    prompts: tuple[Prompt, ...] = Field(default=(), max_length=64, description="Fixed prompts: id, text, kind.")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63, strict=True)], ...] = Field(
        default=(1, 2), max_length=64, description="Fixed seeds; every prompt is drawn with each."
    )
    negative: Text = Field(default="", description="Negative prompt.")
    width: Annotated[int, Field(ge=0, le=4096, multiple_of=8, strict=True)] = Field(
        default=0, description="Width in pixels; 0 takes the training resolution."
    )
    height: Annotated[int, Field(ge=0, le=4096, multiple_of=8, strict=True)] = Field(
        default=0, description="Height in pixels; 0 takes the training resolution."
    )
    sampler: str = Field(default="ddim", pattern=r"^[a-z0-9_]+$", max_length=40, description="Sampler.")
    steps: Annotated[int, Field(ge=1, le=500, strict=True)] = Field(default=20, description="Sampling steps.")
    cfg: Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)] = Field(default=5.0, description="Guidance scale.")
    strength: Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)] = Field(
        default=1.0, description="LoRA strength."
    )
    loss_pictures: Annotated[int, Field(ge=0, le=10_000, strict=True)] = Field(
        default=16, description="Pictures per split for the losses at fixed noise; 0 switches them off."
    )

    @model_validator(mode="after")
    def _ids(self) -> ValidationConfig:
        ids = [prompt.id for prompt in self.prompts]
        for name in ids:
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name) is None:
                raise ValueError(f"the prompt id {name[:60]!r} must be 1 to 40 letters, digits, '-' or '_'")
        if len(set(ids)) < len(ids):
            raise ValueError("two validation prompts have the same id")
        return self


class PrecisionConfig(Section):
    """Number formats and the device."""

    compute: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Number format while training; auto takes bf16 or fp16 on a GPU, fp32 elsewhere."
    )
    save: Literal["fp32", "fp16"] = Field(default="fp32", description="Number format of the checkpoints.")
    gradient_checkpointing: bool = Field(default=False, strict=True, description="Less memory, about a third slower.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="Where to train.")
    threads: Annotated[int, Field(ge=0, le=1024, strict=True)] = Field(
        default=0, description="CPU threads; 0 takes all."
    )


class OutputConfig(Section):
    """Name and frequency of what is written."""

    name: Annotated[str, AfterValidator(_file_name)] = Field(
        default="lora", description="Name of the run and of the LoRA."
    )
    save_every: Count = Field(default=250, description="Publish a checkpoint every so many steps; 0 only at the end.")
    reserve_mb: Count = Field(default=500, description="Stop before the disk has less than this many megabytes left.")


class TrainConfig(Section):
    """Everything a training run needs besides pictures and base model."""

    backend: Literal["embedded", "sd-scripts"] = Field(default="embedded", description="Which trainer runs.")
    model: ModelConfig = ModelConfig()
    network: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    data: DataConfig = DataConfig()
    validation: ValidationConfig = ValidationConfig()
    precision: PrecisionConfig = PrecisionConfig()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        if self.data.bucket_step > self.data.resolution:
            raise ValueError("data.bucket_step is larger than data.resolution")
        if self.schedule.warmup_steps > self.schedule.max_steps:
            raise ValueError("schedule.warmup_steps is larger than schedule.max_steps")
        return self

    def plan(self) -> ValidationPlan:
        """The validation section as a wire; a size of 0 becomes the training resolution."""
        v = self.validation
        return ValidationPlan(
            prompts=v.prompts,
            seeds=v.seeds,
            negative=v.negative,
            width=v.width or self.data.resolution,
            height=v.height or self.data.resolution,
            sampler=v.sampler,
            steps=v.steps,
            cfg=v.cfg,
            strength=v.strength,
        )


def validation_from_plan(plan: ValidationPlan, **more: Any) -> ValidationConfig:
    """A plan that came over a wire as the validation section; `more` sets e.g. every_steps."""
    names = ("prompts", "seeds", "negative", "width", "height", "sampler", "steps", "cfg", "strength")
    return checked(ValidationConfig, {**{name: getattr(plan, name) for name in names}, **more})


def load_config(path: Path) -> TrainConfig:
    """Read and check a TOML file; every problem is named in one BadInput."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(f"There is no configuration file {path}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} cannot be read as text ({error}).") from error
    return parse_config(text, path.name)


def parse_config(text: str, name: str = "The configuration") -> TrainConfig:
    """Check the text of a TOML file; `name` appears in the message."""
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        value = tomlkit.parse(text).unwrap()
    except ParseError as error:
        raise BadInput(f"{name} is not valid TOML ({str(error).rstrip('.')}).") from error
    except (TOMLKitError, ValueError) as error:
        raise BadInput(f"{name} is not valid TOML ({str(error).rstrip('.')}).") from error
    return config_from(value, name)


def config_from(value: Any, name: str = "The configuration") -> TrainConfig:
    """Check a plain nested dict, for instance a JSON job's `config`."""
    return checked(TrainConfig, value, name)


def checked(kind: type[Any], value: Any, name: str = "The configuration") -> Any:
    """Validate `value` as the section `kind`; BadInput joins all problems into one sentence."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = [_problem(kind, found) for found in error.errors()]
        raise BadInput.collected([f"{name}: {problems[0]}", *problems[1:]], _HINT) from error


_HINT = "docs/training.md lists every key with its range."


def to_toml(config: TrainConfig) -> str:
    """The whole configuration as TOML, each key with its meaning as a comment."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("LoRA Atelier training configuration"))
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if isinstance(value, Section):
            document.add(tomlkit.nl())
            document.add(key, _table(value))
        else:
            document.add(key, tomlkit.item(value).comment(field.description or ""))
    return tomlkit.dumps(document)


def config_hash(config: TrainConfig) -> str:
    """Hex SHA-256 over all values, independent of how the file was written."""
    return sha256_json(config.model_dump(mode="json"))


def _table(section: Section) -> Any:
    import tomlkit

    table = tomlkit.table()
    tables: dict[str, Any] = {}
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if value is None:
            table.add(tomlkit.comment(f"{key}: {field.description}"))
        elif value and key == "prompts":
            tables[key] = _prompts(value)
        else:
            item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
            table.add(key, item.comment(field.description or ""))
    for key, value in tables.items():
        table.add(key, value)
    return table


def _prompts(prompts: tuple[Prompt, ...]) -> Any:
    import tomlkit

    array = tomlkit.aot()
    for prompt in prompts:
        entry = tomlkit.table()
        entry.update({"id": prompt.id, "text": prompt.text, "kind": prompt.kind})
        array.append(entry)
    return array


def _problem(kind: type[Any], found: Any) -> str:
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no key {where!r}{_nearest(kind, found['loc'])}"
    if found["type"] == "value_error":
        return f"{where}: {found['ctx']['error']}" if where else str(found["ctx"]["error"])
    if found["type"] == "missing":
        return f"{where} is missing"
    return f"{where} = {_shown(found['input'])}: {found['msg'][0].lower()}{found['msg'][1:]}"


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."


def _nearest(kind: type[Any], where: tuple[Any, ...]) -> str:
    """`; did you mean 'x'?` from the keys of the same section first, then of all sections."""
    here = _keys(kind, where[:-1])
    wrong = str(where[-1])
    near = difflib.get_close_matches(wrong, here, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {'.'.join([*map(str, where[:-1]), near[0]])!r}?)"
    anywhere = {key: f"{name}.{key}" for name in TrainConfig.model_fields for key in _keys(TrainConfig, (name,))}
    near = difflib.get_close_matches(wrong, anywhere, n=1, cutoff=0.75)
    return f" (did you mean {anywhere[near[0]]!r}?)" if near else ""


def _keys(kind: type[Any], where: tuple[Any, ...]) -> list[str]:
    for part in where:
        field = getattr(kind, "model_fields", {}).get(part)
        if field is None:
            return ["id", "text", "kind"] if "prompts" in where else []
        kind = field.annotation
    return list(getattr(kind, "model_fields", {}))
