"""Losses at fixed noise and fixed timesteps: comparable between steps and runs, unlike the noisy training loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ...config import TrainConfig
from .diffusion import FIXED_TIMESTEPS, Diffusion, noise_like
from .order import fixed_noise_seed
from .prepare import Device, Inputs

_LATENT_CELLS = 5 * 64 * 64  # one forward pass holds at most this many latent pixels, or one picture


class FixedLoss:
    """Measures the weighted error over the same pictures, noise and timesteps each time."""

    def __init__(self, pipe: Any, device: Device, diffusion: Diffusion, config: TrainConfig) -> None:
        self._pipe, self._device, self._diffusion = pipe, device, diffusion
        self._limit = config.validation.loss_pictures

    def measure(self, inputs: Inputs, check: Callable[[], None]) -> tuple[float, dict[str, float]]:
        """(weighted mean, mean squared error per timestep) over at most `loss_pictures` pictures of `inputs`."""
        errors = []
        with torch.no_grad(), self._device.autocast():
            for numbers in self._parts(inputs):
                check()
                errors.append(self._errors(inputs, numbers))
        means = torch.cat(errors).double().mean(0)
        loss = float((means * self._diffusion.fixed_weights().cpu().double()).sum())
        by_timestep = {str(t): round(value, 6) for t, value in zip(FIXED_TIMESTEPS, means.tolist(), strict=True)}
        return round(loss, 8), by_timestep

    def _parts(self, inputs: Inputs) -> Iterator[list[int]]:
        """Numbers of the chosen pictures (by content hash, so the same ones in every run), one bucket per part."""
        chosen = sorted(range(len(inputs.items)), key=lambda n: inputs.items[n].sha256)[: self._limit]
        for size in sorted({inputs.sizes[number] for number in chosen}):
            members = [number for number in chosen if inputs.sizes[number] == size]
            cells = len(FIXED_TIMESTEPS) * size.width * size.height // 64
            count = max(1, _LATENT_CELLS // cells)
            for start in range(0, len(members), count):
                yield members[start : start + count]

    def _errors(self, inputs: Inputs, numbers: list[int]) -> torch.Tensor:
        """Mean squared errors (pictures, timesteps) on the CPU."""
        device, count = self._device, len(FIXED_TIMESTEPS)
        many = [number for number in numbers for _ in range(count)]
        latents = torch.stack([inputs.latents(number, False) for number in many])
        noise = torch.stack(
            [
                noise_like(tuple(latents.shape[1:]), fixed_noise_seed(inputs.items[number].sha256, t))
                for number in numbers
                for t in FIXED_TIMESTEPS
            ]
        ).to(device.name)
        latents = latents.to(device.name)
        times = torch.tensor(FIXED_TIMESTEPS * len(numbers), device=device.name)
        captions = [inputs.items[number].caption for number in many]
        conditions = inputs.conditions(many, captions, [False] * len(many), device.dtype)
        noisy = self._diffusion.noisy(latents, noise, times).to(device.dtype)
        guess = self._pipe.unet(noisy, times, **conditions, return_dict=False)[0]
        error = (guess.float() - self._diffusion.target(latents, noise, times)).pow(2).mean((1, 2, 3))
        return error.reshape(len(numbers), count).cpu()
