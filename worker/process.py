"""Child processes that are never orphaned: own group, recorded identity, TERM then KILL on everything below them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_SECRET = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?|PRIVATE_KEY)(_|$)", re.IGNORECASE)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_MODE": "offline",
    "PYTHONUNBUFFERED": "1",
    "PYTHONIOENCODING": "utf-8",
    "TOKENIZERS_PARALLELISM": "false",
}
_HARMLESS = {"TOKENIZERS_PARALLELISM"}  # its name only looks like a secret
_START_TOLERANCE = 0.05  # seconds; psutil's start times are multiples of a clock tick


@dataclass(frozen=True)
class Identity:
    """What tells one process from another one that got the same number later."""

    pid: int
    started: float
    boot_id: str

    def facts(self) -> dict[str, Any]:
        """The fields of run.json."""
        return {"pid": self.pid, "process_started": self.started, "boot_id": self.boot_id}

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> Identity | None:
        """Read the fields back; None when the run never had a process."""
        pid, started, boot = status.get("pid"), status.get("process_started"), status.get("boot_id")
        if not isinstance(pid, int) or not isinstance(started, (int, float)):
            return None
        return cls(pid, float(started), str(boot))

    def alive(self) -> psutil.Process | None:
        """The very same process if it still runs; never a stranger with a reused number, never a zombie."""
        if self.boot_id != boot_id() or self.pid == os.getpid():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= _START_TOLERANCE
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def boot_id() -> str:
    """A value that changes with every start of the machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"boot-{int(psutil.boot_time())}"


def identity(pid: int) -> Identity:
    """The identity of a running process; raises psutil.Error when it is gone."""
    return Identity(pid, psutil.Process(pid).create_time(), boot_id())


def child_environment(extra: Mapping[str, str], parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """The parent's environment without anything that looks like a secret, hub libraries switched to offline."""
    base = {key: value for key, value in (os.environ if parent is None else parent).items() if not is_secret(key)}
    return {**base, **_OFFLINE, **extra}


def is_secret(name: str) -> bool:
    """Whether an environment variable's name says that it holds a token, key or password."""
    return name not in _HARMLESS and _SECRET.search(name) is not None


def spawn(argv: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a child in its own session, stdin closed, output appended to `log`.

    A file and not a pipe: nobody has to read it, it survives this process, and a flood cannot block the child.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=os.name != "nt",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )


def family(process: psutil.Process) -> list[psutil.Process]:
    """The process and everything below it, also what left its session."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return [process]


def ask_to_stop(process: psutil.Process) -> None:
    """TERM to the whole group (CTRL_BREAK on Windows): trainers save their state and leave."""
    if os.name == "nt":
        with suppress(OSError, psutil.Error):
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
    else:
        _signal_group(process.pid, signal.SIGTERM)


def kill(members: Sequence[psutil.Process]) -> None:
    """KILL the group of the first member and every member that is still the process it was."""
    if os.name != "nt":
        _signal_group(members[0].pid, signal.SIGKILL)
    for member in members:
        with suppress(psutil.Error):
            member.kill()
    _wait(members, 5)


def stop_family(process: psutil.Process, grace: float, hurry: Callable[[], bool] = lambda: False) -> None:
    """TERM, wait up to `grace` seconds (or until `hurry`), then KILL whatever is left of the family."""
    members = family(process)
    ask_to_stop(process)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and not hurry() and any(runs(member) for member in members):
        members = list({member.pid: member for member in [*members, *family(process)]}.values())
        time.sleep(0.1)
    kill(members)


def sweep(members: Sequence[psutil.Process]) -> None:
    """After the child has ended, end what it left behind."""
    rest = [member for member in members if runs(member)]
    for member in rest:
        with suppress(psutil.Error):
            member.terminate()
    for member in _wait(rest, 3):
        with suppress(psutil.Error):
            member.kill()


def runs(process: psutil.Process) -> bool:
    """Whether it is still that process and still working; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait(members: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait without reaping: waitpid here would take the exit status away from the Popen object."""
    deadline = time.monotonic() + seconds
    alive = [member for member in members if runs(member)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = [member for member in alive if runs(member)]
    return alive


def _signal_group(pid: int, number: int) -> None:
    # spawn() made the child a session leader, so its pid names the group; checked before signalling.
    with suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
