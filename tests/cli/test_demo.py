"""The demo: its arithmetic on small tables, and (slow) its promises on the real thing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lora_atelier.cli import demo
from lora_atelier.core.errors import BadInput
from lora_atelier.core.files import append_json_line, read_json
from lora_atelier.core.rundir import RunDir
from lora_atelier.core.types import Score, ScoreTable


def table(*rows: tuple[int, str, float]) -> ScoreTable:
    return ScoreTable(tuple(Score(step, prompt, 1, "style_distance", value) for step, prompt, value in rows))


def test_style_distance_is_compared_on_the_prompts_the_lora_is_for() -> None:
    scores = table(
        (0, "p1", 4.0), (0, "p2", 2.0), (0, "other1", 99.0), (60, "p1", 1.5), (60, "p2", 1.5), (90, "p1", 9.0)
    )
    assert demo.style_distance(scores, 60) == {"base": 3.0, "recommended": 1.5, "fall": 0.5}
    assert demo.style_distance(table((60, "p1", 1.0)), 60)["fall"] is None


def test_held_out_loss_is_read_at_the_recommended_step(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step, loss in ((0, 1.0), (30, 0.7), (60, 0.6), (90, 0.8)):
        append_json_line(run.events_file, {"type": "fixed_loss", "step": step, "split": "heldout", "loss": loss})
        append_json_line(run.events_file, {"type": "fixed_loss", "step": step, "split": "train", "loss": loss / 10})
    assert demo.heldout_loss(run, 90) == {"start": 1.0, "recommended": 0.8, "lowest": 0.6, "lowest_step": 60}
    assert demo.heldout_loss(run, 75)["recommended"] == 0.6
    assert demo.heldout_loss(RunDir(tmp_path / "none"), 60)["start"] is None


def test_the_long_demo_trains_five_times_longer_and_changes_nothing_else() -> None:
    api = read_json(demo.QUICKSTART)
    long = demo.longer(api)
    changed = {
        (node["class_type"], name)
        for node_id, node in api.items()
        for name, value in node["inputs"].items()
        if long[node_id]["inputs"][name] != value
    }
    assert changed == {("AtelierTrainLora", name) for name in ("max_steps", "save_every", "sample_every")}
    (train,) = [node["inputs"] for node in long.values() if node["class_type"] == "AtelierTrainLora"]
    (before,) = [node["inputs"] for node in api.values() if node["class_type"] == "AtelierTrainLora"]
    assert train["max_steps"] == 5 * before["max_steps"]


def test_the_quickstart_draws_enough_for_a_recommendation() -> None:
    from lora_atelier.validation.selection import FEWEST_CHECKPOINTS, FEWEST_PICTURES

    inputs = {node["class_type"]: node["inputs"] for node in read_json(demo.QUICKSTART).values()}
    plan, train = inputs["AtelierValidationPlan"], inputs["AtelierTrainLora"]
    prompts = [line for name in ("prompts", "other_prompts") for line in plan[name].splitlines() if line.strip()]
    assert len(prompts) * len(plan["seeds"].split(",")) >= FEWEST_PICTURES
    assert train["max_steps"] // train["sample_every"] >= FEWEST_CHECKPOINTS
    assert train["save_every"] == train["sample_every"]


def test_missing_assets_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "BASE", tmp_path / "nothing")
    with pytest.raises(BadInput, match="which is not there"):
        demo.run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("demo") / "demo-out"
    document, _ = demo.run_demo(out)
    return out, document


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_keeps_its_promises(shown: tuple[Path, dict[str, Any]]) -> None:
    out, document = shown
    keep = document["truth"]["keep"]
    assert keep["precision"] >= 0.85
    assert keep["recall"] >= 0.85
    loss = document["heldout_loss"]
    assert loss["recommended"] < loss["start"]
    assert document["style_distance"]["fall"] >= 0.40
    assert document["choice"]["outcome"] not in ("not_enough_evidence", "all_failed")
    assert document["peak_memory_mb"] is None or document["peak_memory_mb"] < 3000
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == document


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_report_shows_everything_and_asks_the_network_for_nothing(shown: tuple[Path, dict[str, Any]]) -> None:
    page = (shown[0] / "report.html").read_text(encoding="utf-8")
    for title in (
        "Pictures",
        "How right the filter is",
        "Before and after",
        "Which checkpoint?",
        "Loss",
        "Exported files",
    ):
        assert f">{title}<" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert not [path for files in shown[1]["exports"].values() for path in files if not Path(path).is_file()]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_training_too_long_is_noticed(tmp_path: Path) -> None:
    document, _ = demo.run_demo(tmp_path / "long", long=True)
    onsets = [onset["step"] for onset in document["choice"]["onset"].values() if onset]
    assert onsets, "no over-training alarm"
    assert all(document["choice"]["recommended_step"] < onset for onset in onsets)
