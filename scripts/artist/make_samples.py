"""Draw a raw folder of film frames, good ones and faulty ones, with the truth beside it.

The sample set plays the part of what a person would bring: frames cut from a film in the target
style, in film order, named without any hint of what is wrong with them.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artist.caption import caption
from artist.draw import draw
from artist.scene import TALL, TARGET_STYLE, Scene, random_scene

ROOT = Path(__file__).resolve().parents[2]
# share of each kind in 72 pictures
SHARES: dict[str | None, int] = {
    None: 40, "several": 7, "detail": 6, "back": 5, "silhouette": 4, "tiny": 5, "framing": 5,
}  # fmt: skip
SIZES: tuple[tuple[int, int], ...] = (
    (248, 248), (224, 264), (224, 272), (240, 280), (208, 248), (272, 248), (256, 240), (240, 240),
    (224, 256), (224, 240),
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One frame: what to draw and what is wrong with it (None for a good one)."""

    scene: Scene
    fault: str | None


def _good(rng: np.random.Generator, size: tuple[int, int], **fixed: Any) -> Scene:
    framing = "portrait" if rng.random() < 0.7 else "half"
    view = "front" if rng.random() < 0.75 else "three_quarter"
    return random_scene(rng, style=TARGET_STYLE, framing=framing, view=view, size=size, **fixed)


def _off_frame(rng: np.random.Generator, size: tuple[int, int], turn: int) -> Scene:
    """Framing unlike the rest: far too close, or cut off by an edge, or a wide strip."""
    kind = turn % 3
    if kind == 2:
        size = (320, 192)
    scene = _good(rng, size)
    person = scene.characters[0]
    if kind == 0:
        unit = float(rng.uniform(0.5, 0.6))
        person = replace(person, height=unit * TALL, base=0.44 + unit * 5.3)
    elif kind == 1:
        person = replace(person, cx=float(rng.choice([0.02, 0.98])))
    else:
        unit = float(rng.uniform(0.36, 0.42))
        person = replace(person, height=unit * TALL, base=0.16 + unit * 5.3,
                         cx=float(rng.choice([0.18, 0.82])))  # fmt: skip
    return replace(scene, characters=(person,))


def _faulty(rng: np.random.Generator, fault: str, size: tuple[int, int], turn: int) -> Scene:
    if fault == "several":
        return random_scene(rng, style=TARGET_STYLE, characters=2 + turn % 3, size=(320, 240),
                            view="front")  # fmt: skip
    if fault == "detail":
        return _good(rng, size, detail=False)
    if fault == "silhouette":
        return random_scene(rng, style=TARGET_STYLE, framing="portrait", silhouette=True,
                            size=size, view="front",
                            background=("sea", "meadow")[turn % 2])  # fmt: skip
    if fault == "tiny":
        return random_scene(rng, style=TARGET_STYLE, framing="tiny", view="front", size=size)
    if fault == "back":
        return random_scene(rng, style=TARGET_STYLE, framing="portrait", view="back", size=size)
    return _off_frame(rng, size, turn)


def film_frames(seed: int = 7, count: int = 72) -> list[Sample]:
    """A set of frames in a random order; any seed and count, the shares stay the same."""
    rng = np.random.default_rng(seed)
    total = sum(SHARES.values())
    kinds: list[tuple[str | None, int]] = []
    for fault, share in SHARES.items():
        if fault is not None:
            kinds += [(fault, turn) for turn in range(round(share * count / total))]
    kinds += [(None, turn) for turn in range(count - len(kinds))]
    samples = []
    for index in rng.permutation(len(kinds)):
        fault, turn = kinds[int(index)]
        size = SIZES[int(rng.integers(len(SIZES)))]
        scene = _good(rng, size) if fault is None else _faulty(rng, fault, size, turn)
        samples.append(Sample(scene, fault))
    return samples


def write_frames(samples: list[Sample], folder: Path, truth_file: Path, seed: int = 7) -> int:
    """Write the pictures and the truth; returns the bytes of all pictures."""
    rng = np.random.default_rng((seed, 1))
    folder.mkdir(parents=True, exist_ok=True)
    lines, size = [], 0
    for index, sample in enumerate(samples, 1):
        path = folder / f"frame_{index:04d}.jpg"
        image, truths = draw(sample.scene)
        image.save(path, quality=90)
        size += path.stat().st_size
        row = {"file": path.name, "fault": sample.fault, "caption": caption(sample.scene, rng),
               "truth": [t.to_json() for t in truths]}  # fmt: skip
        lines.append(json.dumps(row))
    truth_file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return size


def main() -> None:
    """Command line: make_samples.py [--seed N] [--count N] [--out FOLDER]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "samples")
    args = parser.parse_args()
    samples = film_frames(args.seed, args.count)
    size = write_frames(samples, args.out / "film", args.out / "film-truth.jsonl", args.seed)
    print(f"{len(samples)} pictures, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
