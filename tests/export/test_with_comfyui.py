"""Our names against ComfyUI's own table of which diffusers name belongs to which layer of its models."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_atelier.export.families import FAMILIES, block_names
from lora_atelier.export.keys import comfyui_module

pytestmark = pytest.mark.comfyui

# The U-Net settings that ComfyUI detects in these checkpoints (comfy/supported_models.py, comfy/model_detection.py).
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    },
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}


def _comfyui_table(family: str) -> dict[str, str]:
    """{diffusers tensor name: ComfyUI tensor name}, by running the function as it stands in ComfyUI's source."""
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        pytest.skip("set COMFYUI_DIR to a ComfyUI checkout")
    tree = ast.parse((Path(folder) / "comfy" / "utils.py").read_text(encoding="utf-8"))
    wanted = ("UNET_MAP", "TRANSFORMER_BLOCKS")
    body = [
        node
        for node in tree.body
        if (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith(wanted))
        or (isinstance(node, ast.FunctionDef) and node.name == "unet_to_diffusers")
    ]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), "comfy/utils.py", "exec"), space)  # noqa: S102 - ComfyUI's code is the oracle
    return space["unet_to_diffusers"](CONFIGS[family])


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_every_module_stands_where_comfyui_looks(family: str, all_modules: Callable[[str], list[str]]) -> None:
    table = _comfyui_table(family)
    for module in all_modules(family):
        if module.startswith("unet."):
            theirs = table[f"{module.removeprefix('unet.')}.weight"]
            assert comfyui_module(module, FAMILIES[family]) == f"diffusion_model.{theirs.removesuffix('.weight')}"


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_no_block_is_missing_from_our_table(family: str) -> None:
    known = {ldm for _, ldm in block_names(family)}
    last = max(level for level in range(len(FAMILIES[family].attention)))
    for theirs, name in _comfyui_table(family).items():
        impossible = (f"down_blocks.{last}.downsamplers", f"up_blocks.{last}.upsamplers", "class_embedding")
        if theirs.startswith(impossible) or (family == "sd15" and theirs.startswith("add_embedding")):
            continue  # listed there for every family, present in none or in others
        assert any(name.startswith(f"{prefix}.") for prefix in known), theirs
