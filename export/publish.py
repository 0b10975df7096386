"""Export one LoRA to many UIs: everything is written and read back in hiding, then moved into place together."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, WorkFailed
from ..core.files import inside, safe_name, sha256_file
from ..core.tensorfile import file_content_hash, read_header, save
from ..core.types import BaseModel, LoraCard, LoraFile
from . import header
from .base import base_modules
from .checks import Check, check_lora, require
from .convert import DTYPES, Lora, Tensors, read_lora, to_diffusers, to_kohya
from .families import family_of
from .sidecars import Sidecar, sidecars
from .targets import TARGETS, Bundle, Target


@dataclass(frozen=True)
class ExportResult:
    """What was written where, the verdict on every written file, and what was kept or removed on the way."""

    lora: LoraFile
    checks: tuple[Check, ...]
    kept: tuple[str, ...] = ()
    scrubbed: tuple[str, ...] = ()
    hints: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """The contract of `export --json`."""
        return {
            "lora": self.lora.to_json(),
            "files": self.lora.files,
            "checks": [check.to_json() for check in self.checks],
            "kept": list(self.kept),
            "scrubbed": list(self.scrubbed),
            "hints": dict(self.hints or {}),
        }


@dataclass(frozen=True)
class _Staged:
    target: Target
    folder: Path
    staging: Path
    weights: Path
    files: tuple[Sidecar, ...]
    check: Check


def export_lora(
    source: Path,
    *,
    name: str,
    card: LoraCard,
    targets: Sequence[str],
    out: Path,
    family: str | None = None,
    facts: Mapping[str, Any] | None = None,
    preview: Path | None = None,
    base: BaseModel | Path | None = None,
    dtype: str = "fp16",
    roots: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write `source` for every target under `out/<target>/` (or right into `roots[target]`, a UI's own LoRA folder).

    Nothing appears under its final name unless every file of every target could be written, read back and checked.
    BadInput: unknown target, name or family, malformed or unusable LoRA, a foreign file of that name.
    `facts` may hold base_model, base_sha256, resolution, steps, epochs, images, learning_rate, optimizer, seed,
    started, ended, negative, tags ({tag: count}).
    """
    chosen = [_target(target) for target in dict.fromkeys(targets)]
    _check_request(name, chosen, dtype)
    lora, shapes = _prepared(source, family, base)
    require(check_lora(lora, shapes))
    facts = _facts(facts or {}, base)
    preview = preview or (Path(card.preview) if card.preview else None)
    folders = {target.name: _folder(target, name, out, roots or {}) for target in chosen}
    for target in chosen:
        _refuse_foreign(folders[target.name] / target.weights.format(name=name), overwrite)
    pictures = (header.make_thumbnail(preview), header.preview_png(preview)) if preview else ("", None)
    job = _Job(lora, name, card, facts, *pictures, dtype, shapes, datetime.now(UTC))
    with ExitStack() as hidden:
        staged = [_stage(job, t, folders[t.name], hidden.enter_context(_hiding(folders[t.name], name))) for t in chosen]
        files = {item.target.name: _reveal(item) for item in staged}
    return _result(job, staged, files)


@dataclass(frozen=True)
class _Job:
    lora: Lora
    name: str
    card: LoraCard
    facts: Mapping[str, Any]
    thumbnail: str
    preview: bytes | None
    dtype: str
    shapes: Mapping[str, tuple[int, ...]] | None
    now: datetime


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise BadInput(f"{name!r} is not an export target.", f"Known: {', '.join(TARGETS)}.")
    return TARGETS[name]


def _check_request(name: str, chosen: Sequence[Target], dtype: str) -> None:
    safe_name(name, "LoRA name")
    if not chosen:
        raise BadInput("No export target was chosen.", f"Known: {', '.join(TARGETS)}.")
    if dtype not in DTYPES and dtype != "keep":
        raise BadInput(f"{dtype!r} is not a storage type.", f"Known: {', '.join(DTYPES)}, keep.")


def _prepared(source: Path, family: str | None, base: BaseModel | Path | None) -> tuple[Lora, Any]:
    """The LoRA and, where a base model is given, the shapes of its layers."""
    if isinstance(base, BaseModel):
        family, base = family or base.family, Path(base.path)
    lora = read_lora(source, family)
    if lora.family is None:
        raise BadInput(
            f"It cannot be told which base model {source.name} is for.", "Give the family: sd15, sd2 or sdxl."
        )
    return lora, base_modules(base, family_of(lora.family).name) if base else None


def _facts(facts: Mapping[str, Any], base: BaseModel | Path | None) -> dict[str, Any]:
    clean = {key: header.scrub_text(value) if isinstance(value, str) else value for key, value in facts.items()}
    if isinstance(base, BaseModel):
        clean.setdefault("base_model", base.name)
        clean.setdefault("base_sha256", base.sha256)
    return clean


def _folder(target: Target, name: str, out: Path, roots: Mapping[str, Path]) -> Path:
    own = roots.get(target.name)
    folder = own if own is not None else inside(out / target.name, target.folder)
    return inside(folder, name if target.own_folder else ".")


def _refuse_foreign(path: Path, overwrite: bool) -> None:
    """Our own earlier export may be replaced; somebody else's LoRA of that name may not."""
    if overwrite or not path.exists():
        return
    try:
        ours = header.MARK in read_header(path).metadata
    except BadInput:
        ours = False
    if not ours:
        raise BadInput(
            f"{path} exists and was not written by LoRA Atelier.", "Choose another name or allow overwriting."
        )


@contextmanager
def _hiding(folder: Path, name: str) -> Iterator[Path]:
    """A hidden folder on the same disk, gone afterwards whatever happens, with the empty folders made for it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    staging = folder / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
    staging.mkdir(parents=True)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # not empty: the export worked
                path.rmdir()


def _stage(job: _Job, target: Target, folder: Path, staging: Path) -> _Staged:
    tensors, extra = _tensors(job, target)
    metadata = header.build_metadata(
        job.lora, tensors, name=job.name, card=job.card, facts=job.facts, thumbnail=job.thumbnail, now=job.now
    )
    weights = save(staging / target.weights.format(name=job.name), tensors, metadata | extra)
    check = require(_read_back(weights, job, target, metadata))
    bundle = Bundle(
        name=job.name,
        card=job.card,
        family=family_of(job.lora.family or ""),
        facts=job.facts,
        modules=len(job.lora.modules),
        file_sha256=sha256_file(weights),
        content_sha256=metadata["sshs_model_hash"],
        preview=bool(job.preview),
    )
    files = tuple(sidecars(target, bundle, folder, job.preview))
    for file in files:
        if not file.kept:
            file.write(staging)
    return _Staged(target, folder, staging, weights, files, check)


def _tensors(job: _Job, target: Target) -> tuple[Tensors, dict[str, str]]:
    if target.style == "diffusers":
        tensors, extra = to_diffusers(job.lora, dtype=job.dtype)
        return tensors, {**extra, "format": "pt"}
    return to_kohya(job.lora, dtype=job.dtype), {}


def _read_back(path: Path, job: _Job, target: Target, metadata: Mapping[str, str]) -> Check:
    """What stands on the disk must hold the same modules with the same scales, and the hash that its header tells."""
    written = read_lora(path, job.lora.family)
    wrong = [name for name, module in job.lora.modules.items() if not _same_scale(module.alpha, written, name)]
    if wrong or len(written.modules) != len(job.lora.modules) or written.problems:
        raise WorkFailed(
            f"{path.name} for {target.title} did not read back as written.", "Check the disk and try again."
        )
    if file_content_hash(path) != metadata["sshs_model_hash"]:
        raise WorkFailed(
            f"{path.name} for {target.title} has another hash than written.", "Check the disk and try again."
        )
    check = check_lora(written, dict(job.shapes) if job.shapes is not None else None, target=target.name)
    if not check.ok and "infinity" in check.message and job.dtype == "fp16":
        return replace(check, message=f"{check.message} Its values do not fit into fp16; choose fp32 or bf16.")
    return check


def _same_scale(alpha: float, written: Lora, name: str) -> bool:
    other = written.modules.get(name)
    return other is not None and abs(other.alpha - alpha) <= 0.005 * max(abs(alpha), 1e-3)  # fp16 and bf16 round alpha


def _reveal(item: _Staged) -> list[str]:
    """Move the weights and then their sidecars to their final names."""
    names = [item.weights.name, *(file.name for file in item.files)]
    for name in names:
        if (item.staging / name).exists():
            (item.staging / name).replace(item.folder / name)
    return [str(item.folder / name) for name in names]


def _result(job: _Job, staged: Sequence[_Staged], files: dict[str, list[str]]) -> ExportResult:
    main = next((item for item in staged if item.target.name == "comfyui"), staged[0])
    path = main.folder / main.weights.name
    lora = LoraFile(
        name=main.weights.name,
        path=str(path),
        family=job.lora.family or "",
        sha256=sha256_file(path),
        trigger_words=job.card.trigger_words,
        files=files,
    )
    kept = tuple(str(item.folder / file.name) for item in staged for file in item.files if file.kept)
    _, scrubbed = header.scrub(header.inheritable(job.lora.metadata))
    hints = {t.target.name: t.target.hint.format(name=job.name, strength=job.card.strength) for t in staged}
    return ExportResult(lora, tuple(item.check for item in staged), kept, scrubbed, hints)
