"""Measurements on disk, so that thresholds can move without looking at a picture twice."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SCHEMA = """
CREATE TABLE IF NOT EXISTS measurements (
    sha256 TEXT NOT NULL, detector TEXT NOT NULL, measures INTEGER NOT NULL, content TEXT NOT NULL,
    PRIMARY KEY (sha256, detector, measures)
)
"""


class Cache:
    """A SQLite file (WAL) keyed by content hash, detector name + version, and measures version.

    A cache can only save time: a damaged file is thrown away and made anew, and where no file can be written at all
    everything simply counts as unknown. `note` says so in a sentence.
    """

    def __init__(self, path: Path | None, detector: str, measures: int) -> None:
        self._path = path
        self._key = (detector, measures)
        self._base: sqlite3.Connection | None = None
        self.note = ""

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            self._base = _connect(self._path)
        except sqlite3.DatabaseError:
            self.note = f"The measurement cache {self._path.name} was damaged and has been made anew."
            self._rebuild(self._path)
        except OSError as error:
            self.note = f"Measurements are not cached ({error.strerror or error})."
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        if self._base is not None:
            self._base.close()
            self._base = None

    def get_many(self, hashes: list[str]) -> dict[str, dict[str, Any]]:
        """The known measurements among `hashes`; unreadable rows count as unknown."""
        found: dict[str, dict[str, Any]] = {}
        for sha256 in hashes:
            row = self._row(sha256)
            if row is None:
                continue
            with suppress(ValueError):
                value = json.loads(row)
                if isinstance(value, dict) and isinstance(value.get("subjects"), list):
                    found[sha256] = value
        return found

    def put(self, sha256: str, values: dict[str, Any]) -> None:
        """Remember measurements; they reach the disk at the next `flush`."""
        if self._base is None:
            return
        with self._forgiving():
            content = json.dumps(values, separators=(",", ":"))
            self._base.execute("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?, ?)", (sha256, *self._key, content))

    def flush(self) -> None:
        """Commit what was put so far."""
        if self._base is not None:
            with self._forgiving():
                self._base.commit()

    def _row(self, sha256: str) -> str | None:
        if self._base is None:
            return None
        query = "SELECT content FROM measurements WHERE sha256 = ? AND detector = ? AND measures = ?"
        with self._forgiving():
            row = self._base.execute(query, (sha256, *self._key)).fetchone()
            return row[0] if row and isinstance(row[0], str) else None
        return None

    def _forgiving(self) -> _Forgiving:
        return _Forgiving(self)

    def _rebuild(self, path: Path) -> None:
        for ending in ("", "-wal", "-shm"):
            with suppress(OSError):
                path.with_name(path.name + ending).unlink()
        try:
            self._base = _connect(path)
        except (sqlite3.DatabaseError, OSError) as error:
            self._base = None
            self.note = f"Measurements are not cached ({error})."

    def _give_up(self, error: sqlite3.Error) -> None:
        """A page that turned out to be damaged in the middle of the work, or a full disk."""
        base, self._base = self._base, None
        if base is not None:
            with suppress(sqlite3.Error):
                base.close()
        self.note = f"The measurement cache failed ({error}) and has been put aside."
        if self._path is not None and not isinstance(error, sqlite3.OperationalError):
            self._rebuild(self._path)


class _Forgiving:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, sqlite3.Error):
            self._cache._give_up(error)
            return True
        return False


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(path, timeout=10)
    try:
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute(_SCHEMA)
        columns = [row[1] for row in base.execute("PRAGMA table_info(measurements)")]
        if columns != ["sha256", "detector", "measures", "content"]:
            raise sqlite3.DatabaseError("another schema")
        with closing(base.execute("PRAGMA quick_check(1)")) as check:
            if check.fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
    except BaseException:
        base.close()
        raise
    return base
