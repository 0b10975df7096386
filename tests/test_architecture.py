"""The house rules, enforced: packages, dependencies, layers, light imports, sizes, style, complete nodes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "curation", "trainer", "validation", "export", "worker", "nodes", "cli")
HEAVY = {
    "torch",
    "cv2",
    "diffusers",
    "transformers",
    "peft",
    "onnxruntime",
    "matplotlib",
    "insightface",
    "imagehash",
    "scipy",
}
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "execution", "nodes"}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def sources() -> Iterator[Path]:
    yield ROOT / "__init__.py"
    for room in ROOMS:
        yield from sorted((ROOT / room).rglob("*.py"))


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment that runs the tests."""
    path = next((p for p in Path(sys.executable).parent.glob(f"{name}*") if p.stem == name), None)
    if path is None:
        pytest.skip(f"{name} is not installed here")
    return subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True)


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def nodes() -> dict[str, Any]:
    import lora_atelier

    return dict(lora_atelier.NODE_CLASS_MAPPINGS)


def test_the_package_list_is_the_tree() -> None:
    found = {"lora_atelier"}
    for room in ROOMS:
        for init in (ROOT / room).rglob("__init__.py"):
            found.add(".".join(("lora_atelier", *init.parent.relative_to(ROOT).parts)))
    listed = project()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(found)


def test_every_folder_with_code_is_a_package() -> None:
    for path in sources():
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} would be left out of the wheel"


def test_requirements_equal_the_projects_dependencies() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    assert sorted(required) == sorted(project()["project"]["dependencies"])


def test_requirements_never_move_what_comfyui_pins() -> None:
    names = {dependency.split(">")[0].split("=")[0].strip() for dependency in project()["project"]["dependencies"]}
    assert not names & {"torch", "torchvision", "torchaudio", "transformers", "diffusers"}


@pytest.mark.parametrize(
    "module", ["lora_atelier", "lora_atelier.nodes", "lora_atelier.cli.main", "lora_atelier.export"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, importlib; importlib.import_module({module!r}); print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_reading_every_nodes_inputs_loads_nothing_heavy() -> None:
    code = (
        "import sys, lora_atelier\n"
        "for node in lora_atelier.NODE_CLASS_MAPPINGS.values(): node.INPUT_TYPES()\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_rooms_import_one_way() -> None:
    done = tool("lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_is_content() -> None:
    done = tool("ruff", "check", ".")
    assert done.returncode == 0, done.stdout
    done = tool("ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    tree = ast.parse(text)
    assert not tree.body or ast.get_docstring(tree), "every file says in a sentence or two what belongs in it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


def _imports(tree: ast.AST) -> Iterator[str]:
    """Top-level names of absolute imports, including importlib.import_module("literal")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(a.value).split(".")[0] for a in node.args if isinstance(a, ast.Constant))


def test_only_the_host_module_knows_comfyui() -> None:
    for path in sources():
        if path != ROOT / "nodes" / "host.py":
            found = COMFYUI & set(_imports(ast.parse(path.read_text(encoding="utf-8"))))
            assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_inside_the_pack_imports_are_relative() -> None:
    for path in sources():
        assert "lora_atelier" not in set(_imports(ast.parse(path.read_text(encoding="utf-8")))), path


def test_only_worker_and_command_line_start_processes() -> None:
    """No widget may reach a process: the rooms that the registry's archive holds never import subprocess."""
    for path in sources():
        if path.relative_to(ROOT).parts[0] not in {"worker", "cli"}:
            assert "subprocess" not in set(_imports(ast.parse(path.read_text(encoding="utf-8")))), path


def test_there_are_nodes_and_each_has_a_title() -> None:
    import lora_atelier

    assert len(nodes()) >= 20
    assert lora_atelier.NODE_DISPLAY_NAME_MAPPINGS.keys() == nodes().keys()
    assert all(name.startswith("Atelier") for name in nodes())


@pytest.mark.parametrize("name", sorted(nodes()))
def test_every_node_explains_itself(name: str) -> None:
    node = nodes()[name]
    assert len(node.DESCRIPTION) >= 30
    assert node.CATEGORY.startswith("LoRA Atelier/")
    assert callable(getattr(node, node.FUNCTION))
    for group, inputs in node.INPUT_TYPES().items():
        for key, declared in inputs.items():
            if group != "hidden":
                options = declared[1] if len(declared) > 1 else {}
                assert len(options.get("tooltip", "")) >= 10, f"input {key} has no tooltip"
    tooltips = getattr(node, "OUTPUT_TOOLTIPS", ())
    assert len(tooltips) == len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    assert all(len(tip) >= 5 for tip in tooltips)


@pytest.mark.parametrize("name", sorted(nodes()))
def test_every_node_has_a_help_page_that_names_its_inputs(name: str) -> None:
    page = ROOT / "web" / "docs" / f"{name}.md"
    assert page.is_file(), "no help page"
    text = page.read_text(encoding="utf-8")
    assert len(text) >= 200
    for group, inputs in nodes()[name].INPUT_TYPES().items():
        for key in inputs:
            assert group == "hidden" or f"`{key}`" in text, f"{key} is not explained"


def test_every_node_appears_in_a_workflow() -> None:
    used: set[str] = set()
    for path in (ROOT / "workflows" / "api").glob("*.json"):
        used |= {node["class_type"] for node in json.loads(path.read_text(encoding="utf-8")).values()}
    assert used <= nodes().keys(), "a shipped workflow uses an unknown node"
    assert not nodes().keys() - used


def test_help_pages_and_workflows_have_no_strangers() -> None:
    pages = {path.stem for path in (ROOT / "web" / "docs").glob("Atelier*.md")}
    assert pages == nodes().keys()
