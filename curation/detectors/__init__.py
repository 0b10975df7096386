"""Detectors by name. Each follows `core.faces.FaceFinder`; only the pack's own network is shipped with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from ...core.errors import BadInput
from ...core.faces import FaceFinder

MODELS_VARIABLE = "LORA_ATELIER_MODELS"
OWN_NETWORK = Path(__file__).resolve().parents[2] / "assets" / "atelier-detector" / "detector.onnx"


def make(name: str = "auto", models_dir: Path | None = None, folders: Iterable[Path] = ()) -> FaceFinder:
    """The detector called `name`; raises BadInput for an unknown name or a missing file.

    Files of other people's networks are looked for in `models_dir`, then in the folders of the environment variable
    LORA_ATELIER_MODELS, then in `folders` (a host's model folders).
    """
    if name not in _MAKERS:
        near = get_close_matches(name, _MAKERS, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(NAMES)}."
        raise BadInput(f"There is no detector called {name!r}.", hint)
    if models_dir is not None and not models_dir.is_dir():
        raise BadInput(f"The models folder {str(models_dir)!r} does not exist.", "Check --models-dir.")
    return _MAKERS[name](model_folders(models_dir, folders))


def model_folders(models_dir: Path | None, folders: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Existing folders to look for detector files in, most explicit first."""
    named = (Path(part) for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part)
    wanted = (*((models_dir,) if models_dir else ()), *named, *folders)
    return tuple(dict.fromkeys(folder for folder in wanted if folder.is_dir()))


def _atelier(_: tuple[Path, ...]) -> FaceFinder:
    if not OWN_NETWORK.is_file():
        raise BadInput("The pack's own detector file is missing.", f"Reinstall the pack ({OWN_NETWORK.name}).")
    from .atelier import AtelierFinder

    return AtelierFinder()


def _yunet(folders: tuple[Path, ...]) -> FaceFinder:
    from .yunet import YuNetFinder, locate

    path = locate(folders)
    if path is None:
        hint = f"Put yunet_n_640_640.onnx into a folder and name it with --models-dir or {MODELS_VARIABLE}."
        raise BadInput("No YuNet file was found in the model folders.", hint)
    return YuNetFinder(path)


def _auto(folders: tuple[Path, ...]) -> FaceFinder:
    from .auto import AutoFinder
    from .yunet import locate

    drawn = _atelier(folders) if OWN_NETWORK.is_file() else None
    photo = _yunet(folders) if locate(folders) else None
    if drawn is None and photo is None:
        raise BadInput(
            "No face detector is at hand: the pack's own network and every YuNet file are missing.",
            f"Reinstall the pack, or name a folder that holds YuNet with --models-dir or {MODELS_VARIABLE}.",
        )
    return AutoFinder(drawn, photo)


_MAKERS: dict[str, Callable[[tuple[Path, ...]], FaceFinder]] = {"auto": _auto, "atelier": _atelier, "yunet": _yunet}
NAMES: tuple[str, ...] = tuple(_MAKERS)
