"""YuNet through OpenCV's FaceDetectorYN. The file is the user's own: it is never bundled and never fetched here."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import BadInput
from ...core.faces import Subject

if TYPE_CHECKING:
    import numpy as np

SCORE = 0.4  # YuNet's customary 0.8-0.9 loses nearly half of all drawn faces
_NMS = 0.3
_TOP_K = 200
_LEAST = 48  # pixels: below this there is nothing to look at
_DECODE = 2  # raise when the same file would be read differently
_DEPTH = 3


def locate(folders: Iterable[Path]) -> Path | None:
    """The YuNet file in `folders` (searched three levels deep), the `n` variant before others."""
    for folder in folders:
        found = [path for path in _onnx_files(folder, _DEPTH) if "yunet" in path.name.lower()]
        if found:
            return min(found, key=lambda path: ("dynamic" in path.name, "yunet_n" not in path.name, path.name))
    return None


def _onnx_files(folder: Path, depth: int) -> Iterable[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    yield from (path for path in entries if path.suffix.lower() == ".onnx" and path.is_file())
    if depth > 1:
        for path in entries:
            if path.is_dir():
                yield from _onnx_files(path, depth - 1)


class YuNetFinder:
    """Faces with five landmarks; knows nothing about backs, bodies or covered eyes (those fields stay None)."""

    name = "yunet"

    def __init__(self, path: Path, score: float = SCORE) -> None:
        self._model = path.read_bytes()
        self._score = score
        self._local = threading.local()  # OpenCV's networks are not safe to share between threads
        self.version = f"{hashlib.sha256(self._model).hexdigest()[:12]}-{_DECODE}-{score:g}"
        self._net(path.name)

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_score": self._score, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def find(self, picture: np.ndarray) -> tuple[Subject, ...]:
        """All faces, largest first; where there are none, a second look at half size.

        Drawn faces and extreme close-ups lack the fine detail that the network knows from photographs; at half size
        that matters less (10 of 25 missed drawn faces found on our development pictures, for 3 wrong ones).
        """
        return self._detect(picture) or self._detect_small(picture)

    def _detect_small(self, picture: np.ndarray) -> tuple[Subject, ...]:
        import cv2

        if min(picture.shape[:2]) < 2 * _LEAST:
            return ()
        half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        return tuple(_grown(subject, 2.0) for subject in self._detect(half))

    def _detect(self, picture: np.ndarray) -> tuple[Subject, ...]:
        import cv2

        height, width = picture.shape[:2]
        net = self._net("YuNet")
        net.setInputSize((width, height))
        _, rows = net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        subjects = (_subject(row, width, height) for row in (rows if rows is not None else ()))
        return tuple(sorted((s for s in subjects if _tall(s) >= 1), key=_tall, reverse=True))

    def _net(self, label: str) -> Any:
        import cv2
        import numpy as np

        if not hasattr(self._local, "net"):
            before = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # 5.x warns about targets
            try:
                buffer = np.frombuffer(self._model, np.uint8)
                self._local.net = cv2.FaceDetectorYN.create(
                    "onnx", buffer, np.empty(0, np.uint8), (320, 320), self._score, _NMS, _TOP_K
                )
            except cv2.error as error:
                hint = "Use yunet_n_640_640.onnx or face_detection_yunet_2023mar.onnx."
                raise BadInput(f"OpenCV cannot load {label} as a YuNet file.", hint) from error
            finally:
                cv2.utils.logging.setLogLevel(before)
        return self._local.net


def _subject(row: np.ndarray, width: int, height: int) -> Subject:
    x, y, w, h = (float(value) for value in row[:4])
    face = (max(0.0, x), max(0.0, y), min(float(width), x + w), min(float(height), y + h))
    points = tuple((float(row[i]), float(row[i + 1])) for i in range(4, 14, 2))
    return Subject(float(row[14]), face, landmarks=points, view=view_of(points))


def view_of(points: tuple[tuple[float, float], ...]) -> str | None:
    """front, three_quarter or profile from (eye, eye, nose, mouth corner, mouth corner) in pixels.

    The nose leaves the middle between the eyes as the head turns; in profile it passes the outer eye.
    """
    (ax, ay), (bx, by), (nx, ny) = points[:3]
    length = ((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5
    if length < 1:
        return "profile"
    along = ((nx - (ax + bx) / 2) * (bx - ax) + (ny - (ay + by) / 2) * (by - ay)) / length**2
    return "front" if abs(along) < 0.22 else "three_quarter" if abs(along) < 0.62 else "profile"


def _grown(subject: Subject, factor: float) -> Subject:
    """The same face in a picture that is `factor` times as large."""
    x0, y0, x1, y1 = (factor * value for value in subject.face or (0.0, 0.0, 0.0, 0.0))
    points = tuple((factor * x, factor * y) for x, y in subject.landmarks)
    return Subject(subject.score, (x0, y0, x1, y1), landmarks=points, view=subject.view)


def _tall(subject: Subject) -> float:
    return subject.face[3] - subject.face[1] if subject.face else 0.0
