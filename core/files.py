"""Names, containment and whole files: nothing half-written ever stands under a final name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import BadInput

_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_MAX_NAME_BYTES = 180  # leaves room for suffixes and temporary endings under the usual 255


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` unchanged when it can stand as one file name on every platform, else raise BadInput."""
    bare = name.strip()
    bad = (
        not bare
        or bare != name
        or _FORBIDDEN.search(name) is not None
        or not name.isprintable()  # broken Unicode, invisible characters, text that turns the reading direction
        or ".." in name
        or name.startswith((".", "-", "~"))
        or name.endswith((".", " "))
        or name.split(".")[0].lower() in _RESERVED
        or len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES
        or unicodedata.normalize("NFC", name) != name
    )
    if bad:
        raise BadInput(
            f"The {what} {name[:80]!r} cannot be used as a file name.",
            "Use letters, digits, spaces, '.', '_' and '-', without '..' or a path.",
        )
    return name


def inside(root: Path, relative: str | Path) -> Path:
    """Resolve `relative` under `root`; raise BadInput when it would leave the root (also through links)."""
    base = root.resolve()
    target = (base / relative).resolve()
    if target != base and base not in target.parents:
        raise BadInput(f"{str(relative)[:120]!r} leads outside {base.name!r}.", "Choose a path inside that folder.")
    return target


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; on success sync it and rename it to `path`, on failure remove it.

    The file under the final name is therefore always whole, also after a kill or a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync_directory(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a whole file atomically."""
    with publish(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write a whole UTF-8 file atomically."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON document atomically."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def append_json_line(path: Path, value: Any, *, sync: bool = False) -> None:
    """Append one JSON line in a single write; `sync` also survives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8")
    with path.open("ab") as file:
        file.write(line)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def write_json_lines(path: Path, values: list[Any]) -> Path:
    """Write a whole JSON-lines file atomically."""
    lines = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values)
    return write_text(path, "".join(f"{line}\n" for line in lines))


def read_json(path: Path) -> Any:
    """Read a JSON document; raise BadInput with the file's name when it is not one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist.", "Check the path.") from error
    except (ValueError, OSError) as error:
        raise BadInput(f"{path} is not readable JSON ({error}).") from error


def read_json_lines(path: Path) -> list[Any]:
    """Read a JSON-lines file; a torn last line (the writer was killed) is dropped, a broken earlier one is an error."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    values: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise BadInput(f"{path}, line {number}, is not JSON ({error}).") from error
    return values


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # directories cannot be opened for syncing there; the rename itself is journalled by NTFS
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
