"""From kept pictures to a training set: near duplicates stay together on one side of the held-out split."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import BadInput
from ..core.files import inside, safe_name
from ..core.images import PictureError, open_array, scan
from ..core.types import Curation, Dataset, DatasetItem, Picture, Split
from .captions import with_sidecars
from .measures.fingerprint import phash

NEAR_BITS = 8  # of 64: pictures whose perceptual hashes differ by at most this many bits belong together
_NAMED = 5


def split(
    curation: Curation,
    *,
    name: str,
    held_out: float = 0.15,
    seed: int = 0,
    trigger_words: Sequence[str] = (),
) -> Dataset:
    """The kept pictures as a dataset; BadInput when none is kept or one has no caption.

    `held_out` is the share (0 to below 1) kept away from training, by groups of near duplicates. The split depends on
    the pictures' contents and `seed` alone, not on their names or order.
    """
    kept = curation.kept()
    if not kept:
        raise BadInput("No picture is kept, so there is nothing to train on.", "Loosen a rule or look at the doubts.")
    hashes = {picture.sha256: str(curation.measurements[picture.sha256]["phash"]) for picture in kept}
    return _dataset(Path(curation.images.root), kept, hashes, name, held_out, seed, trigger_words)


def dataset_from_folder(
    folder: Path,
    *,
    name: str | None = None,
    held_out: float = 0.15,
    seed: int = 0,
    trigger_words: Sequence[str] = (),
) -> Dataset:
    """All pictures of a folder with the `.txt` captions beside them; every problem is said before anything is done."""
    images = with_sidecars(scan(folder, folder.name))
    _need_captions(images.pictures)
    root = Path(images.root)
    hashes = {picture.sha256: _phash(root, picture) for picture in images.pictures}
    return _dataset(root, images.pictures, hashes, name or folder.resolve().name, held_out, seed, trigger_words)


def groups(hashes: dict[str, str], bits: int = NEAR_BITS) -> list[list[str]]:
    """Keys whose perceptual hashes are near, directly or through others; sorted, so independent of input order."""
    import numpy as np

    keys = sorted(hashes)
    bytes_ = np.array([list(bytes.fromhex(hashes[key])) for key in keys], dtype=np.uint8).reshape(-1, 8)
    signs = np.unpackbits(bytes_, axis=1).astype(np.int16) * 2 - 1  # equal bits multiply to 1, differing ones to -1
    leader = list(range(len(keys)))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for index in range(len(keys)):
        near = signs[index + 1 :] @ signs[index] >= 64 - 2 * bits
        for other in np.flatnonzero(near):
            leader[find(index + 1 + int(other))] = find(index)
    found: dict[int, list[str]] = {}
    for index, key in enumerate(keys):
        found.setdefault(find(index), []).append(key)
    return sorted(found.values())


def _dataset(
    root: Path,
    pictures: Sequence[Picture],
    hashes: dict[str, str],
    name: str,
    held_out: float,
    seed: int,
    trigger_words: Sequence[str],
) -> Dataset:
    if not 0 <= held_out < 1:
        raise BadInput(f"The held-out share is {held_out:g}; it must be at least 0 and below 1.")
    safe_name(name, "dataset name")
    _need_captions(pictures)
    away = _held_out(hashes, Counter(picture.sha256 for picture in pictures), held_out, seed)
    items = tuple(_item(root, picture, "heldout" if picture.sha256 in away else "train") for picture in pictures)
    words = tuple(word.strip() for word in trigger_words if word.strip())
    return Dataset(name, items, words)


def _held_out(hashes: dict[str, str], copies: Counter[str], share: float, seed: int) -> set[str]:
    """Contents to hold out: whole groups in seeded order until the share is reached, never everything."""
    together = groups(hashes)
    random.Random(seed).shuffle(together)
    wanted = share * copies.total()
    away: set[str] = set()
    count = 0
    for group in together[:-1]:  # at least one group always trains
        size = sum(copies[key] for key in group)
        if count + size / 2 < wanted:
            away.update(group)
            count += size
    return away


def _item(root: Path, picture: Picture, side: Split) -> DatasetItem:
    path = inside(root, picture.path)
    return DatasetItem(str(path), picture.sha256, picture.width, picture.height, picture.caption or "", side)


def _need_captions(pictures: Sequence[Picture]) -> None:
    missing = [picture.path for picture in pictures if not (picture.caption or "").strip()]
    if not missing:
        return
    named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    raise BadInput(
        f"{len(missing)} of {len(pictures)} pictures have no caption: {named}.",
        "Put a .txt file with the caption beside each picture, or caption the set first.",
    )


def _phash(root: Path, picture: Picture) -> str:
    try:
        return phash(open_array(inside(root, picture.path), 640))
    except PictureError as error:
        raise BadInput(f"{picture.path} cannot be used: {error.message}", "Mend or remove the file.") from error
