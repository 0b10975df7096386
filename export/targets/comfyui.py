"""ComfyUI: lists every file under models/loras, shows `NAME.png`, serves the header up to 1 MiB."""

from __future__ import annotations

from .base import Target, description, webui_fields

TARGET = Target(
    name="comfyui",
    title="ComfyUI",
    folder="models/loras",
    hint="Choose {name}.safetensors in the Load LoRA node (press R to refresh the list).",
    fields=webui_fields,
    text=description,
)
