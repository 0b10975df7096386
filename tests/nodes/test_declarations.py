"""What every node promises: words for people, sound defaults, help pages, and a pack that loads lightly."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, WEB_DIRECTORY

ROOT = Path(__file__).resolve().parents[2]
NODES = sorted(NODE_CLASS_MAPPINGS.items())
HEAVY = ("torch", "cv2", "diffusers", "peft", "transformers", "matplotlib", "onnxruntime", "scipy", "imagehash")


def declared(node_class: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    types = node_class.INPUT_TYPES()
    return {**types.get("required", {}), **types.get("optional", {})}


@pytest.mark.parametrize(("node_id", "node_class"), NODES)
def test_every_node_explains_itself(node_id: str, node_class: Any) -> None:
    assert node_class.CATEGORY.split("/")[0] == "LoRA Atelier"
    assert node_class.DESCRIPTION.strip().endswith(".")
    assert all(spec[1].get("tooltip", "").strip() for spec in declared(node_class).values())
    assert len(node_class.OUTPUT_TOOLTIPS) == len(node_class.RETURN_TYPES) == len(node_class.RETURN_NAMES)
    assert all(text.strip() for text in node_class.OUTPUT_TOOLTIPS)
    json.dumps(node_class.INPUT_TYPES())  # it travels to the page


@pytest.mark.parametrize(("node_id", "node_class"), NODES)
def test_run_takes_what_is_declared(node_id: str, node_class: Any) -> None:
    parameters = inspect.signature(getattr(node_class, node_class.FUNCTION)).parameters.values()
    names = {parameter.name for parameter in parameters} - {"self"}
    given = {*declared(node_class), *node_class.INPUT_TYPES().get("hidden", {})}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} - {"self"} <= given
    else:
        assert names == given


@pytest.mark.parametrize(("node_id", "node_class"), NODES)
def test_defaults_lie_within_their_own_limits(node_id: str, node_class: Any) -> None:
    for name, (kind, options) in declared(node_class).items():
        if isinstance(kind, list):
            assert not kind or options["default"] in kind, name
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name


@pytest.mark.parametrize(("node_id", "node_class"), NODES)
def test_every_node_has_a_help_page_that_names_all_its_sockets(node_id: str, node_class: Any) -> None:
    page = (ROOT / WEB_DIRECTORY / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {NODE_DISPLAY_NAME_MAPPINGS[node_id]}\n")
    assert "## Example" in page
    missing = [name for name in (*declared(node_class), *node_class.RETURN_NAMES) if f"`{name}`" not in page]
    assert not missing


def test_no_help_page_without_a_node() -> None:
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(NODE_CLASS_MAPPINGS)


def test_mappings_are_literals_with_the_same_keys() -> None:
    """ComfyUI-Manager reads them without running the file."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    keys = {
        node.targets[0].id: ast.literal_eval(ast.List([*map(_not_none, node.value.keys)], ast.Load()))
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name)
    }
    assert keys["NODE_CLASS_MAPPINGS"] == keys["NODE_DISPLAY_NAME_MAPPINGS"] == list(NODE_CLASS_MAPPINGS)
    assert all(key.startswith("Atelier") for key in keys["NODE_CLASS_MAPPINGS"])


def _not_none(key: ast.expr | None) -> ast.expr:
    assert key is not None
    return key


def test_the_pack_and_its_declarations_load_nothing_heavy() -> None:
    code = (
        "import sys, time\n"
        "before = set(sys.modules); began = time.process_time()\n"
        "import lora_atelier\n"
        "seconds = time.process_time() - began\n"
        "[node.INPUT_TYPES() for node in lora_atelier.NODE_CLASS_MAPPINGS.values()]\n"
        "import json; print(json.dumps([seconds, sorted({name.split('.')[0] for name in set(sys.modules) - before})]))"
    )
    subprocess.run([sys.executable, "-c", "import lora_atelier"], cwd=ROOT.parent, check=True)  # compiled once
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, check=True, capture_output=True, text=True)
    seconds, modules = json.loads(done.stdout)
    assert not set(HEAVY) & set(modules)
    assert seconds < 0.15


def test_only_host_asks_for_comfyui() -> None:
    hosts = {"folder_paths", "comfy", "server", "execution", "comfy_execution", "comfy_api", "aiohttp"}
    for path in (ROOT / "nodes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not {name.split(".")[0] for name in names} & hosts, path.name


def test_ids_inputs_and_outputs_are_those_that_saved_graphs_rely_on() -> None:
    """A renamed input breaks people's graphs. Change schema.json only together with the changelog."""
    present = {node_id: schema(node_class) for node_id, node_class in NODES}
    assert present == json.loads((Path(__file__).parent / "schema.json").read_text(encoding="utf-8"))


def schema(node_class: Any) -> dict[str, Any]:
    kinds = {name: "COMBO" if isinstance(spec[0], list) else spec[0] for name, spec in declared(node_class).items()}
    outputs = dict(zip(node_class.RETURN_NAMES, node_class.RETURN_TYPES, strict=True))
    return {"inputs": kinds, "outputs": outputs, "category": node_class.CATEGORY}
