"""Forge: A1111's rules; calls the LoRA by `ss_output_name`, which the header therefore keeps equal to the file name."""

from __future__ import annotations

from .base import Target, description, webui_fields

TARGET = Target(
    name="forge",
    title="Stable Diffusion WebUI Forge",
    folder="models/Lora",
    hint="Open the Lora tab, press Refresh, click the card, or write <lora:{name}:{strength:g}>.",
    fields=webui_fields,
    text=description,
)
