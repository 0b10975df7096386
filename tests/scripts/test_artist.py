"""The artist: the same scene gives the same picture, and the truth matches the pixels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from artist.caption import COLOR_WORDS, EXPRESSION_WORDS, VIEW_WORDS, caption, vocabulary
from artist.draw import draw, render
from artist.make_samples import film_frames, write_frames
from artist.readback import read_colors
from artist.scene import (
    BASE_STYLES,
    FRAMINGS,
    STYLES,
    TARGET_STYLE,
    VIEWS,
    Scene,
    framing_of,
    random_scene,
)


def _subject_mask(scene: Scene) -> np.ndarray:
    labels = render(scene)[2]
    return (labels >= 32).reshape(scene.height, 2, scene.width, 2).any(axis=(1, 3))


@pytest.mark.parametrize("style", STYLES)
def test_same_scene_same_pixels(style: str) -> None:
    scene = random_scene(np.random.default_rng(4), style=style, characters=2)
    again = random_scene(np.random.default_rng(4), style=style, characters=2)
    assert scene == again
    assert np.array_equal(np.asarray(draw(scene)[0]), np.asarray(draw(again)[0]))


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (200, 120), (33, 47)])
def test_any_size(size: tuple[int, int]) -> None:
    image, truths = draw(random_scene(np.random.default_rng(1), size=size))
    assert image.size == size
    assert image.mode == "RGB"
    box = truths[0].subject_box
    assert 0 <= box[0] < box[2] <= size[0]
    assert 0 <= box[1] < box[3] <= size[1]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_subject_box_fits_the_pixels(view: str, framing: str) -> None:
    rng = np.random.default_rng(9)
    for _ in range(3):
        scene = random_scene(rng, style="flat", view=view, framing=framing)
        rows, cols = np.nonzero(_subject_mask(scene))
        found = (cols.min(), rows.min(), cols.max() + 1, rows.max() + 1)
        told = draw(scene)[1][0].subject_box
        assert np.abs(np.array(found) - np.array(told)).max() <= 2.0


def test_truth_points_lie_on_the_face() -> None:
    rng = np.random.default_rng(12)
    for _ in range(30):
        scene = random_scene(rng, style="flat", framing="portrait", view="front")
        pixels, (truth,), _ = render(scene)
        assert truth.face_box is not None
        assert len(truth.eyes) == 2
        x0, y0, x1, y1 = truth.face_box
        for x, y in truth.eyes:
            assert x0 < x < x1 and y0 < y < y1
            patch = pixels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4]
            assert patch.min() < 70, "the pupil is dark"
        assert truth.mouth is not None
        x, y = truth.mouth
        patch = pixels[int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4].astype(int)
        assert (patch[..., 0] - patch[..., 1]).max() > 60, "lips are red"


def test_what_cannot_be_seen_is_not_in_the_truth() -> None:
    rng = np.random.default_rng(2)
    back = draw(random_scene(rng, view="back"))[1][0]
    assert back.face_box is None and not back.eyes_visible and not back.mouth_visible
    dark = draw(random_scene(rng, view="front", silhouette=True))[1][0]
    assert dark.silhouette and not dark.eyes_visible and dark.mouth is None
    for _ in range(4):
        plain = draw(random_scene(rng, view="front", detail=False))[1][0]
        assert not plain.detail and not plain.eyes and plain.mouth is None
    covered = draw(random_scene(rng, view="front", eyes_covered=True, mouth_covered=True))[1][0]
    assert not covered.eyes_visible and not covered.mouth_visible
    side = draw(random_scene(rng, view="profile_left", framing="portrait"))[1][0]
    assert len(side.eyes) == 1
    assert json.loads(json.dumps(side.to_json()))["view"] == "profile_left"


def test_several_characters_have_a_truth_each() -> None:
    for count in (2, 3, 4):
        scene = random_scene(np.random.default_rng(count), characters=count, size=(320, 240))
        assert len(draw(scene)[1]) == count


def test_framings_can_be_told_apart() -> None:
    rng = np.random.default_rng(5)
    for framing in FRAMINGS:
        for _ in range(20):
            scene = random_scene(rng, framing=framing)
            assert framing_of(scene.characters[0]) == framing


def test_colors_read_back() -> None:
    rng = np.random.default_rng(31)
    right = {"hair": 0, "dress": 0}
    total = 0
    for style in STYLES:
        for _ in range(50):
            scene = random_scene(rng, style=style, view="front")
            seen = read_colors(draw(scene)[0])
            person = scene.characters[0]
            right["hair"] += seen["hair"] == person.hair_color
            right["dress"] += seen["dress"] == person.dress_color
            total += 1
    assert right["hair"] / total >= 0.98
    assert right["dress"] / total >= 0.98


def test_read_back_of_nothing() -> None:
    from PIL import Image

    assert read_colors(Image.new("RGB", (64, 64), (0, 0, 0))) == {
        "hair": "unknown", "dress": "unknown",
    }  # fmt: skip


def test_captions_say_only_true_things() -> None:
    rng = np.random.default_rng(77)
    known = set(vocabulary())
    for _ in range(300):
        scene = random_scene(rng)
        person = scene.characters[0]
        text = caption(scene, rng)
        words = set(text.replace(",", " ").replace("-", " ").split())
        assert words <= known
        for color, names in COLOR_WORDS.items():
            if color not in (person.hair_color, person.dress_color):
                plain = {n for n in names if " " not in n}
                if scene.background == "meadow":
                    plain -= {"green"}
                assert not words & plain, text
        for mood, phrases in EXPRESSION_WORDS.items():
            if mood != person.expression or person.view == "back":
                assert not any(f", {p}" in f", {text}" for p in phrases), text
        for view, phrases in VIEW_WORDS.items():
            if view != person.view:
                assert not any(p in text for p in phrases), text


def test_full_caption_is_fixed() -> None:
    scene = random_scene(
        np.random.default_rng(0), style="flat", view="front", framing="portrait", background="room",
        hair_color="red", hair_style="long", dress_color="blue", expression="smiling",
    )  # fmt: skip
    text = caption(scene, np.random.default_rng(0), vary=False)
    assert text.startswith("a character with long red hair, blue dress, smiling")
    assert "in a room" in text


def test_film_differs_from_base_styles() -> None:
    scene = random_scene(np.random.default_rng(3), style="flat", view="front", background="meadow")
    film = np.asarray(draw(replace(scene, style=TARGET_STYLE))[0], dtype=float)
    for style in BASE_STYLES:
        base = np.asarray(draw(replace(scene, style=style))[0], dtype=float)
        assert np.abs(film - base).mean() > 25


def test_sample_set(tmp_path: Path) -> None:
    samples = film_frames(seed=1, count=24)
    assert len(samples) == 24
    truth_file = tmp_path / "truth.jsonl"
    write_frames(samples, tmp_path / "film", truth_file, seed=1)
    rows = [json.loads(line) for line in truth_file.read_text(encoding="utf-8").splitlines()]
    assert [r["file"] for r in rows] == sorted(p.name for p in (tmp_path / "film").iterdir())
    assert sum(r["fault"] is None for r in rows) >= 12
    assert {"several", "detail", "back", "silhouette", "tiny", "framing"} <= {r["fault"] for r in rows}
