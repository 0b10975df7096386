"""What has to be drawn, what is there already, and how a drawn picture is kept: the same for every sampler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ...core.errors import BadInput
from ...core.files import append_json_line, publish, read_json, sha256_file, sha256_json, write_json
from ...core.rundir import Checkpoint, RunDir
from ...core.types import BaseModel, Prompt, ValidationPlan
from ..plan import plan_of

Pair = tuple[Prompt, int]


class Sampler(Protocol):
    """Draws pictures of one base model with the LoRA of one checkpoint after another."""

    def draw(
        self, checkpoint: Checkpoint | None, pairs: Sequence[Pair], check: Callable[[], None] | None
    ) -> Iterator[tuple[Prompt, int, Image.Image]]:
        """Pictures in order; `checkpoint` None is the base model by itself."""
        ...


@dataclass(frozen=True)
class Work:
    """The missing pictures of one checkpoint (None: the base model), with the settings hash of each."""

    step: int
    checkpoint: Checkpoint | None
    pairs: tuple[Pair, ...]
    settings: dict[tuple[str, int], str]


class SampleIndex:
    """`samples/index.json`: with which settings each picture was drawn, so that none is drawn twice."""

    def __init__(self, run: RunDir) -> None:
        self._path = run.samples_dir / "index.json"
        stored = read_json(self._path) if self._path.is_file() else {}
        self._hashes: dict[str, str] = stored if isinstance(stored, dict) else {}

    def holds(self, path: Path, settings: str) -> bool:
        """Whether the picture is there and was drawn with these settings."""
        return path.is_file() and self._hashes.get(path.name) == settings

    def knows(self, path: Path) -> bool:
        """Whether anything was written down about the picture."""
        return path.name in self._hashes

    def add(self, path: Path, settings: str) -> None:
        """Write down a picture's settings."""
        self._hashes[path.name] = settings
        write_json(self._path, self._hashes)


def settings_hash(plan: ValidationPlan, prompt: Prompt, seed: int, base: str, lora: str) -> str:
    """Identity of one picture: base model and LoRA by content, prompt, seed and every setting of the plan."""
    plain = {
        name: getattr(plan, name) for name in ("negative", "width", "height", "sampler", "steps", "cfg", "strength")
    }
    return sha256_json({**plain, "text": prompt.text, "seed": seed, "base": base, "lora": lora})[:32]


def missing_work(
    run: RunDir, plan: ValidationPlan, base: BaseModel, steps: Sequence[int] | None, index: SampleIndex
) -> list[Work]:
    """What must be drawn, by step, base model first; BadInput names steps that have no checkpoint.

    Pictures that the trainer drew with the very same plan count as drawn, although the index does not know them.
    """
    chosen = _chosen(run, steps)
    own = plan_of(run)
    work: list[Work] = []
    for step, checkpoint in chosen:
        lora = _lora_hash(run, checkpoint) if checkpoint else ""
        settings: dict[tuple[str, int], str] = {}
        for prompt in plan.prompts:
            for seed in plan.seeds:
                wanted = settings_hash(plan, prompt, seed, base.sha256, lora)
                path = run.sample_path(step, prompt.id, seed)
                theirs = own is not None and path.is_file() and not index.knows(path) and _same(own, plan, prompt, seed)
                if not theirs and not index.holds(path, wanted):
                    settings[(prompt.id, seed)] = wanted
        pairs = tuple((p, s) for p in plan.prompts for s in plan.seeds if (p.id, s) in settings)
        if pairs:
            work.append(Work(step, checkpoint, pairs, settings))
    return work


def draw_missing(
    run: RunDir,
    sampler: Sampler,
    work: Sequence[Work],
    index: SampleIndex,
    *,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> int:
    """Draw and publish all missing pictures, one `sample` event each; returns how many. `check` may raise to stop."""
    total, done = sum(len(item.pairs) for item in work), 0
    for item in work:
        began = time.perf_counter()
        for prompt, seed, picture in sampler.draw(item.checkpoint, item.pairs, check):
            path = run.sample_path(item.step, prompt.id, seed)
            with publish(path) as temporary:
                picture.save(temporary, format="PNG")
            index.add(path, item.settings[(prompt.id, seed)])
            _event(run, item.step, prompt, seed, path, time.perf_counter() - began)
            began = time.perf_counter()
            done += 1
            if progress:
                progress(done, total)
    return done


def _chosen(run: RunDir, steps: Sequence[int] | None) -> list[tuple[int, Checkpoint | None]]:
    found: dict[int, Checkpoint | None] = {0: None, **{item.step: item for item in run.checkpoints()}}
    if len(found) == 1:
        raise BadInput("The run has no checkpoints to draw with.", "Train first, or wait for the first checkpoint.")
    unknown = sorted(set(steps or ()) - found.keys())
    if unknown:
        raise BadInput(
            f"The run has no checkpoint at step {', '.join(map(str, unknown[:10]))}.",
            f"It has {', '.join(str(step) for step in list(found)[1:21])}.",
        )
    wanted = set(found) if steps is None else {0, *steps}
    return [(step, found[step]) for step in sorted(wanted)]


def _lora_hash(run: RunDir, checkpoint: Checkpoint) -> str:
    for event in run.ledger("checkpoint"):
        if event.get("step") == checkpoint.step and event.get("bytes") == checkpoint.path.stat().st_size:
            return str(event["sha256"])
    return sha256_file(checkpoint.path)


def _same(own: ValidationPlan, plan: ValidationPlan, prompt: Prompt, seed: int) -> bool:
    """Whether the trainer's own plan would draw this picture in just the same way."""
    known = {item.id: item.text for item in own.prompts}
    if known.get(prompt.id) != prompt.text or seed not in own.seeds:
        return False
    return settings_hash(own, prompt, seed, "", "") == settings_hash(plan, prompt, seed, "", "")


def _event(run: RunDir, step: int, prompt: Prompt, seed: int, path: Path, seconds: float) -> None:
    event: dict[str, Any] = {
        "type": "sample",
        "step": step,
        "prompt": prompt.id,
        "seed": seed,
        "path": path.relative_to(run.path).as_posix(),
        "seconds": round(seconds, 3),
        "time": round(time.time(), 3),
    }
    append_json_line(run.events_file, event)
