"""A pool of drawings with truth: the raw material that `augment` turns into endless training pictures."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artist.draw import Truth, render
from artist.scene import STYLES, TALL, Character, Scene, random_scene

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "assets" / "atelier-detector" / "recipe.toml"
VIEWS = ("front", "three_quarter", "profile", "back", "silhouette")
# One row per character, in pixels: head, face and body boxes, two eyes, mouth, then four answers.
HEAD, FACE, BODY = slice(0, 4), slice(4, 8), slice(8, 12)
POINTS = slice(12, 18)
VIEW, HAS_FACE, EYES, MOUTH = 18, 19, 20, 21  # the answers: -1 means "do not ask"
COLUMNS = 22


@dataclass(frozen=True)
class Drawing:
    """A picture (h, w, 3), its part labels (h, w; 32 x (character + 1) + part) and rows (n, COLUMNS)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    rows: NDArray[np.float32]


def load_recipe(path: Path = RECIPE) -> dict[str, Any]:
    """The recipe as plain tables."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _vary(rng: np.random.Generator, person: Character) -> Character:
    """Views and faults that curation must tell apart, far more often than in ordinary pictures."""
    view = ("front", "three_quarter", "profile_left", "profile_right", "back")
    changes: dict[str, Any] = {"view": view[int(rng.choice(5, p=(0.34, 0.22, 0.11, 0.11, 0.22)))]}
    fault = rng.random()
    if fault < 0.11:
        changes["detail"] = False
    elif fault < 0.2:
        changes["silhouette"] = True
    elif fault < 0.29:
        changes["eyes_covered"] = True
    elif fault < 0.38:
        changes["mouth_covered"] = True
    return replace(person, **changes)


def _off_frame(rng: np.random.Generator, person: Character) -> Character:
    """Far too close, or cut off by an edge."""
    if rng.random() < 0.5:
        unit = float(rng.uniform(0.3, 0.6))
        return replace(person, height=unit * TALL, base=float(rng.uniform(0.3, 0.6)) + unit * 5.3)
    return replace(person, cx=float(rng.choice([rng.uniform(0, 0.15), rng.uniform(0.85, 1)])))


def sample_scene(rng: np.random.Generator, longest: int, style: str | None = None) -> Scene:
    """A scene of the training mix: empty, one or several characters, every style, view and size."""
    short = int(longest * rng.choice([1.0, 1.0, 0.75, 0.667, 0.5625]))
    size = (longest, short) if rng.random() < 0.5 else (short, longest)
    style = style or STYLES[int(rng.choice(len(STYLES), p=(0.23, 0.2, 0.25, 0.32)))]
    count = int(rng.choice(5, p=(0.08, 0.64, 0.15, 0.08, 0.05)))
    framing = None
    if count <= 1:
        names = ("close_up", "portrait", "half", "full", "tiny")
        framing = names[int(rng.choice(5, p=(0.18, 0.28, 0.22, 0.18, 0.14)))]
    scene = random_scene(rng, style=style, characters=max(1, count), framing=framing, size=size)
    people = [_vary(rng, person) for person in scene.characters[:count]]
    if count == 1 and rng.random() < 0.14:
        people = [_off_frame(rng, people[0])]
    return replace(scene, characters=tuple(people))


def row_of(truth: Truth, labels: NDArray[np.uint8], index: int) -> NDArray[np.float32] | None:
    """The truth as a row; what another character hides is not asked for, None if nothing is left."""
    row = np.full(COLUMNS, np.nan, np.float32)
    x0, y0, x1, y1 = row[HEAD] = truth.head_box
    if x1 - x0 < 4 or y1 - y0 < 4:
        return None
    row[BODY] = truth.subject_box
    view = truth.view.split("_")[0] if truth.view.startswith("profile") else truth.view
    row[VIEW] = VIEWS.index("silhouette" if truth.silhouette else view)
    row[HAS_FACE] = float(truth.face_box is not None and not truth.silhouette)
    if truth.face_box is not None:
        row[FACE] = truth.face_box
    row[EYES], row[MOUTH] = float(truth.eyes_visible), float(truth.mouth_visible)
    if truth.eyes:
        eyes = sorted(truth.eyes)
        row[12:16] = (*eyes[0], *eyes[-1])
    if truth.mouth is not None:
        row[16:18] = truth.mouth
    return _hide(row, labels, index)


def _hide(row: NDArray[np.float32], labels: NDArray[np.uint8], index: int) -> NDArray[np.float32] | None:
    x0, y0, x1, y1 = (int(v) for v in row[HEAD])
    patch = labels[y0 : y1 + 1, x0 : x1 + 1] // 32
    in_front = float(np.mean(patch > index + 1))
    if in_front > 0.7:
        return None
    if in_front > 0.35:
        row[VIEW], row[HAS_FACE], row[EYES], row[MOUTH] = -1, -1, -1, -1
    for answer, points in ((EYES, (12, 14)), (MOUTH, (16,))):
        if row[answer] == 1:
            hits = [_label_at(labels, row[p], row[p + 1]) > index + 1 for p in points]
            row[answer] = 1 if not any(hits) else (0 if all(hits) else -1)
    return row


def _label_at(labels: NDArray[np.uint8], x: float, y: float) -> int:
    h, w = labels.shape
    return int(labels[min(max(int(y), 0), h - 1), min(max(int(x), 0), w - 1)] // 32)


def draw_one(scene: Scene) -> Drawing:
    """Draw a scene with its rows."""
    pixels, truths, labels = render(scene)
    step = labels.shape[0] // pixels.shape[0]
    small = np.ascontiguousarray(labels[::step, ::step])
    rows = [row_of(truth, small, index) for index, truth in enumerate(truths)]
    kept = [row for row in rows if row is not None]
    return Drawing(pixels, small, np.array(kept, np.float32).reshape(-1, COLUMNS))


def write_shard(path: Path, drawings: list[Drawing]) -> None:
    """One file for many drawings; it appears whole or not at all."""
    blobs: list[NDArray[np.uint8]] = []
    for item in drawings:
        blobs.append(cv2.imencode(".jpg", item.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])[1].ravel())
        blobs.append(cv2.imencode(".png", item.labels)[1].ravel())
    ends = np.cumsum([len(blob) for blob in blobs])
    counts = np.array([len(item.rows) for item in drawings])
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, data=np.concatenate(blobs), ends=ends, counts=counts,
                 rows=np.concatenate([item.rows for item in drawings]))  # fmt: skip
    part.replace(path)


class Pool:
    """Drawings read back from the shards that exist so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.items: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]] = []
        self._seen: set[str] = set()

    def refresh(self) -> int:
        """Take in new shards; returns the number of drawings."""
        for path in sorted(self.folder.glob("shard_*.npz")):
            if path.name not in self._seen:
                self._seen.add(path.name)
                self._read(path)
        return len(self.items)

    def _read(self, path: Path) -> None:
        with np.load(path) as file:
            data, ends, counts, rows = file["data"], file["ends"], file["counts"], file["rows"]
        starts, first = np.concatenate([[0], ends[:-1]]), 0
        for index, count in enumerate(counts):
            a, b = 2 * index, 2 * index + 1
            self.items.append((data[starts[a] : ends[a]], data[starts[b] : ends[b]], rows[first : first + count]))
            first += count

    def get(self, index: int) -> Drawing:
        """Decode one drawing."""
        image, labels, rows = self.items[index]
        pixels = cv2.imdecode(image, cv2.IMREAD_COLOR)
        parts = cv2.imdecode(labels, cv2.IMREAD_UNCHANGED)
        return Drawing(np.ascontiguousarray(pixels[..., ::-1]), np.asarray(parts, np.uint8), rows.copy())


def main() -> None:
    """Command line: pool.py WORK."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path)
    folder = parser.parse_args().work / "detector-pool"
    folder.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    recipe = load_recipe()["pool"]
    for shard in range(recipe["shards"]):
        path = folder / f"shard_{shard:03d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng((recipe["seed"], shard))
        drawings = [draw_one(sample_scene(rng, recipe["longest_side"])) for _ in range(recipe["per_shard"])]
        write_shard(path, drawings)
        print(json.dumps({"shard": shard, "drawings": len(drawings)}), flush=True)


if __name__ == "__main__":
    main()
