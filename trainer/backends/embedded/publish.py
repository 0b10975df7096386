"""Publishing a checkpoint: a file gets its final name only after header, keys and finiteness were checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ....core.errors import WorkFailed
from ....core.files import publish, sha256_file
from ....core.tensorfile import read_header, save, verify_finite


def publish_checkpoint(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> tuple[str, int]:
    """Write, check, rename to `path`; returns (sha256, bytes). WorkFailed, with nothing published, if it is wrong."""
    with publish(path) as temporary:
        save(temporary, tensors, metadata)
        _check(temporary, tensors, metadata, path.name)
        digest, size = sha256_file(temporary), temporary.stat().st_size
    return digest, size


def check_disk(folder: Path, reserve_mb: int, needed_bytes: int = 0) -> None:
    """WorkFailed when writing `needed_bytes` would leave less than the reserve."""
    free = shutil.disk_usage(folder).free
    if free - needed_bytes < reserve_mb * 1_000_000:
        raise WorkFailed(
            f"The disk has {free / 1e6:.0f} MB left, and {reserve_mb} MB are kept in reserve (output.reserve_mb).",
            "Free some space, then resume the run; what was published is whole.",
        )


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files that a killed process left."""
    for folder in folders:
        for path in folder.rglob(".*.tmp") if folder.is_dir() else ():
            path.unlink(missing_ok=True)


def mend_ledger(path: Path) -> None:
    """Cut off a last line that was only partly written, so that the next one does not join it."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def _check(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], name: str) -> None:
    header = read_header(path)
    shapes = {key: info.shape for key, info in header.tensors.items()}
    if shapes != {key: value.shape for key, value in tensors.items()} or header.metadata != dict(metadata):
        raise WorkFailed(f"The checkpoint {name} was not written as it should be and is not published.")
    report = verify_finite(path)
    if report.nonfinite:
        raise WorkFailed(
            f"The checkpoint {name} holds values that are not finite ({len(report.nonfinite)} of {report.tensors} "
            "tensors) and is not published.",
            "Lower the learning rate, or train in bf16 or fp32; earlier checkpoints are kept.",
        )
