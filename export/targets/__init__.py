"""Where each UI looks and what it reads beside the weights; one small file per UI (sources: docs/targets.md)."""

from __future__ import annotations

from . import a1111, comfyui, diffusers, forge, invokeai, sdnext, swarmui
from .base import Bundle, Target

TARGETS: dict[str, Target] = {
    module.TARGET.name: module.TARGET for module in (comfyui, a1111, forge, invokeai, swarmui, sdnext, diffusers)
}

__all__ = ["TARGETS", "Bundle", "Target"]
