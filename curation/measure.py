"""From an image set to measurements: cached, in threads, processes or inline, and stoppable."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.errors import BadInput
from ..core.faces import FaceFinder
from ..core.files import inside
from ..core.images import PictureError, open_array
from ..core.types import Curation, Decision, ImageSet, Picture, Reason, Skipped
from .cache import Cache
from .measures import VERSION, WORKING_SIDE, Sample, measure_all

EXECUTORS: tuple[str, ...] = ("threads", "inline", "pool")
_FLUSH_EVERY = 64  # pictures: what a kill can cost

Measured = dict[str, Any] | Skipped


def measure_set(
    images: ImageSet,
    finder: FaceFinder,
    *,
    cache: Path | None = None,
    workers: int = 0,
    executor: str = "threads",
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Curation:
    """Measure every picture once (by content); all usable ones start as keep.

    `workers` 0 means one per core. `progress(done, total)` counts distinct pictures. `check` may raise to stop: what
    was measured so far is in the cache. A picture that turns out to be damaged when decoded is skipped with its reason.
    The result does not depend on executor, workers or cache.
    """
    if executor not in EXECUTORS:
        near = get_close_matches(executor, EXECUTORS, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(EXECUTORS)}."
        raise BadInput(f"There is no executor called {executor!r}.", hint)
    distinct = {picture.sha256: picture for picture in reversed(images.pictures)}
    label = f"{finder.name} {finder.version}"
    with Cache(cache, label, VERSION) as store:
        known: dict[str, Measured] = dict(store.get_many(list(distinct)))
        todo = [picture for sha256, picture in distinct.items() if sha256 not in known]
        report = progress or (lambda done, total: None)
        report(len(known), len(distinct))
        for sha256, values in _measured(images, todo, finder, workers, executor):
            known[sha256] = values
            if isinstance(values, dict):
                store.put(sha256, values)
            report(len(known), len(distinct))
            if len(known) % _FLUSH_EVERY == 0:
                store.flush()
            if check is not None:
                check()
    return _curation(images, label, known)


def measure_one(root: str, picture: Picture, finder: FaceFinder) -> Measured:
    """All measurements of one picture, or why it cannot be used."""
    try:
        pixels = open_array(inside(Path(root), picture.path), WORKING_SIDE)
    except PictureError as error:
        return Skipped(picture.path, error.rule, error.message)
    return measure_all(Sample(pixels, picture.width, picture.height, finder.find(pixels)))


def _measured(
    images: ImageSet, todo: list[Picture], finder: FaceFinder, workers: int, executor: str
) -> Iterator[tuple[str, Measured]]:
    count = min(workers if workers > 0 else (os.cpu_count() or 1), max(1, len(todo)))
    if executor == "inline" or not todo:
        for picture in todo:
            yield picture.sha256, measure_one(images.root, picture, finder)
        return
    pool = _pool(finder, count) if executor == "pool" else ThreadPoolExecutor(count, "atelier-measure")
    try:
        for future, picture in _submitted(pool, images.root, todo, finder, executor):
            yield picture.sha256, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(
    pool: Executor, root: str, todo: list[Picture], finder: FaceFinder, executor: str
) -> Iterator[tuple[Future[Measured], Picture]]:
    futures: dict[Future[Measured], Picture] = {}
    for picture in todo:
        if executor == "pool":
            futures[pool.submit(_in_child, root, picture)] = picture
        else:
            futures[pool.submit(measure_one, root, picture, finder)] = picture
    for future in as_completed(futures):
        yield future, futures[future]


def _pool(finder: FaceFinder, count: int) -> ProcessPoolExecutor:
    import multiprocessing

    try:
        pickled = pickle.dumps(finder)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise BadInput(
            f"The detector {finder.name!r} cannot be sent to other processes.", "Use the executor 'threads'."
        ) from error
    # Always spawn: a fork of a process with threads (ComfyUI, OpenCV) can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start_child, initargs=(pickled,))


_child_finder: FaceFinder | None = None


def _start_child(pickled: bytes) -> None:
    import cv2

    global _child_finder
    cv2.setNumThreads(1)  # the processes are the parallelism
    _child_finder = pickle.loads(pickled)  # bytes that the parent made, handed over by the pool


def _in_child(root: str, picture: Picture) -> Measured:
    assert _child_finder is not None
    return measure_one(root, picture, _child_finder)


def _curation(images: ImageSet, detector: str, known: dict[str, Measured]) -> Curation:
    usable: list[Picture] = []
    skipped = list(images.skipped)
    for picture in images.pictures:
        values = known[picture.sha256]
        if isinstance(values, Skipped):
            skipped.append(Skipped(picture.path, values.rule, values.message))
        else:
            usable.append(picture)
    if not usable:
        raise BadInput(
            f"None of the {len(images.pictures)} pictures of {images.root_id!r} can be decoded.",
            f"The first one: {skipped[-1].message}",
        )
    checked = ImageSet(images.root_id, images.root, tuple(usable), tuple(sorted(skipped, key=lambda s: s.path)))
    measurements = {sha256: values for sha256, values in known.items() if isinstance(values, dict)}
    kept = tuple(Decision(picture.path, picture.sha256, "keep") for picture in usable)
    lost = tuple(Decision(item.path, "", "skip", (_why(item),)) for item in checked.skipped)
    return Curation(checked, detector, measurements, kept + lost)


def _why(item: Skipped) -> Reason:
    return Reason(item.rule, None, None, item.message)
