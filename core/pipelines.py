"""Loading SD 1.5 and SDXL pipelines from local files and drawing reproducible pictures with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from .errors import BadInput
from .types import Prompt, ValidationPlan

FAMILIES = ("sd15", "sdxl")
_KARRAS, _PLAIN = {"use_karras_sigmas": True}, {"use_karras_sigmas": False}
# name -> (diffusers class, extra settings); everything else comes from the model's own scheduler settings.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", _PLAIN),
    "euler_karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", _PLAIN),
    "lms": ("LMSDiscreteScheduler", _PLAIN),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", _PLAIN),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "unipc": ("UniPCMultistepScheduler", _PLAIN),
}
_PIXELS_PER_BATCH = 2 * 512 * 512  # pictures drawn together hold at most this many pixels, and at most eight pictures


def device_name(wanted: str = "auto") -> str:
    """`auto` becomes cuda, mps or cpu, whichever is there."""
    if wanted != "auto":
        return wanted
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_pipeline(path: Path, family: str, dtype: Any = None, device: str = "auto") -> Any:
    """A diffusers pipeline from a diffusers folder or one `.safetensors` file: local files only, no safety checker.

    `dtype` is a torch dtype or its name ("float32" by default). Raises BadInput when the files are not there.
    """
    import torch

    _be_quiet()
    torch_dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype or torch.float32
    if family not in FAMILIES:
        raise BadInput(f"Pictures of the family {family!r} cannot be drawn here.", f"Known: {', '.join(FAMILIES)}.")
    try:
        pipe = _load_folder(path, family, torch_dtype) if path.is_dir() else _load_file(path, family, torch_dtype)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"The base model {path.name!r} could not be loaded ({_first_line(error)}).") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device_name(device))


def render(pipe: Any, plan: ValidationPlan, prompt: Prompt, seed: int) -> Image.Image:
    """One picture; the same (weights, plan, prompt, seed) gives the same picture."""
    return next(picture for _, _, picture in render_many(pipe, plan, [(prompt, seed)]))


def render_many(
    pipe: Any,
    plan: ValidationPlan,
    pairs: Sequence[tuple[Prompt, int]],
    check: Callable[[], None] | None = None,
) -> Iterator[tuple[Prompt, int, Image.Image]]:
    """Draw all (prompt, seed) pairs in batches, in order; `check` runs before every denoising step and may raise.

    Every picture has its own CPU generator, so it does not depend on its neighbours or on the device. The LoRA
    layers found in the pipeline are scaled by `plan.strength` while drawing.
    """
    scheduler, pipe.scheduler = pipe.scheduler, make_sampler(plan.sampler, pipe.scheduler.config)
    try:
        with _strength(pipe, plan.strength):
            for batch in _batches(pairs, plan):
                yield from zip(*zip(*batch, strict=True), _draw(pipe, plan, batch, check), strict=True)
    finally:
        pipe.scheduler = scheduler


def make_sampler(name: str, config: Any) -> Any:
    """The diffusers scheduler called `name`, with the model's own noise schedule and prediction type."""
    import diffusers

    if name not in SAMPLERS:
        raise BadInput(f"There is no sampler {name!r}.", f"Known: {', '.join(SAMPLERS)}.")
    kind, settings = SAMPLERS[name]
    return getattr(diffusers, kind).from_config(config, **settings)


def _draw(
    pipe: Any, plan: ValidationPlan, batch: Sequence[tuple[Prompt, int]], check: Callable[[], None] | None
) -> list[Image.Image]:
    import torch

    def on_step(_pipe: Any, _index: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        if check:
            check()
        return values

    if check:
        check()
    with torch.inference_mode():
        result = pipe(
            prompt=[prompt.text for prompt, _ in batch],
            negative_prompt=[plan.negative] * len(batch),
            generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in batch],
            width=plan.width,
            height=plan.height,
            num_inference_steps=plan.steps,
            guidance_scale=plan.cfg,
            callback_on_step_end=on_step,
        )
    return list(result.images)


def _batches(pairs: Sequence[tuple[Prompt, int]], plan: ValidationPlan) -> Iterator[Sequence[tuple[Prompt, int]]]:
    size = min(8, max(1, _PIXELS_PER_BATCH // (plan.width * plan.height)))
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


@contextmanager
def _strength(pipe: Any, strength: float) -> Iterator[None]:
    if strength == 1.0:
        yield
        return
    from diffusers.utils.peft_utils import scale_lora_layers, unscale_lora_layers

    parts = [part for name in ("unet", "text_encoder", "text_encoder_2") if (part := getattr(pipe, name, None))]
    for part in parts:
        scale_lora_layers(part, strength)
    try:
        yield
    finally:
        for part in parts:
            unscale_lora_layers(part, strength)


def _pipeline_class(family: str) -> Any:
    import diffusers

    return getattr(diffusers, {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}[family])


def _load_folder(path: Path, family: str, dtype: Any) -> Any:
    settings: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True, "use_safetensors": True}
    settings |= {"add_watermarker": False} if family == "sdxl" else _no_checker()
    if not list((path / "unet").glob("*model.safetensors*")) and list((path / "unet").glob("*.fp16.safetensors")):
        settings["variant"] = "fp16"
    return _pipeline_class(family).from_pretrained(path, **settings)


def _load_file(path: Path, family: str, dtype: Any) -> Any:
    from .single_file import load_single_file

    return load_single_file(path, family, dtype, _pipeline_class(family))


def _be_quiet() -> None:
    """No progress bars: the output goes to log files, where every redraw would be a line."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _no_checker() -> dict[str, Any]:
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200].rstrip(".")
