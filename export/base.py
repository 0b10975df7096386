"""The layers of a base model, read from its file headers alone: which module names exist and how large they are."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import BadInput
from ..core.tensorfile import read_header
from .families import FAMILIES
from .keys import canonical, parse

Shapes = dict[str, tuple[int, ...]]

_SINGLE_FILE = (
    ("model.diffusion_model.", "unet"),
    ("cond_stage_model.transformer.", "text_encoder"),
    ("conditioner.embedders.0.transformer.", "text_encoder"),
    ("conditioner.embedders.1.model.", "text_encoder_2"),
    ("cond_stage_model.model.", "text_encoder"),
)
# OpenCLIP's names (SDXL's second text encoder, SD 2) and what transformers calls the same layers.
_OPEN_CLIP = re.compile(
    r"^transformer\.resblocks\.(\d+)\.(.+)\.(?:weight|bias)$|^transformer\.resblocks\.(\d+)\.(attn\.in_proj_weight)$"
)
_OPEN_CLIP_LAYERS = {"attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def base_modules(path: Path, family: str) -> Shapes:
    """Weight shape per canonical module of a checkpoint: a diffusers folder or a single `.safetensors` file."""
    if family not in FAMILIES:
        raise BadInput(f"The layers of a {family!r} base model are not known yet.", f"Known: {', '.join(FAMILIES)}.")
    shapes = _folder(path, family) if path.is_dir() else _single_file(path, family)
    if not any(name.startswith("unet.") for name in shapes):
        raise BadInput(f"{path.name} does not look like a {FAMILIES[family].title} model: no U-Net layer was found.")
    return shapes


def _folder(path: Path, family: str) -> Shapes:
    shapes: Shapes = {}
    for component in FAMILIES[family].components:
        files = [file for file in sorted((path / component).glob("*.safetensors")) if ".fp16." not in file.name]
        for file in files or sorted((path / component).glob("*.safetensors")):
            for name, info in read_header(file).tensors.items():
                _add(shapes, f"{component}.{name}", info.shape, family)
    return shapes


def _single_file(path: Path, family: str) -> Shapes:
    shapes: Shapes = {}
    for name, info in read_header(path).tensors.items():
        for prefix, component in _SINGLE_FILE:
            if name.startswith(prefix):
                _add_open_clip(shapes, component, name.removeprefix(prefix), info.shape)
                _add(shapes, f"{component}.{name.removeprefix(prefix)}", info.shape, family)
                break
    return shapes


def _add(shapes: Shapes, name: str, shape: tuple[int, ...], family: str) -> None:
    """Let the reader of LoRA names judge: a base weight is where a LoRA's `lora_A` would sit."""
    if not name.endswith(".weight") or len(shape) < 2:
        return
    if key := parse(f"{name.removesuffix('.weight')}.lora_A.weight"):
        shapes[canonical(key.module, family)] = shape


def _add_open_clip(shapes: Shapes, component: str, name: str, shape: tuple[int, ...]) -> None:
    if name == "text_projection":
        shapes[f"{component}.text_projection"] = (shape[1], shape[0])  # stored transposed
    match = _OPEN_CLIP.match(name)
    if match is None or len(shape) < 2:
        return
    layer = f"{component}.text_model.encoder.layers.{match[1] or match[3]}"
    if match[4]:  # query, key and value are stacked in one matrix there
        for which in ("q_proj", "k_proj", "v_proj"):
            shapes[f"{layer}.self_attn.{which}"] = (shape[0] // 3, shape[1])
    elif match[2] in _OPEN_CLIP_LAYERS:
        shapes[f"{layer}.{_OPEN_CLIP_LAYERS[match[2]]}"] = shape
