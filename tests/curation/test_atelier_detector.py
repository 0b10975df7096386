"""The pack's own detector on characters that the procedural artist draws here and now."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artist.draw import Truth, draw
from artist.scene import STYLES, random_scene
from lora_atelier.core.errors import BadInput
from lora_atelier.core.faces import FaceFinder, Subject
from lora_atelier.curation.detectors.atelier import NETWORK, AtelierFinder, letterbox

SIZE = (256, 256)


@cache
def finder() -> AtelierFinder:
    return AtelierFinder()


def drawn(seed: int, **what: Any) -> tuple[np.ndarray, tuple[Truth, ...]]:
    image, truths = draw(random_scene(np.random.default_rng(seed), **{"size": SIZE, "framing": "portrait", **what}))
    return np.asarray(image), truths


def overlap(a: Any, b: Any) -> float:
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def only(picture: np.ndarray) -> Subject:
    found = finder().find(picture)
    assert len(found) == 1
    return found[0]


def test_file_is_small_and_named_by_its_content() -> None:
    assert NETWORK.stat().st_size <= 2_000_000
    detector: FaceFinder = finder()
    assert detector.name == "atelier"
    assert len(detector.version.split("-")[0]) == 12
    assert AtelierFinder(score=0.6).version != detector.version


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("framing", ["close_up", "portrait", "half", "full"])
def test_finds_a_character_in_every_style(style: str, framing: str) -> None:
    good = 0
    for seed in range(5):
        picture, (truth,) = drawn(seed, style=style, framing=framing, view="front")
        found = finder().find(picture)
        good += (
            len(found) == 1
            and found[0].face is not None
            and overlap(found[0].face, truth.face_box) > 0.4
            and found[0].head is not None
            and overlap(found[0].head, truth.head_box) > 0.5
        )
    assert good >= 4


def test_landmarks_lie_on_eyes_and_mouth() -> None:
    near = 0
    for seed in range(20, 30):
        picture, (truth,) = drawn(seed, style="cel", view="front")
        found = finder().find(picture)
        assert truth.mouth is not None
        points = (*sorted(truth.eyes), truth.mouth)
        reach = 0.15 * (truth.head_box[2] - truth.head_box[0])
        near += (
            len(found) == 1
            and len(found[0].landmarks) == 3
            and all(np.hypot(a[0] - b[0], a[1] - b[1]) < reach for a, b in zip(found[0].landmarks, points, strict=True))
        )
    assert near >= 8


def test_tells_backs_from_fronts() -> None:
    right = {"front": 0, "back": 0}
    for seed in range(16):
        for view in right:
            picture, _ = drawn(seed, style=STYLES[seed % len(STYLES)], view=view)
            found = finder().find(picture)
            turned = len(found) == 1 and found[0].view == "back"
            right[view] += len(found) == 1 and turned == (view == "back") == (found[0].face is None)
    assert right["front"] >= 14
    assert right["back"] >= 14


def test_silhouette_is_a_character_without_face_and_features() -> None:
    good = 0
    for seed in range(10):
        picture, (truth,) = drawn(seed, silhouette=True, view="front", background="meadow", style="flat")
        found = finder().find(picture)
        good += (
            len(found) == 1
            and found[0].head is not None
            and overlap(found[0].head, truth.head_box) > 0.5
            and found[0].face is None
            and (found[0].eyes_visible or 0) < 0.5
            and (found[0].mouth_visible or 0) < 0.5
        )
    assert good >= 8


@pytest.mark.parametrize("part", ["eyes", "mouth"])
def test_covered_parts_score_lower_than_visible_ones(part: str) -> None:
    right = 0
    for seed in range(12):
        scene = random_scene(np.random.default_rng(seed), style=STYLES[seed % len(STYLES)], view="front",
                             framing="portrait", size=SIZE)  # fmt: skip
        covered = replace(scene, characters=(replace(scene.characters[0], **{f"{part}_covered": True}),))
        values = []
        for one in (scene, covered):
            found = finder().find(np.asarray(draw(one)[0]))
            values.append(getattr(found[0], f"{part}_visible") if len(found) == 1 else float("nan"))
        right += values[0] >= 0.5 > values[1]
    assert right >= 10


@pytest.mark.parametrize("count", [2, 3])
def test_counts_several_characters(count: int) -> None:
    right = 0
    for seed in range(10):
        picture, _ = drawn(seed, characters=count, framing="half", size=(400, 240), view="front", style="flat")
        right += len(finder().find(picture)) == count
    assert right >= 8


def test_pictures_without_a_character_give_nobody() -> None:
    rng = np.random.default_rng(3)
    plain = [np.full((200, 300, 3), value, np.uint8) for value in (0, 127, 255)]
    ramp = np.repeat(np.linspace(0, 255, 320, dtype=np.uint8)[None, :, None], 180, 0).repeat(3, 2)
    noise = rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)
    for picture in (*plain, ramp, noise):
        assert finder().find(picture) == ()
    scenes = [random_scene(rng, size=SIZE, style=style) for style in STYLES for _ in range(5)]
    empty = [np.asarray(draw(replace(scene, characters=()))[0]) for scene in scenes]
    assert sum(bool(finder().find(picture)) for picture in empty) <= 2


@pytest.mark.parametrize("size", [(64, 64), (640, 90), (90, 640), (33, 57), (1280, 720)])
def test_boxes_lie_inside_pictures_of_any_shape(size: tuple[int, int]) -> None:
    for seed in range(4):
        picture, _ = drawn(seed, size=size, framing="close_up", characters=1 + seed % 2)
        for subject in finder().find(picture):
            assert 0 < subject.score <= 1
            for box in (subject.head, subject.face, subject.body):
                if box is not None:
                    assert 0 <= box[0] < box[2] <= size[0]
                    assert 0 <= box[1] < box[3] <= size[1]


def test_size_of_the_picture_does_not_change_the_answer() -> None:
    small, _ = drawn(4, size=(192, 192), view="front", style="flat")
    large = np.kron(small, np.ones((3, 3, 1), np.uint8))
    a, b = only(small).head, only(large).head
    assert a is not None and b is not None
    assert np.allclose(np.array(a) * 3, b, atol=6)


def test_one_pixel_and_read_only_pictures() -> None:
    assert finder().find(np.zeros((1, 1, 3), np.uint8)) == ()
    picture, _ = drawn(4)
    picture = picture.copy()
    picture.setflags(write=False)
    finder().find(picture)


def test_same_answer_again_from_threads_and_after_pickling() -> None:
    pictures = [drawn(seed, view="front")[0] for seed in range(6)]
    expected = [finder().find(picture) for picture in pictures]
    assert any(expected)
    assert [finder().find(picture) for picture in pictures] == expected
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(finder().find, pictures * 3)) == expected * 3
    copied = pickle.loads(pickle.dumps(finder()))
    assert copied.version == finder().version
    assert [copied.find(picture) for picture in pictures] == expected


def test_letterbox_keeps_the_shape_and_pads_with_grey() -> None:
    blob, fit = letterbox(np.full((100, 200, 3), 255, np.uint8))
    assert blob.shape == (1, 3, 192, 192)
    assert blob[0, :, 96, 96] == pytest.approx(1.0)
    assert blob[0, :, 5, 5] == pytest.approx(114 / 255)
    assert fit.point(0, 48) == pytest.approx((0, 0))
    assert fit.point(192, 144) == pytest.approx((200, 100))


def test_missing_and_broken_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        AtelierFinder(tmp_path / "nothing.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(NETWORK.read_bytes()[:5000])
    with pytest.raises(BadInput, match="cannot load"):
        AtelierFinder(broken)
