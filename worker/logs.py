"""The child's output on disk: kept small by rotation, its last lines for messages."""

from __future__ import annotations

import re
from pathlib import Path

MAX_BYTES = 4 * 1024 * 1024
_KEEP = 1024 * 1024
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_MAX_LINE = 2000


def rotate(log: Path, max_bytes: int = MAX_BYTES, keep: int = _KEEP) -> bool:
    """When the log outgrew its limit, keep its last part in `<name>.1` and empty it in place.

    Emptied and not renamed, because the child writes to the open file; it was opened for appending, so its next
    write lands at the new end. Memory stays at `keep` bytes whatever the child prints.
    """
    try:
        if log.stat().st_size <= max_bytes:
            return False
    except OSError:
        return False
    log.with_name(f"{log.name}.1").write_bytes(_last_bytes(log, keep))
    with log.open("r+b") as file:
        file.truncate(0)
    return True


def tail(log: Path, lines: int = 200) -> tuple[str, ...]:
    """The last printed lines, across a rotation, progress-bar rewrites folded, control characters removed."""
    data = b"".join(_last_bytes(path, 256 * 1024) for path in (log.with_name(f"{log.name}.1"), log))
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    cleaned = (_CONTROL.sub("", line).rstrip()[:_MAX_LINE] for line in text.split("\n"))
    return tuple(line for line in cleaned if line)[-lines:]


def _last_bytes(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - count))
            return file.read(count)
    except OSError:
        return b""
