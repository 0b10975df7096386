"""What a target is: a folder layout, a spelling of the keys, and the files beside the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.types import LoraCard
from ..families import Family
from ..header import usage_hint
from ..keys import Format


@dataclass(frozen=True)
class Bundle:
    """What a sidecar may tell: the card, training facts, the base family, and hashes of the weights (hex SHA-256)."""

    name: str
    card: LoraCard
    family: Family
    facts: Mapping[str, Any] = field(default_factory=dict)
    modules: int = 0
    file_sha256: str = ""
    content_sha256: str = ""
    preview: bool = False

    @property
    def trigger(self) -> str:
        return ", ".join(self.card.trigger_words)


@dataclass(frozen=True)
class Target:
    """One UI. `folder` is relative to its installation; names may hold `{name}`; `hint` says how a person gets there.

    `fields` gives the JSON sidecar, `text` the plain description; None where the UI reads none. `own_folder` is True
    where every LoRA is a folder called like it.
    """

    name: str
    title: str
    folder: str
    hint: str
    style: Format = "kohya"
    own_folder: bool = False
    weights: str = "{name}.safetensors"
    fields: Callable[[Bundle], dict[str, Any]] | None = None
    json_name: str = "{name}.json"
    text: Callable[[Bundle], str] | None = None
    text_name: str = "{name}.txt"
    preview: str = "{name}.png"


def webui_fields(bundle: Bundle) -> dict[str, Any]:
    """The fields that A1111, Forge and InvokeAI share."""
    return {
        "description": bundle.card.description,
        "sd version": bundle.family.webui_version,
        "activation text": bundle.trigger,
        "preferred weight": bundle.card.strength,
        "negative text": str(bundle.facts.get("negative") or ""),
        "notes": notes(bundle),
    }


def notes(bundle: Bundle) -> str:
    """Author, licence and how to use it, in one line."""
    parts = [usage_hint(bundle.card)]
    if bundle.card.author:
        parts.append(f"Author: {bundle.card.author}.")
    if bundle.card.licence:
        parts.append(f"Licence: {bundle.card.licence}.")
    return " ".join(parts)


def description(bundle: Bundle) -> str:
    """A few plain lines: title, description, trigger words, strength, base model."""
    base = bundle.facts.get("base_model")
    lines = [
        bundle.card.title,
        bundle.card.description,
        f"Trigger words: {bundle.trigger}" if bundle.trigger else "",
        f"Strength: {bundle.card.strength:g}",
        f"Base model: {bundle.family.title}{f' ({base})' if base else ''}",
        f"Author: {bundle.card.author}" if bundle.card.author else "",
        f"Licence: {bundle.card.licence}" if bundle.card.licence else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"
