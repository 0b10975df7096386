"""The rules as pure functions on measurements: every reason, its value and its limit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Curation
from lora_atelier.curation import rules
from lora_atelier.curation.rules import (
    PRESETS,
    RULES,
    CharacterCount,
    FaceDetail,
    FramingConsistency,
    SubjectSize,
    View,
    apply_rule,
    apply_rules,
    make_rule,
    parse_rule,
    preset,
    rules_of,
)  # fmt: skip

from .builders import curation, headless, measurement, subject


def verdicts(decided: Curation) -> dict[str, str]:
    return {decision.path.removesuffix(".png"): decision.decision for decision in decided.decisions}


def reasons(decided: Curation, name: str) -> list[tuple[str, Any, Any]]:
    found = next(decision for decision in decided.decisions if decision.path == f"{name}.png")
    return [(reason.rule, reason.measured, reason.limit) for reason in found.reasons]


def test_a_small_second_face_does_not_count() -> None:
    given = curation(
        one=measurement(subject(0.3)),
        passer_by=measurement(subject(0.3), subject(0.14)),
        pair=measurement(subject(0.3), subject(0.16)),
        crowd=measurement(*[subject(0.1)] * 5),
    )
    decided = apply_rules(given, [CharacterCount()])
    assert verdicts(decided) == {"one": "keep", "passer_by": "keep", "pair": "reject", "crowd": "reject"}
    assert reasons(decided, "crowd") == [("character_count", 5, 1)]
    assert verdicts(apply_rules(given, [CharacterCount(dominance=0.4)]))["passer_by"] == "reject"


def test_nobody_found_is_a_doubt_and_never_from_behind() -> None:
    decided = apply_rules(curation(empty=measurement()), preset())
    assert verdicts(decided) == {"empty": "doubt"}
    assert {reason.verdict for reason in decided.decisions[0].reasons} == {"doubt"}
    assert not any("behind" in reason.message for reason in decided.decisions[0].reasons)


def test_every_lost_detail_is_named_with_value_and_limit() -> None:
    bad = subject(0.03, face_sharpness=12.0, eyes=0.1, mouth=0.2)
    decided = apply_rules(curation(bad=measurement(bad), good=measurement(subject())), [FaceDetail()])
    assert verdicts(decided) == {"bad": "reject", "good": "keep"}
    assert reasons(decided, "bad") == [
        ("face_detail", pytest.approx(19.2), 24.0),
        ("face_detail", 12.0, 60.0),
        ("face_detail", 0.1, 0.5),
        ("face_detail", 0.2, 0.5),
    ]
    for reason in decided.decisions[0].reasons:
        assert f"{reason.limit:g}" in reason.message


def test_face_height_counts_at_the_resolution_one_trains_at() -> None:
    far = measurement(subject(0.03, face_px=90.0), width=3000, height=3000)
    small = measurement(subject(0.3, face_px=38.4), width=128, height=128)
    decided = apply_rules(curation(far=far, small=small), [FaceDetail()])
    assert verdicts(decided) == {"far": "reject", "small": "keep"}
    assert reasons(decided, "far")[0][1] == pytest.approx(19.2)


def test_what_a_detector_does_not_know_is_not_held_against_a_picture() -> None:
    quiet = subject(eyes=None, mouth=None, view=None)
    assert verdicts(apply_rules(curation(q=measurement(quiet)), preset())) == {"q": "keep"}


def test_back_and_silhouette_are_rejected_only_on_evidence() -> None:
    given = curation(
        back=measurement(headless(view="back")),
        head=measurement(headless(view=None)),
        dark=measurement(subject(luma=0.06, luma_spread=0.02)),
        black_face=measurement(subject(luma=0.06, luma_spread=0.09)),
        night=measurement(subject(luma=0.06, luma_spread=0.02, surround=0.08)),
        shape=measurement(shape_share=0.2, shape_height=0.7, ground_luma=0.8),
        side=measurement(subject(view="profile")),
    )
    decided = apply_rules(given, [View()])
    assert verdicts(decided) == {
        "back": "reject", "head": "doubt", "dark": "reject", "black_face": "keep", "night": "keep",
        "shape": "doubt", "side": "keep",
    }  # fmt: skip
    assert "behind" in decided.decisions[0].reasons[0].message
    assert "silhouette" in decided.decisions[5].reasons[0].message
    assert verdicts(apply_rules(given, [View(allow=("front",))]))["side"] == "reject"


def test_subject_size_trusts_a_body_box_more_than_the_face() -> None:
    given = curation(
        tiny=measurement(subject(0.03)),
        chibi=measurement(subject(0.05, body=[0.3, 0.2, 0.7, 0.9], subject_height=0.7)),
        far=measurement(subject(0.09, body=[0.4, 0.5, 0.5, 0.7], subject_height=0.2)),
        huge=measurement(subject(0.9)),
    )
    assert verdicts(apply_rules(given, [SubjectSize()])) == {
        "tiny": "reject", "chibi": "keep", "far": "reject", "huge": "keep",
    }  # fmt: skip
    assert verdicts(apply_rules(given, [SubjectSize(maximum_face=0.8)]))["huge"] == "reject"


def stable(count: int = 20, **others: dict[str, Any]) -> Curation:
    usual = {f"p{i}": measurement(subject(0.30 + 0.005 * (i % 5))) for i in range(count)}
    return curation(**usual, **others)


def test_framing_keeps_a_band_around_the_median() -> None:
    given = stable(close=measurement(subject(0.75)), far=measurement(subject(0.1)), near=measurement(subject(0.4)))
    decided = apply_rules(given, [FramingConsistency()])
    assert {name for name, verdict in verdicts(decided).items() if verdict != "keep"} == {"close", "far"}
    (rule, measured, limit) = reasons(decided, "close")[0]
    assert (rule, measured) == ("framing_consistency", 0.75)
    low, high = (float(part) for part in limit.split("-"))
    assert low < 0.3 < 0.4 < high < 0.75


def test_framing_learns_only_from_what_the_other_rules_keep() -> None:
    crowds = {f"c{i}": measurement(subject(0.05), subject(0.05)) for i in range(60)}
    band = FramingConsistency().band(apply_rules(stable(**crowds), [CharacterCount()]))
    assert band is not None
    assert band.pictures == 20
    assert band.centre == pytest.approx(0.31, abs=0.005)


def test_framing_with_a_target_or_too_few_pictures() -> None:
    few = curation(a=measurement(subject(0.1)), b=measurement(subject(0.5)))
    assert set(verdicts(apply_rules(few, [FramingConsistency()])).values()) == {"keep"}
    decided = apply_rules(few, [FramingConsistency(target=0.5, tolerance=0.2)])
    assert verdicts(decided) == {"a": "reject", "b": "keep"}


def test_a_face_cut_by_one_edge_is_refused_but_a_close_up_is_not() -> None:
    given = curation(
        left=measurement(subject(face=[0.0, 0.3, 0.2, 0.6])),
        top=measurement(subject(face=[0.4, 0.0, 0.6, 0.3])),
        close=measurement(subject(0.98, face=[0.0, 0.01, 1.0, 0.99])),
    )
    decided = apply_rules(given, [FramingConsistency()])
    assert verdicts(decided) == {"left": "reject", "top": "reject", "close": "keep"}
    assert "left edge" in decided.decisions[0].reasons[0].message
    assert set(verdicts(apply_rules(given, [FramingConsistency(edge=0)])).values()) == {"keep"}


def test_all_rules_speak_at_once() -> None:
    worst = measurement(subject(0.02, face_sharpness=3.0, luma=0.05, luma_spread=0.01, view="back"), subject(0.02))
    decided = apply_rules(stable(worst=worst), preset())
    assert {rule for rule, _, _ in reasons(decided, "worst")} == set(RULES)


def test_moving_a_threshold_replaces_the_old_one() -> None:
    given = curation(a=measurement(subject(0.05)))
    strict = apply_rule(apply_rule(given, CharacterCount()), FaceDetail(minimum_height=48))
    assert verdicts(strict) == {"a": "reject"}
    loose = apply_rule(strict, FaceDetail(minimum_height=20))
    assert verdicts(loose) == {"a": "keep"}
    assert [rule.name for rule in rules_of(loose)] == ["character_count", "face_detail"]
    assert Curation.from_json(loose.to_json()) == loose


def test_framing_is_decided_anew_when_an_earlier_rule_moves() -> None:
    crowds = {f"c{i}": measurement(subject(0.1), subject(0.1)) for i in range(60)}
    given = apply_rules(stable(**crowds), [FramingConsistency(), CharacterCount(maximum=2)])
    assert verdicts(given)["p0"] == "reject"
    assert verdicts(apply_rule(given, CharacterCount()))["p0"] == "keep"


@pytest.mark.filterwarnings("error")
def test_a_decided_curation_survives_json() -> None:
    rows = [
        measurement(subject(0.02)),
        measurement(),
        measurement(subject(), subject()),
        measurement(subject(view="back")),
    ]
    decided = apply_rules(curation(**{f"p{i}": row for i, row in enumerate(rows)}), preset())
    assert Curation.from_json(decided.to_json()) == decided


def test_the_user_has_the_last_word() -> None:
    given = apply_rules(curation(a=measurement(subject(0.02)), b=measurement(subject())), preset())
    decided = rules.apply_overrides(given, {"a.png": "keep", "b.png": "reject", "gone.png": "keep"})
    assert verdicts(decided) == {"a": "keep", "b": "reject"}
    assert decided.decisions[0].override
    assert decided.decisions[0].reasons
    assert verdicts(apply_rule(decided, FaceDetail(minimum_height=1))) == {"a": "keep", "b": "reject"}
    assert verdicts(rules.apply_overrides(decided, {})) == verdicts(given)


def test_overrides_file(tmp_path: Any) -> None:
    path = tmp_path / "overrides.json"
    assert rules.read_overrides(path) == {}
    rules.write_override(path, "a.png", "keep")
    rules.write_override(path, "b.png", "reject")
    assert rules.write_override(path, "a.png", None) == {"b.png": "reject"} == rules.read_overrides(path)
    path.write_text('{"a.png": "maybe"}')
    with pytest.raises(BadInput, match="'maybe'; it must be keep or reject"):
        rules.read_overrides(path)
    path.write_text("[1]")
    with pytest.raises(BadInput, match="must be an object"):
        rules.read_overrides(path)


def test_thresholds_from_text() -> None:
    found = parse_rule(
        [
            "face_detail.minimum_height=48",
            "view.allow=front,profile",
            "framing_consistency.target=0.3",
            "subject_size=off",
        ],
        preset(),
    )
    by_name = {rule.name: rule for rule in found}
    assert list(by_name) == ["character_count", "face_detail", "view", "framing_consistency"]
    assert by_name["face_detail"] == FaceDetail(minimum_height=48)
    assert by_name["view"] == View(allow=("front", "profile"))
    cleared = parse_rule(["framing_consistency.target=none", "subject_size=on"], found)
    assert cleared[-1] == FramingConsistency()
    assert SubjectSize() in cleared


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("face_detial.minimum_height=3", "Did you mean 'face_detail'"),
        ("face_detail.minimum_hight=3", "Did you mean 'minimum_height'"),
        ("face_detail.minimum_height=tall", "face_detail.minimum_height cannot be 'tall'"),
        ("face_detail.minimum_height=nan", "cannot be 'nan'"),
        ("character_count.dominance=1.5", "cannot be '1.5'"),
        ("character_count.maximum=2.5", "cannot be '2.5'"),
        ("character_count.minimum=3", "minimum 3 is above maximum 1"),
        ("view.allow=front,behind", "view.allow"),
        ("view", "is not a rule setting"),
        ("view.allow=", "is not a rule setting"),
        ("../view.allow=front", "There is no rule called"),
    ],
)
def test_wrong_settings_are_one_sentence_with_the_nearest_name(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_rule([text])
    assert words in str(caught.value)


def test_unknown_presets_and_fields() -> None:
    with pytest.raises(BadInput, match="Did you mean 'character'"):
        preset("charachter")
    with pytest.raises(BadInput, match="no field 'fields'"):
        make_rule("view", fields=1)
    assert all(preset(name) for name in PRESETS)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        parse_rule([text])
    except BadInput as error:
        assert error.message


boxes = st.floats(0.01, 0.9)
people = st.lists(st.builds(subject, boxes, face_sharpness=st.floats(0, 500), luma=st.floats(0, 1)), max_size=4)


@given(st.lists(people, min_size=1, max_size=12))
def test_order_of_rules_and_repetition_do_not_matter(sets: list[list[dict[str, Any]]]) -> None:
    given = curation(**{f"p{i}": measurement(*found) for i, found in enumerate(sets)})
    once = apply_rules(given, preset())
    assert verdicts(apply_rules(given, tuple(reversed(preset())))) == verdicts(once)
    assert apply_rules(once, preset()) == once
    for decision in once.decisions:
        assert (decision.decision == "keep") == (not decision.reasons)


def test_every_threshold_is_described() -> None:
    for kind in RULES.values():
        for field in fields(kind):
            assert f"`{field.name}`" in (kind.__doc__ or ""), f"{kind.name}.{field.name}"
