"""ComfyUI as the nodes see it: folders, model lists, progress, interrupt. Plain folders where there is no ComfyUI.

This is the only module that imports ComfyUI. Widgets offer ids; the path behind an id is looked up here at use.
"""

from __future__ import annotations

import importlib
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import BadInput
from ..core.files import safe_name
from .listing import subfolders

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..trainer.spool import Spool

ASSETS = Path(__file__).resolve().parents[1] / "assets"
BUILT_IN_MODEL = "atelier-mini (built in)"
SAMPLE_FOLDER = "film frames (sample)"
NEWEST = "(newest)"  # offered where a run or a LoRA is chosen, so that a shared graph needs no name from elsewhere
EXTRA_IMAGES_KEY = "atelier_images"  # in ComfyUI's extra_model_paths.yaml: more folders with pictures
_DIFFUSERS = " (diffusers)"
_PREVIEW_SIDE = 768

Progress = Callable[..., None]


def _comfyui(name: str) -> Any:
    """A module of ComfyUI, or None outside of it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


_folder_paths = _comfyui("folder_paths")


def _quiet(*_: Any) -> None:
    """Nobody is listening."""


@dataclass(frozen=True)
class Settings:
    """Where things lie outside ComfyUI, and who listens. `image_folders` maps ids that widgets offer to folders."""

    input_dir: Path = Path("input")
    output_dir: Path = Path("output")
    models_dir: Path = Path("models")
    user_dir: Path = Path("user")
    spool: Path | None = None
    image_folders: Mapping[str, Path] = field(default_factory=dict)
    on_progress: Callable[[str, int, int, str], None] = _quiet
    check: Callable[[], None] = _quiet


_settings = Settings()


def configure(**changes: Any) -> Settings:
    """Change some of `Settings` (for runs without ComfyUI) and return the former ones, to put back afterwards.

    `on_progress(node_id, done, total, text)` is told how far a node is; `check()` may raise to interrupt it.
    """
    global _settings
    former = _settings
    _settings = replace(_settings, **changes)
    return former


def restore(settings: Settings) -> None:
    """Put back what `configure` returned."""
    global _settings
    _settings = settings


def in_comfyui() -> bool:
    """Whether this process is ComfyUI."""
    return _folder_paths is not None


# --- folders ---------------------------------------------------------------------------------------------------------


def input_dir() -> Path:
    """Where the user's pictures are looked for."""
    return Path(_folder_paths.get_input_directory()) if _folder_paths else _settings.input_dir.absolute()


def output_dir() -> Path:
    """Where results go."""
    return Path(_folder_paths.get_output_directory()) if _folder_paths else _settings.output_dir.absolute()


def user_dir() -> Path:
    """Where settings, caches and the spool live."""
    return Path(_folder_paths.get_user_directory()) if _folder_paths else _settings.user_dir.absolute()


def work_dir() -> Path:
    """The pack's own folder among the results."""
    return output_dir() / "lora_atelier" if _folder_paths else output_dir()


def runs_root() -> Path:
    """The folder that holds all runs."""
    return work_dir() / "runs"


def spool_dir() -> Path:
    """Where jobs are left for the worker."""
    chosen = None if _folder_paths else _settings.spool
    return chosen.absolute() if chosen else user_dir() / "lora_atelier" / "spool"


def spool() -> Spool:
    """The spool that a worker may be watching."""
    from ..trainer.spool import Spool

    return Spool(spool_dir())


def measurement_cache() -> Path:
    """One cache for all picture folders: measurements go by content."""
    return user_dir() / "lora_atelier" / "measurements.sqlite"


def detector_folders() -> tuple[Path, ...]:
    """Where files of other people's detectors may lie."""
    root = Path(_folder_paths.models_dir) if _folder_paths else _settings.models_dir.absolute()
    return tuple(root / name for name in ("lora_atelier", "facedetection", "onnx"))


def named_dir(kind: str, name: str) -> Path:
    """`<results>/<kind>/<name>`; BadInput when `name` cannot be a folder name."""
    return work_dir() / kind / safe_name(name)


# --- pictures --------------------------------------------------------------------------------------------------------


def image_folders() -> dict[str, Path]:
    """Folders with pictures that a widget may offer, by id: the sample, configured ones, sub-folders of the input."""
    found = {SAMPLE_FOLDER: ASSETS / "samples" / "film"}
    for root in _extra_image_roots():
        found[root.name] = root
        found.update((f"{root.name}/{name}", path) for name, path in subfolders(root))
    found.update(_settings.image_folders if not _folder_paths else {})
    found.update(subfolders(input_dir()))
    return found


def resolve_folder(name: str) -> Path:
    """The folder behind an id that `image_folders` offers; anything else is refused, whatever it points to."""
    folder = image_folders().get(name)
    if folder is None:
        hint = f"Put the pictures into a folder below {input_dir()} and choose it."
        raise BadInput(f"There is no picture folder called {name!r}.", hint)
    if not folder.is_dir():
        raise BadInput(f"The picture folder {name!r} is gone.", "Choose another one.")
    return folder


def _extra_image_roots() -> tuple[Path, ...]:
    known = getattr(_folder_paths, "folder_names_and_paths", {})
    return tuple(Path(path) for path in known[EXTRA_IMAGES_KEY][0]) if EXTRA_IMAGES_KEY in known else ()


# --- models ----------------------------------------------------------------------------------------------------------


def models(kind: str) -> list[str]:
    """Ids that a widget may offer: `base` (checkpoints and diffusers folders) or `loras`."""
    return list(_base_models() if kind == "base" else _model_files(kind))


def resolve_model(kind: str, name: str) -> Path:
    """The file or folder behind an id of `models(kind)`; BadInput when it is not offered."""
    found = _base_models() if kind == "base" else _model_files(kind)
    if kind == "loras" and name == NEWEST and found:
        return max(found.values(), key=lambda path: path.stat().st_mtime)
    path = found.get(name)
    if path is None or not path.exists():
        what = "base model" if kind == "base" else "LoRA"
        raise BadInput(f"There is no {what} called {name!r}.", "Choose one from the list; press R to read it anew.")
    return path


def loras_dir() -> Path:
    """The folder that core LoRA loaders look into first."""
    return model_roots("loras")[0]


def model_roots(kind: str) -> list[Path]:
    """The folders of one kind of model, the preferred one first."""
    if _folder_paths and kind in _folder_paths.folder_names_and_paths:
        return [Path(path) for path in _folder_paths.get_folder_paths(kind)]
    return [(Path(_folder_paths.models_dir) if _folder_paths else _settings.models_dir.absolute()) / kind]


def _base_models() -> dict[str, Path]:
    built_in = ASSETS / "atelier-mini"
    found = {BUILT_IN_MODEL: built_in} if (built_in / "model_index.json").is_file() else {}
    found.update(_model_files("checkpoints"))
    for root in model_roots("diffusers"):
        folders = sorted(root.iterdir()) if root.is_dir() else []
        found.update({f"{path.name}{_DIFFUSERS}": path for path in folders if (path / "model_index.json").is_file()})
    return found


def _model_files(kind: str) -> dict[str, Path]:
    """`.safetensors` files by name relative to their folder, with forward slashes."""
    if _folder_paths:
        names = _folder_paths.get_filename_list(kind)
        paths = {name: _folder_paths.get_full_path(kind, name) for name in names if name.endswith(".safetensors")}
        return {name: Path(path) for name, path in paths.items() if path}
    roots = reversed(model_roots(kind))
    return {path.relative_to(root).as_posix(): path for root in roots for path in sorted(root.rglob("*.safetensors"))}


# --- runs ------------------------------------------------------------------------------------------------------------


def runs() -> list[str]:
    """Names of the runs there are, the newest first."""
    root = runs_root()
    found = [path for path in root.iterdir() if (path / "run.json").is_file()] if root.is_dir() else []
    return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def resolve_run(name: str) -> Path:
    """The directory of the run called `name`; BadInput when it is not in the runs folder."""
    found = runs()
    if name == NEWEST and found:
        name = found[0]
    if name not in found:
        raise BadInput(f"There is no run called {name!r}.", f"Runs lie in {runs_root()}.")
    return runs_root() / safe_name(name)


# --- while a node runs -----------------------------------------------------------------------------------------------


def check_interrupt() -> None:
    """Raise the host's own exception when the user pressed cancel."""
    if _folder_paths:
        _comfyui("comfy.model_management").throw_exception_if_processing_interrupted()
    else:
        _settings.check()


def progress(node_id: str | None) -> Progress:
    """A function `(done, total, preview=None, text="")` that moves the node's bar; it raises when cancel was pressed.

    Call it from the node's own thread. `preview` is a PIL picture shown on the node, `text` a line below it.
    """
    return _comfyui_progress(node_id) if _folder_paths else _plain_progress(node_id)


def _plain_progress(node_id: str | None) -> Progress:
    def report(done: int, total: int, preview: Image | None = None, text: str = "") -> None:
        _settings.on_progress(node_id or "", done, total, text)
        _settings.check()

    return report


def _comfyui_progress(node_id: str | None) -> Progress:
    bar = _comfyui("comfy.utils").ProgressBar(1, node_id=node_id)
    said = ""

    def report(done: int, total: int, preview: Image | None = None, text: str = "") -> None:
        nonlocal said
        shown = None if preview is None else ("JPEG", preview.convert("RGB"), _PREVIEW_SIDE)
        if text and text != said:
            said = text
            _say(text, node_id)
        bar.update_absolute(done, max(1, total), shown)
        check_interrupt()

    return report


def _say(text: str, node_id: str | None) -> None:
    server = getattr(_comfyui("server"), "PromptServer", None)
    instance = getattr(server, "instance", None)
    if instance is not None and node_id is not None:
        instance.send_progress_text(text, node_id)


def free_memory() -> None:
    """Give the device to the trainer: ComfyUI unloads its models."""
    if _folder_paths:
        management = _comfyui("comfy.model_management")
        management.unload_all_models()
        management.soft_empty_cache()


# --- what a node shows -----------------------------------------------------------------------------------------------


def show(
    result: tuple[Any, ...], *, text: str = "", images: Sequence[Image] = (), report: Path | None = None
) -> dict[str, Any]:
    """A node's answer: its outputs, and what stands below it (a text, pictures, a link to a report)."""
    ui: dict[str, Any] = {}
    if text:
        ui["text"] = [text]
    if images and _folder_paths:
        ui["images"] = [_temporary(image) for image in images]
    if report is not None:
        ui["atelier_report"] = [_report_address(report)]
    return {"ui": ui, "result": result}


def existing(path: str | Path | None) -> Path | None:
    """The path when there is a file, else None."""
    return Path(path) if path and Path(path).is_file() else None


def to_image_tensor(images: Sequence[Image]) -> Any:
    """Pictures as ComfyUI's IMAGE: float 0-1, shape (count, height, width, 3), all sized like the first.

    A torch tensor where torch is loaded (always inside ComfyUI), else a numpy array of the same shape.
    """
    import numpy as np

    size = images[0].size
    rows = [np.asarray((image if image.size == size else image.resize(size)).convert("RGB")) for image in images]
    batch = np.stack(rows).astype(np.float32) / 255.0
    torch: Any = sys.modules.get("torch")
    return batch if torch is None else torch.from_numpy(batch)


def _temporary(image: Image) -> dict[str, str]:
    folder = Path(_folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    name = f"atelier_{secrets.token_hex(8)}.png"
    image.convert("RGB").save(folder / name, compress_level=4)
    return {"filename": name, "subfolder": "", "type": "temp"}


def _report_address(report: Path) -> str:
    """What the page links to: an address below our route inside ComfyUI, a path elsewhere."""
    if not _folder_paths or work_dir().resolve() not in report.resolve().parents:
        return str(report)
    from urllib.parse import quote

    return f"/lora_atelier/report?path={quote(report.resolve().relative_to(work_dir().resolve()).as_posix())}"


def report_file(relative: str) -> Path:
    """The report that a page asks for; BadInput for anything but an `.html` file in the pack's results."""
    from ..core.files import inside

    path = inside(work_dir(), relative)
    if path.suffix != ".html" or not path.is_file():
        raise BadInput("There is no such report.")
    return path


def _serve_reports() -> None:
    """Let the page open reports: ComfyUI itself only offers HTML for download. Scripts stay off in what we serve."""
    server = getattr(_comfyui("server"), "PromptServer", None)
    instance = getattr(server, "instance", None)
    if instance is None:
        return
    web = importlib.import_module("aiohttp.web")
    policy = "sandbox allow-popups; default-src 'none'; img-src data:; style-src 'unsafe-inline'"

    @instance.routes.get("/lora_atelier/report")
    async def report(request: Any) -> Any:
        try:
            path = report_file(request.query.get("path", ""))
        except BadInput as error:
            return web.Response(status=404, text=error.message)
        return web.FileResponse(path, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


if _folder_paths:
    _serve_reports()
