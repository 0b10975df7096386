"""Captions and the way into a training set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artist.draw import draw
from artist.scene import random_scene
from hypothesis import given
from hypothesis import strategies as st
from lora_atelier.core.errors import BadInput
from lora_atelier.core.types import Curation, Dataset
from lora_atelier.curation.captions import CaptionOptions, caption
from lora_atelier.curation.prepare import dataset_from_folder, groups, split

from .builders import curation, measurement, subject
from .conftest import Drawer


def captions(found: Curation) -> dict[str, str | None]:
    return {picture.path.removesuffix(".png"): picture.caption for picture in found.images.pictures}


def test_the_template_says_what_was_measured_and_leaves_out_what_was_not() -> None:
    given = curation(
        close=measurement(subject(0.5)),
        half=measurement(subject(0.2, view="three_quarter")),
        dark=measurement(subject(0.07, view=None), brightness=0.1),
        nobody=measurement(),
    )
    options = CaptionOptions("{trigger}, {framing}, {view}, {light}, {characters}", trigger="mei")
    assert captions(caption(given, options)) == {
        "close": "mei, close-up, front view, solo",
        "half": "mei, half body, three-quarter view, solo",
        "dark": "mei, full body, dark, solo",
        "nobody": "mei",
    }


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{triger}", "Did you mean {trigger}"),
        ("{trigger.__class__}", "unknown placeholder"),
        ("{0}", "Known: trigger"),
        ("a {trigger", "single curly bracket"),
        ("{}", "unknown placeholder"),
    ],
)
def test_a_wrong_template_is_refused(template: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        caption(curation(a=measurement(subject())), CaptionOptions(template))
    assert words in str(caught.value)


def in_folder(folder: Path, **measurements: dict[str, object]) -> Curation:
    given = curation(**measurements)
    return replace(given, images=replace(given.images, root=str(folder)))


def test_sidecars_win_and_get_the_trigger(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffa girl  in red,\nsmiling\n", encoding="utf-8")
    (tmp_path / "b.caption").write_text("Mei by the sea", encoding="utf-8")
    (tmp_path / "c.txt").write_text("  \n")
    given = in_folder(tmp_path, **dict.fromkeys("abc", measurement(subject(0.5))))
    options = CaptionOptions(trigger="mei", prefix="film still", suffix="soft light")
    assert captions(caption(given, options)) == {
        "a": "film still, mei, a girl in red, smiling, soft light",
        "b": "film still, Mei by the sea, soft light",
        "c": "film still, mei, close-up, front view, soft light",
    }
    assert captions(caption(given, CaptionOptions(use_sidecars=False)))["a"] == "close-up, front view"


def test_a_sidecar_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(BadInput, match=r"a\.txt is not UTF-8"):
        caption(in_folder(tmp_path, a=measurement(subject())))
    (tmp_path / "a.txt").write_bytes(b"a" * 70_000)
    with pytest.raises(BadInput, match="over 64 KiB"):
        caption(in_folder(tmp_path, a=measurement(subject())))


@given(st.text(max_size=80), st.text(max_size=20), st.text(max_size=20))
def test_captions_are_always_one_tidy_line(template: str, trigger: str, suffix: str) -> None:
    options = CaptionOptions(template, trigger=trigger, suffix=suffix, use_sidecars=False)
    try:
        text = captions(caption(curation(a=measurement(subject())), options))["a"] or ""
    except BadInput:
        return
    assert text == " ".join(text.split())
    assert not text.startswith(",")
    assert ", ," not in text


def hashed(count: int, per_group: int = 1) -> Curation:
    """`count` groups of near duplicates, captioned; hashes of different groups differ in about 32 bits."""
    rng = np.random.default_rng(5)
    rows: dict[str, dict[str, object]] = {}
    for group in range(count):
        base = int(rng.integers(0, 2**63))
        for member in range(per_group):
            rows[f"g{group}m{member}"] = measurement(subject(), phash=f"{base ^ (1 << member):016x}")
    return caption(curation(**rows), CaptionOptions(trigger="x", use_sidecars=False))


def sides(dataset: Dataset) -> dict[str, str]:
    return {Path(item.path).stem: item.split for item in dataset.items}


def test_near_duplicates_stay_on_one_side() -> None:
    found = sides(split(hashed(20, per_group=4), name="set", held_out=0.2, seed=3))
    for group in range(20):
        assert len({found[f"g{group}m{member}"] for member in range(4)}) == 1
    assert sum(side == "heldout" for side in found.values()) == 16


def test_the_split_follows_the_seed_and_not_the_order() -> None:
    given = hashed(40)
    first = sides(split(given, name="a", seed=1))
    turned = replace(given, images=replace(given.images, pictures=tuple(reversed(given.images.pictures))))
    assert sides(split(turned, name="b", seed=1)) == first
    assert sides(split(given, name="a", seed=2)) != first
    assert sum(side == "heldout" for side in first.values()) == 6


def test_something_always_trains() -> None:
    assert set(sides(split(hashed(1), name="a", held_out=0.9)).values()) == {"train"}
    assert "train" in sides(split(hashed(3), name="a", held_out=0.99)).values()
    assert set(sides(split(hashed(9), name="a", held_out=0)).values()) == {"train"}


def test_only_captioned_kept_pictures_reach_the_dataset() -> None:
    given = hashed(3)
    nobody = replace(given, decisions=tuple(replace(d, decision="doubt") for d in given.decisions))
    with pytest.raises(BadInput, match="No picture is kept"):
        split(nobody, name="a")
    bare = replace(
        given, images=replace(given.images, pictures=tuple(replace(p, caption=" ") for p in given.images.pictures))
    )
    with pytest.raises(BadInput, match=r"3 of 3 pictures have no caption: g0m0\.png"):
        split(bare, name="a")
    for wrong in ("../a", "", "con"):
        with pytest.raises(BadInput, match="dataset name"):
            split(given, name=wrong)
    with pytest.raises(BadInput, match="held-out share"):
        split(given, name="a", held_out=1.0)


def test_groups_join_through_a_chain() -> None:
    hashes = {"a": f"{0:016x}", "b": f"{0x3F:016x}", "c": f"{0xFFF:016x}", "far": f"{2**64 - 1:016x}"}
    assert groups(hashes, bits=6) == [["a", "b", "c"], ["far"]]
    assert groups(hashes, bits=5) == [["a"], ["b"], ["c"], ["far"]]
    assert groups({}) == []


def test_a_folder_with_captions_becomes_a_dataset(drawn: Drawer) -> None:
    folder = drawn(8)
    for path in folder.glob("*.png"):
        path.with_suffix(".txt").write_text(f"caption of {path.stem}")
    dataset = dataset_from_folder(folder, held_out=0.25, trigger_words=("mei", " "))
    assert dataset.name == "set"
    assert dataset.trigger_words == ("mei",)
    assert [item.caption for item in dataset.items] == [f"caption of {index:03}" for index in range(8)]
    assert len(dataset.split("heldout")) == 2
    assert all(Path(item.path).is_file() and (item.width, item.height) == (160, 160) for item in dataset.items)
    assert Dataset.from_json(dataset.to_json()) == dataset


def test_missing_captions_are_all_named_before_any_work(drawn: Drawer) -> None:
    folder = drawn(8)
    (folder / "003.txt").write_text("one")
    with pytest.raises(BadInput) as caught:
        dataset_from_folder(folder)
    assert "7 of 8 pictures have no caption: 000.png, 001.png, 002.png, 004.png, 005.png and 2 more" in str(
        caught.value
    )
    assert ".txt" in caught.value.hint


def test_copies_and_crops_of_a_drawing_are_one_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for index in range(6):
        picture, _ = draw(random_scene(rng, style="flat", size=(256, 256)))
        picture.save(tmp_path / f"{index}.png")
        picture.resize((200, 200)).save(tmp_path / f"{index}b.jpg", quality=70)
    for path in list(tmp_path.iterdir()):
        path.with_suffix(".txt").write_text("x")
    found = sides(dataset_from_folder(tmp_path, held_out=0.3, seed=2))
    assert all(found[str(index)] == found[f"{index}b"] for index in range(6))
    assert "heldout" in found.values()
