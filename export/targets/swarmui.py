"""SwarmUI: fields of `NAME.json` override the header, so they repeat it, plus the default weight."""

from __future__ import annotations

from typing import Any

from ..header import usage_hint
from .base import Bundle, Target, description


def _fields(bundle: Bundle) -> dict[str, Any]:
    size = int(bundle.facts.get("resolution") or bundle.family.resolution)
    fields = {
        "modelspec.title": bundle.card.title,
        "modelspec.author": bundle.card.author,
        "modelspec.description": bundle.card.description,
        "modelspec.license": bundle.card.licence,
        "modelspec.architecture": bundle.family.architecture,
        "modelspec.resolution": f"{size}x{size}",
        "modelspec.trigger_phrase": bundle.trigger,
        "modelspec.usage_hint": usage_hint(bundle.card),
        "modelspec.tags": ", ".join(bundle.card.tags),
        "lora_default_weight": f"{bundle.card.strength:g}",
    }
    return {key: value for key, value in fields.items() if value}  # an empty text would hide what the header says


TARGET = Target(
    name="swarmui",
    title="SwarmUI",
    folder="Models/Lora",
    hint="Open the LoRAs tab and press Refresh; the weight is set by itself.",
    fields=_fields,
    text=description,
)
