"""Names: every spelling that is out there, in both directions, against literal examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_atelier.export import keys
from lora_atelier.export.families import FAMILIES, guess_family

ATTENTION = "down_blocks.0.attentions.1.transformer_blocks.0.attn1"
TEXT = "text_model.encoder.layers.3"

SPELLINGS = [
    (f"unet.{ATTENTION}.to_q.lora_A.weight", f"unet.{ATTENTION}.to_q", "down", "diffusers"),
    (f"unet.{ATTENTION}.to_q.lora_B.default.weight", f"unet.{ATTENTION}.to_q", "up", "diffusers"),
    (f"unet.{ATTENTION}.to_out.0.lora.up.weight", f"unet.{ATTENTION}.to_out.0", "up", "diffusers"),
    (f"unet.{ATTENTION}.processor.to_out_lora.down.weight", f"unet.{ATTENTION}.to_out.0", "down", "diffusers"),
    (f"base_model.model.{ATTENTION}.to_v.lora_A.weight", f"unet.{ATTENTION}.to_v", "down", "diffusers"),
    (f"base_model.model.{TEXT}.mlp.fc1.lora_A.weight", f"text_encoder.{TEXT}.mlp.fc1", "down", "diffusers"),
    (f"unet.base_model.model.{ATTENTION}.to_v.lora_A.weight", f"unet.{ATTENTION}.to_v", "down", "diffusers"),
    (f"text_encoder.{TEXT}.mlp.fc2.lora_linear_layer.up.weight", f"text_encoder.{TEXT}.mlp.fc2", "up", "diffusers"),
    (f"text_encoder.{TEXT}.self_attn.to_k_lora.up.weight", f"text_encoder.{TEXT}.self_attn.k_proj", "up", "diffusers"),
    ("text_encoder.encoder.layers.3.mlp.fc1.lora_A.weight", f"text_encoder.{TEXT}.mlp.fc1", "down", "diffusers"),
    (
        "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0.lora_up.weight",
        f"unet.{ATTENTION}.to_out.0",
        "up",
        "kohya",
    ),
    (
        "lora_te_text_model_encoder_layers_3_self_attn_out_proj.alpha",
        f"text_encoder.{TEXT}.self_attn.out_proj",
        "alpha",
        "kohya",
    ),
    ("lora_te1_text_model_encoder_layers_3_mlp_fc1.lora_down.weight", f"text_encoder.{TEXT}.mlp.fc1", "down", "kohya"),
    (
        "lora_te2_text_model_encoder_layers_3_mlp_fc1.lora_down.weight",
        f"text_encoder_2.{TEXT}.mlp.fc1",
        "down",
        "kohya",
    ),
    (
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.lora_up.weight",
        "unet.input_blocks.4.1.transformer_blocks.0.attn2.to_k",
        "up",
        "comfyui",
    ),
    (
        f"text_encoders.clip_l.transformer.{TEXT}.mlp.fc1.lora_down.weight",
        f"text_encoder.{TEXT}.mlp.fc1",
        "down",
        "comfyui",
    ),
]


@pytest.mark.parametrize(("key", "module", "part", "style"), SPELLINGS)
def test_every_spelling_is_understood(key: str, module: str, part: str, style: str) -> None:
    assert keys.parse(key) == keys.Key(module, part, style)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "lora_unet_",
        "lora_unet_.lora_up.weight",
        "lora_unet_down_blocks_0_banana.lora_up.weight",
        "lora_unet_down_blocks_0_.lora_up.weight",
        "lora_te_text_model_encoder_layers_0_attn1.lora_up.weight",
        "unet.down_blocks.0.banana.lora_A.weight",
        "diffusion_model.input_blocks.1.0.in_layers.0.diff",
        "lora_unet_mid_block_attentions_0_proj_in.hada_w1_a",
        "some.other.weight",
    ],
)
def test_other_names_are_not_guessed(key: str) -> None:
    assert keys.parse(key) is None


# Literal names as sd-scripts writes them: diffusers' block names for SD 1.5, LDM block names for SDXL.
KOHYA_NAMES = [
    (
        "sd15",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
    ),
    ("sd15", "unet.up_blocks.3.attentions.2.proj_out", "lora_unet_up_blocks_3_attentions_2_proj_out"),
    ("sd15", "text_encoder.text_model.encoder.layers.0.mlp.fc1", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
    (
        "sdxl",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    ),
    ("sdxl", "unet.down_blocks.2.attentions.1.proj_in", "lora_unet_input_blocks_8_1_proj_in"),
    (
        "sdxl",
        "unet.mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
        "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj",
    ),
    ("sdxl", "unet.up_blocks.0.attentions.0.proj_out", "lora_unet_output_blocks_0_1_proj_out"),
    (
        "sdxl",
        "unet.up_blocks.1.attentions.2.transformer_blocks.1.attn2.to_v",
        "lora_unet_output_blocks_5_1_transformer_blocks_1_attn2_to_v",
    ),
    ("sdxl", "unet.up_blocks.0.upsamplers.0.conv", "lora_unet_output_blocks_2_2_conv"),
    ("sdxl", "unet.down_blocks.0.downsamplers.0.conv", "lora_unet_input_blocks_3_0_op"),
    ("sdxl", "unet.down_blocks.1.resnets.0.conv_shortcut", "lora_unet_input_blocks_4_0_skip_connection"),
    ("sdxl", "unet.time_embedding.linear_2", "lora_unet_time_embed_2"),
    ("sdxl", "unet.add_embedding.linear_1", "lora_unet_label_emb_0_0"),
    ("sdxl", "unet.conv_out", "lora_unet_out_2"),
    (
        "sdxl",
        "text_encoder.text_model.encoder.layers.11.self_attn.q_proj",
        "lora_te1_text_model_encoder_layers_11_self_attn_q_proj",
    ),
    ("sdxl", "text_encoder_2.text_model.encoder.layers.31.mlp.fc2", "lora_te2_text_model_encoder_layers_31_mlp_fc2"),
]


@pytest.mark.parametrize(("family", "module", "name"), KOHYA_NAMES)
def test_kohya_names_are_those_of_sd_scripts(family: str, module: str, name: str) -> None:
    assert keys.kohya_module(module, FAMILIES[family]) == name


def test_module_counts_are_the_published_ones(all_modules: Callable[[str], list[str]]) -> None:
    for family, unet, text in (("sd15", 192, 72), ("sdxl", 722, 264)):
        plain = [name for name in all_modules(family) if "attentions" in name or name.startswith("text")]
        assert sum(name.startswith("unet.") for name in plain) == unet
        assert sum(name.startswith("text") for name in plain) == text


@pytest.mark.parametrize("family", ["sd15", "sd2", "sdxl"])
@pytest.mark.parametrize("style", ["kohya", "diffusers", "comfyui"])
def test_every_module_finds_its_way_back(
    family: str, style: keys.Format, all_modules: Callable[[str], list[str]]
) -> None:
    modules = all_modules("sdxl" if family == "sdxl" else "sd15")
    written: set[str] = set()
    for module in modules:
        down, up, alpha = keys.tensor_names(module, style, family)
        written |= {down, up}
        for name in filter(None, (down, up, alpha)):
            parsed = keys.parse(name)
            assert parsed is not None, name
            assert keys.canonical(parsed.module, family) == module
    assert len(written) == 2 * len(modules), "two modules share a name"
    assert keys.detect_format(written) == style


@pytest.mark.parametrize("style", ["kohya", "diffusers", "comfyui"])
def test_family_is_seen_from_the_names_alone(style: keys.Format, all_modules: Callable[[str], list[str]]) -> None:
    for family in ("sd15", "sdxl"):
        for chosen in (all_modules(family), [n for n in all_modules(family) if "attn2.to_k" in n]):
            names = [keys.tensor_names(name, style, family)[0] for name in chosen]
            paths = [key.module for name in names if (key := keys.parse(name))]
            assert guess_family(paths, None, {}) == family


def test_header_and_width_decide_where_the_names_cannot() -> None:
    paths = ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"]
    assert guess_family(paths, 1024, {}) == "sd2"
    assert guess_family(paths, 48, {"ss_base_model_version": "sd_v2"}) == "sd2"
    assert guess_family(paths, None, {"ss_base_model_version": "sdxl_base_v1-0"}) == "sd15", (
        "structure beats a wrong header"
    )
    assert (
        guess_family(["text_encoder.text_model.encoder.layers.0.mlp.fc1"], None, {"atelier.family": "sdxl"}) == "sdxl"
    )
    assert guess_family(["text_encoder.text_model.encoder.layers.0.mlp.fc1"], None, {}) is None


@given(
    st.text(max_size=80)
    | st.from_regex(r"(lora_unet|unet)[a-z_.0-9]{0,40}(\.lora_(A|up|down)\.weight|\.alpha)", fullmatch=True)
)
@settings(max_examples=300, deadline=None)
def test_no_name_breaks_the_reader_and_what_it_reads_it_can_write(name: str) -> None:
    key = keys.parse(name)
    if key is not None and key.module.startswith("unet."):
        for style in ("kohya", "diffusers", "comfyui"):
            again = keys.parse(keys.tensor_names(keys.canonical(key.module, "sd15"), style, "sd15")[0])  # type: ignore[arg-type]
            assert again is not None
            assert keys.canonical(again.module, "sd15") == keys.canonical(key.module, "sd15")
