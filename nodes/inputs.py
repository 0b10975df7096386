"""Declare a node's inputs and outputs once, as values; the base class turns them into ComfyUI's V1 attributes."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar

Kind = str | list[str]
WITH_ID: Mapping[str, str] = MappingProxyType({"unique_id": "UNIQUE_ID"})  # hidden input: progress needs the id


@dataclass(frozen=True)
class Input:
    """One socket or widget: a wire or widget type (a list is a choice) and ComfyUI's options for it."""

    kind: Kind
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True

    def v1(self) -> tuple[Kind, dict[str, Any]]:
        """The tuple that stands in `INPUT_TYPES`."""
        return (self.kind, dict(self.options))


@dataclass(frozen=True)
class Output:
    """One output socket with its label and tooltip."""

    kind: str
    name: str
    tooltip: str


class Node:
    """Base of all nodes: subclasses say `STAGE`, `DESCRIPTION`, `OUTPUTS`, `inputs()` and `run`, the rest follows."""

    STAGE: ClassVar[str]
    DESCRIPTION: ClassVar[str]
    OUTPUTS: ClassVar[tuple[Output, ...]] = ()
    HIDDEN: ClassVar[Mapping[str, str]] = MappingProxyType({})
    SEARCH_ALIASES: ClassVar[tuple[str, ...]] = ()
    FUNCTION: ClassVar[str] = "run"
    CATEGORY: ClassVar[str]
    RETURN_TYPES: ClassVar[tuple[str, ...]]
    RETURN_NAMES: ClassVar[tuple[str, ...]]
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls) -> None:
        cls.CATEGORY = f"LoRA Atelier/{cls.STAGE}"
        cls.RETURN_TYPES = tuple(output.kind for output in cls.OUTPUTS)
        cls.RETURN_NAMES = tuple(output.name for output in cls.OUTPUTS)
        cls.OUTPUT_TOOLTIPS = tuple(output.tooltip for output in cls.OUTPUTS)

    @classmethod
    def inputs(cls) -> dict[str, Input]:
        """The node's inputs by argument name, in the order they are shown."""
        raise NotImplementedError

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:
        """ComfyUI's form of `inputs()`."""
        declared = cls.inputs()
        types: dict[str, dict[str, Any]] = {
            "required": {name: entry.v1() for name, entry in declared.items() if entry.required}
        }
        if optional := {name: entry.v1() for name, entry in declared.items() if not entry.required}:
            types["optional"] = optional
        if cls.HIDDEN:
            types["hidden"] = dict(cls.HIDDEN)
        return types


def wire(kind: str, tooltip: str) -> Input:
    """An input that must be connected."""
    return Input(kind, {"tooltip": tooltip})


def choice(options: Sequence[str], tooltip: str, default: str | None = None) -> Input:
    """One of several names."""
    names = list(options)
    chosen = default if default in names else names[0] if names else None
    return Input(names, {"tooltip": tooltip} | ({"default": chosen} if chosen is not None else {}))


def text(default: str, tooltip: str, *, multiline: bool = False, placeholder: str = "") -> Input:
    """Free text."""
    options: dict[str, Any] = {"default": default, "multiline": multiline, "tooltip": tooltip}
    return Input("STRING", options | ({"placeholder": placeholder} if placeholder else {}))


def integer(default: int, low: int, high: int, tooltip: str, step: int = 1) -> Input:
    """A whole number in a range."""
    return Input("INT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip})


def number(default: float, low: float, high: float, tooltip: str, step: float = 0.01) -> Input:
    """A number in a range; `step` is also how finely ComfyUI rounds it."""
    options = {"default": default, "min": low, "max": high, "step": step, "round": step, "tooltip": tooltip}
    return Input("FLOAT", options)


def switch(default: bool, tooltip: str, on: str = "yes", off: str = "no") -> Input:
    """Yes or no."""
    return Input("BOOLEAN", {"default": default, "label_on": on, "label_off": off, "tooltip": tooltip})


def seed(tooltip: str, default: int = 0) -> Input:
    """A seed; fixed after each run unless the user chooses otherwise."""
    options = {"default": default, "min": 0, "max": 2**32 - 1, "control_after_generate": True, "tooltip": tooltip}
    return Input("INT", options)


def optional(entry: Input) -> Input:
    """The same input, allowed to be left out."""
    return replace(entry, required=False)


def lazy(entry: Input) -> Input:
    """The same input, worked out only after the node's `check_lazy_status` has asked for it."""
    return replace(entry, options={**entry.options, "lazy": True})


def advanced(entry: Input) -> Input:
    """The same input, folded away until the user asks for it."""
    return replace(entry, options={**entry.options, "advanced": True})


def of_field(
    owner: type, name: str, tooltip: str = "", *, step: float | None = None, top: float | None = None
) -> Input:
    """The widget of one field of a dataclass or pydantic model: default, range and choices come from there.

    `top` bounds a number whose field has no upper limit; `tooltip` defaults to the field's description.
    """
    annotation, default, description = _field(owner, name)
    kind, limits = _limits(annotation)
    words = tooltip or description
    choices = _choices(kind)
    if choices:
        return choice(choices, words, str(default))
    if kind is bool:
        return switch(bool(default), words)
    if kind is str:
        return text(str(default), words)
    low, high = limits.get("ge", limits.get("gt", 0)), limits.get("le", limits.get("lt", top))
    high = high if high is not None else 1_000_000
    if kind is int:
        low = low + 1 if "gt" in limits else low
        high = high - 1 if "lt" in limits and "le" not in limits else high
        return integer(int(default), int(low), int(high), words, int(step or 1))
    return number(float(default), float(low), float(high), words, step or 0.01)


def _field(owner: type, name: str) -> tuple[Any, Any, str]:
    hints = typing.get_type_hints(owner, include_extras=True)
    model_fields = getattr(owner, "model_fields", None)
    if model_fields is not None:
        info = model_fields[name]
        return hints[name], info.get_default(call_default_factory=True), info.description or ""
    found = next(entry for entry in fields(owner) if entry.name == name)
    default = found.default if found.default is not MISSING else None
    return hints[name], default, ""


def _limits(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """(bare type, {"ge", "gt", "le", "lt"}) of an annotated type; `X | None` counts as X."""
    limits: dict[str, Any] = {}
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            for extra in annotation.__metadata__:
                limits |= _bounds(extra)
            annotation = annotation.__origin__
            continue
        bare = [part for part in typing.get_args(annotation) if part is not type(None)]
        if type(None) in typing.get_args(annotation) and len(bare) == 1:
            annotation = bare[0]
            continue
        return annotation, limits


def _bounds(extra: Any) -> dict[str, Any]:
    """Limits from an `annotated_types` mark or from a pydantic Field that holds several."""
    marks = getattr(extra, "metadata", None) or [extra]
    pairs = ((key, getattr(mark, key, None)) for mark in marks for key in ("ge", "gt", "le", "lt"))
    return {key: value for key, value in pairs if value is not None}


def _choices(annotation: Any) -> tuple[str, ...]:
    return tuple(map(str, typing.get_args(annotation))) if typing.get_origin(annotation) is typing.Literal else ()
