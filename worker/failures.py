"""Why a child failed, in one sentence with what to change: read from its exit status and its last lines."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """`kind` is stable and for programs, `message` and `hint` are for people."""

    kind: str
    message: str
    hint: str


# First match wins, and the last lines are searched from the end: the cause is printed last, noise comes before it.
_PATTERNS: tuple[tuple[str, str, str, str], ...] = (
    (
        "gpu_memory",
        r"CUDA out of memory|OutOfMemoryError|HIP out of memory|CUBLAS_STATUS_ALLOC_FAILED|MPS backend out of memory",
        "The GPU ran out of memory.",
        "Lower the batch size or the resolution, switch gradient checkpointing on, or close other programs on the GPU.",
    ),
    (
        "memory",
        r"DefaultCPUAllocator: can't allocate|MemoryError|Cannot allocate memory|std::bad_alloc",
        "The computer ran out of memory.",
        "Lower the batch size or the resolution, or close other programs.",
    ),
    (
        "disk_full",
        r"No space left on device|Disk quota exceeded|There is not enough space on the disk",
        "The disk is full.",
        "Free some space, then resume the run; published checkpoints are whole.",
    ),
    (
        "not_finite",
        r"non-?finite|loss (is|=) ?nan|(loss|values?) (became|is|are) (NaN|inf)",
        "The training left the finite numbers.",
        "Lower the learning rate, or train in bf16 or fp32 instead of fp16.",
    ),
    (
        "missing_module",
        r"ModuleNotFoundError: No module named '(?P<what>[\w.]+)'",
        "The Python package {what!r} is missing in the worker's environment.",
        'Install it there, for example with: pip install "lora-atelier[worker]"',
    ),
    (
        "version_clash",
        r"ImportError: cannot import name '(?P<what>\w+)'|AttributeError: module '(?P<module>[\w.]+)' has no attribute",
        "The installed packages do not fit together (the last lines name the import that failed).",
        'Install the versions this project was tested with: pip install -U "lora-atelier[worker]"',
    ),
    (
        "bad_weights",
        r"SafetensorError|HeaderTooLarge|InvalidHeader|size mismatch for|Error\(s\) in loading state_dict",
        "A model file is damaged or does not belong to this architecture.",
        "Download the base model again, or choose the family that the file was made for.",
    ),
    (
        "bad_picture",
        r"UnidentifiedImageError|image file is truncated|cannot identify image file",
        "A picture of the dataset could not be read.",
        "The last lines name it; remove it or curate the folder again.",
    ),
    (
        "no_device",
        r"No CUDA GPUs are available|Torch not compiled with CUDA|no NVIDIA driver",
        "The chosen device is not there.",
        "Set precision.device to 'auto' or 'cpu', or mend the GPU driver.",
    ),
)
_OWN = re.compile(r"^(?:atelier )?(?:error|BadInput|WorkFailed): (?P<message>.+)$", re.IGNORECASE)
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?(?P<name>\w*(?:Error|Exception|Failed|Input)): ?(?P<message>.*)$")


def classify(exit_code: int | None, lines: Sequence[str]) -> Failure:
    """The most likely cause; falls back on the last exception, then on the exit status alone."""
    for line in reversed(lines):
        for kind, pattern, message, hint in _PATTERNS:
            if found := re.search(pattern, line):
                return Failure(kind, message.format(**found.groupdict()), hint)
        if found := _OWN.match(line):
            return Failure("refused", _sentence(found["message"]), "")
        if found := _EXCEPTION.match(line):
            return Failure("exception", _sentence(f"{found['name']}: {found['message']}"), "logs/output.log has more.")
    return _by_status(exit_code)


def _by_status(exit_code: int | None) -> Failure:
    if exit_code in (-signal.SIGTERM, 128 + signal.SIGTERM):
        return Failure("ended", "Somebody else ended the process.", "Resume the run when you like.")
    if exit_code in (-9, 137):
        message = "The process was killed from outside; the system does that when memory runs out."
        return Failure("killed", message, "Lower the batch size or the resolution, then resume the run.")
    if exit_code is None:
        return Failure("vanished", "The process is gone and left no exit status.", "Resume the run.")
    if exit_code < 0:
        return Failure("crashed", f"The process crashed (signal {-exit_code}).", "logs/output.log has its last lines.")
    return Failure("unknown", f"The process ended with status {exit_code}.", "logs/output.log has its last lines.")


def _sentence(text: str) -> str:
    short = text.strip()[:300]
    return short if short.endswith((".", "!", "?")) else f"{short}."
