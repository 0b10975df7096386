"""AUTOMATIC1111's web UI: reads its user metadata from `NAME.json`, the card text from `NAME.txt`."""

from __future__ import annotations

from .base import Target, description, webui_fields

TARGET = Target(
    name="a1111",
    title="AUTOMATIC1111 web UI",
    folder="models/Lora",
    hint="Open the Lora tab, press Refresh, click the card, or write <lora:{name}:{strength:g}>.",
    fields=webui_fields,
    text=description,
)
