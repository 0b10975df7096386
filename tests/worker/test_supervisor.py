"""Real child processes: nothing is orphaned, nothing leaks, failures are told from their last lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from lora_atelier.worker import logs, process, supervisor
from lora_atelier.worker.failures import classify
from lora_atelier.worker.rules import DiskReserve, NonFiniteLoss

posix = pytest.mark.skipif(os.name == "nt", reason="signals and process groups")


def start(tmp_path: Path, code: str, **env: str) -> supervisor.Child:
    script = tmp_path / "child.py"
    script.write_text(textwrap.dedent(code))
    return supervisor.start([sys.executable, str(script)], env, tmp_path, tmp_path / "logs" / "output.log")


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def never() -> bool:
    return False


def test_a_child_that_succeeds(tmp_path: Path) -> None:
    child = start(tmp_path, "print('hello')")
    ended = supervisor.run_child(child, cancelled=never, poll=0.05)
    assert ended.exit_code == 0
    assert ended.tail == ("hello",)
    assert ended.stopped is None


def test_input_is_closed_and_the_environment_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("MY_API_KEY", "also_secret")
    code = """
        import os, sys
        print("stdin", repr(sys.stdin.read()))
        print("secrets", [k for k in os.environ if "TOKEN" in k and k != "TOKENIZERS_PARALLELISM" or "API_KEY" in k])
        print("offline", os.environ["HF_HUB_OFFLINE"], "mine", os.environ["MINE"])
    """
    ended = supervisor.run_child(start(tmp_path, code, MINE="yes"), cancelled=never, poll=0.05)
    assert ended.tail == ("stdin ''", "secrets []", "offline 1 mine yes")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("HUGGING_FACE_HUB_TOKEN", True),
        ("WANDB_API_KEY", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("GITHUB_TOKEN", True),
        ("DB_PASSWORD", True),
        ("TOKENIZERS_PARALLELISM", False),
        ("PATH", False),
        ("CUDA_VISIBLE_DEVICES", False),
        ("KEYBOARD_LAYOUT", False),
    ],
)
def test_secrets_are_known_by_name(name: str, secret: bool) -> None:
    assert process.is_secret(name) is secret


@posix
def test_cancelling_gives_the_child_time_to_save(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.3)
            pathlib.Path({str(tmp_path / "saved")!r}).write_text("state")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path({str(tmp_path / "ready")!r}).touch()
        time.sleep(60)
    """
    child = start(tmp_path, code)
    ended = supervisor.run_child(child, cancelled=(tmp_path / "ready").exists, grace=20, poll=0.05)
    assert ended.cancelled
    assert ended.exit_code == 0
    assert (tmp_path / "saved").read_text() == "state"


@posix
def test_a_child_that_ignores_term_and_has_left_grandchildren_is_killed_whole(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleeper = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"]
        inside = subprocess.Popen(sleeper)
        escaped = subprocess.Popen(sleeper, start_new_session=True)
        time.sleep(0.5)
        pathlib.Path({str(tmp_path / "pids.tmp")!r}).write_text(f"{{inside.pid}} {{escaped.pid}}")
        pathlib.Path({str(tmp_path / "pids.tmp")!r}).rename({str(tmp_path / "pids")!r})
        time.sleep(300)
    """
    child = start(tmp_path, code)
    ended = supervisor.run_child(child, cancelled=(tmp_path / "pids").exists, grace=0.5, poll=0.05)
    assert ended.exit_code == -signal.SIGKILL
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    wait_for(lambda: not any(psutil.pid_exists(pid) and process.runs(psutil.Process(pid)) for pid in pids))


@posix
def test_what_a_child_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    code = f"""
        import pathlib, subprocess, sys, time
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(left.pid))
        time.sleep(1.5)
    """
    ended = supervisor.run_child(start(tmp_path, code), cancelled=never, poll=0.05)
    assert ended.exit_code == 0
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(pid) or not process.runs(psutil.Process(pid)))


def test_a_flood_of_output_stays_small_on_disk_and_never_blocks(tmp_path: Path) -> None:
    code = """
        import sys
        block = b"x" * 65536
        for _ in range(1600):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.write(b"\\nthe end\\n")
    """
    child = start(tmp_path, code)
    before = psutil.Process().memory_info().rss
    ended = supervisor.run_child(child, cancelled=never, poll=0.02)
    logs.rotate(child.log)
    assert ended.exit_code == 0
    assert ended.tail[-1] == "the end"
    assert psutil.Process().memory_info().rss - before < 40e6
    assert sum(file.stat().st_size for file in child.log.parent.iterdir()) < logs.MAX_BYTES * 2


def test_rotation_keeps_the_last_lines_while_the_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    with log.open("ab", buffering=0) as writer:
        for number in range(1000):
            writer.write(f"line {number}\n".encode())
        assert logs.rotate(log, max_bytes=1000, keep=500)
        writer.write(b"after\n")
        assert log.read_bytes() == b"after\n"
    assert logs.tail(log, 3) == ("line 998", "line 999", "after")
    assert not logs.rotate(log, max_bytes=1000)


def test_the_tail_is_readable_text(tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_bytes(
        "\x1b[31mred\x1b[0m\nsteps 1\rsteps 2\r\n学習\n".encode() + b"\xff broken \x00 utf-8\n" + b"y" * 9000
    )
    lines = logs.tail(log)
    assert lines[:4] == ("red", "steps 1", "steps 2", "学習")
    assert lines[4].endswith("broken  utf-8")
    assert len(lines[5]) == 2000


def test_a_living_child_is_adopted_by_its_identity_only(tmp_path: Path) -> None:
    child = start(tmp_path, "import time; time.sleep(60)")
    try:
        known = child.identity
        adopted = supervisor.adopt(known, child.log)
        assert adopted is not None
        assert not adopted.ended()
        assert supervisor.adopt(process.Identity(known.pid, known.started - 100, known.boot_id), child.log) is None
        assert supervisor.adopt(process.Identity(known.pid, known.started, "another boot"), child.log) is None
        assert process.Identity.from_status(known.facts()) == known
        ended = supervisor.run_child(adopted, cancelled=lambda: True, grace=5, poll=0.05)
        assert ended.exit_code is None
        assert child.popen is not None
        assert child.popen.wait(10) != 0
    finally:
        assert child.popen is not None
        child.popen.kill()


def test_this_process_and_a_dead_one_are_never_adopted(tmp_path: Path) -> None:
    assert supervisor.adopt(process.identity(os.getpid()), tmp_path / "log") is None
    finished = subprocess.Popen([sys.executable, "-c", "pass"])
    known = process.identity(finished.pid)
    wait_for(lambda: known.alive() is None)  # a zombie already counts as dead
    finished.wait()
    assert supervisor.adopt(known, tmp_path / "log") is None


def test_three_losses_that_are_not_numbers_break_the_rule(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    rule = NonFiniteLoss(events)
    assert rule.broken() is None
    events.write_text('{"type":"step","step":1,"loss":NaN}\n{"type":"step","step":2,"loss":NaN}\n')
    assert rule.broken() is None
    with events.open("a") as file:
        file.write('{"type":"step","step":3,"loss":0.5}\n{"type":"step","step":4,"loss":NaN}\n{"type":"note"}\n')
        file.write('{"type":"step","step":5,"loss":null}\n{"type":"step","step":6,"loss":Infi')
    assert rule.broken() is None
    with events.open("a") as file:
        file.write("nity}\n")
    broken = rule.broken()
    assert broken is not None
    assert "step 6" in broken[0]


def test_a_broken_rule_stops_the_child_with_its_sentence(tmp_path: Path) -> None:
    child = start(tmp_path, "import time; time.sleep(60)")
    rule = DiskReserve(tmp_path, reserve=10**18)
    ended = supervisor.run_child(child, cancelled=never, rules=[rule], grace=5, poll=0.05)
    assert ended.stopped is not None
    assert not ended.cancelled
    assert "kept in reserve" in ended.stopped[0]
    assert DiskReserve(tmp_path, reserve=1).broken() is None


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"], "gpu_memory"),
        (["RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"], "memory"),
        (["OSError: [Errno 28] No space left on device"], "disk_full"),
        (["ModuleNotFoundError: No module named 'peft'"], "missing_module"),
        (["ImportError: cannot import name 'CLIPFeatureExtractor' from 'transformers'"], "version_clash"),
        (["safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge"], "bad_weights"),
        (["PIL.UnidentifiedImageError: cannot identify image file 'x.png'"], "bad_picture"),
        (["RuntimeError: No CUDA GPUs are available"], "no_device"),
        (["error: The base model is of family 'flux'."], "refused"),
        (["Traceback (most recent call last):", "ZeroDivisionError: division by zero"], "exception"),
        (["ModuleNotFoundError: No module named 'xformers'", "(ignored)", "KeyError: 'unet'"], "exception"),
        (["all is well"], "unknown"),
    ],
)
def test_failures_are_classified_by_what_was_printed_last(lines: list[str], kind: str) -> None:
    failure = classify(1, lines)
    assert failure.kind == kind
    assert failure.message.endswith((".", "!", "?"))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (-15, "ended"),
        (143, "ended"),
        (-9, "killed"),
        (137, "killed"),
        (-11, "crashed"),
        (None, "vanished"),
        (3, "unknown"),
    ],
)
def test_without_a_message_the_exit_status_speaks(code: int | None, kind: str) -> None:
    assert classify(code, []).kind == kind


def test_the_missing_package_is_named() -> None:
    assert "'peft'" in classify(1, ["ModuleNotFoundError: No module named 'peft'"]).message
