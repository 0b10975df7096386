"""Gates before ranks: which checkpoints are left out, each with the reason a person can read."""

from __future__ import annotations

from .evidence import Evidence

VALID_SHARE = 0.95
COPY_PERCENTILE = 0.1
COPY_SHARE = 0.1


def excluded(evidence: Evidence) -> dict[int, str]:
    """{step: reason} for checkpoints with broken frames or wholesale copies."""
    reasons: dict[int, list[str]] = {}
    for step, reason in [*_frames(evidence), *_copies(evidence), *_nothing(evidence)]:
        reasons.setdefault(step, []).append(reason)
    return {step: "; ".join(found) for step, found in sorted(reasons.items())}


def _frames(evidence: Evidence) -> list[tuple[int, str]]:
    import numpy as np

    tensor = evidence.tensors.get("valid_frame")
    found: list[tuple[int, str]] = []
    for index, step in enumerate(evidence.steps if tensor else ()):
        values = tensor.values[index + 1] if tensor else np.empty(0)
        known = values[np.isfinite(values)]
        if known.size and float((known >= 0.5).mean()) < VALID_SHARE:
            bad = int((known < 0.5).sum())
            found.append((step, f"{bad} of {known.size} pictures are black, flat or broken"))
    return found


def _copies(evidence: Evidence) -> list[tuple[int, str]]:
    import numpy as np

    tensor = evidence.tensors.get("nearest_training_percentile")
    found: list[tuple[int, str]] = []
    for index, step in enumerate(evidence.steps if tensor else ()):
        values = tensor.values[index + 1] if tensor else np.empty(0)
        known = values[np.isfinite(values)]
        share = float((known < COPY_PERCENTILE).mean()) if known.size else 0.0
        if share > COPY_SHARE:
            found.append((step, f"{share:.0%} of the pictures are copies of training pictures"))
    return found


def _nothing(evidence: Evidence) -> list[tuple[int, str]]:
    """Checkpoints of which nothing that can be ranked was measured."""
    import numpy as np

    ranked = [t for t in evidence.tensors.values() if t.metric.direction in ("up", "down") and t.resampled]
    gated = {step for step, _ in _frames(evidence)}
    return [
        (step, "nothing was measured on its pictures")
        for index, step in enumerate(evidence.steps)
        if ranked and step not in gated and not any(np.isfinite(t.values[index + 1]).any() for t in ranked)
    ]
