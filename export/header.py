"""The text part of an exported file: modelspec and kohya keys, thumbnail, true hashes, nothing private.

Keys: Stability-AI/ModelSpec README 1.0.1 and kohya-ss/sd-scripts `train_network.py`. Limits: ComfyUI serves headers up
to 1 MiB.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ..core.errors import BadInput
from ..core.images import PictureError, open_rgb
from ..core.tensorfile import content_hash
from ..core.types import LoraCard
from .convert import ADAPTER_METADATA, Lora, Tensors
from .families import Family, family_of

MAX_METADATA_BYTES = 600_000  # with the tensor table of the largest SDXL LoRA the header stays below 1 MiB
MAX_THUMBNAIL_BYTES = 30 * 1024
MAX_TAGS = 200
MARK = "atelier.exported"  # tells our files from others with the same name

# Written anew below, or meaningless once the header changes.
_REPLACED = re.compile(r"^(modelspec\..*|sshs_.*|ss_output_name|ss_new_.*|format|atelier\.exported)$")
_PRIVATE = re.compile(r"^ss_(training_comment|dataset_dirs|session_id|reg_dataset_dirs|sd_scripts_commit_hash)$")
_SECRET = re.compile(r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})")
_FOLDERS = re.compile(r"(?:file://|(?<![\w:/.\\])(?:[A-Za-z]:|~|\\\\)?)[\\/](?:[^\\/\"'\s][^\\/\"'\n]{0,120}[\\/]+)+")


def build_metadata(
    lora: Lora,
    tensors: Tensors,
    *,
    name: str,
    card: LoraCard,
    facts: Mapping[str, Any],
    thumbnail: str = "",
    now: datetime | None = None,
) -> dict[str, str]:
    """All header entries of a file to be called `name`; hashes are those of the tensors as they will be stored.

    `thumbnail` is a data URI (see `make_thumbnail`).
    """
    rules = family_of(lora.family or "")
    digest = content_hash(tensors)
    inherited, _ = scrub(inheritable(lora.metadata))
    metadata = inherited | _kohya(lora, rules, name, facts, inherited) | _modelspec(rules, card, facts, now)
    metadata |= {"modelspec.hash_sha256": f"0x{digest}", "sshs_model_hash": digest, MARK: "1"}
    metadata["modelspec.thumbnail"] = thumbnail
    return _limited({key: value for key, value in metadata.items() if value})


def inheritable(metadata: Mapping[str, str]) -> dict[str, str]:
    """Entries of the source file that may live on: the trainer's record, without what describes the old file."""
    kept = {k: v for k, v in metadata.items() if not _REPLACED.match(k) and k != ADAPTER_METADATA and v != "None"}
    return {key: value for key, value in kept.items() if key.startswith(("ss_", "atelier."))}


def scrub(metadata: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Remove folders, tokens and private entries; also says which entries were changed or left out."""
    clean: dict[str, str] = {}
    changed: list[str] = []
    for key, value in metadata.items():
        text = value if value.startswith("data:image/") else scrub_text(value)
        if _PRIVATE.match(key):
            changed.append(key)
            continue
        clean[key] = text
        if text != value:
            changed.append(key)
    return clean, tuple(changed)


def scrub_text(text: str) -> str:
    """Paths keep only their last part; access tokens disappear."""
    return _SECRET.sub("***", _FOLDERS.sub("", text))


def make_thumbnail(path: Path) -> str:
    """A 256 x 256 JPEG data URI of at most 30 KB."""
    image = ImageOps.fit(picture(path), (256, 256), Image.Resampling.LANCZOS)
    for quality in (88, 80, 70, 60, 45, 30, 15, 5):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
        if len(uri) <= MAX_THUMBNAIL_BYTES:
            return uri
    raise BadInput(f"No thumbnail below 30 KB could be made of {path.name}.", "Choose another preview picture.")


def preview_png(path: Path, longest_side: int = 512) -> bytes:
    """The preview as PNG without any embedded text (a workflow or a prompt may hold private paths)."""
    image = picture(path)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def picture(path: Path) -> Image.Image:
    """The preview picture, upright RGB; BadInput when it cannot be read."""
    try:
        return open_rgb(path).copy()
    except PictureError as error:
        raise BadInput(f"The preview picture {path.name} cannot be used: {error}") from error
    except OSError as error:
        raise BadInput(f"The preview picture {path} cannot be read.", "Check the path.") from error


def _modelspec(rules: Family, card: LoraCard, facts: Mapping[str, Any], now: datetime | None) -> dict[str, str]:
    size = int(facts.get("resolution") or rules.resolution)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": rules.architecture,
        "modelspec.implementation": rules.implementation,
        "modelspec.title": card.title,
        "modelspec.resolution": f"{size}x{size}",
        "modelspec.date": stamp.isoformat(),
        "modelspec.description": card.description,
        "modelspec.author": card.author,
        "modelspec.license": card.licence,
        "modelspec.trigger_phrase": ", ".join(card.trigger_words),
        "modelspec.tags": ", ".join(card.tags),
        "modelspec.usage_hint": usage_hint(card),
        "modelspec.prediction_type": str(facts.get("prediction_type") or "epsilon"),
    }


def usage_hint(card: LoraCard) -> str:
    """One sentence for people: strength and trigger words."""
    words = f" Put “{', '.join(card.trigger_words)}” into the prompt." if card.trigger_words else ""
    return f"Recommended strength {card.strength:g}.{words}"


def _kohya(
    lora: Lora, rules: Family, name: str, facts: Mapping[str, Any], inherited: Mapping[str, str]
) -> dict[str, str]:
    """sd-scripts' own keys; values that its training wrote stay, except those that name this file."""
    ranks = Counter(module.rank for module in lora.modules.values()).most_common(1)
    alphas = Counter(module.alpha for module in lora.modules.values()).most_common(1)
    size = facts.get("resolution")
    found: dict[str, Any] = {
        "ss_base_model_version": rules.base_version,
        "ss_sd_model_name": facts.get("base_model"),
        "ss_sd_model_hash": facts.get("base_sha256"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": ranks[0][0] if ranks else None,
        "ss_network_alpha": f"{alphas[0][0]:g}" if alphas else None,
        "ss_resolution": f"({size}, {size})" if size else None,
        "ss_num_train_images": facts.get("images"),
        "ss_steps": facts.get("steps"),
        "ss_epoch": facts.get("epochs"),
        "ss_learning_rate": facts.get("learning_rate"),
        "ss_optimizer": facts.get("optimizer"),
        "ss_seed": facts.get("seed"),
        "ss_training_started_at": facts.get("started"),
        "ss_training_finished_at": facts.get("ended"),
        "ss_v2": str(rules.name == "sd2"),
        "ss_tag_frequency": _tag_table(name, facts.get("tags")),
    }
    written = {key: scrub_text(str(value)) for key, value in found.items() if value is not None}
    return {"ss_output_name": name} | {k: v for k, v in written.items() if k not in inherited}


def _tag_table(name: str, tags: Mapping[str, int] | None) -> str | None:
    """kohya's `{folder: {tag: count}}`, most frequent first and not without end."""
    if not tags:
        return None
    return json.dumps({name: dict(Counter(dict(tags)).most_common(MAX_TAGS))}, ensure_ascii=False)


def _limited(metadata: dict[str, str]) -> dict[str, str]:
    """Leave out the largest inherited entries until the header is small enough to be served."""
    total = sum(len(key.encode()) + len(json.dumps(value).encode()) + 2 for key, value in metadata.items())
    for key in sorted(metadata, key=lambda k: -len(metadata[k])):
        if total <= MAX_METADATA_BYTES:
            break
        if not key.startswith("modelspec."):
            total -= len(key.encode()) + len(json.dumps(metadata.pop(key)).encode()) + 2
    if total > MAX_METADATA_BYTES:
        raise BadInput("The texts of the card are too long for a file header.", "Shorten the description.")
    return metadata
