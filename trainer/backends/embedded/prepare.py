"""From a job to things in memory: pipeline on its device, LoRA in place, cached latents and text embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....core.pipelines import device_name, load_pipeline
from ....core.types import BaseModel, DatasetItem
from ...config import DataConfig, PrecisionConfig, TrainConfig
from .cache import Store, Tensors, encode_caption, encode_captions, encode_picture, key_of
from .order import Size, bucket_of, buckets

_AUTO_FP16_DEVICES = ("cuda",)
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """Where and in which number format to train."""

    name: str
    compute: str

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the frozen weights and of autocast."""
        return _DTYPES[self.compute]

    def autocast(self) -> Any:
        """A context for forward passes; nothing in fp32."""
        return torch.autocast(self.name, self.dtype, enabled=self.compute != "fp32")


def choose_device(precision: PrecisionConfig) -> Device:
    """Resolve `auto`: bf16 where the GPU computes it, else fp16 on CUDA, and fp32 elsewhere."""
    name = device_name(precision.device)
    compute = precision.compute
    if compute == "auto":
        compute = "fp32"
        if name in _AUTO_FP16_DEVICES:
            compute = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if precision.threads:
        torch.set_num_threads(precision.threads)
    return Device(name, compute)


def load_base(base: BaseModel, config: TrainConfig, device: Device) -> Any:
    """The pipeline, ready for training; an SDXL autoencoder stays in fp32, because fp16 overflows in it."""
    pipe = load_pipeline(Path(base.path), base.family, device.dtype, device.name)
    if device.compute != "fp32":
        pipe.vae.to(torch.float32)
    if config.model.prediction != "auto":
        pipe.scheduler.register_to_config(prediction_type=config.model.prediction)
    if config.precision.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
        if config.network.train_text_encoder:
            for part in _text_encoders(pipe):
                part.gradient_checkpointing_enable({"use_reentrant": False})
    return pipe


def sizes_of(items: Sequence[DatasetItem], data: DataConfig) -> tuple[Size, ...]:
    """The bucket of every picture."""
    choices = buckets(data.resolution, data.bucket_step, data.max_aspect if data.buckets else 1.0)
    return tuple(bucket_of(item.width, item.height, choices) for item in items)


class Inputs:
    """What the U-Net is given besides noise, by picture number; computed on first use unless `warm` did before."""

    def __init__(
        self, pipe: Any, base: BaseModel, items: Sequence[DatasetItem], sizes: tuple[Size, ...], store: Store,
        live_text: bool, device: str,
    ) -> None:  # fmt: skip
        self._pipe, self._base, self._store = pipe, base, store
        self._device = device  # asking the U-Net for its device walks through all of its modules
        self.items, self.sizes, self._live_text = items, sizes, live_text

    def warm(self, flip: bool, tick: Callable[[int, int], None]) -> None:
        """Fill the cache; `tick(done, total)` after every entry may raise to stop."""
        captions = [] if self._live_text else ["", *dict.fromkeys(item.caption for item in self.items)]
        total = len(captions) + len(self.items) * (1 + flip)
        done = 0
        for caption in captions:
            self._caption(caption)
            done += 1
            tick(done, total)
        for number in range(len(self.items)):
            for flipped in (False, True) if flip else (False,):
                self._picture(number, flipped)
                done += 1
                tick(done, total)

    def latents(self, number: int, flip: bool) -> torch.Tensor:
        """Clean latents (4, h, w), fp32 on the CPU."""
        return self._picture(number, flip)["latents"]

    def conditions(
        self, numbers: Sequence[int], captions: Sequence[str], flips: Sequence[bool], dtype: Any
    ) -> dict[str, Any]:
        """Keyword arguments of the U-Net: text embeddings and, for SDXL, pooled embeddings and time ids."""
        device = self._device
        text = self._text(captions)
        result: dict[str, Any] = {"encoder_hidden_states": text["text"].to(device, dtype)}
        if "pooled" in text:
            ids = torch.stack([self._time_ids(number, flip) for number, flip in zip(numbers, flips, strict=True)])
            result["added_cond_kwargs"] = {"text_embeds": text["pooled"].to(device, dtype), "time_ids": ids.to(device)}
        return result

    def _text(self, captions: Sequence[str]) -> Tensors:
        if self._live_text:
            return encode_captions(self._pipe, captions, self._device)
        found = [self._caption(caption) for caption in captions]
        return {name: torch.stack([tensors[name] for tensors in found]) for name in found[0]}

    def _time_ids(self, number: int, flip: bool) -> torch.Tensor:
        """SDXL's six numbers: original height and width, crop top and left, target height and width."""
        item, size = self.items[number], self.sizes[number]
        top, left = self._picture(number, flip)["crop"].tolist()
        return torch.tensor([item.height, item.width, top, left, size.height, size.width], dtype=torch.float32)

    def _picture(self, number: int, flip: bool) -> Tensors:
        item, size = self.items[number], self.sizes[number]
        key = key_of("latents", self._base.sha256, item.sha256, f"{size.width}x{size.height}", str(flip))
        return self._store.get(key, lambda: encode_picture(self._pipe.vae, item, size, flip))

    def _caption(self, caption: str) -> Tensors:
        key = key_of("text", self._base.sha256, caption)
        return self._store.get(key, lambda: encode_caption(self._pipe, caption, self._device))


def park(pipe: Any, device: Device, away: bool, keep_text: bool) -> None:
    """Move what training does not need out of the GPU's memory, or back for drawing pictures."""
    if device.name == "cpu":
        return
    target = "cpu" if away else device.name
    pipe.vae.to(target)
    if not keep_text:
        for part in _text_encoders(pipe):
            part.to(target)
    if away and device.name == "cuda":
        torch.cuda.empty_cache()


def _text_encoders(pipe: Any) -> list[Any]:
    found = (getattr(pipe, name, None) for name in ("text_encoder", "text_encoder_2"))
    return [part for part in found if part is not None]
