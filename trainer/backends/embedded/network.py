"""The LoRA: where it is put, and its tensors under the names that diffusers reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import LoraConfig

from ...config import NetworkConfig, TargetPreset

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2")
_REST = ("proj_in", "proj_out", "conv1", "conv2", "conv_shortcut", "time_emb_proj")
_RESAMPLING = ("downsamplers.0.conv", "upsamplers.0.conv")
_UNET_TARGETS: dict[TargetPreset, tuple[str, ...]] = {
    "attention": _ATTENTION,
    "attention_ff": _ATTENTION + _FEED_FORWARD,
    # conv_in, conv_out and the time embedding stay as they are: other programs' LoRA loaders do not know them.
    "all": _ATTENTION + _FEED_FORWARD + _REST + _RESAMPLING,
}
_TEXT_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
_TEXT_TARGETS: dict[TargetPreset, tuple[str, ...]] = {
    "attention": _TEXT_ATTENTION,
    "attention_ff": (*_TEXT_ATTENTION, "fc1", "fc2"),
    "all": (*_TEXT_ATTENTION, "fc1", "fc2"),
}
_ADAPTER = "default"


@dataclass(frozen=True)
class Network:
    """The parts of a pipeline that carry LoRA layers, and their trainable parameters by published key."""

    parts: dict[str, Any]
    configs: dict[str, LoraConfig]
    parameters: dict[str, torch.nn.Parameter]

    def of(self, part: str) -> Iterator[torch.nn.Parameter]:
        """The parameters of `unet`, or of everything but it when `part` is `text`."""
        for key, value in self.parameters.items():
            if key.startswith("unet.") == (part == "unet"):
                yield value

    def arrays(self, dtype: str = "fp32") -> dict[str, np.ndarray]:
        """A copy of the LoRA tensors as fp32 or fp16 arrays."""
        kind = np.float16 if dtype == "fp16" else np.float32
        return {key: value.detach().float().cpu().numpy().astype(kind) for key, value in self.parameters.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Put tensors in place; KeyError when one is missing."""
        with torch.no_grad():
            for key, value in self.parameters.items():
                value.copy_(torch.from_numpy(np.array(arrays[key], dtype=np.float32)))

    def train(self, mode: bool) -> None:
        """Switch LoRA dropout on or off."""
        for part in self.parts.values():
            if part.training != mode:  # the walk through all modules is a measurable part of a small model's step
                part.train(mode)

    def adapter_metadata(self) -> str:
        """The JSON text that diffusers' loader reads from `lora_adapter_metadata`."""
        return json.dumps(
            {f"{part}.{key}": value for part, config in self.configs.items() for key, value in _facts(config).items()},
            sort_keys=True,
        )


def add_network(pipe: Any, config: NetworkConfig, seed: int) -> Network:
    """Freeze the pipeline and put LoRA layers (fp32, initialised from `seed`) into the U-Net and text encoders."""
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (part := getattr(pipe, name, None)) is not None:
            part.requires_grad_(False)
    torch.manual_seed(seed)
    parts = {"unet": pipe.unet}
    configs = {"unet": _lora(config, _UNET_TARGETS[config.targets])}
    if config.train_text_encoder:
        for name in ("text_encoder", "text_encoder_2"):
            if (part := getattr(pipe, name, None)) is not None:
                parts[name] = part
                configs[name] = _lora(config, _TEXT_TARGETS[config.targets])
    for name, part in parts.items():
        part.add_adapter(configs[name], adapter_name=_ADAPTER)
        part.train(False)  # new layers start in training mode, whatever their part says of itself
    return Network(parts, configs, dict(_parameters(parts)))


def _lora(config: NetworkConfig, targets: tuple[str, ...]) -> LoraConfig:
    # peft's lora_alpha is annotated as int but is only ever divided by r.
    alpha: Any = int(config.alpha) if config.alpha == int(config.alpha) else config.alpha
    return LoraConfig(r=config.dim, lora_alpha=alpha, lora_dropout=config.dropout, target_modules=list(targets))


def _parameters(parts: Mapping[str, Any]) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for part, module in parts.items():
        for name, value in module.named_parameters():
            if ".lora_" not in name:
                continue
            value.requires_grad_(True)
            value.data = value.data.float()
            yield f"{part}.{_published(part, name.replace(f'.{_ADAPTER}.', '.'))}", value


def _published(part: str, name: str) -> str:
    """Text encoders keep the `text_model.` of every published LoRA, though newer transformers dropped that level."""
    return name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"


def _facts(config: LoraConfig) -> dict[str, Any]:
    """Only what a loader needs; a peft that does not know a field would refuse the file."""
    return {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(config.target_modules or ()),
        "rank_pattern": {},
        "alpha_pattern": {},
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": False,
        "use_rslora": False,
    }
