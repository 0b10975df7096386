"""Owns one child from start to end: starts or adopts it, watches it, stops it, and keeps what it printed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from . import logs
from .process import Identity, child_environment, family, identity, runs, spawn, stop_family, sweep
from .rules import StopRule

POLL = 0.2
GRACE = 30.0


@dataclass(frozen=True)
class Ended:
    """How a child ended. `exit_code` is None when it was adopted: only a parent learns the status.

    `stopped` is (sentence, hint) of whoever stopped it: a stop rule, or ("cancelled", "") for the user.
    """

    exit_code: int | None
    tail: tuple[str, ...]
    stopped: tuple[str, str] | None = None
    cancelled: bool = False


@dataclass
class Child:
    """A running process with the log it writes to; `popen` is None when another worker started it."""

    process: psutil.Process
    identity: Identity
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    members: list[psutil.Process] = field(default_factory=list)

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        if self.popen is not None:
            return self.popen.poll() is not None
        return not runs(self.process)

    def exit_code(self) -> int | None:
        """The exit status, for children of this process."""
        return None if self.popen is None else self.popen.wait()

    def remember_family(self) -> None:
        """Keep descendants in mind, so that they can be ended when the child itself is gone."""
        known = {member.pid: member for member in self.members if runs(member)}
        known.update({member.pid: member for member in family(self.process)[1:]})
        self.members = list(known.values())


def start(argv: Sequence[str], extra_env: Mapping[str, str], cwd: Path, log: Path) -> Child:
    """Start a child in its own session with a clean environment; raises OSError when the program cannot be started."""
    popen = spawn(argv, child_environment(extra_env), cwd, log)
    return Child(psutil.Process(popen.pid), identity(popen.pid), log, popen)


def adopt(known: Identity | None, log: Path) -> Child | None:
    """The child that an earlier worker left running, if it is still that very process."""
    process = known.alive() if known else None
    return Child(process, known, log) if process and known else None


def run_child(
    child: Child,
    *,
    cancelled: Callable[[], bool],
    rules: Sequence[StopRule] = (),
    grace: float = GRACE,
    poll: float = POLL,
    hurry: Callable[[], bool] = lambda: False,
) -> Ended:
    """Watch the child until it ends, the user cancels or a rule is broken; nothing of its family is left afterwards.

    `grace` is how many seconds it gets to save its state before it is killed; `hurry` cuts that short.
    """
    reason, by_user, next_look = None, False, 0.0
    while not child.ended():
        if cancelled():
            reason, by_user = ("cancelled", ""), True
        elif time.monotonic() >= next_look:
            next_look = time.monotonic() + 1.0
            logs.rotate(child.log)
            child.remember_family()
            reason = next((broken for rule in rules if (broken := rule.broken())), None)
        if reason:
            stop_family(child.process, grace, hurry)
            break
        time.sleep(poll)
    sweep(child.members)
    return Ended(child.exit_code(), logs.tail(child.log), reason, by_user)
