"""What a base model is: its family from names alone, without loading weights and without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import read_json, sha256_file, sha256_json
from ..core.tensorfile import Header, read_header
from ..core.types import BaseModel

_PIPELINES = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "PixArtSigmaPipeline": "pixart",
    "QwenImagePipeline": "qwen_image",
    "SanaPipeline": "sana",
}
# (family, all of these must appear as the start of a tensor name); the first that fits wins.
_UNET = "model.diffusion_model.input_blocks.0."
_MARKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sdxl", (_UNET, "conditioner.embedders.1.")),
    ("sdxl_refiner", (_UNET, "conditioner.embedders.0.model.")),
    ("sd15", (_UNET, "cond_stage_model.transformer.")),
    ("sd2", (_UNET, "cond_stage_model.model.")),
    ("sd3", ("model.diffusion_model.joint_blocks.0.",)),
    ("flux", ("model.diffusion_model.double_blocks.0.",)),
    ("flux", ("double_blocks.0.", "single_blocks.0.")),
)
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def describe(path: Path, name: str | None = None) -> BaseModel:
    """Name, absolute path, content hash and family of a diffusers folder or a `.safetensors` checkpoint.

    Raises BadInput for anything else; pickled checkpoints are refused because loading one can run code.
    """
    path = path.expanduser()
    if path.is_dir():
        family, digest = _folder_family(path), _folder_hash(path)
    elif path.suffix.lower() in _PICKLES:
        raise BadInput(
            f"{path.name} is a pickled checkpoint, and loading one can run foreign code.",
            "Convert it to .safetensors (for example in the program it came from) and use that file.",
        )
    elif not path.exists():
        raise BadInput(f"There is no base model at {path}.", "Give a diffusers folder or a .safetensors file.")
    else:
        family, digest = family_of(read_header(path), path.name), sha256_file(path)
    return BaseModel(name or path.stem if path.is_file() else name or path.name, str(path.resolve()), digest, family)


def family_of(header: Header, name: str) -> str:
    """The family of a single-file checkpoint from its tensor names."""
    names = list(header.tensors)
    for family, marks in _MARKS:
        if all(any(tensor.startswith(mark) for tensor in names) for mark in marks):
            channels = header.tensors.get("model.diffusion_model.input_blocks.0.0.weight")
            if channels is not None and channels.shape[1] != 4:
                raise BadInput(f"{name} is an inpainting or depth model.", "Train on the plain model of its family.")
            return family
    if any("lora_" in tensor or ".lora_A." in tensor for tensor in names):
        raise BadInput(f"{name} is a LoRA, not a base model.", "Choose the checkpoint the LoRA is to be trained on.")
    if any(tensor.startswith("model.diffusion_model.") for tensor in names):
        return "unknown"
    raise BadInput(f"{name} is not a whole checkpoint of a known family.", "Choose an SD 1.5 or SDXL checkpoint.")


def _folder_family(path: Path) -> str:
    index = path / "model_index.json"
    if not index.is_file():
        raise BadInput(f"The folder {path.name!r} is not a diffusers model (it has no model_index.json).")
    family = _PIPELINES.get(str(_config(index).get("_class_name")), "unknown")
    if family in ("sd15", "sdxl"):
        unet = _config(path / "unet" / "config.json")
        if unet.get("in_channels", 4) != 4:
            raise BadInput(f"{path.name!r} is an inpainting or depth model.", "Train on the plain model of its family.")
        if family == "sd15" and unet.get("cross_attention_dim") == 1024:
            family = "sd2"
        _need_weights(path, ("unet", "vae", "text_encoder"))
    return family


def _need_weights(path: Path, parts: tuple[str, ...]) -> None:
    missing = [part for part in parts if not list((path / part).glob("*.safetensors"))]
    if missing:
        raise BadInput(
            f"The model {path.name!r} has no .safetensors weights in {', '.join(missing)}.",
            "Pickled .bin weights are not loaded; save the model with safetensors.",
        )


def _config(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path.parent.name}/{path.name} does not hold a JSON object.")
    return value


def _folder_hash(path: Path) -> str:
    """Over the names and contents of all configurations and weights; read-me files and pictures do not count."""
    files = [file for file in path.rglob("*") if file.suffix in (".safetensors", ".json", ".txt") and file.is_file()]
    return sha256_json({file.relative_to(path).as_posix(): _content_hash(file) for file in sorted(files)})


def _content_hash(file: Path) -> str:
    if file.suffix == ".json":  # line ends and indentation do not change a model
        try:
            return sha256_json(json.loads(file.read_text(encoding="utf-8")))
        except ValueError:
            pass
    return sha256_file(file)
