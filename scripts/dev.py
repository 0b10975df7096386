"""Set up, test and demonstrate this checkout: `python scripts/dev.py setup|demo|test` (standard library only)."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
STAMP_NAME = "atelier-setup.json"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
MINIMUM = (3, 11)


class SetupFailed(Exception):
    """One sentence for the user; no traceback helps here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.command == "setup":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        python = ensure_venv(VENV, force=options.force)
    except SetupFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return {"setup": _setup, "test": _test, "demo": _demo}[options.command](python, rest)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("setup", "demo", "test"), help="setup alone, or setup and then this")
    parser.add_argument("--force", action="store_true", help="install again even when nothing changed")
    return parser


def _setup(python: Path, rest: Sequence[str]) -> int:
    print(f"Ready: {python}")
    return 0


def _demo(python: Path, rest: Sequence[str]) -> int:
    return _run([str(python), "-m", "lora_atelier.cli.main", "demo", *demo_arguments(rest)])


def demo_arguments(rest: Sequence[str]) -> list[str]:
    """The demo writes into the checkout unless told otherwise, wherever it is started from."""
    chosen = any(word == "--out" or word.startswith("--out=") for word in rest)
    return list(rest) if chosen else ["--out", str(ROOT / "demo-out"), *rest]


def _test(python: Path, rest: Sequence[str]) -> int:
    return _run([str(python), "-m", "pytest", *test_arguments(rest)], cwd=ROOT, OMP_NUM_THREADS="1")


def test_arguments(rest: Sequence[str]) -> list[str]:
    """What pytest gets: two processes unless the caller chose a number or wants to debug."""
    own = {"-n", "--numprocesses", "--pdb", "-s", "--collect-only", "--co"}
    chosen = any(word in own or word.startswith(("-n", "--numprocesses=")) for word in rest)
    return list(rest) if chosen or (os.cpu_count() or 1) < 2 else ["-n", "2", "--dist", "loadfile", *rest]


# --- the environment -------------------------------------------------------------------------------------------------


def ensure_venv(venv: Path, *, force: bool = False) -> Path:
    """Make, mend or reuse the virtual environment; return its interpreter. A second call takes well under a second."""
    if sys.version_info[:2] < MINIMUM:
        raise SetupFailed(f"Python 3.11 or newer is needed, this is {platform.python_version()}: {sys.executable}.")
    python = interpreter(venv)
    wanted = fingerprint(ROOT)
    if not force and read_stamp(venv) == wanted and works(python):
        return python
    if not works(python):
        create(venv)
    install(python)
    (venv / STAMP_NAME).write_text(json.dumps({"fingerprint": wanted}), encoding="utf-8")
    return python


def interpreter(venv: Path, windows: bool = os.name == "nt") -> Path:
    """The environment's python on this platform."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def fingerprint(root: Path) -> str:
    """Hash of everything that decides what is installed, and where the editable install points."""
    digest = hashlib.sha256(f"{root}|{sys.version_info[:2]}|".encode())
    for name in ("scripts/constraints.txt", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def read_stamp(venv: Path) -> str | None:
    """The fingerprint of the last complete installation; None when there is none or it cannot be read."""
    try:
        value = json.loads((venv / STAMP_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value.get("fingerprint") if isinstance(value, dict) else None


def works(python: Path) -> bool:
    """Whether the interpreter starts, is new enough and has pip (a moved or half-made environment does not)."""
    if not python.exists():
        return False
    probe = f"import sys, importlib.util as u; sys.exit(not (sys.version_info >= {MINIMUM} and u.find_spec('pip')))"
    try:
        return subprocess.run([str(python), "-c", probe], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def create(venv: Path) -> None:
    """Make a new environment, replacing a broken one."""
    base = Path(getattr(sys, "_base_executable", None) or sys.executable)
    if venv.exists():
        if Path(sys.prefix).resolve() == venv.resolve():
            raise SetupFailed(f"{venv} is broken and this Python runs from it; start dev.py with another Python.")
        print(f"{venv.name} does not work, making it again.", file=sys.stderr)
        shutil.rmtree(venv)
    print(f"Making {venv.name} with Python {platform.python_version()} ...", file=sys.stderr)
    made = subprocess.run([str(base), "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupFailed(venv_hint(made.stdout + made.stderr))


def venv_hint(output: str) -> str:
    """One sentence for a Python without the venv module, as on a bare Debian."""
    if "ensurepip" in output or "No module named venv" in output:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            "This Python cannot make virtual environments; on Debian or Ubuntu run "
            f"'sudo apt install python{version}-venv', elsewhere install Python from python.org, then run this again."
        )
    last = output.strip().splitlines()[-1:] or ["no message"]
    return f"The virtual environment could not be made ({last[0]})."


# --- packages --------------------------------------------------------------------------------------------------------


def install(python: Path) -> None:
    """torch first and alone (so that its build is our decision), then everything else under the same pins."""
    pins = read_pins(CONSTRAINTS.read_text(encoding="utf-8"))
    started = time.monotonic()
    pip = _pip(python)
    pip("Build tools", ["install", f"setuptools=={pins['setuptools']}"])
    install_torch(pip, pins["torch"], cpu_only=wants_cpu_build())
    target = f"{ROOT}[worker,dev]"
    pip("The other packages", ["install", "--no-build-isolation", "-c", str(CONSTRAINTS), "-e", target, *_extras(pins)])
    print(f"Packages installed in {time.monotonic() - started:.0f} s.", file=sys.stderr)


def _extras(pins: dict[str, str]) -> list[str]:
    """Packages that tests and scripts need and that no extra of the project names."""
    return [f"{name}=={pins[name]}" for name in ("onnx",) if name in pins]


def read_pins(text: str) -> dict[str, str]:
    """{name: version} of a constraints file; environment markers and comments are left out."""
    pins: dict[str, str] = {}
    for line in text.splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        name, found, version = requirement.partition("==")
        if found:
            pins[name.strip().lower()] = version.strip()
    return pins


def wants_cpu_build() -> bool:
    """True on Linux without an NVIDIA GPU: there the default build of torch brings gigabytes of CUDA libraries."""
    return platform.system() == "Linux" and not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists())


def install_torch(pip: Callable[..., bool], version: str, *, cpu_only: bool) -> None:
    """Prefer a CPU build from the configured sources, then PyTorch's own CPU index, then whatever there is.

    Installed without dependencies, since those of a CUDA build would be gigabytes; they follow with the rest.
    """
    cpu = ["install", "--no-deps", f"torch=={version}+cpu"]
    if cpu_only:
        if pip("torch (CPU build)", cpu, required=False):
            return
        reach = ["--index-url", TORCH_CPU_INDEX, "--retries", "1", "--timeout", "15"]
        if pip("torch (CPU build, PyTorch's index)", [*cpu, *reach], required=False):
            return
        print("No CPU build of torch is reachable; the default build with its CUDA libraries follows.", file=sys.stderr)
    pip("torch", ["install", f"torch=={version}"])


def _pip(python: Path) -> Callable[..., bool]:
    def pip(what: str, arguments: Sequence[str], required: bool = True) -> bool:
        print(f"  {what} ...", file=sys.stderr, flush=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0 and required:
            raise SetupFailed(f"{what} could not be installed: {pip_reason(done.stderr)}")
        return done.returncode == 0

    return pip


def pip_reason(output: str) -> str:
    """The line of pip's output that says what was wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip gave no message"])[-1].removeprefix("ERROR: ")


def _run(command: Sequence[str], *, cwd: Path | None = None, **environment: str) -> int:
    try:
        return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}).returncode
    except KeyboardInterrupt:  # the child got the same signal and has said what there is to say
        return 130


if __name__ == "__main__":
    sys.exit(main())
