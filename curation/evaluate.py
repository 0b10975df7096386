"""How right the filter is, against pictures whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import BadInput
from ..core.files import read_json_lines
from ..core.types import Curation, Decision

# Which rule answers for which fault.
FAULTS: dict[str, tuple[str, ...]] = {
    "several": ("character_count",),
    "detail": ("face_detail",),
    "back": ("view",),
    "silhouette": ("view",),
    "tiny": ("subject_size",),
    "framing": ("framing_consistency",),
    "none": ("character_count",),
}
_LABEL_FIELDS = {"characters", "face_detail", "view"}


@dataclass(frozen=True)
class Truth:
    """What is wrong with a picture (None: nothing) and, where labelled, its domain (drawn, photo)."""

    file: str
    fault: str | None
    domain: str | None


def against_truth(curation: Curation, truth: Path) -> dict[str, Any]:
    """Precision and recall of "keep" (overall, per domain) and of each rule's rejections.

    `truth` has one JSON object per line: either `{"file", "fault": null or a key of FAULTS}` or the labels
    `{"file", "characters", "face_detail": clear|lost|none, "view"}`, both optionally with "domain". A skipped picture
    counts as not kept. Returns {"pictures", "unlabelled", "keep": {...}, "keep_by_domain": {...}, "rules": {...},
    "verdicts_by_fault": {fault: {verdict: n}}}; every score is {"precision", "recall", "tp", "fp", "fn", "tn"}, those
    of rules also "other" (see `_rule_score`).
    """
    rows = _pair(curation, read_truth(truth))
    if not rows:
        raise BadInput(f"{truth.name} names none of the pictures.", "Its `file` fields must match the curated folder.")
    domains = sorted({row.domain for _, row in rows if row.domain})
    return {
        "pictures": len(rows),
        "unlabelled": len(curation.decisions) - len(rows),
        "keep": _keep_score(rows),
        "keep_by_domain": {domain: _keep_score([r for r in rows if r[1].domain == domain]) for domain in domains},
        "rules": {rule: _rule_score(rows, rule) for rule in sorted({str(row["rule"]) for row in curation.rules})},
        "verdicts_by_fault": _by_fault(rows),
    }


def read_truth(path: Path) -> list[Truth]:
    """The truth file's rows; BadInput names the first line that cannot be understood."""
    if not path.is_file():
        raise BadInput(f"The truth file {path} does not exist.", "Check the path.")
    return [_truth(path, number, row) for number, row in enumerate(read_json_lines(path), 1)]


def _truth(path: Path, number: int, row: Any) -> Truth:
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise BadInput(f"{path.name}, line {number}, has no `file`.")
    domain = row.get("domain")
    fault: Any = row.get("fault") if "fault" in row else _fault_of_labels(path, number, row)
    if fault is not None and fault not in FAULTS:
        raise BadInput(f"{path.name}, line {number}: unknown fault {fault!r}.", f"Known: {', '.join(FAULTS)}.")
    return Truth(row["file"], fault, domain if domain in ("drawn", "photo") else None)


def _fault_of_labels(path: Path, number: int, row: dict[str, Any]) -> str | None:
    if not row.keys() >= _LABEL_FIELDS:
        raise BadInput(f"{path.name}, line {number}, has neither `fault` nor {', '.join(sorted(_LABEL_FIELDS))}.")
    if row["characters"] != 1:
        return "several" if row["characters"] else "none"
    if row["view"] in ("back", "silhouette"):
        return str(row["view"])
    return None if row["face_detail"] == "clear" else "detail"


def _pair(curation: Curation, truths: list[Truth]) -> list[tuple[Decision, Truth]]:
    """Match by path, else by file name when that is unambiguous."""
    by_path = {decision.path: decision for decision in curation.decisions}
    by_name: dict[str, list[Decision]] = {}
    for decision in curation.decisions:
        by_name.setdefault(PurePosixPath(decision.path).name, []).append(decision)
    pairs: list[tuple[Decision, Truth]] = []
    for truth in truths:
        same_name = by_name.get(PurePosixPath(truth.file).name, [])
        found = by_path.get(truth.file) or (same_name[0] if len(same_name) == 1 else None)
        if found is not None:
            pairs.append((found, truth))
    return pairs


def _keep_score(rows: list[tuple[Decision, Truth]]) -> dict[str, Any]:
    return _score([(decision.decision == "keep", truth.fault is None) for decision, truth in rows])


def _rule_score(rows: list[tuple[Decision, Truth]], rule: str) -> dict[str, Any]:
    """A rule is right when it rejects a picture with one of its faults, wrong when it rejects a good one.

    Doubts are not rejections. Truth names one fault per picture, but a tiny face is also unreadable: rejections of
    pictures with another rule's fault are neither right nor wrong and are counted in `other`.
    """
    faults = {fault for fault, rules in FAULTS.items() if rule in rules and fault != "none"}
    own = [(decision, truth) for decision, truth in rows if truth.fault is None or truth.fault in faults]
    score = _score([(_rejects(decision, rule), truth.fault is not None) for decision, truth in own])
    return {**score, "other": sum(_rejects(d, rule) for d, t in rows) - score["tp"] - score["fp"]}


def _rejects(decision: Decision, rule: str) -> bool:
    return any(reason.rule == rule and reason.verdict == "reject" for reason in decision.reasons)


def _by_fault(rows: list[tuple[Decision, Truth]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for decision, truth in rows:
        row = table.setdefault(truth.fault or "good", {})
        row[decision.decision] = row.get(decision.decision, 0) + 1
    return table


def _score(pairs: list[tuple[bool, bool]]) -> dict[str, Any]:
    tp = sum(said and true for said, true in pairs)
    fp = sum(said and not true for said, true in pairs)
    fn = sum(true and not said for said, true in pairs)
    precision = tp / (tp + fp) if tp + fp else None
    recall = tp / (tp + fn) if tp + fn else None
    rounded = [None if value is None else round(value, 4) for value in (precision, recall)]
    return {
        "precision": rounded[0],
        "recall": rounded[1],
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": len(pairs) - tp - fp - fn,
    }
