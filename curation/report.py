"""The curation report: one HTML file that shows every reason with its numbers and needs nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.files import inside, write_text
from ..core.images import PictureError, data_uri, open_array
from ..core.types import Curation, Decision, Reason
from . import facts
from .histogram import Histogram, framing_histogram

CARDS_PER_GROUP = 60  # thumbnails; a page of 4776 pictures would weigh 30 MB
CARDS_KEPT = 120
_THUMBNAIL = 220  # pixels, longest side
_LABELS = {
    "character_count": "Character count",
    "face_detail": "Face detail",
    "view": "View",
    "subject_size": "Subject size",
    "framing_consistency": "Framing consistency",
}


@dataclass(frozen=True)
class Stage:
    """One bar of the funnel: how many files are still in, and what became of those that left here."""

    label: str
    left: int
    note: str


@dataclass(frozen=True)
class Card:
    """One picture: thumbnail (data URI or None), width over height, face box in percent, notes (label, sentence)."""

    path: str
    thumbnail: str | None
    ratio: float
    box: tuple[float, float, float, float] | None
    notes: tuple[tuple[str, str], ...]
    facts: str
    override: str


@dataclass(frozen=True)
class Group:
    """Pictures of one pile with the same main reason; `total` may exceed the cards shown."""

    title: str
    total: int
    cards: tuple[Card, ...]


def write_report(curation: Curation, path: Path, seconds: float = 0.0) -> Path:
    """Render the report of a decided curation into `path`, whole or not at all."""
    return write_text(path, render(curation, seconds))


def render(curation: Curation, seconds: float = 0.0) -> str:
    """The report as HTML text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).with_name("templates")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters["short"] = _short
    return environment.get_template("curation.html.j2").render(
        **_counts(curation),
        root=curation.images.root_id,
        detector=curation.detector,
        seconds=seconds,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        stages=funnel(curation),
        histogram=_drawn(framing_histogram(curation)),
        rejected=_groups(curation, "reject"),
        doubts=_groups(curation, "doubt"),
        kept=_group(curation, "Kept", [d for d in curation.decisions if d.decision == "keep"], CARDS_KEPT),
        skipped=[d for d in curation.decisions if d.decision == "skip"],
        rules=[_rule_row(row) for row in curation.rules],
    )


def funnel(curation: Curation) -> list[Stage]:
    """From all files to the kept ones: what each rule rejects in the order of the rules, then what is in doubt."""
    usable = [decision for decision in curation.decisions if decision.decision != "skip"]
    skipped = len(curation.decisions) - len(usable)
    stages = [Stage("All files", len(curation.decisions), "")]
    if skipped:
        stages.append(Stage("Usable pictures", len(usable), f"{skipped} skipped"))
    left = usable
    for row in curation.rules:
        before, left = left, [decision for decision in left if not _rejects(decision, str(row["rule"]))]
        gone = len(before) - len(left)
        stages.append(Stage(label(str(row["rule"])), len(left), f"{gone} rejected" if gone else ""))
    doubts = sum(bool(decision.reasons) for decision in left)
    if doubts:
        stages.append(Stage("Without doubts", len(left) - doubts, f"{doubts} in doubt"))
    overrides = sum(decision.override for decision in usable)
    kept = sum(decision.decision == "keep" for decision in usable)
    return [*stages, Stage("Kept", kept, f"{overrides} decided by you" if overrides else "")]


def _rejects(decision: Decision, rule: str) -> bool:
    return any(reason.rule == rule and reason.verdict == "reject" for reason in decision.reasons)


def label(rule: str) -> str:
    """A rule's or skip reason's name for people."""
    return _LABELS.get(rule, rule.replace("_", " ").capitalize())


def _counts(curation: Curation) -> dict[str, int]:
    verdicts = [decision.decision for decision in curation.decisions]
    return {
        "total": len(verdicts),
        "n_kept": verdicts.count("keep"),
        "n_rejected": verdicts.count("reject"),
        "n_doubt": verdicts.count("doubt"),
        "n_skipped": verdicts.count("skip"),
    }


def _groups(curation: Curation, verdict: str) -> list[Group]:
    """One group per main reason: the first that carries the verdict."""
    members: dict[str, list[Decision]] = {}
    for decision in curation.decisions:
        if decision.decision == verdict:
            members.setdefault(_main_reason(decision, verdict), []).append(decision)
    order = [*(_LABELS[name] for name in _LABELS), "Nobody found", "Your decision"]
    ranked = sorted(members.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))
    return [_group(curation, title, decisions, CARDS_PER_GROUP) for title, decisions in ranked]


def _main_reason(decision: Decision, verdict: str) -> str:
    reasons = [reason for reason in decision.reasons if reason.verdict == verdict]
    if not reasons:
        return "Your decision"
    nobody = verdict == "doubt" and all(reason.measured in (None, 0) for reason in reasons)
    return "Nobody found" if nobody else label(reasons[0].rule)


def _group(curation: Curation, title: str, decisions: list[Decision], most: int) -> Group:
    """The most contestable pictures come first, so that a look at the top shows whether a limit is right."""
    shown = sorted(decisions, key=_margin)[:most] if title != "Kept" else _spread(decisions, most)
    with ThreadPoolExecutor(4, "atelier-thumbnails") as pool:
        cards = tuple(pool.map(lambda decision: _card(curation, decision), shown))
    return Group(title, len(decisions), cards)


def _margin(decision: Decision) -> float:
    """How far, relative to its limit, the worst reason is from passing; 9 where it is not a number."""
    return max((_distance(reason) for reason in decision.reasons), default=0.0)


def _distance(reason: Reason) -> float:
    if isinstance(reason.measured, int | float) and isinstance(reason.limit, int | float) and reason.limit:
        return min(9.0, abs(reason.measured - reason.limit) / abs(reason.limit))
    return 9.0


def _spread(decisions: list[Decision], most: int) -> list[Decision]:
    """Evenly spread over the set, so that a film's kept frames show its whole length."""
    if len(decisions) <= most:
        return decisions
    return [decisions[index * len(decisions) // most] for index in range(most)]


def _card(curation: Curation, decision: Decision) -> Card:
    measurement = curation.measurements[decision.sha256]
    subject = facts.main_subject(measurement)
    box = (subject["face"] or subject["head"]) if subject else None
    percent = (box[0] * 100, box[1] * 100, (box[2] - box[0]) * 100, (box[3] - box[1]) * 100) if box else None
    return Card(
        decision.path,
        _thumbnail(curation, decision.path),
        max(0.1, min(10.0, measurement["width"] / measurement["height"])),
        percent,
        _notes(decision.reasons),
        _fact_line(measurement),
        decision.decision if decision.override else "",
    )


def _thumbnail(curation: Curation, path: str) -> str | None:
    from PIL import Image

    try:
        pixels = open_array(inside(Path(curation.images.root), path), _THUMBNAIL)
    except (PictureError, BadInput):  # moved or changed since it was measured; the numbers still stand
        return None
    return data_uri(Image.fromarray(pixels), _THUMBNAIL, quality=62)


def _notes(reasons: Sequence[Reason]) -> tuple[tuple[str, str], ...]:
    """Reasons as (rule labels, sentences): rules that say the same thing share a line, and so do a rule's sentences."""
    rules: dict[str, list[str]] = {}
    for reason in reasons:
        rules.setdefault(reason.message, []).append(label(reason.rule))
    sentences: dict[str, list[str]] = {}
    for message, names in rules.items():
        sentences.setdefault(", ".join(dict.fromkeys(names)), []).append(message)
    return tuple((name, " ".join(messages)) for name, messages in sentences.items())


def _fact_line(measurement: dict[str, Any]) -> str:
    subject = facts.main_subject(measurement)
    if subject is None:
        return ""
    parts = [
        f"face {subject['face_px']:.0f} px" if subject["face_px"] else "",
        f"{subject['face_height']:.0%} of the height" if subject["face_height"] else "",
        f"sharpness {subject['face_sharpness']:.0f}" if subject["face_sharpness"] is not None else "",
        str(subject["view"] or "").replace("_", " "),
    ]
    return " · ".join(part for part in parts if part)


def _rule_row(row: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    fields = [(name.replace("_", " "), _short(value)) for name, value in row.items() if name != "rule"]
    return label(str(row["rule"])), fields


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _drawn(histogram: Histogram | None) -> dict[str, Any] | None:
    """The histogram in coordinates of an 800 x 250 drawing, so that the template only has to place it."""
    if histogram is None:
        return None
    left, right, top, bottom = 44.0, 790.0, 14.0, 212.0
    most = max(1, *histogram.before)
    step = (right - left) / len(histogram.before)

    def x(value: float) -> float:
        return round(left + (right - left) * min(1.0, value / histogram.end), 2)

    def bar(index: int, count: int) -> dict[str, float]:
        height = (bottom - top) * count / most
        return {"x": round(left + index * step + 1, 2), "y": round(bottom - height, 2), "w": step - 2, "h": height}

    band = histogram.band
    return {
        "what": histogram.what,
        "bars": [
            (bar(i, before), bar(i, after))
            for i, (before, after) in enumerate(zip(histogram.before, histogram.after, strict=True))
        ],
        "band": band and {"x": x(band.low), "w": x(band.high) - x(band.low), "centre": x(band.centre), "b": band},
        "ticks": [(x(value), f"{value:.0%}") for value in histogram.ticks],
        "most": most,
        "rows": histogram.rows(),
        "n_before": sum(histogram.before),
        "n_after": sum(histogram.after),
    }
