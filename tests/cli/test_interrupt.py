"""Ctrl-C and TERM at a command that trains: exit 130, the child is gone, its state is saved."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lora_atelier.core.files import read_json
from lora_atelier.core.rundir import RunDir
from lora_atelier.worker.process import Identity
from PIL import Image

TESTS = Path(__file__).resolve().parents[1]
# The same command with a trainer that needs no torch: what is tested is who stops whom.
START = f"""
import sys
sys.path.insert(0, {str(TESTS / "worker")!r})
import scripted
scripted.use()
from lora_atelier.cli.main import run
run(sys.argv[1:])
"""
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    for part in ("unet", "vae", "text_encoder"):  # what tells the family; this trainer reads no weights
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "model.safetensors").touch()
        (tmp_path / "base" / part / "config.json").write_text("{}")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (tmp_path / "base" / "model_index.json").write_text(json.dumps(index))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (96, 96), "red").save(tmp_path / "pictures" / "0.png")
    (tmp_path / "pictures" / "0.txt").write_text("red")
    path = tmp_path / "train.toml"
    path.write_text(
        '[model]\nbase = "base"\n[data]\nfolder = "pictures"\nheld_out = 0.0\n'
        "[schedule]\nmax_steps = 100000\n[output]\nsave_every = 50\nreserve_mb = 1\n"
    )
    return path


def the_run(root: Path) -> RunDir | None:
    found = [path for path in root.glob("*/run.json") if read_json(path)["status"] == "running"]
    return RunDir(found[0].parent) if found else None


@pytest.fixture
def training(config: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], RunDir]]:
    """The command in its own process, some steps into a training that would take long."""
    runs = tmp_path / "runs"
    command = [sys.executable, "-c", START, "train", str(config), "--out", str(runs), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while (run := the_run(runs)) is None or len(run.events("step")) < 5:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, run
    process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_leaves_a_resumable_run_and_no_process(
    training: tuple[subprocess.Popen[str], RunDir], number: signal.Signals
) -> None:
    process, run = training
    known = Identity.from_status(run.status())
    assert known is not None
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert known.alive() is None
    status = run.status()
    assert status["status"] == "stopped"
    assert "runs resume" in status["hint"]
    assert run.checkpoints()[-1].step == status["step"] == run.events("step")[-1]["step"]


def test_a_training_is_cancelled_from_elsewhere_and_says_so(
    training: tuple[subprocess.Popen[str], RunDir], capsys: pytest.CaptureFixture[str]
) -> None:
    from lora_atelier.cli import main

    process, run = training
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        main.run(["runs", "cancel", str(run.path), "--json"])
    signal.signal(signal.SIGTERM, former)
    assert not left.value.code
    assert json.loads(capsys.readouterr().out)["cancelled"]
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    document = json.loads(out)
    assert document["status"] == "stopped"
    assert document["checkpoints"]


def test_a_training_that_fails_says_so_on_both_streams(training: tuple[subprocess.Popen[str], RunDir]) -> None:
    process, run = training
    known = Identity.from_status(run.status())
    assert known is not None
    os.kill(known.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert json.loads(out)["status"] == "failed"
    assert err.count("error: ") == 1
    assert "killed" in err
