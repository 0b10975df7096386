"""Measuring a set: the same answer every way, remembered, stoppable, and unharmed by a broken cache."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from artist.draw import draw
from artist.scene import random_scene
from lora_atelier.core.errors import BadInput
from lora_atelier.core.faces import FaceFinder, Subject
from lora_atelier.core.images import scan
from lora_atelier.core.types import Curation
from lora_atelier.curation import detectors
from lora_atelier.curation.detectors.auto import surer
from lora_atelier.curation.detectors.yunet import locate, view_of
from lora_atelier.curation.measure import measure_set
from lora_atelier.curation.measures import Sample, measure_all
from PIL import Image

from .conftest import Drawer


class Stop(Exception):
    pass


def test_all_executors_agree(drawn: Drawer, finder: FaceFinder) -> None:
    images = scan(drawn(5), "set")
    inline = measure_set(images, finder, executor="inline")
    assert measure_set(images, finder, executor="threads", workers=3) == inline
    assert measure_set(images, finder, executor="pool", workers=2) == inline
    assert {decision.decision for decision in inline.decisions} == {"keep"}
    assert Curation.from_json(inline.to_json()) == inline


def test_unknown_executor_gets_the_nearest_name(drawn: Drawer, finder: FaceFinder) -> None:
    with pytest.raises(BadInput, match="Did you mean 'threads'"):
        measure_set(scan(drawn(1), "set"), finder, executor="thread")


def test_the_cache_saves_the_second_look(drawn: Drawer, finder: FaceFinder, tmp_path: Path) -> None:
    folder, cache = drawn(4), tmp_path / "deep" / "cache.sqlite"
    first = measure_set(scan(folder, "set"), finder, cache=cache, executor="inline")
    seen: list[tuple[int, int]] = []
    (folder / "000.png").rename(folder / "renamed.png")
    again = measure_set(scan(folder, "set"), finder, cache=cache, progress=lambda *pair: seen.append(pair))
    assert seen == [(4, 4)]
    assert again.measurements == first.measurements


def test_a_new_detector_version_measures_again(drawn: Drawer, finder: FaceFinder, tmp_path: Path) -> None:
    images, cache = scan(drawn(2), "set"), tmp_path / "cache.sqlite"
    measure_set(images, finder, cache=cache, executor="inline")

    class Newer:
        name = finder.name
        version = "newer"
        find = staticmethod(finder.find)

    seen: list[int] = []
    measure_set(images, Newer(), cache=cache, executor="inline", progress=lambda done, _: seen.append(done))
    assert seen[0] == 0


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(8192)
    path.write_bytes(data)


def _text(path: Path) -> None:
    path.write_text("this is not a database" * 100)


def _other_schema(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE measurements (a, b)")


def _wrong_rows(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("UPDATE measurements SET content = '{'")


@pytest.mark.parametrize("harm", [_truncate, _scribble, _text, _other_schema, _wrong_rows])
def test_a_broken_cache_costs_only_time(drawn: Drawer, finder: FaceFinder, tmp_path: Path, harm: object) -> None:
    images, cache = scan(drawn(3), "set"), tmp_path / "cache.sqlite"
    first = measure_set(images, finder, cache=cache, executor="inline")
    assert callable(harm)
    harm(cache)
    assert measure_set(images, finder, cache=cache, executor="inline") == first
    seen: list[int] = []
    measure_set(images, finder, cache=cache, progress=lambda done, _: seen.append(done))
    assert seen == [3], "the cache works again"


def test_a_cache_that_cannot_be_written_is_no_error(drawn: Drawer, finder: FaceFinder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = measure_set(scan(drawn(2), "set"), finder, cache=tmp_path / "file" / "cache.sqlite", executor="inline")
    assert len(found.measurements) == 2


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_stopping_keeps_what_was_measured(drawn: Drawer, finder: FaceFinder, tmp_path: Path, executor: str) -> None:
    images, cache = scan(drawn(6), "set"), tmp_path / "cache.sqlite"
    done: list[int] = []

    def check() -> None:
        if done[-1] >= 3:
            raise Stop

    with pytest.raises(Stop):
        measure_set(
            images, finder, cache=cache, executor=executor, workers=1, check=check,
            progress=lambda count, _: done.append(count),
        )  # fmt: skip
    assert done[-1] == 3
    seen: list[int] = []
    measure_set(images, finder, cache=cache, progress=lambda count, _: seen.append(count))
    assert seen[0] == 3


def test_damage_that_only_decoding_shows_is_skipped_with_a_reason(drawn: Drawer, finder: FaceFinder) -> None:
    folder = drawn(2)
    data = bytearray((folder / "001.png").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    (folder / "001.png").write_bytes(data)
    found = measure_set(scan(folder, "set"), finder, executor="inline")
    assert {d.path: d.decision for d in found.decisions} == {"000.png": "keep", "001.png": "skip"}
    assert found.decisions[1].reasons[0].rule in ("damaged", "truncated")
    assert [picture.path for picture in found.images.pictures] == ["000.png"]


def test_a_path_out_of_the_root_is_refused(drawn: Drawer, finder: FaceFinder, tmp_path: Path) -> None:
    images = scan(drawn(1), "set")
    moved = images.from_json({**images.to_json(), "root": str(tmp_path / "elsewhere")})
    row = {**moved.to_json(), "pictures": [{**moved.to_json()["pictures"][0], "path": "../set/000.png"}]}
    with pytest.raises(BadInput, match="leads outside"):
        measure_set(images.from_json(row), finder, executor="inline")


def sample(pixels: np.ndarray) -> Sample:
    return Sample(pixels, pixels.shape[1], pixels.shape[0], ())


def test_measures_answer_to_what_they_measure() -> None:
    rng = np.random.default_rng(0)
    picture, _ = draw(random_scene(rng, style="flat", size=(320, 240), background="room"))
    pixels = np.asarray(picture)
    plain = measure_all(sample(pixels))
    boxed = pixels.copy()
    boxed[:30], boxed[-30:] = 0, 0
    assert plain["letterbox"] == 0
    assert measure_all(sample(boxed))["letterbox"] == pytest.approx(60 / 240, abs=0.02)
    dark = measure_all(sample((pixels * 0.3).astype(np.uint8)))
    assert dark["brightness"] < 0.4 * plain["brightness"]
    soft = np.asarray(picture.resize((80, 60)).resize((320, 240)))
    assert measure_all(sample(soft))["sharpness"] < 0.5 * plain["sharpness"]
    assert measure_all(sample(np.full((40, 40, 3), 128, np.uint8)))["flat_share"] == 1
    shape = np.full((240, 320, 3), 220, np.uint8)
    shape[80:, 120:200] = 5
    found = measure_all(sample(shape))
    assert found["shape_share"] == pytest.approx(0.25 * 160 / 240, abs=0.02)
    assert found["shape_height"] == pytest.approx(160 / 240, abs=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (7, 9)])
def test_tiny_pictures_can_be_measured(size: tuple[int, int], finder: FaceFinder) -> None:
    pixels = np.full((*size, 3), 77, np.uint8)
    values = measure_all(Sample(pixels, size[1], size[0], finder.find(pixels)))
    assert values["brightness"] == pytest.approx(77 / 255, abs=0.01)


def test_every_detector_answers_in_one_schema(film: Curation) -> None:
    keys = {frozenset(values) for values in film.measurements.values()}
    assert len(keys) == 1
    people = [subject for values in film.measurements.values() for subject in values["subjects"]]
    assert len({frozenset(subject) for subject in people}) == 1
    for subject in people:
        for box in (subject["face"], subject["head"], subject["body"]):
            assert box is None or (0 <= box[0] <= box[2] <= 1 and 0 <= box[1] <= box[3] <= 1)


def test_detectors_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(detectors.MODELS_VARIABLE, raising=False)
    with pytest.raises(BadInput, match="Did you mean 'yunet'"):
        detectors.make("yunett")
    with pytest.raises(BadInput, match="No YuNet file"):
        detectors.make("yunet", tmp_path)
    with pytest.raises(BadInput, match="does not exist"):
        detectors.make("auto", tmp_path / "none")
    assert "atelier " in detectors.make("auto").version


def test_a_file_that_is_no_yunet_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "yunet_n.onnx").write_bytes(b"nonsense" * 50)
    (tmp_path / "faces" / "other.onnx").write_bytes(b"")
    monkeypatch.setenv(detectors.MODELS_VARIABLE, str(tmp_path))
    assert locate(detectors.model_folders(None)) == tmp_path / "faces" / "yunet_n.onnx"
    with pytest.raises(BadInput, match="cannot load"):
        detectors.make("yunet")


def test_yunet_landmarks_tell_the_view() -> None:
    eyes, mouth = ((40.0, 40.0), (80.0, 40.0)), ((45.0, 80.0), (75.0, 80.0))
    assert view_of((*eyes, (61.0, 60.0), *mouth)) == "front"
    assert view_of((*eyes, (74.0, 60.0), *mouth)) == "three_quarter"
    assert view_of((*eyes, (90.0, 60.0), *mouth)) == "profile"


def test_auto_believes_the_surer_detector_and_is_careful_on_photographs() -> None:
    face = (10.0, 10.0, 50.0, 50.0)
    drawn, photo = (Subject(0.8, face=face, eyes_visible=0.9),), (Subject(0.6, face=face),)
    assert surer(drawn, photo, 0.9) == surer(drawn, photo, 0.1) == drawn
    strange = (Subject(0.65, face=face, eyes_visible=0.1, mouth_visible=0.2),)
    assert surer(strange, (), 0.1) == ()
    assert surer(strange, photo, 0.9) == (Subject(0.65, face=face),)
    assert surer((Subject(0.55, head=face, view="back"),), (), 0.1)[0].view == "back"
    assert surer((Subject(0.55, face=face),), photo, 0.9) == photo
    assert surer((), (), 0.9) == ()


def test_face_heights_are_measured_in_pixels_of_the_file(finder: FaceFinder, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    wanted: dict[str, float] = {}
    for index in range(5):
        picture, truth = draw(random_scene(rng, style="film", framing="portrait", view="front", size=(320, 320)))
        face = truth[0].face_box
        assert face is not None
        picture.resize((800, 800)).save(tmp_path / f"{index}.jpg")  # larger than the working size
        wanted[f"{index}.jpg"] = 2.5 * (face[3] - face[1])
    found = measure_set(scan(tmp_path, "set"), finder, executor="inline")
    ratios = [
        found.measurements[picture.sha256]["subjects"][0]["face_px"] / wanted[picture.path]
        for picture in found.images.pictures
        if found.measurements[picture.sha256]["subjects"]
    ]
    assert len(ratios) >= 4
    assert float(np.median(ratios)) == pytest.approx(1, abs=0.3)


def test_importing_the_room_loads_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from lora_atelier.curation import captions, decisions, detectors, evaluate, measure, prepare;"
        " print([m for m in ('cv2', 'torch', 'imagehash', 'scipy', 'jinja2', 'onnxruntime') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_same_drawing_in_other_formats_measures_alike(tmp_path: Path, finder: FaceFinder) -> None:
    rng = np.random.default_rng(2)
    picture, _ = draw(random_scene(rng, style="flat", size=(256, 256)))
    for name in ("a.png", "a.jpg", "a.webp"):
        picture.save(tmp_path / name, quality=92)
    Image.fromarray(np.asarray(picture)).rotate(90, expand=True).save(
        tmp_path / "turned.jpg", exif=_turned(), quality=92
    )
    found = measure_set(scan(tmp_path, "set"), finder, executor="inline")
    values = list(found.measurements.values())
    assert max(v["brightness"] for v in values) - min(v["brightness"] for v in values) < 0.01
    assert {len(v["subjects"]) for v in values} == {1}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif
