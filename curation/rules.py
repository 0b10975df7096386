"""Applying rules: presets, thresholds written as text, verdicts, and the user's own overrides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..core.errors import BadInput
from ..core.files import read_json, write_json
from ..core.types import Curation, Decision, Reason, Verdict
from .criteria import RULES, CharacterCount, FaceDetail, FramingConsistency, Rule, SubjectSize, View

__all__ = [
    "DEFAULT_PRESET",
    "OVERRIDES_NAME",
    "PRESETS",
    "RULES",
    "CharacterCount",
    "FaceDetail",
    "FramingConsistency",
    "Rule",
    "SubjectSize",
    "View",
    "apply_overrides",
    "apply_rule",
    "apply_rules",
    "make_rule",
    "parse_rule",
    "preset",
    "read_overrides",
    "rules_of",
    "write_override",
]
OVERRIDES_NAME = "overrides.json"

# A set for one character's looks; looser or stricter ends; and sets where more than one character is welcome.
PRESETS: dict[str, tuple[Rule, ...]] = {
    "character": (CharacterCount(), FaceDetail(), View(), SubjectSize(), FramingConsistency()),
    "strict": (
        CharacterCount(dominance=0.35, minimum_score=0.5),
        FaceDetail(minimum_height=36, minimum_sharpness=80, minimum_eyes=0.6, minimum_mouth=0.6),
        View(allow=("front", "three_quarter")),
        SubjectSize(minimum_subject=0.5, minimum_face=0.09),
        FramingConsistency(width=2.0, tolerance=0.35),
    ),
    "lenient": (
        CharacterCount(dominance=0.7),
        FaceDetail(minimum_height=16, minimum_sharpness=30, minimum_eyes=0.3, minimum_mouth=0.3),
        View(),
        SubjectSize(minimum_subject=0.2, minimum_face=0.04),
        FramingConsistency(width=3.5, tolerance=0.8),
    ),
    "portrait": (
        CharacterCount(),
        FaceDetail(minimum_height=48),
        View(),
        SubjectSize(minimum_face=0.15),
        FramingConsistency(target=0.3, tolerance=0.6),
    ),
    "style": (CharacterCount(maximum=4), FaceDetail(minimum_height=16, minimum_sharpness=30)),
}
DEFAULT_PRESET = "character"


def preset(name: str = DEFAULT_PRESET) -> tuple[Rule, ...]:
    """The rules of a preset; BadInput with the nearest name for an unknown one."""
    if name not in PRESETS:
        raise BadInput(f"There is no preset called {name!r}.", _nearest(name, PRESETS))
    return PRESETS[name]


def make_rule(name: str, **values: Any) -> Rule:
    """A rule by name with some thresholds set; BadInput for an unknown name, field or impossible value."""
    return _build(_kind(name), values)


def parse_rule(texts: Iterable[str], base: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    """`base` changed by texts like "face_detail.minimum_height=48"; "view=off" leaves a rule out.

    Several allowed values are separated by commas ("view.allow=front,profile"); "none" clears an optional one.
    """
    rules: dict[str, Rule] = {rule.name: rule for rule in base}
    for text in texts:
        left, equals, value = text.partition("=")
        name, dot, field = (part.strip() for part in left.partition("."))
        kind = _kind(name)
        if equals and not dot and value.strip().lower() in ("off", "on"):
            rules.pop(name, None)
            if value.strip().lower() == "on":
                rules[name] = kind()
            continue
        if not equals or not field or not value.strip():
            hint = "Write NAME.FIELD=VALUE, e.g. face_detail.minimum_height=48."
            raise BadInput(f"{text!r} is not a rule setting.", hint)
        rules[name] = _changed(rules[name] if name in rules else kind(), field, value.strip())
    return tuple(rules[name] for name in RULES if name in rules)


def rules_of(curation: Curation) -> tuple[Rule, ...]:
    """The rules that a curation says it was decided by."""
    rows = (dict(row) for row in curation.rules)
    return tuple(make_rule(str(row.pop("rule", "")), **row) for row in rows)


def apply_rule(curation: Curation, rule: Rule) -> Curation:
    """Add one rule, or replace the rule of the same name; all verdicts are made anew."""
    others = tuple(other for other in rules_of(curation) if other.name != rule.name)
    return apply_rules(curation, (*others, rule))


def apply_rules(curation: Curation, rules: Sequence[Rule]) -> Curation:
    """Decide every picture by exactly these rules; the user's overrides stay.

    Framing consistency always comes last, because its band is learnt from what all other rules keep.
    """
    ordered = sorted(rules, key=lambda rule: rule.name == FramingConsistency.name)
    current = replace(curation, rules=(), decisions=tuple(_bare(decision) for decision in curation.decisions))
    for rule in ordered:
        found = rule.reasons(current)
        decisions = tuple(_with(decision, found.get(decision.path, ())) for decision in current.decisions)
        row = {"rule": rule.name, **_thresholds(rule)}
        current = replace(current, decisions=decisions, rules=(*current.rules, row))
    return current


def apply_overrides(curation: Curation, overrides: dict[str, str]) -> Curation:
    """The user's own verdicts (path -> keep or reject) win; reasons stay readable. Unknown paths are left alone."""
    decisions = tuple(_overridden(decision, overrides.get(decision.path)) for decision in curation.decisions)
    changed = replace(curation, decisions=decisions)
    return apply_rules(changed, rules_of(changed)) if changed.rules else changed


def read_overrides(path: Path) -> dict[str, str]:
    """The overrides file, {} when there is none; BadInput when it does not map paths to keep or reject."""
    if not path.is_file():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path.name} must be an object of path: keep or reject.", "Mend or delete it.")
    for key, verdict in value.items():
        if verdict not in ("keep", "reject"):
            raise BadInput(f"{path.name}: {key!r} is {verdict!r}; it must be keep or reject.", "Mend or delete it.")
    return value


def write_override(path: Path, picture: str, verdict: str | None) -> dict[str, str]:
    """Set (keep, reject) or clear (None) the user's verdict on one picture; returns the whole file."""
    if verdict not in (None, "keep", "reject"):
        raise BadInput(f"A verdict is keep or reject, not {verdict!r}.")
    values = {key: value for key, value in read_overrides(path).items() if key != picture}
    if verdict is not None:
        values[picture] = verdict
    write_json(path, dict(sorted(values.items())))
    return values


def _thresholds(rule: Rule) -> dict[str, Any]:
    """A rule's fields as JSON values."""
    values: dict[str, Any] = asdict(rule)  # type: ignore[call-overload]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _bare(decision: Decision) -> Decision:
    if decision.decision == "skip":
        return decision
    if decision.override:
        return replace(decision, reasons=())
    return replace(decision, decision="keep", reasons=())


def _with(decision: Decision, found: tuple[Reason, ...]) -> Decision:
    if decision.decision == "skip" or not found:
        return decision
    reasons = decision.reasons + found
    return replace(decision, reasons=reasons, decision=decision.decision if decision.override else _verdict(reasons))


def _verdict(reasons: tuple[Reason, ...]) -> Verdict:
    if any(reason.verdict == "reject" for reason in reasons):
        return "reject"
    return "doubt" if reasons else "keep"


def _overridden(decision: Decision, verdict: str | None) -> Decision:
    if decision.decision == "skip":
        return decision
    if verdict is None:
        return replace(decision, override=False, decision=_verdict(decision.reasons))
    return replace(decision, override=True, decision="keep" if verdict == "keep" else "reject")


def _kind(name: str) -> type[Any]:
    if name not in RULES:
        raise BadInput(f"There is no rule called {name!r}.", _nearest(name, RULES))
    return RULES[name]


def _changed(rule: Rule, field: str, text: str) -> Rule:
    values = _thresholds(rule)
    if field not in values:
        raise BadInput(f"The rule {rule.name} has no field {field!r}.", _nearest(field, values))
    value: Any = None if text.lower() == "none" else text
    if isinstance(values[field], list):
        value = tuple(part.strip() for part in text.split(","))
    return _build(type(rule), {**values, field: value})


def _build(kind: type[Any], values: dict[str, Any]) -> Rule:
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise BadInput(f"The rule {kind.name} has no field {name!r}.", _nearest(name, known))
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]) if first["loc"] else "value"
        given = values.get(where)
        raise BadInput(f"{kind.name}.{where} cannot be {given!r}: {first['msg'].lower()}.") from error


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, 1, 0.5)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(names)}."
