"""The three ways the pack is used: as a wheel, copied into `custom_nodes/`, and as what the registry gets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LEFT_OUT = (".*", "*.egg-info", "build", "dist", "tests", "benchmarks", "demo-out", "work-out", "runs", "__pycache__")
ROOMS = ("core", "curation", "trainer", "validation", "export", "worker", "nodes", "cli")
HEAVY = ("torch", "cv2", "diffusers", "transformers", "peft", "onnxruntime", "matplotlib", "imagehash", "scipy")

LOAD_LIKE_COMFYUI = """
import importlib.util, json, sys
path = sys.argv[1]
name = path.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, path + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
classes = module.NODE_CLASS_MAPPINGS
for node in classes.values():
    node.INPUT_TYPES()
print(json.dumps({
    "nodes": sorted(classes), "titles": module.NODE_DISPLAY_NAME_MAPPINGS, "web": module.WEB_DIRECTORY,
    "loaded": sorted(name.split(".")[0] for name in sys.modules),
}))
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, since building writes into the source folder."""
    target = tmp_path_factory.mktemp("checkout") / "ComfyUI-LoRA-Atelier"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    return target


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-q",
        "-w",
        str(out),
        str(checkout),
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("lora_atelier-*.whl"))


def test_the_wheel_holds_everything_that_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "lora_atelier/__init__.py" in names
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        assert f"lora_atelier/{path.relative_to(ROOT).as_posix()}" in names, path
    for folder in ("assets", "workflows", "web", "core/templates", "curation/templates"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert f"lora_atelier/{path.relative_to(ROOT).as_posix()}" in names, path
    assert not [name for name in names if name.split("/")[1:2] == ["tests"] or name.startswith("tests/")]


def test_the_wheel_is_small_enough_to_share(wheel: Path) -> None:
    assert wheel.stat().st_size < 60e6


def test_the_command_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # The site folder comes before the editable install of the checkout that runs these tests.
    code = (
        f"import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()];"
        f"sys.path.insert(0, {str(tmp_path / 'site')!r});"
        "import lora_atelier.cli.main as m; assert 'site' in m.__file__, m.__file__; m.run(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "curate" in done.stdout


def test_it_loads_from_custom_nodes_by_path_under_any_name(checkout: Path, tmp_path: Path) -> None:
    pack = tmp_path / "custom_nodes" / "Some-Hyphen.Name"
    shutil.copytree(checkout, pack, ignore=shutil.ignore_patterns("worker", "cli", "scripts"))  # as the registry has it
    command = [sys.executable, "-c", LOAD_LIKE_COMFYUI, str(pack)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["nodes"]
    assert all(name.startswith("Atelier") for name in told["nodes"])
    assert set(told["titles"]) == set(told["nodes"])
    assert (pack / told["web"]).is_dir()
    assert not set(HEAVY) & set(told["loaded"])
    assert "lora_atelier" not in told["loaded"], "an absolute import of the pack by its own name"


def test_the_package_list_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    inits = [path for room in ROOMS for path in (ROOT / room).rglob("__init__.py")]
    found = {"lora_atelier"} | {
        "lora_atelier." + path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in inits
    }
    assert set(listed) == found
    with_modules = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert all((folder / "__init__.py").exists() for folder in with_modules)


def test_requirements_are_the_project_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert lines == project["dependencies"]
    assert not any(line.startswith(("torch", "transformers")) for line in lines)


def test_what_starts_processes_stays_out_of_the_registry() -> None:
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert {"worker/", "scripts/", "tests/", "benchmarks/"} <= set(lines)
