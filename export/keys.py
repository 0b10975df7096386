"""Names of LoRA tensors: every known spelling is read into (component, diffusers path, part) and written from it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from .families import Family, block_names, family_of

Format = Literal["kohya", "diffusers", "comfyui"]
Part = Literal["down", "up", "alpha"]

# Every word that occurs between the dots of a module path; kohya joins them with "_", so splitting needs the list.
_UNET_WORDS = (
    "down_blocks up_blocks mid_block attentions resnets transformer_blocks downsamplers upsamplers conv "
    "conv_in conv_out conv_norm_out conv1 conv2 conv_shortcut time_embedding time_emb_proj add_embedding "
    "linear_1 linear_2 norm norm1 norm2 norm3 proj_in proj_out proj attn1 attn2 to_q to_k to_v to_out ff net "
    "input_blocks middle_block output_blocks in_layers out_layers emb_layers skip_connection time_embed label_emb "
    "op out"
)
_TEXT_WORDS = (
    "text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 layer_norm1 layer_norm2 "
    "final_layer_norm embeddings token_embedding position_embedding text_projection"
)

_KOHYA_COMPONENTS = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
)
_DOTTED_COMPONENTS = (
    ("unet.base_model.model.", "unet"),
    ("text_encoder.base_model.model.", "text_encoder"),
    ("text_encoder_2.base_model.model.", "text_encoder_2"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
    ("text_encoders.clip_l.transformer.", "text_encoder"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2"),
    ("clip_l.transformer.", "text_encoder"),
    ("clip_g.transformer.", "text_encoder_2"),
    ("base_model.model.", ""),
    ("", ""),
)
_COMFY_ROOTS = {
    "unet": "diffusion_model.",
    "text_encoder": "text_encoders.clip_l.transformer.",
    "text_encoder_2": "text_encoders.clip_g.transformer.",
}
_ENDINGS: tuple[tuple[re.Pattern[str], Part, Format], ...] = (
    (re.compile(r"\.lora_A(\.\w+)?\.weight$"), "down", "diffusers"),
    (re.compile(r"\.lora_B(\.\w+)?\.weight$"), "up", "diffusers"),
    (re.compile(r"\.lora_down\.weight$"), "down", "kohya"),
    (re.compile(r"\.lora_up\.weight$"), "up", "kohya"),
    (re.compile(r"(\.lora|\.lora_linear_layer|_lora)\.down\.weight$"), "down", "diffusers"),
    (re.compile(r"(\.lora|\.lora_linear_layer|_lora)\.up\.weight$"), "up", "diffusers"),
    (re.compile(r"\.alpha$"), "alpha", "kohya"),
)
_ATTENTION_IN_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class Key:
    """One tensor name taken apart. `module` is `component.path` with diffusers' path where the family is known."""

    module: str
    part: Part
    format: Format


def parse(key: str) -> Key | None:
    """Take a tensor name of any known spelling apart; None when it is none of them. LDM paths stay LDM paths."""
    for pattern, part, style in _ENDINGS:
        if match := pattern.search(key):
            found = _module(key[: match.start()])
            return Key(found[0], part, "comfyui" if found[1] == "comfyui" else style) if found else None
    return None


def detect_format(keys: Iterable[str]) -> Format | None:
    """The spelling that most of the names use, None when none is known."""
    counts: dict[Format, int] = {}
    for key in keys:
        if parsed := parse(key):
            counts[parsed.format] = counts.get(parsed.format, 0) + 1
    return max(counts, key=lambda style: counts[style]) if counts else None


def canonical(module: str, family: str) -> str:
    """`module` with diffusers' block names (unchanged when it already has them)."""
    component, path = module.split(".", 1)
    return f"{component}.{_renamed(path, _to_diffusers(family))}" if component == "unet" else module


def kohya_module(module: str, family: Family, ldm: bool | None = None) -> str:
    """kohya's name of a canonical module; `ldm` overrides which block names the family uses."""
    component, path = module.split(".", 1)
    if component == "unet":
        if family.ldm_keys if ldm is None else ldm:
            path = _renamed(path, _to_ldm(family.name))
        return "lora_unet_" + path.replace(".", "_")
    return f"{family.text_prefixes[family.components.index(component) - 1]}_{path.replace('.', '_')}"


def comfyui_module(module: str, family: Family) -> str:
    """ComfyUI's module-path name of a canonical module (what its SaveLoRA writes)."""
    component, path = module.split(".", 1)
    path = _renamed(path, _to_ldm(family.name)) if component == "unet" else path
    return _COMFY_ROOTS[component] + path


def tensor_names(module: str, style: Format, family: str) -> tuple[str, str, str | None]:
    """(down, up, alpha) names of a canonical module in a format; diffusers keeps alpha in the header instead."""
    if style == "diffusers":
        return f"{module}.lora_A.weight", f"{module}.lora_B.weight", None
    rules = family_of(family)
    name = kohya_module(module, rules) if style == "kohya" else comfyui_module(module, rules)
    return f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"


def _module(name: str) -> tuple[str, str] | None:
    """(component.path, "kohya" | "comfyui" | "dotted") of a tensor name without its ending."""
    for prefix, component in _KOHYA_COMPONENTS:
        if name.startswith(prefix):
            path = _split(name.removeprefix(prefix), component)
            return (f"{component}.{path}", "kohya") if path else None
    for prefix, component in _DOTTED_COMPONENTS:
        if name.startswith(prefix):
            found = _dotted(name.removeprefix(prefix), component)
            style = "comfyui" if prefix in _COMFY_ROOTS.values() else "dotted"
            return (found, style) if found else None
    return None


def _dotted(path: str, component: str) -> str | None:
    path = path.replace(".processor.", ".")
    component = component or ("text_encoder" if path.startswith(("text_model.", "encoder.")) else "unet")
    if component != "unet":
        path = _text_path(path)
    elif path.endswith(".to_out"):  # the old attention processors left out that to_out is a list
        path += ".0"
    words = _words(component)
    good = all(piece.isdecimal() or piece in words for piece in path.split("."))
    return f"{component}.{path}" if good else None


def _text_path(path: str) -> str:
    """Old spellings say to_q where the module is q_proj; recent transformers leave out `text_model`."""
    head, _, last = path.rpartition(".")
    path = f"{head}.{_ATTENTION_IN_TEXT.get(last, last)}" if head else path
    return path if path.startswith(("text_model.", "text_projection")) else f"text_model.{path}"


def _split(name: str, component: str) -> str | None:
    """Dotted path from kohya's underscores; longest known words first, None when something is left over."""
    pieces: list[str] = []
    position = 0
    while position < len(name):
        match = _splitter(component).match(name, position)
        if match is None:
            return None
        pieces.append(match[1])
        position = match.end()
    if not pieces or name.endswith("_"):
        return None
    path = ".".join(pieces)
    return path if component == "unet" else _text_path(path)


@cache
def _words(component: str) -> frozenset[str]:
    return frozenset((_UNET_WORDS if component == "unet" else _TEXT_WORDS).split())


@cache
def _splitter(component: str) -> re.Pattern[str]:
    words = "|".join(sorted(_words(component), key=len, reverse=True))
    return re.compile(rf"({words}|\d+)(?:_|$)")


@cache
def _to_ldm(family: str) -> dict[str, str]:
    return dict(block_names(family))


@cache
def _to_diffusers(family: str) -> dict[str, str]:
    return {ldm: diffusers for diffusers, ldm in block_names(family)}


def _renamed(path: str, table: dict[str, str]) -> str:
    """Replace the longest prefix (at a dot) that the table knows."""
    head, tail = path, ""
    while head:
        if head in table:
            return table[head] + tail
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return path
