"""What a curation leaves on disk: `decisions.jsonl`, the report, and the summary that the command line prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import write_json_lines
from ..core.types import Curation, Decision, Reason
from .report import write_report
from .rules import OVERRIDES_NAME, apply_overrides, read_overrides

DECISIONS_NAME = "decisions.jsonl"
REPORT_NAME = "report.html"


def publish(curation: Curation, out: Path, seconds: float = 0.0) -> Curation:
    """Apply `out/overrides.json` and write `decisions.jsonl` and `report.html`; returns the curation with `out` set.

    Everything is checked and made before the first file is written, and each file appears whole.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{str(out)!r} is a file, not a folder.", "Choose another --out.")
    final = replace(apply_overrides(curation, read_overrides(out / OVERRIDES_NAME)), out=str(out.resolve()))
    lines = decision_lines(final)
    write_report(final, out / REPORT_NAME, seconds)
    write_json_lines(out / DECISIONS_NAME, lines)
    return final


def decision_lines(curation: Curation) -> list[dict[str, Any]]:
    """One JSON object per file, in path order: path, sha256, decision, reasons (all of them), measurements."""
    return [_line(curation, decision) for decision in sorted(curation.decisions, key=lambda d: d.path)]


def summary(curation: Curation, seconds: float) -> dict[str, Any]:
    """What `curate --json` prints; `images` counts all files looked at and is the sum of the four piles."""
    piles = Counter(decision.decision for decision in curation.decisions)
    out = Path(curation.out) if curation.out else None
    return {
        "images": len(curation.decisions),
        "kept": piles["keep"],
        "rejected": piles["reject"],
        "doubt": piles["doubt"],
        "skipped": piles["skip"],
        "by_rule": by_rule(curation),
        "seconds": round(seconds, 3),
        "decisions": str(out / DECISIONS_NAME) if out else None,
        "report": str(out / REPORT_NAME) if out else None,
    }


def by_rule(curation: Curation) -> dict[str, int]:
    """How many files each rule (or kind of unusable file) spoke against; a file counts once per rule."""
    names = [str(row["rule"]) for row in curation.rules]
    counts: Counter[str] = Counter()
    for decision in curation.decisions:
        counts.update({reason.rule for reason in decision.reasons})
    return {name: counts[name] for name in dict.fromkeys((*names, *sorted(counts)))}


def _line(curation: Curation, decision: Decision) -> dict[str, Any]:
    reasons = [_reason(reason) for reason in decision.reasons]
    if decision.override:
        text = f"You decided: {decision.decision}."
        reasons.append({"rule": "override", "measured": decision.decision, "limit": None, "message": text})
    return {
        "path": decision.path,
        "sha256": decision.sha256 or None,
        "decision": decision.decision,
        "reasons": reasons,
        "measurements": curation.measurements.get(decision.sha256, {}),
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {"rule": reason.rule, "measured": reason.measured, "limit": reason.limit, "message": reason.message}
