"""Files beside the weights: merged with what is already there, so that a person's own notes are never replaced."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import read_json, write_bytes, write_json
from .targets import Bundle, Target

RECORD = "lora atelier"  # what we wrote last time; anything else in the file is the user's

_SIGNATURE = "<!-- written by LoRA Atelier, sha256 of the text above: "


@dataclass(frozen=True)
class Sidecar:
    """One file to stand beside the weights; `kept` is True when the user's own version stays as it is."""

    name: str
    data: bytes | dict[str, Any]
    kept: bool = False

    def write(self, folder: Path) -> Path:
        """Write it whole into `folder`."""
        path = folder / self.name
        return write_bytes(path, self.data) if isinstance(self.data, bytes) else write_json(path, self.data)


def sidecars(target: Target, bundle: Bundle, folder: Path, preview: bytes | None) -> list[Sidecar]:
    """Everything that goes beside the weights in `folder`, given what stands there now."""
    json_name = target.json_name.format(name=bundle.name)
    existing = _existing(folder / json_name) if target.fields else {}
    record = _record(existing)
    plain: list[Sidecar] = []
    if target.text:
        name, text = target.text_name.format(name=bundle.name), target.text(bundle)
        plain.append(_plain(folder, name, text.encode(), record) if target.fields else _signed(folder, name, text))
    if preview and not target.fields:  # a folder that we made; only its text is likely to be edited
        plain.append(Sidecar(target.preview.format(name=bundle.name), preview))
    elif preview:
        plain.append(_plain(folder, target.preview.format(name=bundle.name), preview, record))
    if target.fields is None:
        return plain
    ours, before = target.fields(bundle), record.get("fields", {})
    files = {file.name: _digest(file.data) for file in plain if isinstance(file.data, bytes) and not file.kept}
    # One JSON file may serve several programs that share a folder, so the record grows instead of being replaced.
    new_record = {"fields": {**before, **ours}, "files": {**record.get("files", {}), **files}}
    return [*plain, Sidecar(json_name, {**merge(existing, ours, before), RECORD: new_record})]


def merge(existing: dict[str, Any], ours: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Three-way merge: a value that is not what we wrote `before` belongs to the user and stays, unless it is empty."""
    merged = {key: value for key, value in existing.items() if key != RECORD}
    for key, value in ours.items():
        theirs = merged.get(key)
        if theirs in (None, "", 0, [], {}) or (key in before and theirs == before[key]):
            merged[key] = value
    return merged


def _record(existing: dict[str, Any]) -> dict[str, Any]:
    record = existing.get(RECORD)
    return record if isinstance(record, dict) else {}


def _existing(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds something else than LoRA notes.", "Move it away or choose another name.")
    return value


def _plain(folder: Path, name: str, data: bytes, record: dict[str, Any]) -> Sidecar:
    """A text or picture: replaced only when it is still the one we wrote."""
    path = folder / name
    if path.is_file():
        there = path.read_bytes()
        if _digest(there) != record.get("files", {}).get(name) and there != data:
            return Sidecar(name, there, kept=True)
    return Sidecar(name, data)


def _signed(folder: Path, name: str, text: str) -> Sidecar:
    """A text that tells by its own last line whether somebody edited it since; an edited one stays."""
    path = folder / name
    if path.is_file():
        body, mark, digest = path.read_text(encoding="utf-8", errors="replace").rpartition(_SIGNATURE)
        if not mark or digest.removesuffix(" -->\n") != _digest(body.encode()):
            return Sidecar(name, path.read_bytes(), kept=True)
    return Sidecar(name, f"{text}{_SIGNATURE}{_digest(text.encode())} -->\n".encode())


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
