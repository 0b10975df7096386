"""`doctor`: is everything here that the commands need, and what to do about what is not."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer

from .output import JsonFlag, emit

_CORE = (
    "pydantic",
    "pillow",
    "numpy",
    "opencv-python-headless",
    "imagehash",
    "psutil",
    "filelock",
    "tomlkit",
    "jinja2",
)
_WORKER = ("torch", "diffusers", "peft", "transformers", "accelerate", "safetensors")
_MARKS = {"ok": "ok  ", "warn": "note", "bad": "BAD "}


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis; `advice` is empty when all is well."""

    topic: str
    state: Literal["ok", "warn", "bad"]
    message: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command("doctor", rich_help_panel="Start here")(doctor)


def doctor(as_json: JsonFlag = False) -> None:
    """Check packages, device, models and disk, and say what to do about what is missing."""
    findings = [finding for look in _LOOKS for finding in look()]
    healthy = not any(finding.state == "bad" for finding in findings)
    document = {"healthy": healthy, "findings": [asdict(finding) for finding in findings]}
    emit(document, as_json, "\n".join(_line(finding) for finding in findings))
    if not healthy:
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    advice = f"\n       {finding.advice}" if finding.advice else ""
    return f"{_MARKS[finding.state]}  {finding.topic}: {finding.message}{advice}"


def _python() -> Iterator[Finding]:
    text = f"{platform.python_version()} on {platform.system()} ({sys.prefix})"
    good = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if good else "bad", text, "" if good else "Python 3.11 or newer is needed.")


def _packages() -> Iterator[Finding]:
    yield _package_group("Packages", _CORE, "pip install lora-atelier")
    yield _package_group("Training packages", _WORKER, 'pip install "lora-atelier[worker]"')


def _package_group(topic: str, names: tuple[str, ...], command: str) -> Finding:
    missing = [name for name in names if _version(name) is None]
    if missing:
        return Finding(topic, "bad", f"missing: {', '.join(missing)}", f"Install them with: {command}")
    return Finding(topic, "ok", ", ".join(f"{name} {_version(name)}" for name in names))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    # In a process of its own: importing torch here would make every doctor slow to quit on a broken driver.
    code = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    name = done.stdout.strip()
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding("Device", "bad", f"torch does not start ({last})", "Reinstall torch for this machine.")
    elif name == "cpu":
        advice = "The small built-in model trains here; SD 1.5 or SDXL need a GPU."
        yield Finding("Device", "warn", "CPU only", advice)
    else:
        yield Finding("Device", "ok", name)


def _assets() -> Iterator[Finding]:
    assets = Path(__file__).resolve().parents[1] / "assets"
    wanted = {
        "Small base model": assets / "atelier-mini" / "model_index.json",
        "Face detector": assets / "atelier-detector" / "detector.onnx",
        "Sample pictures": assets / "samples" / "film-truth.jsonl",
    }
    for topic, path in wanted.items():
        here = path.is_file()
        advice = "" if here else "The installation is not complete; install the package again."
        yield Finding(topic, "ok" if here else "bad", str(path.parent) if here else f"{path} is missing", advice)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    good = free >= 5
    advice = "" if good else "A training run of SD 1.5 wants about 5 GB."
    yield Finding("Disk", "ok" if good else "warn", f"{free:.1f} GB free in {Path.cwd()}", advice)


_LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (_python, _packages, _device, _assets, _disk)
