"""What flows along the wires survives JSON unchanged, and nothing unknown gets in."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_atelier.core import types
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Wire

KINDS = [
    kind for kind in vars(types).values() if isinstance(kind, type) and issubclass(kind, Wire) and kind is not Wire
]

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
for kind in KINDS:
    overrides: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.type == "float":
            overrides[field.name] = numbers
        elif field.type in {"float | str | None", "float | None"}:
            overrides[field.name] = numbers | st.text(max_size=5) if "str" in str(field.type) else numbers | st.none()
        elif "Any" in str(field.type):
            table = st.dictionaries(st.text(max_size=5), plain, max_size=2)
            nested = "dict[str, dict" in str(field.type)
            overrides[field.name] = (
                st.dictionaries(st.text(max_size=5), table, max_size=2) if nested else st.tuples(table)
            )
    st.register_type_strategy(kind, st.builds(kind, **overrides))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_json_round_trip_gives_an_equal_value(kind: type[Wire]) -> None:
    @given(st.from_type(kind))
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def attempt(value: Wire) -> None:
        text = json.dumps(value.to_json())
        assert kind.from_json(json.loads(text)) == value

    attempt()


def test_every_wire_of_the_design_is_there() -> None:
    wanted = {"ImageSet", "Curation", "Dataset", "BaseModel", "ValidationPlan"}
    wanted |= {"Run", "ScoreTable", "Choice", "LoraFile", "LoraCard"}
    assert wanted <= {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind: type[Wire]) -> None:
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_unknown_and_wrong_fields_are_refused_by_name() -> None:
    good = types.Picture("a.png", "0" * 64, 10, 20).to_json()
    with pytest.raises(BadInput, match="Not a valid Picture: colour"):
        types.Picture.from_json(good | {"colour": "red"})
    with pytest.raises(BadInput, match="Not a valid Picture: width"):
        types.Picture.from_json(good | {"width": "wide"})
    with pytest.raises(BadInput, match="Not a valid Picture: sha256"):
        types.Picture.from_json({key: value for key, value in good.items() if key != "sha256"})
    with pytest.raises(BadInput, match="Not a valid Picture"):
        types.Picture.from_json("a.png")


def test_an_unknown_field_deep_inside_is_found() -> None:
    images = types.ImageSet("input", "/pictures", (types.Picture("a.png", "0" * 64, 10, 20),)).to_json()
    images["pictures"][0]["extra"] = 1
    with pytest.raises(BadInput, match=r"pictures\.0\.extra"):
        types.ImageSet.from_json(images)


def test_kept_follows_the_decisions() -> None:
    pictures = tuple(types.Picture(f"{i}.png", str(i), 8, 8) for i in range(3))
    verdicts = ("keep", "reject", "keep")
    decisions = tuple(types.Decision(p.path, p.sha256, v) for p, v in zip(pictures, verdicts, strict=True))
    curation = types.Curation(types.ImageSet("r", "/r", pictures), "atelier", {}, decisions)
    assert [picture.path for picture in curation.kept()] == ["0.png", "2.png"]


def test_split_is_by_name() -> None:
    items = tuple(types.DatasetItem(f"/{i}", str(i), 8, 8, "a", "heldout" if i else "train") for i in range(3))
    dataset = types.Dataset("d", items)
    assert (len(dataset.split("train")), len(dataset.split("heldout"))) == (1, 2)
