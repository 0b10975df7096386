"""The bare scores file: what is right comes back the same, everything wrong is named in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Score, ScoreTable
from lora_atelier.validation import scores
from lora_atelier.validation.metrics import METRICS

_NAMES = st.sampled_from(["face_sharpness", "style_distance", "heldout_loss", "something_new"])
_ROWS = st.builds(
    Score,
    step=st.one_of(st.integers(0, 10**6), st.just("data")),
    prompt=st.text(max_size=20),
    seed=st.integers(-5, 2**63),
    metric=_NAMES,
    value=st.floats(0, 1e6),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def _line(**changes: object) -> str:
    good = {"step": 290, "prompt": "p1", "seed": 7, "metric": "face_sharpness", "value": 0.83}
    return json.dumps({**good, **changes})


@given(st.lists(_ROWS, min_size=1, max_size=12, unique_by=lambda r: (r.step, r.prompt, r.seed, r.metric)))
def test_what_is_saved_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Score]) -> None:
    path = scores.save(tmp_path_factory.mktemp("scores") / "scores.jsonl", ScoreTable(tuple(rows)))
    assert scores.load(path).rows == tuple(rows)


@given(st.lists(st.one_of(st.text(max_size=30), _JSON.map(json.dumps)), min_size=1, max_size=6))
def test_any_text_gives_a_table_or_one_clear_error(lines: list[str]) -> None:
    try:
        table = scores.parse("\n".join(lines))
    except BadInput as error:
        assert "\n" not in error.message
        assert error.message
    else:
        assert table.rows


def test_every_malformed_line_is_named_in_one_sentence() -> None:
    text = "\n".join(
        [
            _line(),
            "{",
            _line(value="high"),
            "",
            _line(step=-1),
            _line(value=float("nan")),
            _line(colour="red"),
            '{"step": 290}',
            _line(),
            _line(prompt="p2"),
            "[1]",
            _line(seed=True),
            _line(metric="face_found", value=3),
        ]
    )
    with pytest.raises(BadInput) as caught:
        scores.parse(text, "scores.jsonl")
    for number in (2, 3, 5, 6, 7, 8, 9, 11, 12, 13):
        assert f"line {number}:" in caught.value.message
    assert "line 1:" not in caught.value.message and "line 10:" not in caught.value.message
    assert caught.value.exit_code == 2


def test_lines_with_the_same_mistake_are_grouped_and_a_flood_is_cut() -> None:
    with pytest.raises(BadInput) as caught:
        scores.parse("\n".join(["nonsense"] * 500))
    assert "and 460 more: not JSON" in caught.value.message
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"", b"\n\n"])
def test_files_that_are_no_scores(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        scores.load(path)
    with pytest.raises(BadInput, match="cannot be read"):
        scores.load(tmp_path / "nowhere.jsonl")


def test_a_byte_order_mark_and_unknown_metrics_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + _line(metric="beauty").encode())
    assert scores.unknown_metrics(scores.load(path).rows) == ["beauty"]


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.unit and metric.meaning and metric.needs
        assert metric.direction in ("up", "down", "gate", "watch")
