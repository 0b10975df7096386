"""Runs an API-format workflow without ComfyUI: the same V1 node classes, in the order their wires ask for."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, WorkFailed
from ..core.files import read_json
from .workflow_checks import (
    Api,
    check,
    check_shape,
    coerce,
    declared,
    hidden,
    is_link,
    nearest,
    output_nodes,
    reachable,
    sources,
    title,
)


@dataclass
class Execution:
    """What a finished (or failed) workflow leaves: `outputs` per node and `ui` of the nodes that show something."""

    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def load_workflow(path: Path, sets: Sequence[str] = ()) -> Api:
    """Read an API-format workflow and apply `NODE.INPUT=VALUE` settings."""
    return apply_sets(check_shape(read_json(path)), sets)


def apply_sets(api: Api, sets: Sequence[str]) -> Api:
    """A copy of the workflow with each `NODE.INPUT=VALUE` put in; NODE is an id or a title."""
    changed = {node_id: {**node, "inputs": dict(node.get("inputs", {}))} for node_id, node in api.items()}
    for text in sets:
        target, equals, value = text.partition("=")
        node, dot, name = target.rpartition(".")
        if not equals or not dot or not name:
            raise BadInput(
                f"--set {text!r} is not of the form NODE.INPUT=VALUE.", "Example: --set 'Train LoRA.steps=50'"
            )
        inputs = changed[_find_node(api, node)]["inputs"]
        if name not in inputs:
            raise BadInput(f"--set: node {node!r} has no input {name!r} in this workflow{nearest(name, inputs)}.")
        if is_link(inputs[name]):
            raise BadInput(f"--set: {name!r} of node {node!r} is wired to another node.", "Set the value there.")
        inputs[name] = _parse_value(value, inputs[name])
    return changed


def _find_node(api: Api, wanted: str) -> str:
    if wanted in api:
        return wanted
    titles = {node_id: str((node.get("_meta") or {}).get("title", "")) for node_id, node in api.items()}
    found = [node_id for node_id, name in titles.items() if name.lower() == wanted.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"--set: {len(found)} nodes are called {wanted!r} ({', '.join(found)}).", "Use the node's id.")
    raise BadInput(f"--set: the workflow has no node {wanted!r}{nearest(wanted, [*titles.values(), *api])}.")


def _parse_value(text: str, old: Any) -> Any:
    """Text stays text where the workflow holds text; everywhere else JSON, so that 5, 0.5 and true get their type."""
    if isinstance(old, str):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return {"__value__": value} if isinstance(value, list) else value


def validate_workflow(api: Api, classes: Mapping[str, Any]) -> list[str]:
    """Raise BadInput with every problem at once; return the warnings."""
    findings = check(api, classes)
    if findings.problems:
        count = len(findings.problems)
        head = "The workflow cannot run: " if count == 1 else f"The workflow cannot run ({count} problems): "
        raise BadInput(head + "; ".join(findings.problems) + ".")
    return findings.warnings


def execute(
    api: Api,
    classes: Mapping[str, Any],
    *,
    on_node: Callable[[str, str], None] = lambda node_id, name: None,
    on_ui: Callable[[str, dict[str, Any]], None] = lambda node_id, ui: None,
) -> Execution:
    """Run every node that an output node needs, once each, and collect what they show.

    The workflow must have passed `validate_workflow`. `on_node` is told before a node starts, `on_ui` when it showed
    something. Errors of nodes pass through unchanged.
    """
    done = Execution()
    for node_id in order(api, output_nodes(api, classes)):
        on_node(node_id, title(api, node_id))
        node_class = classes[api[node_id]["class_type"]]
        outputs, ui = _run_node(api, node_id, node_class, done.outputs)
        done.outputs[node_id] = outputs
        if ui:
            done.ui[node_id] = ui
            on_ui(node_id, ui)
    return done


def order(api: Api, roots: list[str]) -> list[str]:
    """Sources before the nodes that use them; otherwise the workflow's own order."""
    left = {node_id: {source for _, source, _ in sources(api, node_id)} for node_id in reachable(api, roots)}
    ordered: list[str] = []
    while left:
        ready = next((node_id for node_id, needs in left.items() if not needs & left.keys()), None)
        if ready is None:
            raise BadInput("The workflow's wires run in a circle.")
        del left[ready]
        ordered.append(ready)
    return ordered


def _run_node(
    api: Api, node_id: str, node_class: Any, outputs: Mapping[str, tuple[Any, ...]]
) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    arguments = _arguments(api, node_id, node_class, outputs)
    answer = getattr(node_class(), node_class.FUNCTION)(**arguments)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_await(answer))
    return _split(api, node_id, node_class, answer)


async def _await(answer: Any) -> Any:
    return await answer


def _arguments(api: Api, node_id: str, node_class: Any, outputs: Mapping[str, tuple[Any, ...]]) -> dict[str, Any]:
    given = api[node_id].get("inputs", {})
    arguments: dict[str, Any] = {}
    for name, spec in declared(node_class).items():
        if name in given:
            value = given[name]
            arguments[name] = outputs[value[0]][value[1]] if is_link(value) else coerce(spec, value)
    supplied = {"UNIQUE_ID": node_id, "PROMPT": api, "EXTRA_PNGINFO": None}
    for name, kind in hidden(node_class).items():
        arguments[name] = supplied.get(kind)
    return arguments


def _split(api: Api, node_id: str, node_class: Any, answer: Any) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
    """A node's answer as (outputs, ui), or WorkFailed when it is not of the declared shape."""
    ui = None
    if isinstance(answer, Mapping):
        if "expand" in answer:
            raise WorkFailed(f"{title(api, node_id)} expands into other nodes, which the command line does not run.")
        ui, answer = answer.get("ui"), answer.get("result", ())
    outputs = tuple(answer) if isinstance(answer, (tuple, list)) else (answer,)
    if answer is None:
        outputs = ()
    if len(outputs) < len(node_class.RETURN_TYPES):
        raise WorkFailed(f"{title(api, node_id)} gave {len(outputs)} of {len(node_class.RETURN_TYPES)} outputs.")
    return outputs, dict(ui) if ui else None
