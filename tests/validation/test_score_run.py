"""A drawn run from pictures to report: scored, chosen, shown."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from lora_atelier.core.errors import BadInput
from lora_atelier.core.faces import FaceFinder
from lora_atelier.core.files import append_json_line
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import ScoreTable
from lora_atelier.validation import pictures, scores, sections
from lora_atelier.validation.score import faults, score_run
from lora_atelier.validation.selection import choose
from PIL import Image

from .drawn import PROMPTS, SEEDS, SIDE, STEPS, drawn_run, save

Scored = tuple[RunDir, ScoreTable]


def _mean(table: ScoreTable, step: int | str, metric: str) -> float:
    return float(np.mean([row.value for row in table.rows if row.step == step and row.metric == metric]))


def test_every_metric_is_measured_and_written(scored: Scored) -> None:
    run, table = scored
    names = {row.metric for row in table.rows}
    assert names == {
        "valid_frame", "face_found", "face_confidence", "face_sharpness", "style_distance", "seed_diversity",
        "prompt_response", "nearest_training_percentile", "heldout_loss", "train_loss",
    }  # fmt: skip
    assert scores.load(run.scores_file).rows == table.rows
    pictures_per_step = {row.step: 0 for row in table.rows}
    for row in table.rows:
        pictures_per_step[row.step] += row.metric == "valid_frame"
    assert all(pictures_per_step[step] == len(PROMPTS) * len(SEEDS) for step in (0, *STEPS))


def test_the_base_model_and_the_data_are_the_anchors(scored: Scored) -> None:
    _, table = scored
    assert _mean(table, 0, "seed_diversity") == pytest.approx(1, abs=0.01)
    assert _mean(table, 0, "prompt_response") == pytest.approx(1, abs=0.01)
    assert np.median(
        [r.value for r in table.rows if r.step == "data" and r.metric == "style_distance"]
    ) == pytest.approx(1)
    assert _mean(table, 0, "style_distance") > 2.2
    assert _mean(table, 800, "style_distance") < 0.6 * _mean(table, 0, "style_distance")


def test_the_choice_lies_before_the_faces_blur(scored: Scored) -> None:
    _, table = scored
    choice = choose(table)
    assert choice.outcome in ("clear", "range")
    assert choice.recommended_step in (600, 800, 1200)
    onset = choice.onset["identity"]
    assert onset is not None and 600 <= onset.step <= 1300
    assert "sharpness inside the face" in onset.message


def test_black_pictures_are_named_and_gate_their_checkpoint(run: RunDir, finder: FaceFinder) -> None:
    for seed in SEEDS:
        save(run, 800, "p1", seed, np.zeros((SIDE, SIDE, 3), np.uint8))
    run.sample_path(600, "p2", 1).write_bytes(b"\x89PNG cut off")
    table = score_run(run, finder)
    black = [row for row in table.rows if row.step == 800 and row.prompt == "p1"]
    assert {(row.metric, row.value) for row in black} == {("valid_frame", 0.0)}
    choice = choose(table)
    assert [item.step for item in choice.excluded] == [600, 800]
    assert choice.recommended_step not in (600, 800)
    found = {(sample.step, sample.prompt): fault for sample, fault in faults(run)}
    assert found[(800, "p1")].name == "black" and "safety checker" in found[(800, "p1")].cause
    assert found[(600, "p2")].name == "unreadable"


def test_losses_before_a_resume_do_not_count_twice(run: RunDir, finder: FaceFinder) -> None:
    append_json_line(run.events_file, {"type": "resumed", "step": 1200})
    append_json_line(run.events_file, {"type": "fixed_loss", "step": 1800, "split": "train", "loss": 0.05})
    rows = [row for row in score_run(run, None).rows if row.metric == "train_loss"]
    assert [row.step for row in rows] == [0, 100, 200, 400, 600, 800, 1200, 1800]
    assert rows[-1].value == pytest.approx(0.25)


def test_without_a_finder_faces_are_said_to_be_missing(run: RunDir) -> None:
    choice = choose(score_run(run, None), draws=200)
    assert any("Faces cannot be judged" in line for line in choice.missing)
    assert choice.recommended_step is not None


def test_progress_counts_every_picture_and_check_can_stop(run: RunDir) -> None:
    seen: list[tuple[int, int]] = []
    score_run(run, None, progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1] == 17 + 72

    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    before = run.scores_file.read_bytes()
    with pytest.raises(Stop):
        score_run(run, None, check=stop)
    assert run.scores_file.read_bytes() == before


def test_a_run_without_pictures_is_bad_input(tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "run", steps=())
    with pytest.raises(BadInput, match="no validation pictures"):
        score_run(run, None)


def test_pictures_of_a_run(scored: Scored) -> None:
    run, table = scored
    choice = choose(table, draws=200)
    grid = pictures.checkpoint_grid(run, choice, rows=6, columns=4, cell=64)
    assert grid.mode == "RGB" and grid.height > 6 * 64 and grid.width > 4 * 64
    strip = pictures.before_after(run, choice, columns=4, cell=64)
    assert strip.height > 3 * 64
    for theme in ("light", "dark"):
        curve = pictures.quality_curves(choice, theme)
        assert (np.asarray(curve).mean() > 128) == (theme == "light")
        assert pictures.loss_curve(run, theme).size[0] >= 900
    svg = pictures.quality_curves_svg(choice).decode()
    assert f"recommended {choice.recommended_step}" in svg and "prefers-color-scheme: dark" in svg


def test_the_grid_always_holds_base_recommended_and_last(scored: Scored) -> None:
    _, table = scored
    choice = choose(table, draws=200)
    steps = pictures._some_steps([0, *STEPS], choice, 5)
    assert len(steps) == 5
    assert {0, choice.recommended_step, STEPS[-1]} <= set(steps)


def test_the_report_holds_everything_in_one_file(run: RunDir, scored: Scored) -> None:
    choice = choose(scored[1], draws=200)
    save(run, 400, "p0", 1, np.zeros((SIDE, SIDE, 3), np.uint8))
    page = sections.write_report(run, choice).read_text(encoding="utf-8")
    for text in ("Which checkpoint?", "Before and after", "Loss", "drawn style", "held out", "all black"):
        assert text in page
    onset = choice.onset["identity"]
    assert onset is not None and onset.message in page
    for found in re.findall(r'src="([^"]+)"', page):
        assert found.startswith("data:image/")
    assert len(page) < 1_500_000


def test_written_pictures_open(run: RunDir, scored: Scored) -> None:
    written = pictures.write_pictures(run, choose(scored[1], draws=200))
    assert set(written) == {"curves", "grid", "loss", "before_after"}
    with Image.open(written["grid"]) as image:
        image.load()
    assert written["curves"].read_bytes().startswith(b"<?xml")
    assert base64.b64encode(written["loss"].read_bytes())
