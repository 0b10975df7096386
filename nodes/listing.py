"""Looking at folders without opening files: which sub-folders there are, and whether something changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.files import sha256_json

_DEPTH = 4  # levels of sub-folders that are offered


def subfolders(root: Path) -> Iterator[tuple[str, Path]]:
    """(relative name, path) of folders below `root` that are not links and not hidden, sorted within a folder."""
    pending = [(root, "", 0)]
    while pending:
        folder, prefix, depth = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                continue
            name = f"{prefix}{entry.name}"
            yield name, Path(entry.path)
            if depth + 1 < _DEPTH:
                pending.append((Path(entry.path), f"{name}/", depth + 1))


def digest(folder: Path) -> str:
    """Changes when a file below `folder` comes, goes, is renamed or written: names, sizes and times, not contents."""
    rows = []
    for directory, names, files in os.walk(folder):
        names.sort()
        for name in sorted(files):
            path = Path(directory, name)
            facts = path.lstat()
            relative = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
            rows.append([relative, facts.st_size, facts.st_mtime_ns])
    return sha256_json(rows)
