"""What must not be exported is refused with a sentence and counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lora_atelier.core import tensorfile
from lora_atelier.core.errors import BadInput
from lora_atelier.export import checks
from lora_atelier.export.base import base_modules
from lora_atelier.export.convert import Lora

Make = Callable[..., Lora]
Names = Callable[[str], list[str]]


def base_file(path: Path, lora: Lora, family: str, names: list[str] | None = None) -> Path:
    """A single-file checkpoint whose layers take the LoRA, under the names that such files really use."""
    from lora_atelier.export.families import FAMILIES
    from lora_atelier.export.keys import comfyui_module

    tensors = {}
    for name in names or list(lora.modules):
        module = lora.modules[name]
        shape = (module.up.shape[0], *module.down.shape[1:])
        key = comfyui_module(name, FAMILIES[family]).replace("diffusion_model.", "model.diffusion_model.")
        key = key.replace(
            "text_encoders.clip_l.", "cond_stage_model." if family == "sd15" else "conditioner.embedders.0."
        )
        tensors[f"{key}.weight"] = np.zeros(shape, dtype=np.float16)
    return tensorfile.save(path, tensors)


def test_all_modules_apply_to_a_single_file_base(tmp_path: Path, make_lora: Make, all_modules: Names) -> None:
    for family, count in (("sd15", 264), ("sdxl", 794)):
        names = [n for n in all_modules(family) if "attentions" in n or n.startswith("text_encoder.")]
        lora = make_lora(family, names)
        shapes = base_modules(base_file(tmp_path / "base.safetensors", lora, family), family)
        check = checks.check_lora(lora, shapes)
        assert check.ok
        assert check.message == f"{count} of {count} modules apply to this base model."


def test_sdxls_second_text_encoder_is_found_under_open_clip_names(tmp_path: Path) -> None:
    block = "conditioner.embedders.1.model.transformer.resblocks.7"
    tensors = {
        "model.diffusion_model.middle_block.1.proj_in.weight": np.zeros((8, 8)),
        f"{block}.attn.in_proj_weight": np.zeros((24, 8)),
        f"{block}.attn.in_proj_bias": np.zeros(24),
        f"{block}.attn.out_proj.weight": np.zeros((8, 8)),
        f"{block}.mlp.c_fc.weight": np.zeros((32, 8)),
        f"{block}.mlp.c_proj.weight": np.zeros((8, 32)),
        f"{block}.ln_1.weight": np.zeros(8),
        "conditioner.embedders.1.model.text_projection": np.zeros((8, 6)),
    }
    layer = "text_encoder_2.text_model.encoder.layers.7"
    assert base_modules(tensorfile.save(tmp_path / "xl.safetensors", tensors), "sdxl") == {
        "unet.mid_block.attentions.0.proj_in": (8, 8),
        f"{layer}.self_attn.q_proj": (8, 8),
        f"{layer}.self_attn.k_proj": (8, 8),
        f"{layer}.self_attn.v_proj": (8, 8),
        f"{layer}.self_attn.out_proj": (8, 8),
        f"{layer}.mlp.fc1": (32, 8),
        f"{layer}.mlp.fc2": (8, 32),
        "text_encoder_2.text_projection": (6, 8),
    }


def test_missing_and_wrong_sized_layers_are_counted(tmp_path: Path, make_lora: Make, all_modules: Names) -> None:
    names = [name for name in all_modules("sd15") if "attentions" in name][:10]
    lora = make_lora("sd15", names)
    shapes = base_modules(base_file(tmp_path / "b.safetensors", lora, "sd15", names[:7]), "sd15")
    shapes[names[0]] = (8, 99)
    check = checks.check_lora(lora, shapes)
    assert (check.ok, check.applied, check.total, set(check.unused)) == (False, 6, 10, {names[0], *names[7:]})
    assert check.message.startswith("Only 6 of 10 modules apply to this base model; 1 have another size")
    assert "3 do not exist there" in check.message
    with pytest.raises(BadInput, match="Only 6 of 10"):
        checks.require(check)


def test_a_lora_of_another_family_is_refused_with_its_name(make_lora: Make, all_modules: Names) -> None:
    other = make_lora("sdxl", [name for name in all_modules("sdxl") if "attn2.to_k" in name])
    wide = {n: replace(m, down=np.ones((2, 2048), dtype=np.float32)) for n, m in other.modules.items()}
    shapes = dict.fromkeys(all_modules("sd15"), (8, 8))
    check = checks.check_lora(Lora(wide, {}, "kohya", "sdxl"), shapes)
    assert not check.ok
    assert check.message.startswith(f"Only 0 of {len(wide)} modules apply")
    assert check.message.endswith("The LoRA looks like one for Stable Diffusion XL.")


def test_unusable_values_are_refused(make_lora: Make, all_modules: Names) -> None:
    names = all_modules("sd15")[:4]
    lora = make_lora("sd15", names)
    broken = dict(lora.modules)
    broken[names[1]] = replace(broken[names[1]], up=np.full((8, 2), np.nan, dtype=np.float32))
    check = checks.check_lora(replace(lora, modules=broken), None)
    assert (check.ok, check.message) == (False, f"1 of 4 modules hold NaN or infinity (first: {names[1]}).")
    assert "every layer is zero" in checks.check_lora(make_lora("sd15", names, scale=0.0), None).message
    assert "absurdly much" in checks.check_lora(make_lora("sd15", names, scale=1e4), None).message
    assert checks.check_lora(replace(lora, modules={}), None).message == "It holds no LoRA layer at all."
    strange = replace(lora, problems=("x is not a known LoRA tensor name",))
    assert "x is not a known LoRA tensor name" in checks.check_lora(strange, None).message


def test_norm_equals_that_of_the_full_product(make_lora: Make, all_modules: Names) -> None:
    lora = make_lora("sd15", all_modules("sd15"), rank=3, alpha=6)
    for name in ("unet.conv_in", "unet.mid_block.attentions.0.proj_in"):
        module = lora.modules[name]
        full = 6 / 3 * module.up.reshape(8, 3).astype(float) @ module.down.reshape(3, -1).astype(float)
        assert checks.delta_norm(module) == pytest.approx(np.linalg.norm(full), rel=1e-9)


def test_one_by_one_convolution_and_linear_layer_are_the_same(make_lora: Make) -> None:
    module = make_lora("sd15", ["unet.mid_block.attentions.0.proj_in"]).modules["unet.mid_block.attentions.0.proj_in"]
    assert checks.fits(module, (8, 8))
    assert checks.fits(module, (8, 8, 1, 1))
    assert not checks.fits(module, (8, 8, 3, 3))
    assert not checks.fits(module, None)


def test_something_else_than_a_base_model_is_refused(tmp_path: Path) -> None:
    path = tensorfile.save(tmp_path / "vae.safetensors", {"first_stage_model.x.weight": np.zeros((2, 2))})
    with pytest.raises(BadInput, match="no U-Net layer was found"):
        base_modules(path, "sd15")
    with pytest.raises(BadInput, match="not known yet"):
        base_modules(path, "flux")
