"""Write workflows/*.json (UI format 0.4) from workflows/api/*.json: `python scripts/workflows.py [--check]`.

The API files are the source. Ids, links, places, groups and notes follow from them and from the node classes, so the
same input always gives the same file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Api = Mapping[str, Mapping[str, Any]]

WIDTH = 330
GAP_X, GAP_Y = 50, 46  # LiteGraph draws a node's title above its position
COLUMN_HEIGHT = 1330
MARGIN, GROUP_TITLE = 30, 70
TITLE, SLOT, WIDGET, TEXT_BOX, PREVIEW, LINE, FRAME = 12, 20, 24, 96, 230, 15, 42
COLORS = {
    "Dataset": "#3f789e",
    "Captions": "#8A8",
    "Training": "#b58b2a",
    "Validation": "#a1309b",
    "Export": "#b06634",
}
PREVIEWS = {
    "AtelierCurationReport",
    "AtelierTrainLora",
    "AtelierLossCurve",
    "AtelierCheckpointGrid",
    "AtelierQualityCurves",
}
# Lines that a node says after a run (some of them also have a line of progress); one where nothing else is known.
LINES = {
    "AtelierMeasureImages": 5,
    "AtelierCurationReport": 8,
    "AtelierCaptionDataset": 6,
    "AtelierTrainLora": 5,
    "AtelierScoreCheckpoints": 5,
    "AtelierChooseCheckpoint": 7,
    "AtelierExportLora": 7,
    "AtelierRunCard": 4,
    **dict.fromkeys(("AtelierNetwork", "AtelierOptimizer", "AtelierEmbeddedOptions", "AtelierLoraCard"), 0),
    **dict.fromkeys(("AtelierLossCurve", "AtelierCheckpointGrid", "AtelierQualityCurves"), 0),
}
NOTES = {
    "quickstart": (
        "Dataset",
        "## From a folder of pictures to an installed LoRA\n\n"
        '1. Start the worker once, in a terminal: `lora-atelier worker --spool "<ComfyUI>/user/lora_atelier/spool"`. '
        "Train LoRA tells the exact command when none is running.\n"
        "2. Queue this graph. It curates the drawn film frames that come with the pack, trains on the small built-in "
        "model (minutes on a CPU), scores every checkpoint and exports the best one.\n"
        "3. For your own set: choose your folder below `input/`, your checkpoint in Base Model, your words in Caption "
        "Dataset and Validation Plan, and raise resolution and sizes to 512 or 1024.",
    ),
    "curate-only": (
        "Dataset",
        "## Only the filtering\n\n"
        "Choose your folder below `input/`, queue, and open the report below Curation Report. Measurements are kept, "
        "so moving a threshold and queueing again takes moments.",
    ),
    "reopen-run": (
        "Training",
        "## Look again at a training\n\n"
        "Opens the newest run (or one that you choose), has the worker draw what the plan asks for and is not there "
        "yet, and chooses the checkpoint anew: more prompts or seeds narrow the error bars.",
    ),
}


@dataclass(frozen=True)
class Slot:
    """One input of a node class in the order ComfyUI shows it."""

    name: str
    kind: Any
    options: Mapping[str, Any]

    @property
    def widget(self) -> bool:
        return isinstance(self.kind, list) or self.kind in ("INT", "FLOAT", "STRING", "BOOLEAN")


def convert(api: Api, classes: Mapping[str, Any], note: tuple[str, str] | None, version: str) -> dict[str, Any]:
    """The UI-format document of an API-format workflow."""
    ids = {node_id: number for number, node_id in enumerate(api, 1)}
    order = {node_id: place for place, node_id in enumerate(in_order(api))}
    nodes = {node_id: _node(api, node_id, ids, order, classes, version) for node_id in api}
    links = _wire_up(api, ids, nodes, classes)
    groups = _place(api, nodes, classes, order)
    everything = list(nodes.values())
    if note is not None:
        everything.append(_note(len(api) + 1, note[1], groups))
    return {
        "id": f"lora-atelier-{len(api)}",
        "revision": 0,
        "last_node_id": len(everything),
        "last_link_id": len(links),
        "nodes": everything,
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": 0.5, "offset": [120, 160]}},
        "version": 0.4,
    }


def slots(node_class: Any) -> list[Slot]:
    """Inputs of a V1 class: required ones first, as ComfyUI orders them."""
    types = node_class.INPUT_TYPES()
    given = {**types.get("required", {}), **types.get("optional", {})}
    return [Slot(name, spec[0], spec[1] if len(spec) > 1 else {}) for name, spec in given.items()]


def depths(api: Api) -> dict[str, int]:
    """How many wires lie between a node and the farthest source upstream."""
    found: dict[str, int] = {}

    def depth(node_id: str) -> int:
        if node_id not in found:
            found[node_id] = max((depth(source) + 1 for source, _ in wires(api[node_id])), default=0)
        return found[node_id]

    for node_id in api:
        depth(node_id)
    return found


def in_order(api: Api) -> list[str]:
    """Node ids by depth, then by their place in the file."""
    places = list(api)
    deep = depths(api)
    return sorted(api, key=lambda node_id: (deep[node_id], places.index(node_id)))


def wires(node: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(source node id, output index) of every wire into a node."""
    for value in node["inputs"].values():
        if isinstance(value, list):
            yield value[0], value[1]


def _node(
    api: Api,
    node_id: str,
    ids: Mapping[str, int],
    order: Mapping[str, int],
    classes: Mapping[str, Any],
    version: str,
) -> dict[str, Any]:
    kind = api[node_id]["class_type"]
    node_class = classes[kind]
    sockets = [slot for slot in slots(node_class) if not slot.widget]
    made = {
        "id": ids[node_id],
        "type": kind,
        "pos": [0, 0],
        "size": [WIDTH, height(kind, node_class)],
        "flags": {},
        "order": order[node_id],
        "mode": 0,
        "inputs": [{"name": slot.name, "type": slot.kind, "link": None} for slot in sockets],
        "outputs": [
            {"name": name, "type": output, "slot_index": index, "links": []}
            for index, (name, output) in enumerate(zip(node_class.RETURN_NAMES, node_class.RETURN_TYPES, strict=True))
        ],
        "properties": {"cnr_id": "lora-atelier", "ver": version, "Node name for S&R": kind},
        "widgets_values": widget_values(api[node_id]["inputs"], node_class),
    }
    title = api[node_id].get("_meta", {}).get("title")
    return made | ({"title": title} if title else {})


def widget_values(inputs: Mapping[str, Any], node_class: Any) -> list[Any]:
    """Values in the order of the widgets; a seed is followed by what happens to it after a run."""
    values: list[Any] = []
    for slot in slots(node_class):
        if slot.widget:
            values.append(inputs.get(slot.name, slot.options.get("default")))
            if slot.options.get("control_after_generate"):
                values.append("fixed")
    return values


def height(kind: str, node_class: Any) -> int:
    """Room for slots, widgets, and what the node shows after a run, in pixels."""
    every = slots(node_class)
    sockets = sum(not slot.widget for slot in every)
    boxes = sum(bool(slot.options.get("multiline")) for slot in every)
    seeds = sum(bool(slot.options.get("control_after_generate")) for slot in every)
    rows = sum(slot.widget for slot in every) - boxes + seeds
    room = TITLE + SLOT * max(sockets, len(node_class.RETURN_TYPES)) + WIDGET * rows + TEXT_BOX * boxes
    lines = LINES.get(kind, 1)
    return room + (PREVIEW if kind in PREVIEWS else 0) + (LINE * lines + FRAME if lines else 0)


def _wire_up(
    api: Api, ids: Mapping[str, int], nodes: Mapping[str, dict[str, Any]], classes: Mapping[str, Any]
) -> list[list[Any]]:
    links: list[list[Any]] = []
    for node_id, node in nodes.items():
        for place, socket in enumerate(node["inputs"]):
            value = api[node_id]["inputs"].get(socket["name"])
            if not isinstance(value, list):
                continue
            source, index = value
            kind = classes[api[source]["class_type"]].RETURN_TYPES[index]
            links.append([len(links) + 1, ids[source], index, ids[node_id], place, kind])
            socket["link"] = len(links)
            nodes[source]["outputs"][index]["links"].append(len(links))
    for node in nodes.values():
        for output in node["outputs"]:
            output["links"] = output["links"] or None
    return links


def _place(
    api: Api, nodes: Mapping[str, dict[str, Any]], classes: Mapping[str, Any], order: Mapping[str, int]
) -> list[dict[str, Any]]:
    """One group per stage from left to right; inside, columns filled from top to bottom."""
    groups: list[dict[str, Any]] = []
    left = 0
    for stage in COLORS:
        members = [n for n in sorted(api, key=order.__getitem__) if _stage(api, n, classes) == stage]
        if not members:
            continue
        width, tall = _columns([nodes[node_id] for node_id in members], left + MARGIN)
        groups.append(
            {
                "id": len(groups) + 1,
                "title": stage,
                "bounding": [left, -GROUP_TITLE, width + 2 * MARGIN, tall + GROUP_TITLE + MARGIN],
                "color": COLORS[stage],
                "font_size": 24,
                "flags": {},
            }
        )
        left += width + 2 * MARGIN + GAP_X
    return groups


def _stage(api: Api, node_id: str, classes: Mapping[str, Any]) -> str:
    return str(classes[api[node_id]["class_type"]].CATEGORY).split("/")[-1]


def _columns(nodes: list[dict[str, Any]], left: int) -> tuple[int, int]:
    """Give every node its place; returns width and height of the whole."""
    x, y, tallest = left, GAP_Y - MARGIN, 0
    for node in nodes:
        if y > GAP_Y and y + node["size"][1] > COLUMN_HEIGHT:
            x, y = x + WIDTH + GAP_X, GAP_Y - MARGIN
        node["pos"] = [x, y]
        y += node["size"][1] + GAP_Y
        tallest = max(tallest, y - GAP_Y)
    return x + WIDTH - left, tallest


def _note(number: int, text: str, groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A note above the first group."""
    room = 250
    return {
        "id": number,
        "type": "MarkdownNote",
        "pos": [groups[0]["bounding"][0], -GROUP_TITLE - room - 50],
        "size": [2 * WIDTH + GAP_X + 2 * MARGIN, room],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [text],
        "color": "#432",
        "bgcolor": "#653",
    }


def render(name: str) -> str:
    """The text of workflows/<name>.json."""
    from lora_atelier import NODE_CLASS_MAPPINGS

    api = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    document = convert(api, NODE_CLASS_MAPPINGS, NOTES.get(name), version)
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def main() -> int:
    """Write the files, or with --check say which ones are out of step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is out of step")
    check = parser.parse_args().check
    stale = []
    for source in sorted((ROOT / "workflows" / "api").glob("*.json")):
        target, text = ROOT / "workflows" / source.name, render(source.stem)
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            stale.append(target.name)
            if not check:
                target.write_text(text, encoding="utf-8")
    print(("out of step: " if check else "written: ") + (", ".join(stale) or "none"))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
