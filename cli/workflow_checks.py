"""What is wrong with an API-format workflow, all at once and before anything runs; mirrors ComfyUI's own checks."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import BadInput

Api = Mapping[str, Mapping[str, Any]]
_NUMBERS = {"INT": int, "FLOAT": float}
_TRUE, _FALSE = {"true", "1", "yes", "on"}, {"false", "0", "no", "off"}


@dataclass(frozen=True)
class Input:
    """One declared input of a node class; `choices` is set for a combo."""

    name: str
    kind: str
    options: Mapping[str, Any]
    required: bool
    choices: tuple[Any, ...] | None = None


@dataclass
class Findings:
    """Problems stop the run, warnings are shown."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def title(api: Api, node_id: str) -> str:
    """How a node is called in messages: its title and id."""
    node = api[node_id]
    name = (node.get("_meta") or {}).get("title") or node.get("class_type", "?")
    return f"{name} ({node_id})"


def is_link(value: Any) -> bool:
    """Whether a workflow value is a wire: [node id, output index]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int


def declared(node_class: Any) -> dict[str, Input]:
    """The declared inputs of a V1 node class, required ones first."""
    types = node_class.INPUT_TYPES()
    found: dict[str, Input] = {}
    for group in ("required", "optional"):
        for name, spec in types.get(group, {}).items():
            found[name] = _input(name, spec, group == "required")
    return found


def hidden(node_class: Any) -> dict[str, str]:
    """{argument: kind} of the hidden inputs."""
    return {name: kind[0] if isinstance(kind, tuple) else kind for name, kind in _hidden(node_class).items()}


def _hidden(node_class: Any) -> Mapping[str, Any]:
    return node_class.INPUT_TYPES().get("hidden", {})


def _input(name: str, spec: tuple[Any, ...], required: bool) -> Input:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, (list, tuple)):
        return Input(name, "COMBO", options, required, tuple(kind))
    if kind == "COMBO":
        return Input(name, "COMBO", options, required, tuple(options.get("options", ())))
    return Input(name, kind, options, required)


def check_shape(value: Any) -> Api:
    """The parsed JSON as an API-format workflow, or BadInput saying what it is instead."""
    if isinstance(value, Mapping) and "nodes" in value and "links" in value:
        raise BadInput(
            "This is a workflow in UI format; the command line runs the API format.",
            "In ComfyUI use 'Export (API)', or take the file of the same name under workflows/api/.",
        )
    usable = isinstance(value, Mapping) and value and all(_is_node(node) for node in value.values())
    if not usable:
        raise BadInput('This is not a workflow in API format (a JSON object of {"class_type", "inputs"} nodes).')
    return value


def _is_node(node: Any) -> bool:
    return isinstance(node, Mapping) and "class_type" in node and isinstance(node.get("inputs", {}), Mapping)


def check(api: Api, classes: Mapping[str, Any]) -> Findings:
    """All problems of the workflow: classes first; wires, values and own validation only once every class is known."""
    findings = Findings()
    for node_id, node in api.items():
        if node["class_type"] not in classes:
            findings.problems.append(_unknown_class(api, node_id, classes))
    if findings.problems:
        return findings
    reached = reachable(api, output_nodes(api, classes))
    if not reached:
        findings.problems.append("the workflow has no output node, so nothing would run")
    for node_id in reached:
        _check_node(api, node_id, classes, findings)
    if not findings.problems and (loop := _cycle(api, reached)):
        findings.problems.append(f"the wires run in a circle through {title(api, loop)}")
    return findings


def output_nodes(api: Api, classes: Mapping[str, Any]) -> list[str]:
    """Ids of the nodes that are wanted for their own sake."""
    return [node_id for node_id, node in api.items() if getattr(classes[node["class_type"]], "OUTPUT_NODE", False)]


def sources(api: Api, node_id: str) -> Iterator[tuple[str, str, int]]:
    """(input name, source node, output index) of every wire into a node."""
    for name, value in api[node_id].get("inputs", {}).items():
        if is_link(value):
            yield name, value[0], value[1]


def reachable(api: Api, roots: list[str]) -> list[str]:
    """The roots and everything upstream of them, in the workflow's own order."""
    seen: set[str] = set()
    pending = list(roots)
    while pending:
        node_id = pending.pop()
        if node_id in seen or node_id not in api:
            continue
        seen.add(node_id)
        pending.extend(source for _, source, _ in sources(api, node_id))
    return [node_id for node_id in api if node_id in seen]


def _unknown_class(api: Api, node_id: str, classes: Mapping[str, Any]) -> str:
    wanted = str(api[node_id]["class_type"])
    return f"node {node_id} has the unknown class {wanted!r}{nearest(wanted, classes)}"


def nearest(wanted: str, known: Any) -> str:
    """' (did you mean ...?)' or nothing."""
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_node(api: Api, node_id: str, classes: Mapping[str, Any], findings: Findings) -> None:
    node_class = classes[api[node_id]["class_type"]]
    if reason := _unsupported(node_class):
        findings.problems.append(f"{title(api, node_id)} {reason}, which the command line does not run")
        return
    inputs, given = declared(node_class), api[node_id].get("inputs", {})
    own_check = _names_checked_by_the_node(node_class)
    before = len(findings.problems)
    for name, spec in inputs.items():
        if name not in given:
            if spec.required:
                findings.problems.append(f"{title(api, node_id)} lacks its input {name!r}")
            continue
        problem = _check_value(api, spec, given[name], classes, ranged=not _covers(own_check, name))
        if problem:
            findings.problems.append(f"{title(api, node_id)}: {name} {problem}")
    for name in given.keys() - inputs.keys() - hidden(node_class).keys():
        findings.warnings.append(f"{title(api, node_id)} has no input {name!r}{nearest(name, inputs)}; it is ignored")
    if len(findings.problems) == before and (problem := _own_check(node_class, inputs, given, own_check)):
        findings.problems.append(f"{title(api, node_id)}: {problem}")


def _unsupported(node_class: Any) -> str | None:
    if getattr(node_class, "INPUT_IS_LIST", False) or any(getattr(node_class, "OUTPUT_IS_LIST", ())):
        return "works on lists"
    if any(spec.options.get("lazy") for spec in declared(node_class).values()):
        return "has lazy inputs"
    if "DYNPROMPT" in hidden(node_class).values():
        return "expands into other nodes"
    return None


def _check_value(api: Api, spec: Input, value: Any, classes: Mapping[str, Any], *, ranged: bool) -> str | None:
    if is_link(value):
        return _check_link(api, spec, value, classes)
    if isinstance(value, list):
        return "must be a value or a wire [node id, output index]"
    try:
        value = coerce(spec, value)
    except ValueError as error:
        return str(error)
    if spec.choices is not None:
        return _check_choice(spec, value) if ranged else None
    return _check_range(spec, value) if ranged and spec.kind in _NUMBERS else None


def _check_link(api: Api, spec: Input, link: list[Any], classes: Mapping[str, Any]) -> str | None:
    source, index = link
    if source not in api:
        return f"comes from node {source}, which is not in the workflow"
    outputs = classes[api[source]["class_type"]].RETURN_TYPES
    if not 0 <= index < len(outputs):
        return f"comes from output {index} of {title(api, source)}, which has {len(outputs)}"
    offered = "COMBO" if isinstance(outputs[index], (list, tuple)) else outputs[index]
    wanted = set(spec.kind.split(","))
    if "*" in wanted or offered == "*" or set(offered.split(",")) & wanted:
        return None
    return f"needs {spec.kind} and gets {offered} from {title(api, source)}"


def coerce(spec: Input, value: Any) -> Any:
    """The value as the node will get it; ValueError with the end of a sentence when that is impossible."""
    if isinstance(value, Mapping) and set(value) == {"__value__"}:
        value = value["__value__"]
    if spec.kind in _NUMBERS:
        return _number(spec, value)
    if spec.kind == "BOOLEAN":
        return _boolean(value)
    if spec.kind == "STRING":
        return str(value)
    if spec.choices is None:
        raise ValueError(f"must be connected to a {spec.kind} output")
    return value


def _number(spec: Input, value: Any) -> int | float:
    try:
        number = _NUMBERS[spec.kind](value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"must be a finite number, not {value!r}")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, (bool, int, float)):
        return bool(value)
    raise ValueError(f"must be true or false, not {value!r}")


def _check_range(spec: Input, value: float) -> str | None:
    low, high = spec.options.get("min", -math.inf), spec.options.get("max", math.inf)
    if low <= value <= high:
        return None
    return f"must be between {low} and {high}, not {value}"


def _check_choice(spec: Input, value: Any) -> str | None:
    choices = spec.choices or ()
    if value in choices:
        return None
    if not choices:
        return f"offers no choice, so {value!r} cannot be taken"
    listed = ", ".join(repr(choice) for choice in choices[:8]) + (", ..." if len(choices) > 8 else "")
    return f"cannot be {value!r}{nearest(str(value), map(str, choices))}; choices: {listed}"


def _names_checked_by_the_node(node_class: Any) -> frozenset[str] | None:
    """Inputs whose value the node checks itself; None when it has no such check, '**' for all."""
    function = getattr(node_class, "VALIDATE_INPUTS", None)
    if function is None:
        return None
    parameters = inspect.signature(function).parameters.values()
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return frozenset({"**"} if open_ended else ()) | {parameter.name for parameter in parameters}


def _covers(own_check: frozenset[str] | None, name: str) -> bool:
    return own_check is not None and (name in own_check or "**" in own_check)


def _own_check(node_class: Any, inputs: Mapping[str, Input], given: Mapping[str, Any], names: Any) -> str | None:
    """Call VALIDATE_INPUTS as ComfyUI does: constants by value, wired inputs as None, missing ones not at all."""
    if names is None:
        return None
    wanted = {name: given[name] for name in inputs if name in given and (name in names or "**" in names)}
    values = {name: None if is_link(value) else coerce(inputs[name], value) for name, value in wanted.items()}
    answer = node_class.VALIDATE_INPUTS(**values)
    return None if answer is True else str(answer or "a value is not accepted").rstrip(".")


def _cycle(api: Api, reached: list[str]) -> str | None:
    """A node on a circle of wires, if there is one."""
    left = {node_id: {source for _, source, _ in sources(api, node_id)} for node_id in reached}
    while free := [node_id for node_id, needs in left.items() if not needs & left.keys()]:
        for node_id in free:
            del left[node_id]
    return next(iter(left), None)
