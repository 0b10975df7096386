"""Measures the shipped detector: on fresh drawings, on the sample film, and on labelled real pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artist.scene import STYLES
from lora_atelier.core.faces import Box, Subject
from lora_atelier.core.images import PictureError, open_array
from lora_atelier.curation.detectors.atelier import VIEWS, AtelierFinder

from detector import pool

SEED = 777_001  # no training picture comes from this seed
Find = Callable[[NDArray[np.uint8]], tuple[Subject, ...]]


def overlap(a: Any, b: Any) -> float:
    """Intersection over union."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, w) * max(0.0, h)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(common / max(area - common, 1e-9))


def match(found: tuple[Subject, ...], heads: list[Any]) -> list[Subject | None]:
    """For every true head the found one that overlaps it by at least half; each is used once."""
    free = [subject for subject in found if subject.head]
    out: list[Subject | None] = []
    for head in heads:
        best = max(free, key=lambda s: overlap(s.head, head), default=None)
        if best is None or overlap(best.head, head) < 0.5:
            out.append(None)
            continue
        free.remove(best)
        out.append(best)
    return out


class Tally:
    """Counts of right and wrong answers, by name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.views: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, right: bool) -> None:
        """One answer."""
        self.counts[name] += 1
        self.counts[name + "+"] += right

    def picture(self, found: tuple[Subject, ...], rows: NDArray[np.float32]) -> None:
        """One picture with the rows of its characters."""
        pairs = match(found, [row[pool.HEAD] for row in rows])
        hits = sum(subject is not None for subject in pairs)
        self.counts["found"] += len(found)
        self.counts["found+"] += hits
        self.add("count of characters", len(found) == len(rows))
        if not len(rows):
            self.add("empty picture stays empty", not found)
        for subject, row in zip(pairs, rows, strict=True):
            self.add("head found", subject is not None)
            if subject is not None:
                self._answers(subject, row)

    def _answers(self, subject: Subject, row: NDArray[np.float32]) -> None:
        if row[pool.VIEW] >= 0:
            truth, said = VIEWS[int(row[pool.VIEW])], subject.view or "silhouette"
            self.views[(truth, said)] += 1
            self.add("view", said == truth)
            self.add(f"view of {truth}", said == truth)
        for name, column, value in (
            ("eyes", pool.EYES, subject.eyes_visible),
            ("mouth", pool.MOUTH, subject.mouth_visible),
        ):
            if row[column] >= 0 and value is not None:
                self.add(f"{name} {'visible' if row[column] else 'not visible'}", (value >= 0.5) == bool(row[column]))
        if row[pool.HAS_FACE] >= 0:
            self.add("face seen or not", (subject.face is not None) == bool(row[pool.HAS_FACE]))
            if row[pool.HAS_FACE] == 1 and subject.face is not None:
                self.add("face box overlaps by half", overlap(subject.face, row[pool.FACE]) >= 0.5)
        if subject.body is not None:
            self.add("body box overlaps by half", overlap(subject.body, row[pool.BODY]) >= 0.5)

    def summary(self) -> dict[str, str]:
        """Shares with their counts."""
        names = [name for name in self.counts if not name.endswith("+")]
        out = {}
        for name in names:
            total, right = self.counts[name], self.counts[name + "+"]
            label = "precision of heads" if name == "found" else name
            out[label] = f"{right / max(total, 1):.3f} ({right}/{total})"
        return out


def fresh(find: Find, per_style: int) -> dict[str, Tally]:
    """Every style on drawings that training has never seen; the same mix of views, faults and sizes."""
    out: dict[str, Tally] = {}
    for number, style in enumerate(STYLES):
        rng = np.random.default_rng((SEED, number))
        tally = out[style] = Tally()
        for _ in range(per_style):
            drawing = pool.draw_one(pool.sample_scene(rng, 320, style))
            tally.picture(find(drawing.pixels), drawing.rows)
    return out


def thresholds(path: Path | None, per_style: int) -> dict[float, str]:
    """Precision and recall of heads and right counts over scores, on drawings used for nothing else."""
    finder = AtelierFinder(**({"path": path} if path else {}), score=0.2)
    answers: list[tuple[tuple[Subject, ...], NDArray[np.float32]]] = []
    rng = np.random.default_rng(SEED - 1)
    for number in range(per_style * len(STYLES)):
        drawing = pool.draw_one(pool.sample_scene(rng, 320, STYLES[number % len(STYLES)]))
        answers.append((finder.find(drawing.pixels), drawing.rows))
    out = {}
    for score in np.arange(0.3, 0.75, 0.05):
        tally = Tally()
        for found, rows in answers:
            tally.picture(tuple(s for s in found if s.score >= score), rows)
        names = ("precision of heads", "head found", "count of characters", "empty picture stays empty")
        out[round(float(score), 2)] = ", ".join(f"{name} {tally.summary()[name]}" for name in names)
    return out


def _truth_row(truth: dict[str, Any]) -> NDArray[np.float32]:
    row = np.full(pool.COLUMNS, np.nan, np.float32)
    row[pool.HEAD], row[pool.BODY] = truth["head_box"], truth["subject_box"]
    view = "profile" if truth["view"].startswith("profile") else truth["view"]
    row[pool.VIEW] = VIEWS.index("silhouette" if truth["silhouette"] else view)
    row[pool.HAS_FACE] = float(truth["face_box"] is not None and not truth["silhouette"])
    row[pool.FACE] = truth["face_box"] or np.nan
    row[pool.EYES], row[pool.MOUTH] = float(truth["eyes_visible"]), float(truth["mouth_visible"])
    return row


def film(find: Find, samples: Path) -> Tally:
    """The sample film with the artist's truth."""
    tally = Tally()
    for line in (samples / "film-truth.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        picture = np.asarray(Image.open(samples / "film" / row["file"]).convert("RGB"))
        tally.picture(find(picture), np.array([_truth_row(t) for t in row["truth"]]).reshape(-1, pool.COLUMNS))
    return tally


def _real_class(row: dict[str, Any]) -> str:
    if row["characters"] == 0:
        return "no character"
    if row["characters"] > 1:
        return "several"
    return {"clear": "single, clear", "lost": "single, detail lost"}.get(row["face_detail"], "single, back or no face")


def real(find: Find, folder: Path) -> dict[str, dict[str, int]]:
    """Labelled pictures (labels.jsonl: file, domain, characters, face_detail, face_box 0-1): counts by class.

    `hit`: something was found whose face (else head) holds the centre of the labelled face. `one`: exactly one
    face in sight was found. `none`: nothing was found.
    """
    out: dict[str, Counter[str]] = {}
    for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        try:
            picture = open_array(folder / row["file"], 640)
        except PictureError as error:
            print(f"skipped {row['file']}: {error}")
            continue
        counts = out.setdefault(f"{row['domain']}: {_real_class(row)}", Counter())
        found = find(picture)
        h, w = picture.shape[:2]
        counts["pictures"] += 1
        counts["none"] += not found
        counts["one"] += sum(s.face is not None for s in found) == 1
        counts["clear one"] += sum(s.face is not None for s in found) == 1 and _clear(found)
        if row.get("face_box"):
            x0, y0, x1, y1 = row["face_box"]
            counts["hit"] += any(_holds(s.face or s.head, (x0 + x1) / 2 * w, (y0 + y1) / 2 * h) for s in found)
    return {name: dict(counts) for name, counts in sorted(out.items())}


def _clear(found: tuple[Subject, ...]) -> bool:
    seen = next(s for s in found if s.face is not None)
    return (seen.eyes_visible is None or seen.eyes_visible >= 0.5) and (
        seen.mouth_visible is None or seen.mouth_visible >= 0.5
    )


def _holds(box: Box | None, x: float, y: float) -> bool:
    return box is not None and box[0] <= x <= box[2] and box[1] <= y <= box[3]


def speed(find: Find, size: tuple[int, int] = (360, 640), rounds: int = 30) -> float:
    """Milliseconds of one core for a picture, everything included."""
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    find(picture)
    start = time.thread_time()
    for _ in range(rounds):
        find(picture)
    return (time.thread_time() - start) / rounds * 1000


def _show(title: str, values: Iterable[tuple[str, Any]]) -> None:
    print(f"\n{title}")
    for name, value in values:
        print(f"  {name:34} {value}")


def main() -> None:
    """Command line: evaluate.py [--onnx FILE] [--score S] [--thresholds] [--real FOLDER [--yunet FILE]]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--onnx", type=Path)
    parser.add_argument("--score", type=float)
    parser.add_argument("--per-style", type=int, default=150)
    parser.add_argument("--thresholds", action="store_true", help="only print what each score would give")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--yunet", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.thresholds:
        _show("score of heads", ((str(k), v) for k, v in thresholds(args.onnx, args.per_style).items()))
        return
    options = {"path": args.onnx, "score": args.score}
    finder = AtelierFinder(**{name: value for name, value in options.items() if value is not None})
    print(f"{finder.version}: {speed(finder.find):.1f} ms a picture of 640 x 360 on one core")
    confusion: Counter[tuple[str, str]] = Counter()
    for style, tally in fresh(finder.find, args.per_style).items():
        _show(f"fresh drawings, {style}", tally.summary().items())
        confusion += tally.views
    _show("view, truth -> answer", ((f"{a} -> {b}", n) for (a, b), n in sorted(confusion.items())))
    samples = pool.ROOT / "assets" / "samples"
    if (samples / "film-truth.jsonl").exists():
        _show("sample film", film(finder.find, samples).summary().items())
    if args.real:
        _show("real pictures, atelier", real(finder.find, args.real).items())
        if args.yunet:
            from lora_atelier.curation.detectors.yunet import YuNetFinder

            _show("real pictures, YuNet", real(YuNetFinder(args.yunet, 0.4).find, args.real).items())


if __name__ == "__main__":
    main()
