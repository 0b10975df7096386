"""InvokeAI: imports by path; splits `activation text` at commas into trigger phrases and ignores the weight."""

from __future__ import annotations

from typing import Any

from .base import Bundle, Target, description, webui_fields


def _fields(bundle: Bundle) -> dict[str, Any]:
    fields = webui_fields(bundle)
    return {key: fields[key] for key in ("description", "activation text", "notes")}


TARGET = Target(
    name="invokeai",
    title="InvokeAI",
    folder="import",
    hint="Model Manager, Add Model, Local Path: give the path of {name}.safetensors.",
    fields=_fields,
    text=description,
)
