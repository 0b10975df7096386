"""Tiny random pipelines in the shapes of SD 1.5 and SDXL, and small datasets, made from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from lora_atelier.core.files import sha256_file
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import BaseModel, Dataset, DatasetItem
from lora_atelier.trainer.base_models import describe
from lora_atelier.trainer.config import TrainConfig, config_from
from lora_atelier.trainer.job import TrainJob, new_train_job
from PIL import Image

_NOISE = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


def write_tokenizer(folder: Path) -> int:
    """A byte-level CLIP tokenizer; returns the size of its vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(161, 173), *range(174, 256)]
    symbols = [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return len(tokens)


def sd15_pipeline(folder: Path, seed: int = 0, prediction: str = "epsilon", deep: bool = False) -> Any:
    """`deep` gives SD 1.5's own topology (four levels, two blocks each) instead of two levels."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    tokenizer, text = _text_model(folder / "tok", projection=False, width=64 if deep else 32)
    levels, width = (4, 64) if deep else (2, 32)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2 if deep else 1,
        block_out_channels=(32, 32, 64, 64) if deep else (16, 16), norm_num_groups=32 if deep else 8,
        cross_attention_dim=width, attention_head_dim=8 if deep else 2,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * (levels - 1)),
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=_vae(0.18215, deep), text_encoder=text, tokenizer=tokenizer, unet=unet,
        scheduler=DDIMScheduler(**_NOISE, prediction_type=prediction),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl_pipeline(folder: Path, seed: int = 0) -> Any:
    """Two text encoders, pooled embeddings and time ids."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    torch.manual_seed(seed)
    tokenizer, text = _text_model(folder / "tok", projection=False)
    tokenizer_2, text_2 = _text_model(folder / "tok2", projection=True)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
        norm_num_groups=8, cross_attention_dim=64, attention_head_dim=(2, 4), use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2), addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=32 + 6 * 8,
    )  # fmt: skip
    noise = {key: _NOISE[key] for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")}
    return StableDiffusionXLPipeline(
        vae=_vae(0.13025), text_encoder=text, text_encoder_2=text_2, tokenizer=tokenizer, tokenizer_2=tokenizer_2,
        unet=unet, scheduler=EulerDiscreteScheduler(**noise), add_watermarker=False,
    )  # fmt: skip


def _text_model(folder: Path, projection: bool, width: int = 32) -> tuple[Any, Any]:
    """Width 64 has one head and CLIP's own vocabulary size and ids, as single-file checkpoints have."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    size = write_tokenizer(folder)
    published = {"vocab_size": 49408, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    own = {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=1 if width == 64 else 2,
        max_position_embeddings=77, projection_dim=width, **(published if width == 64 else own),
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77), model.eval()


def _vae(scale: float, deep: bool = False) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 64) if deep else (8, 8, 16, 16), layers_per_block=2 if deep else 1,
        norm_num_groups=32 if deep else 4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64, scaling_factor=scale,
    )  # fmt: skip


def save_base(pipe: Any, folder: Path) -> BaseModel:
    """Write a pipeline in diffusers layout and describe it."""
    pipe.save_pretrained(folder, safe_serialization=True)
    return describe(folder)


def dataset(folder: Path, sizes: list[tuple[int, int]], held: int = 0, seed: int = 0) -> Dataset:
    """Smooth random pictures of the given (width, height); the last `held` are held out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    items = []
    for number, (width, height) in enumerate(sizes):
        path = folder / f"picture_{number}.png"
        small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)
        split = "heldout" if number >= len(sizes) - held else "train"
        items.append(DatasetItem(str(path), sha256_file(path), width, height, f"a drawing {number % 3}", split))
    return Dataset("tiny", tuple(items), ("atl",))


def config(**sections: Any) -> TrainConfig:
    """A configuration for 64-pixel pictures; keyword arguments override whole keys of sections."""
    base: dict[str, Any] = {
        "network": {"dim": 4, "alpha": 4.0, "targets": "attention"},
        "optimizer": {"learning_rate": 2e-3},
        "schedule": {"max_steps": 6, "batch_size": 2, "seed": 3},
        "data": {"resolution": 64, "bucket_step": 16, "caption_dropout": 0.1},
        "validation": {"every_steps": 0, "at_start": False, "loss_pictures": 2},
        "precision": {"device": "cpu", "compute": "fp32"},
        "output": {"name": "tiny", "save_every": 3, "reserve_mb": 1},
    }
    for section, values in sections.items():
        base[section] = {**base.get(section, {}), **values}
    return config_from(base)


def job(root: Path, base: BaseModel, data: Dataset, settings: TrainConfig) -> TrainJob:
    """A checked training job whose run will be made below `root`."""
    return new_train_job(settings, data, base, root)


def losses(run: RunDir) -> dict[int, float]:
    """Training loss by step."""
    return {event["step"]: event["loss"] for event in run.ledger("step")}
