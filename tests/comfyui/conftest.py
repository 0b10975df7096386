"""A real ComfyUI with the pack in custom_nodes: `COMFYUI_DIR` (checkout), `COMFYUI_PYTHON` (its interpreter)."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACK = "ComfyUI-LoRA-Atelier"
PUBLISHED = (
    "__init__.py",
    "core",
    "curation",
    "trainer",
    "validation",
    "export",
    "nodes",
    "web",
    "workflows",
    "assets",
)
_START_SECONDS = 240
_SPEC = importlib.util.spec_from_file_location("tiny_models_comfyui", ROOT / "tests" / "trainer" / "tiny.py")
assert _SPEC is not None
assert _SPEC.loader is not None
tiny = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = tiny
_SPEC.loader.exec_module(tiny)


@dataclass(frozen=True)
class ComfyUI:
    """A running server."""

    address: str
    base: Path

    @property
    def spool(self) -> Path:
        return self.base / "user" / "lora_atelier" / "spool"

    def get(self, path: str) -> Any:
        """The JSON or text behind a path."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            text = answer.read().decode("utf-8")
        return json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text

    def post(self, path: str, value: Any) -> Any:
        """The JSON answer, also of a refusal."""
        data, headers = json.dumps(value).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8")
        return json.loads(text) if text else None

    def queue(self, api: dict[str, Any]) -> str:
        """Post a graph that must be accepted; returns its id."""
        answer = self.post("/prompt", {"prompt": api, "client_id": "tests"})
        assert not answer.get("node_errors"), answer
        return answer["prompt_id"]

    def finished(self, prompt: str, seconds: float) -> dict[str, Any]:
        """The history entry of a graph once it has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            entry = self.get(f"/history/{prompt}").get(prompt)
            if entry and entry.get("status", {}).get("status_str"):
                return entry
            time.sleep(0.3)
        raise AssertionError(f"the graph did not end within {seconds:.0f} s")


def quickstart(**changes: Any) -> dict[str, Any]:
    """The shipped graph made small: the tiny base model, few steps, small pictures."""
    api = json.loads((ROOT / "workflows" / "api" / "quickstart.json").read_text(encoding="utf-8"))
    small = {
        "AtelierBaseModel": {"model": "tiny-sd15 (diffusers)"},
        "AtelierOptimizer": {"warmup_steps": 0},
        "AtelierValidationPlan": {"width": 64, "height": 64, "steps": 2},
        "AtelierEmbeddedOptions": {"threads": 1},
        "AtelierTrainLora": {"max_steps": 6, "resolution": 64, "save_every": 2, "sample_every": 2} | changes,
    }
    for node in api.values():
        node["inputs"].update(small.get(node["class_type"], {}))
    return api


def _setting(name: str) -> Path:
    value = os.environ.get(name, "")
    if not value:
        pytest.skip(f"{name} is not set (a ComfyUI checkout and its interpreter are needed)")
    if not Path(value).exists():
        pytest.skip(f"{name}={value} does not exist")
    return Path(value)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return _setting("COMFYUI_DIR")


@pytest.fixture(scope="session")
def interpreter() -> Path:
    return _setting("COMFYUI_PYTHON")


@pytest.fixture(scope="session")
def base(checkout: Path, interpreter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ComfyUI's folders with the pack as the registry would install it, and a tiny base model."""
    folder = tmp_path_factory.mktemp("comfyui")
    for name in ("models/checkpoints", "models/loras", "models/diffusers", "input", "output", "user"):
        (folder / name).mkdir(parents=True)
    target = folder / "custom_nodes" / PACK
    target.mkdir(parents=True)
    for name in PUBLISHED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    tiny.save_base(tiny.sd15_pipeline(folder / "made"), folder / "models" / "diffusers" / "tiny-sd15")
    return folder


@pytest.fixture(scope="session")
def comfyui(checkout: Path, interpreter: Path, base: Path) -> Iterator[ComfyUI]:
    """A server on the CPU, stopped at the end."""
    port = _free_port()
    command = [str(interpreter), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-api-nodes", "--disable-auto-launch"]
    command += ["--database-url", f"sqlite:///{base / 'comfy.db'}"]
    log = base / "comfyui.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=checkout, stdout=out, stderr=out, env=environment)
    try:
        running = ComfyUI(f"http://127.0.0.1:{port}", base)
        _wait(running, server, log)
        yield running
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def worker(spool: Path) -> Iterator[None]:
    """A worker in a process of its own, as a user starts it."""
    command = [sys.executable, "-m", "lora_atelier.cli.main", "worker", "--spool", str(spool)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 60
        while not (spool / "worker.json").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(running: ComfyUI, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AssertionError(
                f"ComfyUI ended at start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}"
            )
        try:
            running.get("/system_stats")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"ComfyUI did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
