"""One row of rules per base-model family: U-Net topology, kohya's spellings, and what other UIs call it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from ..core.errors import BadInput

# Names inside a residual block: diffusers and LDM (Stability-AI's own code, also used by kohya for SDXL).
_RESNET = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
_OUTSIDE = (
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
)


@dataclass(frozen=True)
class Family:
    """What differs between families.

    `attention` says per level (finest first) whether it has cross-attention; `text_prefixes` are kohya's prefixes per
    text encoder; `ldm_keys` is True where sd-scripts writes LDM block names instead of diffusers' names.
    """

    name: str
    title: str
    attention: tuple[bool, ...]
    text_prefixes: tuple[str, ...]
    ldm_keys: bool
    architecture: str
    base_version: str
    webui_version: str
    resolution: int
    context: int
    layers: int = 2

    @property
    def components(self) -> tuple[str, ...]:
        """Component names as in a diffusers pipeline: the U-Net and the text encoders in order."""
        return ("unet", "text_encoder", "text_encoder_2")[: 1 + len(self.text_prefixes)]

    @property
    def implementation(self) -> str:
        """What modelspec calls the code whose names the file uses (as sd-scripts writes it)."""
        return "https://github.com/Stability-AI/generative-models" if self.ldm_keys else "diffusers"


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="sd15",
            title="Stable Diffusion 1.5",
            attention=(True, True, True, False),
            text_prefixes=("lora_te",),
            ldm_keys=False,
            architecture="stable-diffusion-v1/lora",
            base_version="sd_v1",
            webui_version="SD1",
            resolution=512,
            context=768,
        ),
        Family(
            name="sd2",
            title="Stable Diffusion 2",
            attention=(True, True, True, False),
            text_prefixes=("lora_te",),
            ldm_keys=False,
            architecture="stable-diffusion-v2-768-v/lora",
            base_version="sd_v2",
            webui_version="SD2",
            resolution=768,
            context=1024,
        ),
        Family(
            name="sdxl",
            title="Stable Diffusion XL",
            attention=(False, True, True),
            text_prefixes=("lora_te1", "lora_te2"),
            ldm_keys=True,
            architecture="stable-diffusion-xl-v1-base/lora",
            base_version="sdxl_base_v1-0",
            webui_version="SDXL",
            resolution=1024,
            context=2048,
        ),
    )
}


def family_of(name: str) -> Family:
    """The rules of a family, or BadInput naming those that can be exported."""
    if name not in FAMILIES:
        raise BadInput(f"LoRAs for {name!r} cannot be exported yet.", f"Known: {', '.join(FAMILIES)}.")
    return FAMILIES[name]


@cache
def block_names(name: str) -> tuple[tuple[str, str], ...]:
    """(diffusers prefix, LDM prefix) of everything in the family's U-Net that is named differently."""
    family = family_of(name)
    levels = range(len(family.attention))
    pairs = [
        *_OUTSIDE,
        *_resnet("mid_block.resnets.0", "middle_block.0"),
        *_resnet("mid_block.resnets.1", "middle_block.2"),
    ]
    for level in levels:
        pairs += _down(level, family) + _up(level, family)
    return tuple(pairs)


def guess_family(paths: Iterable[str], context: int | None, metadata: Mapping[str, str]) -> str | None:
    """The family of a LoRA from its module paths (diffusers or LDM names), the text width and the header.

    `context` is the input width of a cross-attention key projection in the U-Net, None when there is none. The
    structure decides first, because headers are sometimes wrong; widths other than the real ones (small models) leave
    the choice between SD 1.5 and 2 to the header.
    """
    structure = _by_structure(list(paths))
    by_width = next((family.name for family in FAMILIES.values() if family.context == context), None)
    claimed = _by_header(metadata)
    if structure == "sdxl" or structure is None:
        return structure or by_width or claimed
    if by_width in {"sd15", "sd2"}:
        return by_width
    return claimed if claimed in {"sd15", "sd2"} else "sd15"


def _down(level: int, family: Family) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    first = 1 + level * (family.layers + 1)
    for layer in range(family.layers):
        pairs += _resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{first + layer}.0")
        if family.attention[level]:
            pairs.append((f"down_blocks.{level}.attentions.{layer}", f"input_blocks.{first + layer}.1"))
    if level < len(family.attention) - 1:
        pairs.append((f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{first + family.layers}.0.op"))
    return pairs


def _up(level: int, family: Family) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    first, last = level * (family.layers + 1), (level + 1) * (family.layers + 1) - 1
    attention = family.attention[len(family.attention) - 1 - level]
    for layer in range(family.layers + 1):
        pairs += _resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{first + layer}.0")
        if attention:
            pairs.append((f"up_blocks.{level}.attentions.{layer}", f"output_blocks.{first + layer}.1"))
    if level < len(family.attention) - 1:
        pairs.append((f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{last}.{2 if attention else 1}.conv"))
    return pairs


def _resnet(diffusers: str, ldm: str) -> list[tuple[str, str]]:
    return [(f"{diffusers}.{theirs}", f"{ldm}.{other}") for theirs, other in _RESNET]


_SDXL_ONLY = re.compile(  # only SDXL has transformers deeper than one, and attention in the coarsest up block
    r"^(text_encoder_2\.|unet\.(add_embedding|label_emb|up_blocks\.0\.attentions|output_blocks\.[01]\.1\."
    r"|.*\.transformer_blocks\.[1-9]))"
)
_SD_ONLY = re.compile(
    r"^unet\.(down_blocks\.0\.attentions|up_blocks\.3|down_blocks\.3|input_blocks\.([12]\.1|9|1[01])\."
    r"|output_blocks\.([6-8]\.1\.(?!conv)|9|1[01])\.?)"
)


def _by_structure(paths: list[str]) -> str | None:
    if any(_SDXL_ONLY.match(path) for path in paths):
        return "sdxl"
    if any(_SD_ONLY.match(path) for path in paths):
        return "sd15"
    return None


def _by_header(metadata: Mapping[str, str]) -> str | None:
    known = metadata.get("atelier.family", "")
    if known in FAMILIES:
        return known
    version = metadata.get("ss_base_model_version", "")
    architecture = metadata.get("modelspec.architecture", "")
    for name, start, prefix in (
        ("sdxl", "sdxl", "stable-diffusion-xl"),
        ("sd2", "sd_v2", "stable-diffusion-v2"),
        ("sd15", "sd_v1", "stable-diffusion-v1"),
    ):
        if version.startswith(start) or architecture.startswith(prefix):
            return name
    return None
