"""Keys, headers, sidecars and load checks: one LoRA, installed and explained in every other UI."""

from __future__ import annotations

from .targets import TARGETS

__all__ = ["TARGETS"]
