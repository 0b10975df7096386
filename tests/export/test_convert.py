"""kohya -> diffusers -> ComfyUI -> kohya gives identical tensors, keys and scales; nothing disappears in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_atelier.core import tensorfile
from lora_atelier.core.errors import BadInput
from lora_atelier.export import convert
from lora_atelier.export.convert import Lora, Module

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
Make = Callable[..., Lora]
Names = Callable[[str], list[str]]


def save(lora: Lora, path: Path, style: str, dtype: str = "keep") -> Path:
    tensors = convert.to_tensors(lora, style, dtype=dtype)  # type: ignore[arg-type]
    extra = {convert.ADAPTER_METADATA: convert.adapter_metadata(lora)} if style == "diffusers" else {}
    return tensorfile.save(path, tensors, {"atelier.family": lora.family or ""} | extra)


def same(one: Lora, two: Lora) -> bool:
    if one.modules.keys() != two.modules.keys():
        return False
    pairs = [(one.modules[name], two.modules[name]) for name in one.modules]
    return all(
        np.array_equal(a.down, b.down) and np.array_equal(a.up, b.up) and a.alpha == b.alpha and a.dtype == b.dtype
        for a, b in pairs
    )


@given(
    data=st.data(),
    family=st.sampled_from(["sd15", "sd2", "sdxl"]),
    dtype=st.sampled_from(["fp16", "fp32", "bf16"]),
    path=st.permutations(["kohya", "diffusers", "comfyui"]),
    alpha=st.sampled_from([1.0, 0.5, 16.0, 4.0, 3.0]),
)
@settings(max_examples=25, **QUIET)
def test_round_trips_are_exact(
    tmp_path: Path,
    make_lora: Make,
    all_modules: Names,
    data: st.DataObject,
    family: str,
    dtype: str,
    path: list[str],
    alpha: float,
) -> None:
    names = all_modules("sdxl" if family == "sdxl" else "sd15")
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=12, unique=True))
    chosen.append("unet.down_blocks.1.attentions.0.proj_in")
    lora = make_lora(family, sorted(set(chosen)), rank=4, alpha=alpha)
    mixed = {name: Module(m.down, m.up, alpha if i % 3 else 2.0) for i, (name, m) in enumerate(lora.modules.items())}
    first = save(Lora(mixed, {}, None, family), tmp_path / "0.safetensors", path[-1], dtype)
    start = current = convert.read_lora(first)
    for step, style in enumerate(path):
        current = convert.read_lora(save(current, tmp_path / f"{step + 1}.safetensors", style))
        assert current.format == style
        assert current.problems == ()
        assert same(current, start)
    assert first.read_bytes() == save(current, tmp_path / "end.safetensors", path[-1]).read_bytes()


def test_alpha_is_a_scalar_of_the_tensors_dtype(make_lora: Make, all_modules: Names) -> None:
    lora = make_lora("sd15", all_modules("sd15")[:3], alpha=16)
    for dtype, code in convert.DTYPES.items():
        tensors = convert.to_kohya(lora, dtype=dtype)
        alphas = {name: value for name, value in tensors.items() if name.endswith(".alpha")}
        assert len(alphas) == 3
        assert {tensorfile.dtype_name(value) for value in tensors.values()} == {code}
        assert all((v.data if isinstance(v, tensorfile.Encoded) else v).shape == () for v in alphas.values())


def test_alpha_comes_from_diffusers_header_flat_or_nested(tmp_path: Path, make_lora: Make) -> None:
    names = ["unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_out"]
    names.append("text_encoder.text_model.encoder.layers.0.mlp.fc1")
    lora = make_lora("sd15", names, rank=4)
    tensors = convert.to_tensors(lora, "diffusers", dtype="fp32")
    unet = {"r": 4, "lora_alpha": 8, "alpha_pattern": {"mid_block.attentions.0.proj_out": 2}}
    flat = {f"unet.{key}": value for key, value in unet.items()} | {"text_encoder.lora_alpha": 3}
    for entries in (flat, {"unet": unet, "text_encoder": {"lora_alpha": 3}}):
        path = tensorfile.save(tmp_path / "a.safetensors", tensors, {convert.ADAPTER_METADATA: json.dumps(entries)})
        read = convert.read_lora(path)
        assert [read.modules[name].alpha for name in names] == [8, 2, 3]


def test_alpha_defaults_to_the_rank_and_is_read_from_pefts_own_settings(tmp_path: Path, make_lora: Make) -> None:
    name = "unet.mid_block.attentions.0.proj_in"
    tensors = convert.to_tensors(make_lora("sd15", [name], rank=4), "diffusers", dtype="fp32")
    bare = {key.replace("unet.", "base_model.model."): value for key, value in tensors.items()}
    path = tensorfile.save(tmp_path / "adapter_model.safetensors", bare)
    assert convert.read_lora(path, "sd15").modules[name].alpha == 4
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 6, "use_rslora": True}))
    assert convert.read_lora(path, "sd15").modules[name].alpha == 12


def test_repeats_and_gaps_and_strangers_are_named(make_lora: Make) -> None:
    name = "unet.mid_block.attentions.0.proj_in"
    tensors = dict(convert.to_kohya(make_lora("sd15", [name]), dtype="fp32"))
    arrays = {key: np.asarray(value) for key, value in tensors.items()}
    kohya = "lora_unet_mid_block_attentions_0_proj_in"
    stranger = {"lora_unet_mid_block_attentions_0_proj_out.hada_w1_a": np.ones((2, 2))}
    read = convert.from_tensors(arrays | stranger, family="sd15")
    assert read.problems == ("lora_unet_mid_block_attentions_0_proj_out.hada_w1_a is not a known LoRA tensor name",)
    read = convert.from_tensors({k: v for k, v in arrays.items() if "lora_up" not in k}, family="sd15")
    assert read.problems == (f"{name} has no up tensor",)
    twice = arrays | {f"unet.{name[5:]}.lora_A.weight": arrays[f"{kohya}.lora_down.weight"]}
    assert "are the same tensor" in convert.from_tensors(twice, family="sd15").problems[0]
    crooked = arrays | {f"{kohya}.lora_up.weight": np.ones((8, 3))}
    assert "do not fit together" in convert.from_tensors(crooked, family="sd15").problems[0]
    scalar = arrays | {f"{kohya}.alpha": np.ones(3)}
    assert "is not one number" in convert.from_tensors(scalar, family="sd15").problems[0]


def test_both_kohya_spellings_of_sdxl_are_one_lora(make_lora: Make, all_modules: Names) -> None:
    lora = make_lora("sdxl", all_modules("sdxl")[:40])
    usual = {name: np.asarray(value) for name, value in convert.to_kohya(lora, dtype="fp32").items()}
    other = {}
    for module, weights in lora.modules.items():
        other[f"lora_unet_{module[5:].replace('.', '_')}.lora_down.weight"] = weights.down
        other[f"lora_unet_{module[5:].replace('.', '_')}.lora_up.weight"] = weights.up
        other[f"lora_unet_{module[5:].replace('.', '_')}.alpha"] = np.float32(weights.alpha)
    assert not set(usual) & set(other)
    assert same(convert.from_tensors(usual), convert.from_tensors(other))


def test_without_a_family_only_reading_works(make_lora: Make) -> None:
    lora = make_lora("sd15", ["text_encoder.text_model.encoder.layers.0.mlp.fc1"])
    unknown = convert.from_tensors({k: np.asarray(v) for k, v in convert.to_kohya(lora, dtype="fp32").items()})
    assert unknown.family is None
    with pytest.raises(BadInput, match="which base model"):
        convert.to_kohya(unknown)
    with pytest.raises(BadInput, match="'flux' cannot be exported yet"):
        convert.to_kohya(Lora(lora.modules, {}, None, "flux"))
