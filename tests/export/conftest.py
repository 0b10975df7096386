"""Small pipelines with the real families' topology and a LoRA that peft itself made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.export.convert import Lora, Module

WIDTHS = (32, 32, 32, 32)


@dataclass(frozen=True)
class Tiny:
    """A pipeline saved at `base`, a peft adapter saved by diffusers at `lora`, and what the adapted U-Net gives."""

    family: str
    base: Path
    lora: Path
    inputs: dict[str, Any]
    expected: Any
    plain: Any
    modules: int


def unet_inputs(torch: Any, family: str) -> dict[str, Any]:
    """Fixed inputs of one U-Net call."""
    generator = torch.Generator().manual_seed(3)
    inputs = {
        "sample": torch.randn(1, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([7]),
        "encoder_hidden_states": torch.randn(1, 5, 32 if family == "sd15" else 64, generator=generator),
    }
    if family == "sdxl":
        extra = {"text_embeds": torch.randn(1, 32, generator=generator), "time_ids": torch.ones(1, 6)}
        inputs["added_cond_kwargs"] = extra
    return inputs


def _text_config(projection: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        hidden_size=32,
        intermediate_size=40,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=60,
        projection_dim=projection,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=2,
    )


def _unet(family: str) -> Any:
    from diffusers import UNet2DConditionModel

    cross, plain = "CrossAttn", ""
    common = {"sample_size": 8, "norm_num_groups": 8, "layers_per_block": 2, "in_channels": 4, "out_channels": 4}
    if family == "sd15":
        return UNet2DConditionModel(
            block_out_channels=WIDTHS,
            down_block_types=(*(f"{cross}DownBlock2D",) * 3, f"{plain}DownBlock2D"),
            up_block_types=(f"{plain}UpBlock2D", *(f"{cross}UpBlock2D",) * 3),
            cross_attention_dim=32,
            attention_head_dim=4,
            **common,
        )
    return UNet2DConditionModel(
        block_out_channels=WIDTHS[:3],
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3),
        cross_attention_dim=64,
        attention_head_dim=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + 32,
        **common,
    )


def _pipeline(family: str, folder: Path) -> Any:
    """A whole pipeline; the tokenizer has a handful of words, which the tests never use."""
    import json

    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    vocabulary = {word: index for index, word in enumerate(["<|startoftext|>", "a", "<|endoftext|>", "a</w>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
    common = {"vae": vae, "tokenizer": tokenizer, "unet": _unet(family), "scheduler": DDIMScheduler()}
    text = CLIPTextModel(_text_config(32))
    if family == "sd15":
        parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return StableDiffusionPipeline(text_encoder=text, **common, **parts)
    second = CLIPTextModelWithProjection(_text_config(32))
    return StableDiffusionXLPipeline(text_encoder=text, text_encoder_2=second, tokenizer_2=tokenizer, **common)


UNET_TARGETS = r".*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|conv1|conv2|conv_shortcut"
UNET_TARGETS += r"|time_emb_proj|downsamplers\.0\.conv|upsamplers\.0\.conv|linear_1|linear_2|conv_in|conv_out)"
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def build(family: str, folder: Path) -> Tiny:
    """Make and save the pipeline, give it a peft LoRA with rank 4 and alpha 2, save that as a trainer would."""
    import torch
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(1)
    pipe = _pipeline(family, folder)
    pipe.save_pretrained(folder / "base", safe_serialization=True)
    inputs = unet_inputs(torch, family)
    with torch.no_grad():
        plain = pipe.unet(**inputs).sample
    layers: dict[str, Any] = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        model = getattr(pipe, component, None)
        if model is None:
            continue
        targets = UNET_TARGETS if component == "unet" else TEXT_TARGETS
        model.add_adapter(LoraConfig(r=4, lora_alpha=2, target_modules=targets, init_lora_weights=False))
        layers[f"{component}_lora_layers"] = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
        layers[f"{component}_lora_adapter_metadata"] = {"r": 4, "lora_alpha": 2, "target_modules": targets}
    with torch.no_grad():
        expected = pipe.unet(**inputs).sample
    type(pipe).save_lora_weights(folder / "lora", **layers)
    count = sum(len(value) for key, value in layers.items() if key.endswith("_layers")) // 2
    lora = folder / "lora" / "pytorch_lora_weights.safetensors"
    return Tiny(family, folder / "base", lora, inputs, expected, plain, count)


@pytest.fixture(scope="session", params=["sd15", "sdxl"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One tiny pipeline with its LoRA per family."""
    pytest.importorskip("peft")
    return build(request.param, tmp_path_factory.mktemp(request.param))


ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


def attention_modules(family: str) -> list[str]:
    """Every layer that sd-scripts' plain LoRA adapts, written out from the architecture, not from our tables."""
    if family == "sd15":
        blocks = [(f"down_blocks.{level}", 2, 1) for level in (0, 1, 2)]
        blocks += [("mid_block", 1, 1)] + [(f"up_blocks.{level}", 3, 1) for level in (1, 2, 3)]
        texts = [("text_encoder", 12)]
    else:
        blocks = [("down_blocks.1", 2, 2), ("down_blocks.2", 2, 10), ("mid_block", 1, 10)]
        blocks += [("up_blocks.0", 3, 10), ("up_blocks.1", 3, 2)]
        texts = [("text_encoder", 12), ("text_encoder_2", 32)]
    found: list[str] = []
    for block, count, depth in blocks:
        for place in (f"unet.{block}.attentions.{index}" for index in range(count)):
            found += [f"{place}.proj_in", f"{place}.proj_out"]
            for layer in (f"{place}.transformer_blocks.{index}" for index in range(depth)):
                found += [f"{layer}.{attn}.{which}" for attn in ("attn1", "attn2") for which in ATTENTION]
                found += [f"{layer}.ff.net.0.proj", f"{layer}.ff.net.2"]
    for encoder, layers in texts:
        for layer in (f"{encoder}.text_model.encoder.layers.{index}" for index in range(layers)):
            found += [f"{layer}.self_attn.{which}_proj" for which in ("q", "k", "v", "out")]
            found += [f"{layer}.mlp.fc1", f"{layer}.mlp.fc2"]
    return found


def other_modules(family: str) -> list[str]:
    """The convolutions and embeddings that LoCon-like training adapts as well."""
    levels = 4 if family == "sd15" else 3
    found = ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
    if family == "sdxl":
        found += ["add_embedding.linear_1", "add_embedding.linear_2"]
    residual = [f"mid_block.resnets.{index}" for index in (0, 1)]
    for level in range(levels):
        residual += [f"down_blocks.{level}.resnets.{index}" for index in range(2)]
        residual += [f"up_blocks.{level}.resnets.{index}" for index in range(3)]
        if level < levels - 1:
            found += [f"down_blocks.{level}.downsamplers.0.conv", f"up_blocks.{level}.upsamplers.0.conv"]
    for place in residual:
        found += [f"{place}.{part}" for part in ("conv1", "conv2", "conv_shortcut", "time_emb_proj")]
    return [f"unet.{name}" for name in found]


MakeLora = Callable[..., Lora]


@pytest.fixture(scope="session")
def make_lora() -> MakeLora:
    """Makes a small random LoRA: 8 wide, or 8 with 3x3 kernels for convolutions."""

    def make(
        family: str, names: list[str], rank: int = 2, alpha: float = 1.0, seed: int = 0, scale: float = 0.1
    ) -> Lora:
        rng = np.random.default_rng(seed)
        modules: dict[str, Module] = {}
        for name in names:
            kernel = (3, 3) if "conv" in name and "shortcut" not in name else ()
            down = scale * rng.standard_normal((rank, 8, *kernel))
            up = scale * rng.standard_normal((8, rank, *(1 for _ in kernel)))
            modules[name] = Module(down.astype(np.float32), up.astype(np.float32), alpha)
        return Lora(modules, {}, "diffusers", family)

    return make


@pytest.fixture(scope="session")
def all_modules() -> Callable[[str], list[str]]:
    """Every module of a family."""
    return lambda family: attention_modules(family) + other_modules(family)
