"""Everything that can be said about a LoRA file without a model: format, ranks, norms per block, header, health."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..core.files import sha256_file
from ..core.tensorfile import file_content_hash
from .checks import check_lora, delta_norm
from .convert import Lora, read_lora
from .families import FAMILIES

_LONG = 300  # header entries are shortened to this many characters


def inspect_lora(path: Path) -> dict[str, Any]:
    """A JSON-able description; `healthy` with `health` says whether it could be exported and why not."""
    lora = read_lora(path)
    check = check_lora(lora, None)
    family = FAMILIES.get(lora.family or "")
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "content_sha256": file_content_hash(path),
        "format": lora.format,
        "family": lora.family,
        "family_title": family.title if family else "unknown",
        "modules": len(lora.modules),
        "components": dict(Counter(name.split(".", 1)[0] for name in lora.modules)),
        "ranks": _counted(module.rank for module in lora.modules.values()),
        "alphas": _counted(f"{module.alpha:g}" for module in lora.modules.values()),
        "dtypes": _counted(module.dtype for module in lora.modules.values()),
        "trigger": _trigger(lora.metadata),
        "norms": block_norms(lora),
        "metadata": {key: _short(value) for key, value in sorted(lora.metadata.items())},
        "unknown": list(lora.problems),
        "healthy": check.ok,
        "health": check.message,
    }


def block_norms(lora: Lora) -> dict[str, float]:
    """Root-sum-square of the layer changes per block (`unet.down_blocks.1`, `text_encoder.layers.3`, …)."""
    squares: dict[str, float] = {}
    for name, module in lora.modules.items():
        block = _block(name)
        squares[block] = squares.get(block, 0.0) + delta_norm(module) ** 2
    return {block: squares[block] ** 0.5 for block in sorted(squares, key=_order)}


def _block(module: str) -> str:
    pieces = module.split(".")
    if pieces[0] == "unet":
        return ".".join(pieces[:3]) if pieces[1] in {"down_blocks", "up_blocks"} else ".".join(pieces[:2])
    if "layers" in pieces:
        return f"{pieces[0]}.layers.{pieces[pieces.index('layers') + 1]}"
    return ".".join(pieces[:2])


def _order(block: str) -> tuple[int, int, int, str]:
    pieces = block.split(".")
    places = {"down_blocks": 1, "mid_block": 2, "up_blocks": 3}
    number = int(pieces[-1]) if pieces[-1].isdecimal() else 0
    return (0 if pieces[0].startswith("text") else 1, places.get(pieces[1], 0), number, block)


def _counted(values: Any) -> dict[str, int]:
    return {str(value): count for value, count in Counter(values).most_common()}


def _trigger(metadata: dict[str, str]) -> str:
    return metadata.get("modelspec.trigger_phrase") or metadata.get("atelier.trigger_words", "")


def _short(value: str) -> str:
    return value if len(value) <= _LONG else f"{value[:_LONG]}… ({len(value):,} characters)"
