"""Dose and response: each metric follows its own damage, and the others hardly notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import pytest
from lora_atelier.core.faces import FaceFinder
from lora_atelier.validation.metrics import heldout_loss, valid_frame
from lora_atelier.validation.metrics.base import Scene, Sight
from lora_atelier.validation.metrics.face_found import expects_face
from lora_atelier.validation.metrics.reference import Reference, learn
from lora_atelier.validation.metrics.sight import look
from lora_atelier.validation.score import rows_of_pictures

from .drawn import SIDE, blur_face, film_scenes, mixed, pixels

DOSES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COUNT = 12
Damage = Callable[[int, np.ndarray, float], np.ndarray]


@cache
def _pictures(seed: int, count: int) -> tuple[np.ndarray, ...]:
    return tuple(pixels(scene) for scene in film_scenes(count, seed))


@pytest.fixture(scope="module")
def reference(finder: FaceFinder) -> Reference:
    return learn([look(p, finder, prompt=str(n), side=SIDE) for n, p in enumerate(_pictures(1, 24))])


def blur_faces(index: int, picture: np.ndarray, dose: float) -> np.ndarray:
    return blur_face(film_scenes(COUNT, 2)[index], picture, 3.0 * dose)


def shift_palette(_: int, picture: np.ndarray, dose: float) -> np.ndarray:
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB).astype(np.float32) + np.array([0, 22, -30]) * dose
    return cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def lose_style(index: int, _: np.ndarray, dose: float) -> np.ndarray:
    return mixed(film_scenes(COUNT, 2)[index], 1 - dose)


def paste_flipped(index: int, picture: np.ndarray, dose: float) -> np.ndarray:
    if index >= round(dose * COUNT):
        return picture
    edge = 5 if index % 2 else 0
    return cv2.resize(_pictures(1, 24)[index][edge : SIDE - edge, SIDE - edge - 1 : edge : -1], (SIDE, SIDE))


def blacken(index: int, picture: np.ndarray, dose: float) -> np.ndarray:
    return picture if index >= round(dose * COUNT) else np.zeros_like(picture)


def collapse(index: int, picture: np.ndarray, dose: float) -> np.ndarray:
    return cv2.addWeighted(picture, 1 - dose, _pictures(2, COUNT)[0], dose, 0)


def _sights(damage: Damage, dose: float, finder: FaceFinder) -> list[Sight]:
    return [
        look(damage(n, p, dose), finder, prompt=f"p{n % 3}", seed=n // 3, side=SIDE)
        for n, p in enumerate(_pictures(2, COUNT))
    ]


@cache
def _sound(finder: FaceFinder) -> list[Sight]:
    return _sights(blur_faces, 0.0, finder)


def measure(damage: Damage, dose: float, finder: FaceFinder, reference: Reference) -> dict[str, float]:
    """Mean per metric of the damaged pictures; three prompts with four seeds, the sound ones as the base."""

    rows = rows_of_pictures({0: _sound(finder), 1: _sights(damage, dose, finder)}, reference)
    names = {row.metric for row in rows}
    means = {
        name: float(np.mean([r.value for r in rows if r.step == 1 and r.metric == name] or [0.0])) for name in names
    }
    copies = [r.value < 1 for r in rows if r.step == 1 and r.metric == "nearest_training_percentile"]
    return means | {"copies": float(np.mean(copies)) if copies else 0.0}


def spearman(doses: Sequence[float], answers: Sequence[float]) -> float:
    def ranks(values: Sequence[float]) -> np.ndarray:
        return np.argsort(np.argsort(np.round(values, 6), kind="stable"), kind="stable").astype(float)

    return float(np.corrcoef(ranks(doses), ranks(answers))[0, 1])


@pytest.mark.parametrize(
    ("damage", "metric", "sign"),
    [
        (blur_faces, "face_sharpness", -1),
        (shift_palette, "style_distance", 1),
        (lose_style, "style_distance", 1),
        (paste_flipped, "copies", 1),
        (blacken, "valid_frame", -1),
        (collapse, "seed_diversity", -1),
        (collapse, "prompt_response", -1),
    ],
)
def test_metric_follows_its_own_damage(
    damage: Damage, metric: str, sign: int, finder: FaceFinder, reference: Reference
) -> None:
    answers = [measure(damage, dose, finder, reference)[metric] for dose in DOSES]
    assert spearman(DOSES, answers) * sign >= 0.95, answers
    assert abs(answers[-1] - answers[0]) > 0.25, answers


def test_other_metrics_hardly_notice(finder: FaceFinder, reference: Reference) -> None:
    sound = measure(blur_faces, 0.0, finder, reference)
    blurred = measure(blur_faces, 1.0, finder, reference)
    tinted = measure(shift_palette, 1.0, finder, reference)
    loss = sound["face_sharpness"] - blurred["face_sharpness"]
    assert abs(sound["seed_diversity"] - blurred["seed_diversity"]) < 0.2 * loss
    # Style is measured in units of which the base model is some two and a half away from the data.
    assert abs(sound["style_distance"] - blurred["style_distance"]) / 2.5 < 0.2 * loss
    gain = (tinted["style_distance"] - sound["style_distance"]) / 2.5
    assert abs(sound["face_sharpness"] - tinted["face_sharpness"]) < 0.2 * gain
    assert tinted["copies"] == 0


def test_base_styles_are_far_from_the_film_style(reference: Reference) -> None:
    assert reference.style is not None
    distances = {
        style: np.median([reference.style.distance(_style(pixels(scene, style))) for scene in film_scenes(COUNT, 2)])
        for style in ("film", "flat", "pastel", "cel")
    }
    assert 0.8 <= distances["film"] <= 1.35
    assert min(distances[style] for style in ("flat", "pastel", "cel")) >= 2.2 * distances["film"]


def _style(picture: np.ndarray) -> np.ndarray:
    style = look(picture, None, prompt="p", side=SIDE).style
    assert style is not None
    return style


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        (np.zeros((64, 64, 3), np.uint8), "black"),
        (np.full((64, 64, 3), 255, np.uint8), "white"),
        (np.full((64, 64, 3), (90, 140, 30), np.uint8), "flat"),
        (np.full((64, 64, 3), np.nan, np.float32), "nan"),
        (np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "noise"),
        (np.concatenate([_pictures(1, 1)[0][:64], np.zeros((64, SIDE, 3), np.uint8)]), "torn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_frame_is_named_with_its_likely_cause(picture: np.ndarray, fault: str) -> None:
    found = valid_frame.inspect(picture)
    assert found is not None and found.name == fault
    assert valid_frame.measure(picture) == 0
    assert len(found.cause) > 20


def test_dark_and_plain_drawings_are_valid() -> None:
    for style in ("film", "flat", "pastel", "cel"):
        for scene in film_scenes(COUNT, 3):
            assert valid_frame.inspect(pixels(scene, style)) is None
    night = (_pictures(1, 4)[0] * 0.12).astype(np.uint8)
    assert valid_frame.inspect(night) is None


def test_a_broken_frame_has_no_other_score(finder: FaceFinder, reference: Reference) -> None:
    black = look(np.zeros((SIDE, SIDE, 3), np.uint8), finder, prompt="p", side=SIDE)
    sound = look(_pictures(2, COUNT)[0], finder, prompt="p", seed=1, side=SIDE)
    rows = rows_of_pictures({0: [sound], 5: [black]}, reference)
    assert [(row.metric, row.value) for row in rows if row.step == 5] == [("valid_frame", 0.0)]


def test_heads_from_behind_and_prompts_without_faces_are_not_asked_for_one(reference: Reference) -> None:
    assert not expects_face("a girl seen from behind, red dress")
    assert expects_face("a smiling girl in a red dress")
    hidden = Sight("p", 1, face_expected=False)
    from lora_atelier.validation.metrics import face_found

    assert face_found.measure(hidden, Scene((), (), reference)) is None


def test_losses_need_a_measurement_before_training() -> None:
    events = [
        {"type": "fixed_loss", "step": step, "split": "heldout", "loss": loss} for step, loss in ((0, 0.4), (10, 0.3))
    ]
    assert heldout_loss.measure(events) == {0: 1.0, 10: pytest.approx(0.75)}
    assert heldout_loss.measure(events[1:]) == {}
