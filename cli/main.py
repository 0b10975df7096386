"""The `lora-atelier` command: one file per group of commands, imported lazily, errors in one sentence."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from ..core.errors import AtelierError
from . import curation, doctor, exporting, training, validating, workflow
from .output import say, tell_error

app = typer.Typer(
    name="lora-atelier",
    help="From a folder of raw pictures to an installed, explained LoRA.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (workflow, doctor, curation, training, validating, exporting):
    group.register(app)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")] = False,
) -> None:
    """Options of every command."""


def run(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; leaves with 0 done, 1 failed, 2 bad input, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words  # accepted anywhere, since it is added after a failure
    if "--version" in words[:1]:
        sys.exit(_print_version())
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app([word for word in words if word != "--debug"])
    except AtelierError as error:
        _fail(error, debug)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader (head, a pager) has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the edge of the program: a bug becomes one sentence instead of a page
        if debug:
            raise
        say(f"error: unexpected {type(error).__name__}: {error}. Run it again with --debug for the details.")
        sys.exit(1)


def _fail(error: AtelierError, debug: bool) -> None:
    if debug:
        raise error
    tell_error(error)
    sys.exit(error.exit_code)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _print_version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        print(version("lora-atelier"))
    except PackageNotFoundError:
        print("lora-atelier (not installed as a package)")
    return 0


if __name__ == "__main__":
    run()
