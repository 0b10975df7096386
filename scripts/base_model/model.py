"""The parts of the small model besides the autoencoder, and how captions become token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

# sd-scripts multiplies the latents of every SD 1.5 model by this number.
SD_SCALE = 0.18215
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "prediction_type": "epsilon",
}  # fmt: skip


def build_unet(conf: dict[str, Any], text_width: int) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's topology with small widths."""
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        block_out_channels=tuple(conf["block_out_channels"]), attention_head_dim=8,
        norm_num_groups=32, cross_attention_dim=text_width,
    )  # fmt: skip


def build_text_encoder(conf: dict[str, Any], tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of a few narrow layers."""
    width = conf["width"]
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=conf["layers"], num_attention_heads=conf["heads"],
        max_position_embeddings=77, projection_dim=width, hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def encode_words(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids padded to 77, as the pipeline does it."""
    return tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the files that `tokenizer.write_tokenizer` wrote."""
    return CLIPTokenizer.from_pretrained(folder)


def sampler(name: str = "dpm") -> Any:
    """The scheduler that the pipeline ships with (`dpm`) or DDIM."""
    if name == "ddim":
        return DDIMScheduler(**NOISE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    return DPMSolverMultistepScheduler(**NOISE, steps_offset=1, timestep_spacing="leading")


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, latents: torch.Tensor) -> None:
    """Fold shift and scale of the latents into the two 1x1 convolutions around them.

    Afterwards every channel has mean 0 and standard deviation 1 / 0.18215, so that the constant
    which every SD 1.5 tool has built in is the right one. What the autoencoder draws stays the
    same.
    """
    mean = latents.mean(dim=(0, 2, 3)).double()
    std = latents.std(dim=(0, 2, 3)).double()
    gain = 1.0 / (std * SD_SCALE)
    quant, post = vae.quant_conv, vae.post_quant_conv
    weight, bias = quant.weight.double(), quant.bias.double()
    weight[:4] *= gain[:, None, None, None]
    bias[:4] = (bias[:4] - mean) * gain
    bias[4:] += 2.0 * gain.log()
    quant.weight.copy_(weight)
    quant.bias.copy_(bias)
    weight, bias = post.weight.double(), post.bias.double()
    bias += (weight[:, :, 0, 0] * mean).sum(1)
    weight /= gain[None, :, None, None]
    post.weight.copy_(weight)
    post.bias.copy_(bias)
    vae.register_to_config(scaling_factor=SD_SCALE)
