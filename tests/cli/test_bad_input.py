"""Bad input at the command line: one sentence, exit 2, nothing written, no traceback."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]
WORKFLOW = {"1": {"class_type": "AtelierLoadImageFoldr", "inputs": {"folder": "x"}, "_meta": {"title": "Load"}}}


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Run the command in this process from an empty folder; gives (exit code, stdout, stderr)."""
    from lora_atelier.cli import main

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    former = signal.getsignal(signal.SIGTERM)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main.run([str(word) for word in words])
        shown = capsys.readouterr()
        return int(left.value.code or 0), shown.out, shown.err

    yield call
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a drawing")
    return folder


def config(tmp_path: Path, pictures: Path, extra: str = "", name: str = "lora") -> Path:
    base = tmp_path / "base"
    base.mkdir(exist_ok=True)
    path = tmp_path / "train.toml"
    path.write_text(
        f"[model]\nbase = {json.dumps(str(base))}\n[data]\nfolder = {json.dumps(str(pictures))}\n"
        f"[output]\nname = {json.dumps(name)}\n{extra}"
    )
    return path


def refused(answer: tuple[int, str, str], *parts: str) -> None:
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def nothing_written() -> bool:
    return not list(Path.cwd().iterdir())


def test_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(cli("curate", tmp_path / "empty", "--out", "out", "--json"), "'empty' is empty")
    assert nothing_written()


def test_a_folder_of_text_files(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_text("not a picture")
    refused(cli("curate", folder, "--out", "out"), "3 file(s) but no usable picture", "0.jpg")
    assert nothing_written()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--preset", "charakter"], "Did you mean 'character'?"),
        (["--rule", "face_detail.minimum_hight=3"], "Did you mean 'minimum_height'?"),
        (["--rule", "view=backwards"], "is not a rule setting"),
        (["--detector", "yunett"], "Did you mean 'yunet'?"),
        (["--models-dir", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_wrong_curation_settings(cli: Cli, pictures: Path, options: list[str], part: str) -> None:
    refused(cli("curate", pictures, "--out", "out", *options), part)
    assert nothing_written()


def test_a_folder_that_is_not_there(cli: Cli) -> None:
    refused(cli("curate", "nowhere"), "'nowhere' does not exist")


def test_a_missing_caption(cli: Cli, tmp_path: Path, pictures: Path) -> None:
    (pictures / "1.txt").unlink()
    refused(cli("train", config(tmp_path, pictures)), "1 of 3 pictures have no caption: 1.png")
    assert nothing_written()


def test_a_misspelt_key(cli: Cli, tmp_path: Path, pictures: Path) -> None:
    refused(
        cli("train", config(tmp_path, pictures, "[schedule]\nmax_stebs = 5\n")), "did you mean 'schedule.max_steps'"
    )
    assert nothing_written()


def test_a_name_that_leads_outside(cli: Cli, tmp_path: Path, pictures: Path) -> None:
    refused(cli("train", config(tmp_path, pictures, name="../evil")), "cannot be used as a file name")
    refused(cli("train", config(tmp_path, pictures), "--name", "../evil"), "cannot be used as a file name")
    assert nothing_written()
    assert not (tmp_path / "evil").exists()


def test_a_base_model_that_is_none(cli: Cli, tmp_path: Path, pictures: Path) -> None:
    refused(cli("train", config(tmp_path, pictures)), "base")
    assert nothing_written()


def test_toml_that_is_none(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[model\n")
    refused(cli("train", tmp_path / "bad.toml"), "is not valid TOML")
    refused(cli("train", tmp_path / "missing.toml"), "missing.toml")


def test_a_workflow_with_an_unknown_node(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(WORKFLOW))
    refused(cli("run", path), "unknown class 'AtelierLoadImageFoldr' (did you mean 'AtelierLoadImageFolder'?)")
    assert nothing_written()


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..\\x", "film/../../x"])
def test_a_workflow_cannot_reach_outside_its_folders(cli: Cli, tmp_path: Path, name: str) -> None:
    quickstart = Path(__file__).parents[2] / "workflows" / "api" / "quickstart.json"
    api = json.loads(quickstart.read_text())
    api["1"]["inputs"]["folder"] = name
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(api))
    refused(cli("run", path), "Load Image Folder (1)")
    assert nothing_written()


def test_the_other_workflow_format(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "ui.json"
    path.write_text('{"nodes": [], "links": [], "version": 0.4}')
    refused(cli("run", path), "UI format", "workflows/api/")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"])
def test_files_that_are_no_workflow(cli: Cli, tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(text)
    code, out, err = cli("run", path)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_runs_that_are_not_there(cli: Cli) -> None:
    for words in (
        ["runs", "show", "x"],
        ["runs", "cancel", "x"],
        ["runs", "resume", "x"],
        ["validate", "x"],
        ["select", "x"],
    ):
        refused(cli(*words), "There is no run 'x'")
    refused(cli("runs", "list", "--runs", "nowhere"), "'nowhere' does not exist")
    assert nothing_written()


def test_select_needs_one_source(cli: Cli) -> None:
    refused(cli("select"), "either a run or --scores FILE")


@pytest.mark.parametrize(
    "line", ["nonsense", '{"step": 1}', '{"step": -3, "prompt": "p", "seed": 1, "metric": "x", "value": 1}']
)
def test_scores_that_are_none(cli: Cli, tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(line + "\n")
    code, out, err = cli("select", "--scores", path, "--json")
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_export_of_what_is_no_lora(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 64)
    refused(cli("export", path, "--out", "out"), "x.safetensors")
    refused(cli("inspect", path), "x.safetensors")
    refused(cli("export", path, "--for", "photoshop"), "photoshop")
    assert nothing_written()


def test_a_worker_outside_of_comfyui_asks_for_the_spool(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORA_ATELIER_SPOOL", raising=False)
    refused(cli("worker"), "--spool")
    assert nothing_written()


def test_unknown_options_and_commands(cli: Cli) -> None:
    for words in (["curate"], ["curate", "x", "--colour"], ["traine"], ["runs", "delete"]):
        code, _, err = cli(*words)
        assert code == 2
        assert "Traceback" not in err


def test_the_real_command_in_its_own_process(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "lora_atelier.cli.main", "curate", "empty", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: The folder 'empty' is empty\. .+\n", done.stderr)
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    shown = subprocess.run([*command, "--debug"], cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" in shown.stderr
