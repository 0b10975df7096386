"""Names that work everywhere, paths that stay inside, files that are whole or absent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_atelier.core import files
from lora_atelier.core.errors import BadInput

QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@given(st.text(max_size=60))
@settings(max_examples=300, **QUIET)
def test_an_accepted_name_is_one_ordinary_file_in_the_folder(tmp_path: Path, name: str) -> None:
    try:
        assert files.safe_name(name) == name
    except BadInput as error:
        assert "cannot be used as a file name" in error.message
        error.message.encode("utf-8")  # can be printed
        return
    path = tmp_path / f"{name}.txt"
    assert files.inside(tmp_path, f"{name}.txt") == path.resolve()
    path.write_text("x")
    assert [entry.name for entry in tmp_path.iterdir()] == [f"{name}.txt"]
    path.unlink()


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,20}[A-Za-z0-9]", fullmatch=True))
@settings(max_examples=100, **QUIET)
def test_ordinary_names_are_accepted(name: str) -> None:
    if name.lower() not in {"con", "prn", "aux", "nul"} and not name.lower().startswith(("com", "lpt")):
        assert files.safe_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "..",
        "a/b",
        "a\\b",
        "../a",
        "a..b",
        ".hidden",
        "-flag",
        "~home",
        "CON",
        "con.txt",
        "lpt1",
        "a:b",
        "a*",
        "a\x00",
        "trailing.",
        "trailing ",
        " leading",
        "a\nb",
        "x" * 200,
        "é" * 100,
        "e\u0301",
        "\ud800",
    ],
)
def test_dangerous_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput):
        files.safe_name(name)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/passwd", "a/../.."])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInput, match="leads outside"):
        files.inside(tmp_path, path)


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "link", "/", "loop"]), max_size=7))
@settings(max_examples=200, **QUIET)
def test_containment_holds_for_any_mixture_with_links(tmp_path: Path, pieces: list[str]) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "a" / "b", outside):
        folder.mkdir(parents=True, exist_ok=True)
    if not (root / "link").is_symlink():
        (root / "link").symlink_to(outside)
        (root / "loop").symlink_to(root)
    relative = "/".join(pieces)
    try:
        found = files.inside(root, relative)
    except BadInput:
        really = Path(os.path.realpath(root / relative))
        assert root.resolve() not in (really, *really.parents)
        return
    assert root.resolve() in (found, *found.parents)
    assert outside.resolve() not in (found, *found.parents)


def test_a_failed_publish_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), files.publish(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, itertools
from pathlib import Path
from lora_atelier.core.files import publish
path = Path(sys.argv[1])
for number in itertools.count():
    with publish(path) as temporary, temporary.open("w") as file:
        for _ in range(200):
            file.write(f"{number:08d}" * 50)
            file.flush()
    if number == 0:
        print("ready", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_while_publishing_the_final_name_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    for attempt in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.01 + 0.017 * attempt)
        process.kill()
        process.wait()
        text = path.read_text()
        assert len(text) == 8 * 50 * 200
        assert {text[i : i + 8] for i in range(0, len(text), 8)} == {text[:8]}, "a mixture of two writes"


def test_json_lines_survive_a_torn_end_but_not_a_broken_middle(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    files.append_json_line(path, {"step": 1}, sync=True)
    files.append_json_line(path, {"name": "é"})
    with path.open("ab") as file:
        file.write(b'{"step": 3, "lo')
    assert files.read_json_lines(path) == [{"step": 1}, {"name": "é"}]
    path.write_bytes(b'{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(BadInput, match="line 2"):
        files.read_json_lines(path)


def test_json_hash_ignores_order_and_sees_values() -> None:
    assert files.sha256_json({"a": 1, "b": [2]}) == files.sha256_json({"b": [2], "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 2})


def test_missing_and_broken_json_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        files.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BadInput, match="not readable JSON"):
        files.read_json(tmp_path / "bad.json")
    assert json.loads(files.write_json(tmp_path / "a.json", {"x": "é"}).read_text(encoding="utf-8")) == {"x": "é"}
