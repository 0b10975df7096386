"""The shipped graphs: both formats say the same, nothing overlaps, and the runner accepts them."""

from __future__ import annotations

import importlib.util
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from lora_atelier import NODE_CLASS_MAPPINGS
from lora_atelier.cli.runner import validate_workflow
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


def _writer() -> Any:
    import sys

    spec = importlib.util.spec_from_file_location("atelier_workflow_writer", ROOT / "scripts" / "workflows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


writer = _writer()


def load(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    return api, json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def to_api(ui: dict[str, Any]) -> dict[str, Any]:
    """What ComfyUI's page would send for a UI-format graph (nodes of this pack only)."""
    links = {link[0]: link for link in ui["links"]}
    api: dict[str, Any] = {}
    for node in ui["nodes"]:
        if node["type"] not in NODE_CLASS_MAPPINGS:
            continue
        values, inputs = iter(node["widgets_values"]), {}
        for slot in writer.slots(NODE_CLASS_MAPPINGS[node["type"]]):
            if slot.widget:
                inputs[slot.name] = next(values)
                if slot.options.get("control_after_generate"):
                    assert next(values) == "fixed"
        for place, socket in enumerate(node["inputs"]):
            if socket["link"] is not None:
                _, source, index, target, slot_index, kind = links[socket["link"]]
                assert (target, slot_index) == (node["id"], place)
                assert kind == socket["type"]
                inputs[socket["name"]] = [str(source), index]
        assert next(values, None) is None
        api[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return api


def test_all_graphs_are_there() -> None:
    assert NAMES == ["curate-only", "quickstart", "reopen-run"]


@pytest.mark.parametrize("name", NAMES)
def test_the_ui_file_is_what_the_writer_makes_of_the_api_file(name: str) -> None:
    assert (ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8") == writer.render(name)


@pytest.mark.parametrize("name", NAMES)
def test_ui_and_api_say_the_same(name: str) -> None:
    api, ui = load(name)
    bare = {node_id: {"class_type": n["class_type"], "inputs": n["inputs"]} for node_id, n in api.items()}
    assert to_api(ui) == bare


@pytest.mark.parametrize("name", NAMES)
def test_nothing_overlaps_and_every_node_lies_in_its_group(name: str) -> None:
    _, ui = load(name)
    boxes = {n["id"]: (*n["pos"], n["pos"][0] + n["size"][0], n["pos"][1] + n["size"][1]) for n in ui["nodes"]}
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] + 30 <= b[1] or b[3] + 30 <= a[1]
        assert apart, (one, other)
    for node in ui["nodes"]:
        if node["type"] in NODE_CLASS_MAPPINGS:
            stage = NODE_CLASS_MAPPINGS[node["type"]].CATEGORY.split("/")[1]
            (x, y, w, h) = next(g["bounding"] for g in ui["groups"] if g["title"] == stage)
            box = boxes[node["id"]]
            assert x <= box[0] and y <= box[1] - 30 and box[2] <= x + w and box[3] <= y + h
            assert node["properties"]["cnr_id"] == "lora-atelier"


@pytest.mark.parametrize("name", NAMES)
def test_the_runner_accepts_the_api_file_without_a_warning(name: str, places: Path) -> None:
    api, _ = load(name)
    assert validate_workflow(api, NODE_CLASS_MAPPINGS) == []


def test_the_thumbnail_is_a_picture() -> None:
    with Image.open(ROOT / "workflows" / "quickstart.jpg") as image:
        assert image.format == "JPEG"
        assert min(image.size) >= 256
