"""The noise schedule: noisy latents, targets, min-SNR weights and the weights of the fixed-noise losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

FIXED_TIMESTEPS = (100, 250, 500, 750, 900)


@dataclass(frozen=True)
class Diffusion:
    """Signal and noise per timestep; `signal`² + `noise`² = 1. Tensors of shape (timesteps,)."""

    signal: torch.Tensor
    noise: torch.Tensor
    velocity: bool

    @classmethod
    def of(cls, scheduler_config: Any, prediction: str, device: Any) -> Diffusion:
        """From the settings of the pipeline's scheduler; `prediction` "auto" reads them there too."""
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        scheduler: Any = DDPMScheduler.from_config(scheduler_config)
        alphas = scheduler.alphas_cumprod.double()
        kind = scheduler.config["prediction_type"] if prediction == "auto" else prediction
        if kind not in ("epsilon", "v_prediction"):
            from ....core.errors import BadInput

            raise BadInput(f"The base model predicts {kind!r}; only epsilon and v_prediction can be trained.")
        signal, noise = alphas.sqrt().float().to(device), (1 - alphas).sqrt().float().to(device)
        return cls(signal, noise, kind == "v_prediction")

    def noisy(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Latents with noise of their timesteps; latents and noise (n, 4, h, w), timesteps (n,)."""
        return _wide(self.signal[timesteps]) * latents + _wide(self.noise[timesteps]) * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the U-Net should say: the noise, or the velocity."""
        if not self.velocity:
            return noise
        return _wide(self.signal[timesteps]) * noise - _wide(self.noise[timesteps]) * latents

    def weights(self, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
        """Min-SNR weights (n,): min(snr, gamma) / snr, or over (snr + 1) for velocity; 1 when gamma is 0.

        Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", 2023.
        """
        if gamma <= 0:
            return torch.ones_like(self.signal[timesteps])
        snr = (self.signal[timesteps] / self.noise[timesteps]) ** 2
        if self.velocity:
            return snr.clamp(max=gamma) / (snr + 1)
        return gamma / snr.clamp(min=gamma)  # the same as min(snr, gamma) / snr, also at zero signal

    def fixed_weights(self) -> torch.Tensor:
        """One weight per fixed timestep, sum 1, proportional to 1 / sqrt(snr) on the error of the *noise*.

        The error of the predicted noise falls steeply with the timestep; without weights the fixed-noise loss
        would only speak of fine detail. A velocity error is turned into a noise error first (times signal²).
        """
        times = torch.tensor(FIXED_TIMESTEPS, device=self.signal.device)
        # A schedule with zero terminal SNR has no signal at its last step; the limit keeps its weight finite.
        signal = self.signal[times].clamp(min=1e-3)
        weights = self.noise[times] / signal
        weights = weights / weights.sum()
        return weights * signal**2 if self.velocity else weights


def noise_like(shape: tuple[int, ...], seed: int, offset: float = 0.0) -> torch.Tensor:
    """Gaussian noise (c, h, w) from `seed`, made on the CPU so that every device gets the same.

    `offset` adds one random shift per channel (noise offset).
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    return noise + offset * torch.randn((shape[0], 1, 1), generator=generator) if offset else noise


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]
