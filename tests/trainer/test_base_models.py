"""What a base model is, told from names alone, and single-file checkpoints that load without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_atelier.core.errors import BadInput
from lora_atelier.core.tensorfile import save
from lora_atelier.core.types import BaseModel, Prompt, ValidationPlan
from lora_atelier.trainer.base_models import describe

from . import tiny


def _single(path: Path, names: list[str]) -> Path:
    return save(path, {name: np.ones((1, 4, 1, 1), np.float32) for name in names}, {})


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("sd15", ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.transformer.text_model.x"]),
        ("sd2", ["model.diffusion_model.input_blocks.0.0.weight", "cond_stage_model.model.ln_final.weight"]),
        ("sdxl", ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.1.model.x"]),
        ("sdxl_refiner", ["model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.model.x"]),
        ("sd3", ["model.diffusion_model.joint_blocks.0.x"]),
        ("flux", ["double_blocks.0.img_attn.qkv.weight", "single_blocks.0.linear1.weight"]),
        ("unknown", ["model.diffusion_model.something.0"]),
    ],
)
def test_family_of_single_files(tmp_path: Path, family: str, names: list[str]) -> None:
    found = describe(_single(tmp_path / "model.safetensors", names))
    assert (found.family, found.name) == (family, "model") and len(found.sha256) == 64


def test_what_is_no_base_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "trick.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "empty").mkdir()
    _single(tmp_path / "lora.safetensors", ["lora_unet_down_blocks_0.lora_down.weight"])
    _single(tmp_path / "vae.safetensors", ["encoder.down.0.block.0.conv1.weight"])
    save(tmp_path / "inpaint.safetensors", {
        "model.diffusion_model.input_blocks.0.0.weight": np.ones((8, 9, 3, 3), np.float32),
        "cond_stage_model.transformer.x": np.ones(1, np.float32),
    }, {})  # fmt: skip
    for name, reason in [
        ("old.ckpt", "foreign code"), ("trick.safetensors", "zip"), ("empty", "model_index.json"), ("none", "no base"),
        ("lora.safetensors", "is a LoRA"), ("vae.safetensors", "not a whole checkpoint"), ("inpaint.safetensors", "in"),
    ]:  # fmt: skip
        with pytest.raises(BadInput, match=reason):
            describe(tmp_path / name)


def test_folders_are_described_by_content(sd15: BaseModel, sdxl: BaseModel, tmp_path: Path) -> None:
    assert (sd15.family, sdxl.family) == ("sd15", "sdxl")
    assert describe(Path(sd15.path), "other").sha256 == sd15.sha256
    pipe = tiny.sd15_pipeline(tmp_path, seed=1)
    changed = tiny.save_base(pipe, tmp_path / "changed")
    assert changed.sha256 != sd15.sha256
    next((tmp_path / "changed" / "vae").glob("*.safetensors")).unlink()
    with pytest.raises(BadInput, match=r"no \.safetensors weights in vae"):
        describe(tmp_path / "changed")


def test_a_single_file_draws_the_same_picture_as_its_folder(tmp_path: Path) -> None:
    from lora_atelier.core.pipelines import load_pipeline, render

    pipe = tiny.sd15_pipeline(tmp_path, deep=True)
    path = save(tmp_path / "single.safetensors", _original_names(pipe), {})
    base = describe(path)
    assert base.family == "sd15"
    single = load_pipeline(path, base.family, "float32", "cpu")
    plan = ValidationPlan((), width=64, height=64, steps=2)
    pipe.tokenizer = single.tokenizer  # the tiny folder's tokenizer is not CLIP's
    pipe.set_progress_bar_config(disable=True)
    prompt = Prompt("a", "a red house, été")
    ours, theirs = (np.asarray(render(p, plan, prompt, 1), dtype=int) for p in (single, pipe))
    assert np.abs(ours - theirs).max() <= 1
    assert single.tokenizer("a red house").input_ids == [49406, 320, 736, 1212, 49407]


def test_importing_what_comfyui_needs_loads_no_torch() -> None:
    modules = ("config", "job", "spool", "follow", "run_writer", "base_models", "backends.base")
    code = "import sys\n" + "".join(f"import lora_atelier.trainer.{name}\n" for name in modules)
    code += "import lora_atelier.core.pipelines\n"
    code += "lora_atelier.trainer.backends.base.backend('embedded')\n"
    code += "print(sorted({'torch', 'diffusers', 'peft', 'transformers', 'cv2', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def _original_names(pipe: Any) -> dict[str, np.ndarray]:
    """A pipeline's tensors under the names of single-file checkpoints."""
    result: dict[str, np.ndarray] = {}
    for name, value in pipe.unet.state_dict().items():
        result[f"model.diffusion_model.{_unet_name(name)}"] = value.numpy()
    for name, value in pipe.vae.state_dict().items():
        array = value.numpy()
        if ".attentions." in name and name.endswith("weight") and array.ndim == 2:
            array = array[:, :, None, None]
        result[f"first_stage_model.{_vae_name(name)}"] = array
    for name, value in pipe.text_encoder.state_dict().items():
        result[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value.numpy()
    return result


_RES = [
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1"), ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"), ("conv_shortcut", "skip_connection"),
]  # fmt: skip


def _unet_name(name: str) -> str:
    for new, old in [("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
                     ("conv_norm_out", "out.0"), ("conv_out", "out.2"), ("conv_in", "input_blocks.0.0")]:  # fmt: skip
        if name.startswith(new + "."):
            return name.replace(new, old, 1)
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        place = 1 if match[1] == "attentions" else 2 * int(match[2])
        return f"middle_block.{place}.{_inner(match[3], match[1])}"
    match = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert match, name
    level, number = int(match[2]), int(match[4])
    if match[1] == "down":
        if match[3] == "downsamplers":
            return f"input_blocks.{3 * level + 3}.0.{match[5].replace('conv', 'op', 1)}"
        block, side = 1 + 3 * level + number, "input"
    elif match[3] == "upsamplers":
        return f"output_blocks.{3 * level + 2}.{1 if level == 0 else 2}.{match[5]}"
    else:
        block, side = 3 * level + number, "output"
    return f"{side}_blocks.{block}.{int(match[3] == 'attentions')}.{_inner(match[5], match[3])}"


def _inner(name: str, kind: str) -> str:
    for new, old in _RES if kind == "resnets" else []:
        if name.startswith(new + "."):
            return name.replace(new, old, 1)
    return name


def _vae_name(name: str) -> str:
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
    name = re.sub(r"down_blocks\.(\d)\.(resnets|downsamplers)", r"down.\1.\2", name)
    name = re.sub(r"up_blocks\.(\d)\.(resnets|upsamplers)", lambda m: f"up.{3 - int(m[1])}.{m[2]}", name)
    name = re.sub(r"resnets\.(\d)", r"block.\1", name).replace("conv_shortcut", "nin_shortcut")
    name = name.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    for new, old in [("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")]:
        if "attn_1" in name:
            name = name.replace(f".{new}.", f".{old}.")
    return name
