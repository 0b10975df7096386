"""SD.Next: takes trigger words from CivitAI-shaped `modelVersions`, matched by hash; no ids are invented."""

from __future__ import annotations

from typing import Any

from .base import Bundle, Target, description

_BASE_NAMES = {"sd15": "SD 1.5", "sd2": "SD 2.1 768", "sdxl": "SDXL 1.0"}


def _fields(bundle: Bundle) -> dict[str, Any]:
    version = {
        "name": bundle.card.title,
        "baseModel": _BASE_NAMES[bundle.family.name],
        "trainedWords": list(bundle.card.trigger_words),
        "description": bundle.card.description,
        "files": [
            {
                "name": f"{bundle.name}.safetensors",
                "primary": True,
                "hashes": {
                    "SHA256": bundle.file_sha256.upper(),
                    "AutoV2": bundle.file_sha256[:10].upper(),
                    "AutoV3": bundle.content_sha256[:12].upper(),
                },
            }
        ],
    }
    return {
        "name": bundle.card.title,
        "type": "LORA",
        "description": bundle.card.description,
        "tags": list(bundle.card.tags),
        "modelVersions": [version],
    }


TARGET = Target(
    name="sdnext",
    title="SD.Next",
    folder="models/Lora",
    hint="Open Networks, Lora, press Refresh, click the card.",
    fields=_fields,
    text=description,
)
