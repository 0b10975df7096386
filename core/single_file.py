"""Single-file SD 1.5 and SDXL checkpoints without a network: their configuration is read off the tensor shapes."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from .tensorfile import Header, read_header

_TOKENIZER = Path(__file__).parents[1] / "assets" / "clip-tokenizer" / "merges.txt"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def load_single_file(path: Path, family: str, dtype: Any, pipeline: Any) -> Any:
    """The pipeline in a `.safetensors` checkpoint; `pipeline` is the diffusers class. Nothing is downloaded."""
    header = read_header(path)
    with tempfile.TemporaryDirectory(prefix="atelier-config-") as folder:
        write_layout(Path(folder), header, family)
        extra: dict[str, Any] = {"add_watermarker": False} if family == "sdxl" else {"safety_checker": None}
        return pipeline.from_single_file(str(path), config=folder, local_files_only=True, torch_dtype=dtype, **extra)


def write_layout(folder: Path, header: Header, family: str) -> None:
    """Everything of a diffusers folder but the weights, with widths and depths from the tensor shapes."""
    parts = _sdxl_parts(header) if family == "sdxl" else _sd15_parts(header)
    index: dict[str, Any] = {"_class_name": _PIPELINES[family]}
    for name, (kind, values) in parts.items():
        index[name] = [kind[0], kind[1]]
        if name.startswith("tokenizer"):
            _write_tokenizer(folder / name, values["pad_token"])
            continue
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name).mkdir(parents=True)
        (folder / name / file).write_text(json.dumps({**values, "_class_name": kind[1]}), encoding="utf-8")
    if family == "sd15":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
        index["image_encoder"] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


_PIPELINES = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}
_Part = tuple[tuple[str, str], dict[str, Any]]


def _sd15_parts(header: Header) -> dict[str, _Part]:
    widths = _unet_widths(header)
    unet = {
        **_unet_common(header, widths),
        "attention_head_dim": 8,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        "sample_size": 64,
    }
    text = _clip_config(header, "cond_stage_model.transformer.text_model.", "quick_gelu")
    return {
        "unet": (("diffusers", "UNet2DConditionModel"), unet),
        "vae": (("diffusers", "AutoencoderKL"), _vae_config(header, 0.18215, 512)),
        "text_encoder": (("transformers", "CLIPTextModel"), text),
        "tokenizer": (("transformers", "CLIPTokenizer"), {"pad_token": _END}),
        "scheduler": (("diffusers", "DDIMScheduler"), _scheduler(header, clip_sample=False, set_alpha_to_one=False)),
    }


def _sdxl_parts(header: Header) -> dict[str, _Part]:
    widths = _unet_widths(header)
    depths = [_count(header, rf"{_UNET}input_blocks\.{n}\.1\.transformer_blocks\.(\d+)\.") for n in (4, 7)]
    unet = {
        **_unet_common(header, widths),
        "attention_head_dim": [width // 64 for width in widths],
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, *depths],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": _shape(header, f"{_UNET}label_emb.0.0.weight")[1],
        "sample_size": 128,
    }
    first = _clip_config(header, "conditioner.embedders.0.transformer.text_model.", "quick_gelu")
    return {
        "unet": (("diffusers", "UNet2DConditionModel"), unet),
        "vae": (("diffusers", "AutoencoderKL"), {**_vae_config(header, 0.13025, 1024), "force_upcast": True}),
        "text_encoder": (("transformers", "CLIPTextModel"), first),
        "text_encoder_2": (("transformers", "CLIPTextModelWithProjection"), _open_clip_config(header)),
        "tokenizer": (("transformers", "CLIPTokenizer"), {"pad_token": _END}),
        "tokenizer_2": (("transformers", "CLIPTokenizer"), {"pad_token": "!"}),
        "scheduler": (("diffusers", "EulerDiscreteScheduler"), _scheduler(header, timestep_spacing="leading")),
    }


def _unet_common(header: Header, widths: list[int]) -> dict[str, Any]:
    cross = next(info.shape[1] for name, info in sorted(header.tensors.items()) if name.endswith(".attn2.to_k.weight"))
    return {
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "block_out_channels": widths,
        "cross_attention_dim": cross,
    }


def _unet_widths(header: Header) -> list[int]:
    """Channels per level: those of the first res block of each (two blocks and a down-sampler make one level)."""
    names = (f"{_UNET}input_blocks.{number}.0.out_layers.3.weight" for number in (1, 4, 7, 10))
    return [header.tensors[name].shape[0] for name in names if name in header.tensors]


def _vae_config(header: Header, scale: float, size: int) -> dict[str, Any]:
    levels = _count(header, rf"{_VAE}encoder\.down\.(\d+)\.")
    widths = [_shape(header, f"{_VAE}encoder.down.{n}.block.0.conv1.weight")[0] for n in range(levels)]
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "layers_per_block": _count(header, rf"{_VAE}encoder\.down\.0\.block\.(\d+)\."),
        "norm_num_groups": 32,
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "scaling_factor": scale,
        "sample_size": size,
    }


def _clip_config(header: Header, prefix: str, activation: str) -> dict[str, Any]:
    vocabulary, width = _shape(header, f"{prefix}embeddings.token_embedding.weight")
    return {
        **_text_common(vocabulary, width, activation),
        "intermediate_size": _shape(header, f"{prefix}encoder.layers.0.mlp.fc1.weight")[0],
        "num_hidden_layers": _count(header, rf"{re.escape(prefix)}encoder\.layers\.(\d+)\."),
        "architectures": ["CLIPTextModel"],
    }


def _open_clip_config(header: Header) -> dict[str, Any]:
    prefix = "conditioner.embedders.1.model."
    vocabulary, width = _shape(header, f"{prefix}token_embedding.weight")
    return {
        **_text_common(vocabulary, width, "gelu"),
        "intermediate_size": _shape(header, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")[0],
        "num_hidden_layers": _count(header, rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\."),
        "projection_dim": _shape(header, f"{prefix}text_projection")[1],
        "architectures": ["CLIPTextModelWithProjection"],
    }


def _text_common(vocabulary: int, width: int, activation: str) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": 77,
        "hidden_act": activation,
        # The ids of the published configurations; with eos 2 the pooled output is taken at the highest id.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }


def _scheduler(header: Header, **more: Any) -> dict[str, Any]:
    """Checkpoints mark velocity prediction and zero terminal SNR by empty tensors of these names."""
    velocity, zero_snr = "v_pred" in header.tensors, "ztsnr" in header.tensors
    kind = "v_prediction" if velocity else "epsilon"
    return {**_NOISE, **more, "prediction_type": kind, "rescale_betas_zero_snr": zero_snr}


def _write_tokenizer(folder: Path, pad: str) -> None:
    """CLIP's tokenizer; its vocabulary follows from the merges: bytes, bytes at a word's end, then every merge."""
    text = _TOKENIZER.read_text(encoding="utf-8")
    merges = [line for line in text.splitlines()[1:] if line]
    plain = [*range(ord("!"), ord("~") + 1), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *(line.replace(" ", "") for line in merges)]
    vocabulary = {token: number for number, token in enumerate([*tokens, _START, _END])}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace"}
    specials = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": pad}
    folder.mkdir(parents=True)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **specials}), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials), encoding="utf-8")


def _shape(header: Header, name: str) -> tuple[int, ...]:
    return header.tensors[name].shape


def _count(header: Header, pattern: str) -> int:
    """One more than the highest number the pattern captures in a tensor name; 0 when it matches none."""
    found = (re.match(pattern, name) for name in header.tensors)
    return max((int(match[1]) + 1 for match in found if match), default=0)
