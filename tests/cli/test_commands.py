"""The stages by command, on real files: what is printed is the documented contract, and what is written is there."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FILM = ROOT / "assets" / "samples" / "film"
TRUTH = ROOT / "assets" / "samples" / "film-truth.jsonl"
Cli = Callable[..., dict[str, Any]]
SCORES = [
    {"step": step, "prompt": f"p{prompt}", "seed": seed, "metric": "face_sharpness", "value": value}
    for step, value in ((0, 0.2), (100, 0.5), (200, 0.8), (300, 0.95), (400, 0.8), (500, 0.6), (600, 0.5))
    for prompt in range(4)
    for seed in range(4)
]


@pytest.fixture(scope="module", autouse=True)
def _signals() -> Iterator[None]:
    former = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run a command with --json; gives the document. `code` is the expected exit status."""
    from lora_atelier.cli import main

    def call(*words: object, code: int = 0) -> dict[str, Any]:
        with pytest.raises(SystemExit) as left:
            main.run([*map(str, words), "--json"])
        shown = capfd.readouterr()
        assert (left.value.code or 0) == code, shown.err
        return json.loads(shown.out)

    return call


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of the drawn sample frames and a damaged one."""
    folder = tmp_path_factory.mktemp("frames")
    for path in sorted(FILM.iterdir())[:12]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "damaged.png").write_bytes(next(FILM.iterdir()).read_bytes()[:500])
    return folder


def test_curate_keeps_its_contract(cli: Cli, frames: Path, tmp_path: Path) -> None:
    document = cli("curate", frames, "--out", tmp_path / "out", "--detector", "atelier", "--truth", TRUTH)
    assert document["images"] == 13
    assert document["skipped"] == 1
    assert document["images"] == sum(document[pile] for pile in ("kept", "rejected", "doubt", "skipped"))
    assert set(document) == {
        "images", "kept", "rejected", "doubt", "skipped", "by_rule", "seconds", "decisions", "report", "truth",
    }  # fmt: skip
    lines = [json.loads(line) for line in Path(document["decisions"]).read_text().splitlines()]
    assert [line["path"] for line in lines] == sorted(path.name for path in frames.iterdir())
    assert all(set(line) == {"path", "sha256", "decision", "reasons", "measurements"} for line in lines)
    rejected = [line for line in lines if line["decision"] == "reject"]
    assert all(line["reasons"] and set(line["reasons"][0]) >= {"rule", "measured", "limit"} for line in rejected)
    assert "<html" in Path(document["report"]).read_text(encoding="utf-8")[:500].lower()
    assert document["truth"]["pictures"] == 12


def test_curating_again_measures_nothing_and_honours_overrides(cli: Cli, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = cli("curate", frames, "--out", out, "--detector", "atelier", "--executor", "inline")
    lines = [json.loads(line) for line in Path(first["decisions"]).read_text().splitlines()]
    kept = next(line["path"] for line in lines if line["decision"] == "keep")
    (out / "overrides.json").write_text(json.dumps({kept: "reject"}))
    again = cli("curate", frames, "--out", out, "--detector", "atelier", "--executor", "inline")
    assert again["kept"] == first["kept"] - 1
    assert again["seconds"] < first["seconds"]


def test_rules_can_be_changed_and_switched_off(cli: Cli, frames: Path, tmp_path: Path) -> None:
    options = ["--out", tmp_path / "out", "--detector", "atelier"]
    strict = cli("curate", frames, *options, "--rule", "face_detail.minimum_height=5000")
    assert strict["kept"] == 0
    rules = ("character_count", "face_detail", "view", "subject_size", "framing_consistency")
    loose = cli("curate", frames, *options, *(f"--rule={rule}=off" for rule in rules))
    assert loose["kept"] == 12


def test_captions_are_written_beside_the_pictures_but_never_over_others(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for path in sorted(FILM.glob("*.*"))[:4]:
        with Image.open(path) as image:
            image.save(folder / f"{path.stem}.png")
    own = next(folder.glob("*.png")).with_suffix(".txt")
    own.write_text("my own words")
    document = cli("caption", folder, "--trigger", "film style", "--detector", "atelier")
    assert (document["pictures"], document["written"], document["left"]) == (4, 3, 1)
    assert own.read_text() == "my own words"
    others = [path.read_text() for path in folder.glob("*.txt") if path != own]
    assert len(others) == 3
    assert all(text.startswith("film style") for text in others)


def test_select_keeps_its_contract(cli: Cli, tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps(row) + "\n" for row in SCORES))
    document = cli("select", "--scores", scores)
    steps = {"recommended_step", "near_optimal_steps", "safe_step", "strongest_step"}
    assert set(document) >= {"outcome", "excluded", "onset", "curves"} | steps
    assert document["recommended_step"] in (200, 300, 400)
    assert [entry["step"] for entry in document["curves"]] == [100, 200, 300, 400, 500, 600]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration file for the trainer room's tiny random model."""
    spec = importlib.util.spec_from_file_location("tiny_models", ROOT / "tests" / "trainer" / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    sys.modules["tiny_models"] = tiny
    spec.loader.exec_module(tiny)
    folder = tmp_path_factory.mktemp("train")
    tiny.save_base(tiny.sd15_pipeline(folder), folder / "base")
    tiny.dataset(folder / "pictures", [(80, 80)] * 5)
    for path in (folder / "pictures").glob("*.png"):
        path.with_suffix(".txt").write_text("a drawing")
    from lora_atelier.trainer.config import to_toml

    settings = tiny.config(
        model={"base": "base"},
        data={"folder": "pictures", "held_out": 0.2},
        schedule={"max_steps": 4},
        output={"save_every": 2},
        precision={"threads": 1},
        validation={"prompts": [{"id": "p1", "text": "a drawing"}], "seeds": [1], "steps": 1},
    )
    (folder / "train.toml").write_text(to_toml(settings), encoding="utf-8")
    return folder


@pytest.mark.timeout(900)  # three children that import torch
def test_train_then_look_validate_and_export(cli: Cli, trained: Path, tmp_path: Path) -> None:
    document = cli("train", trained / "train.toml", "--out", tmp_path / "runs", "--backend", "embedded")
    assert (document["status"], document["step"], document["max_steps"]) == ("done", 4, 4)
    run = Path(document["run"])
    assert [Path(path).name for path in document["checkpoints"]] == [
        "step-000002.safetensors",
        "step-000004.safetensors",
    ]
    assert cli("runs", "show", run) == document
    assert cli("runs", "show", "tiny", "--runs", tmp_path / "runs") == document
    (row,) = cli("runs", "list", "--runs", tmp_path / "runs")
    assert (row["name"], row["status"]) == (run.name, "done")
    assert cli("runs", "watch", run)["status"] == "done"

    scored = cli("validate", run, "--detector", "atelier")
    assert scored["drawn"] == 3
    assert scored["checkpoints"] == [2, 4]
    assert Path(scored["scores"]).is_file()
    assert cli("validate", run, "--detector", "atelier", "--no-draw")["drawn"] == 0
    assert cli("select", run)["outcome"] in ("not_enough_evidence", "all_failed")

    exported = cli("export", run, "--for", "comfyui,diffusers", "--out", tmp_path / "exports", "--author", "me")
    assert set(exported["files"]) == {"comfyui", "diffusers"}
    assert all(Path(path).is_file() for files in exported["files"].values() for path in files)
    assert all(check["ok"] for check in exported["checks"])
    inside = cli("inspect", next(path for path in exported["files"]["comfyui"] if path.endswith(".safetensors")))
    assert inside["healthy"]
    assert inside["family"] == "sd15"

    resumed = cli("runs", "resume", run, "--max-steps", 6)
    assert (resumed["run"], resumed["status"], resumed["step"]) == (str(run), "done", 6)


def test_a_workflow_runs_without_comfyui(cli: Cli, frames: Path, tmp_path: Path) -> None:
    workflow = ROOT / "workflows" / "api" / "curate-only.json"
    options = [
        "--input-dir",
        frames.parent,
        "--out",
        tmp_path / "out",
        "--set",
        f"Load Image Folder.folder={frames.name}",
    ]
    document = cli("run", workflow, *options)
    assert document["warnings"] == []
    nodes = {node["class"]: node for node in document["nodes"].values()}
    assert len(nodes["AtelierLoadImageFolder"]["outputs"][0]["pictures"]) == 12
    (report,) = nodes["AtelierCurationReport"]["ui"]["atelier_report"]
    assert Path(report).is_relative_to(tmp_path / "out")
    assert (Path(report).parent / "decisions.jsonl").is_file()


def test_doctor_says_what_is_there(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    from lora_atelier.cli import main

    with pytest.raises(SystemExit):  # 1 when something is missing in this checkout
        main.run(["doctor", "--json"])
    document = json.loads(capfd.readouterr().out)
    states = {finding["topic"]: finding["state"] for finding in document["findings"]}
    assert states["Python"] == states["Training packages"] == states["Face detector"] == "ok"
    assert document["healthy"] == ("bad" not in states.values())


def test_help_is_quick_and_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    import subprocess

    code = (
        "import sys\n"
        "try:\n import lora_atelier.cli.main as m; m.run(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'diffusers', 'numpy', 'PIL', 'pydantic', 'matplotlib'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for command in ("demo", "run", "curate", "caption", "train", "worker", "runs", "validate", "select", "export"):
        assert f" {command} " in done.stdout
    assert "HEAVY ['pydantic']" in done.stdout or "HEAVY []" in done.stdout
