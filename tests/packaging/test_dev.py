"""The pure parts of `scripts/dev.py`: what it installs, when it does so again, and what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dev  # pyright: ignore[reportMissingImports]
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Pip:
    """Records what would be installed; `fails` are words whose installation fails."""

    def __init__(self, *fails: str) -> None:
        self.fails = fails
        self.calls: list[list[str]] = []

    def __call__(self, what: str, arguments: Sequence[str], required: bool = True) -> bool:
        self.calls.append(list(arguments))
        return not any(word in " ".join(arguments) for word in self.fails)


def test_pins_are_exact_and_complete() -> None:
    text = (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8")
    pins = dev.read_pins(text)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.!+]+", line) for line in lines)
    assert len(pins) == len(lines)
    assert pins["torch"] == "2.13.0"
    for name in ("diffusers", "peft", "transformers", "typer", "pytest", "ruff", "basedpyright", "setuptools"):
        assert name in pins


def test_every_dependency_of_the_project_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["worker"], *extras["dev"]]
    names = {re.split(r"[<>=~!\[; ]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    pinned = {name.replace("_", "-") for name in dev.read_pins(dev.CONSTRAINTS.read_text(encoding="utf-8"))}
    assert names <= pinned


def test_markers_and_comments_are_read_over() -> None:
    text = "# head\nNumPy==2.4.6\n\ncolorama==0.4.6 ; sys_platform == 'win32'\npip>=20\ntorch==2.13.0 # cpu\n"
    assert dev.read_pins(text) == {"numpy": "2.4.6", "colorama": "0.4.6", "torch": "2.13.0"}


def test_a_cpu_build_at_hand_is_taken_without_any_other_index() -> None:
    pip = Pip()
    dev.install_torch(pip, "2.13.0", cpu_only=True)
    assert pip.calls == [["install", "--no-deps", "torch==2.13.0+cpu"]]


def test_without_one_the_official_cpu_index_is_asked_and_then_the_default_build_is_taken() -> None:
    pip = Pip("+cpu")
    dev.install_torch(pip, "2.13.0", cpu_only=True)
    assert [dev.TORCH_CPU_INDEX in call for call in pip.calls] == [False, True, False]
    assert pip.calls[-1] == ["install", "torch==2.13.0"]


def test_with_a_gpu_the_default_build_is_taken() -> None:
    pip = Pip()
    dev.install_torch(pip, "2.13.0", cpu_only=False)
    assert pip.calls == [["install", "torch==2.13.0"]]


def test_the_interpreter_lies_where_the_platform_puts_it() -> None:
    assert dev.interpreter(Path("v"), windows=True) == Path("v/Scripts/python.exe")
    assert dev.interpreter(Path("v"), windows=False) == Path("v/bin/python")


def test_the_fingerprint_follows_pins_and_project_file(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "constraints.txt").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    first = dev.fingerprint(tmp_path)
    assert dev.fingerprint(tmp_path) == first
    (tmp_path / "scripts" / "constraints.txt").write_text("a==2\n")
    second = dev.fingerprint(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\nname='x'\n")
    assert len({first, second, dev.fingerprint(tmp_path)}) == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}'])
def test_a_damaged_stamp_counts_as_none(tmp_path: Path, content: str) -> None:
    assert dev.read_stamp(tmp_path) is None
    (tmp_path / dev.STAMP_NAME).write_text(content)
    assert dev.read_stamp(tmp_path) is None


def test_a_finished_environment_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / dev.STAMP_NAME).write_text(json.dumps({"fingerprint": dev.fingerprint(dev.ROOT)}))
    installed: list[Path] = []
    monkeypatch.setattr(dev, "works", lambda python: True)
    monkeypatch.setattr(dev, "install", installed.append)
    assert dev.ensure_venv(tmp_path) == dev.interpreter(tmp_path)
    assert installed == []
    dev.ensure_venv(tmp_path, force=True)
    assert installed == [dev.interpreter(tmp_path)]


def test_an_interpreter_that_does_not_start_is_noticed(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    assert not dev.works(broken)
    broken.write_text("not a program")
    broken.chmod(0o755)
    assert not dev.works(broken)
    assert dev.works(Path(sys.executable))


def test_a_failed_installation_leaves_no_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(python: Path) -> None:
        raise dev.SetupFailed("no network.")

    monkeypatch.setattr(dev, "works", lambda python: True)
    monkeypatch.setattr(dev, "install", refuse)
    monkeypatch.setattr(dev, "VENV", tmp_path)
    assert dev.main(["setup"]) == 2
    assert dev.read_stamp(tmp_path) is None


def test_a_python_without_venv_gets_advice() -> None:
    output = "The virtual environment was not created successfully because ensurepip is not\navailable."
    assert "apt install python3" in dev.venv_hint(output)
    assert "apt" not in dev.venv_hint("Error: [Errno 13] Permission denied: '/x'")


def test_pip_errors_are_one_line() -> None:
    output = "WARNING: slow\nERROR: Could not find a version\nERROR: No matching distribution found for x==9\nnotice"
    assert dev.pip_reason(output) == "No matching distribution found for x==9"
    assert dev.pip_reason("") == "pip gave no message"


@pytest.mark.parametrize("words", [["-n", "4"], ["-n0"], ["--numprocesses=1"], ["--pdb"], ["--collect-only"]])
def test_pytest_options_of_the_caller_win(words: list[str]) -> None:
    assert dev.test_arguments(words) == words


def test_the_demo_writes_into_the_checkout_unless_told_otherwise() -> None:
    assert dev.demo_arguments(["--long"]) == ["--out", str(dev.ROOT / "demo-out"), "--long"]
    assert dev.demo_arguments(["--out", "x"]) == ["--out", "x"]
    assert dev.demo_arguments(["--out=x"]) == ["--out=x"]


def test_it_imports_nothing_beyond_the_standard_library_and_runs_from_anywhere(tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(ROOT / 'scripts' / 'dev.py')!r}); print('ok')"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "ok\n", done.stderr
