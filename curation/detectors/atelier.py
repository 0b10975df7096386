"""The pack's own small network: heads of drawn characters with face, body, view and whether eyes and mouth show."""

from __future__ import annotations

import hashlib
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import BadInput
from ...core.faces import Box, Subject

if TYPE_CHECKING:
    import numpy as np

NETWORK = Path(__file__).resolve().parents[2] / "assets" / "atelier-detector" / "detector.onnx"
SCORE = 0.5
VIEWS = ("front", "three_quarter", "profile", "back", "silhouette")
_DECODE = 1  # raise when the same network would be read differently
_INPUT = 192
_STRIDE = 8
_PAD = 114.0
_TOP = 40
_SAME = 0.45
# Channels of the network's answer; scripts/detector/network.py says what they mean.
_CHANNELS = 27
_HAS_FACE, _VIEW, _EYES, _MOUTH = 19, slice(20, 25), 25, 26


@dataclass(frozen=True)
class _Fit:
    """How a picture was fitted into the square: point in the square = point in the picture x scale + (left, top)."""

    scale: float
    left: float
    top: float
    width: int
    height: int

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the square in pixels of the picture."""
        return (x - self.left) / self.scale, (y - self.top) / self.scale

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box | None:
        """A box of the square in pixels of the picture, cut at its edges; None when nothing is left."""
        ax, ay = self.point(x0, y0)
        bx, by = self.point(x1, y1)
        ax, bx = max(0.0, ax), min(float(self.width), bx)
        ay, by = max(0.0, ay), min(float(self.height), by)
        return (ax, ay, bx, by) if bx - ax >= 1 and by - ay >= 1 else None


class AtelierFinder:
    """Finds drawn characters, also from behind and as silhouettes; safe to use from several threads.

    `view` is None for a silhouette: its outline does not say which way it looks. `face` is None from behind and for
    silhouettes. `landmarks` are (eye, eye, mouth), left eye of the picture first, only when eyes and mouth show.
    """

    name = "atelier"

    def __init__(self, path: Path = NETWORK, score: float = SCORE) -> None:
        try:
            self._model = path.read_bytes()
        except OSError as error:
            raise BadInput(f"The detector file {path.name!r} cannot be read.", "Reinstall the pack.") from error
        self._score = score
        self._local = threading.local()  # OpenCV's networks are not safe to share between threads
        self.version = f"{hashlib.sha256(self._model).hexdigest()[:12]}-{_DECODE}-{score:g}"
        self._net()

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_score": self._score, "version": self.version}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def find(self, picture: np.ndarray) -> tuple[Subject, ...]:
        """All characters in an RGB uint8 picture (h, w, 3), largest head first."""
        blob, fit = letterbox(picture)
        net = self._net()
        net.setInput(blob)
        return decode(net.forward()[0], fit, self._score)

    def _net(self) -> Any:
        import cv2
        import numpy as np

        if not hasattr(self._local, "net"):
            before = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
            try:
                self._local.net = cv2.dnn.readNetFromONNX(np.frombuffer(self._model, np.uint8))
            except cv2.error as error:
                raise BadInput("OpenCV cannot load the pack's own detector.", "Reinstall the pack.") from error
            finally:
                cv2.utils.logging.setLogLevel(before)
        return self._local.net


AtelierDetector = AtelierFinder


def letterbox(picture: np.ndarray, side: int = _INPUT) -> tuple[np.ndarray, _Fit]:
    """The picture inside a grey square as float32 (1, 3, side, side) of 0-1, and how it was fitted."""
    import cv2
    import numpy as np

    height, width = picture.shape[:2]
    scale = side / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (side - w) // 2, (side - h) // 2
    small = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.full((side, side, 3), _PAD, np.float32)
    canvas[top : top + h, left : left + w] = small
    blob = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None] / np.float32(255))
    return blob, _Fit(scale, left, top, width, height)


def decode(maps: np.ndarray, fit: _Fit, score: float = SCORE) -> tuple[Subject, ...]:
    """Subjects from the network's answer (27, s / 8, s / 8): peaks of the heat, then the values under each peak."""
    import numpy as np

    heat = _sigmoid(maps[0])
    peaks = heat >= np.maximum(_highest_near(heat), score)
    ys, xs = np.nonzero(peaks)
    order = np.argsort(-heat[ys, xs], kind="stable")[:_TOP]
    found: list[Subject] = []
    for y, x in zip(ys[order], xs[order], strict=True):
        subject = _subject(maps[:, y, x].astype(np.float64), int(x), int(y), float(heat[y, x]), fit)
        if subject is not None and not any(_overlap(subject.head, other.head) > _SAME for other in found):
            found.append(subject)
    return tuple(sorted(found, key=_head_height, reverse=True))


def _highest_near(heat: np.ndarray) -> np.ndarray:
    """The highest value among each cell's eight neighbours and itself."""
    import numpy as np

    h, w = heat.shape
    grown = np.pad(heat, 1)
    return np.max([grown[dy : dy + h, dx : dx + w] for dy in range(3) for dx in range(3)], axis=0)


def _subject(values: np.ndarray, x: int, y: int, score: float, fit: _Fit) -> Subject | None:
    cx, cy = ((x, y) + values[1:3] + 0.5) * _STRIDE
    w, h = (float(v) for v in _exp(values[3:5]) * _STRIDE)
    head = fit.box(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    if head is None:
        return None
    left, up, right, down = (max(0.0, float(v)) for v in _exp(values[9:13]) - 0.2)
    body = fit.box(cx - left * w, cy - up * h, cx + right * w, cy + down * h)
    view, seen = _view(values)
    eyes, mouth = float(_sigmoid(values[_EYES])), float(_sigmoid(values[_MOUTH]))
    face = None
    if seen:
        fx, fy, fw, fh = cx + values[5] * w, cy + values[6] * h, values[7] * w, values[8] * h
        face = fit.box(fx - fw / 2, fy - fh / 2, fx + fw / 2, fy + fh / 2)
    points: tuple[tuple[float, float], ...] = ()
    if face is not None and eyes >= 0.5 and mouth >= 0.5:
        points = tuple(fit.point(cx + values[k] * w, cy + values[k + 1] * h) for k in (13, 15, 17))
    return Subject(score, face, head, body, points, view, eyes, mouth)


def _view(values: np.ndarray) -> tuple[str | None, bool]:
    """The view (None for a silhouette) and whether a face is in sight; the two answers never contradict."""
    logits = values[_VIEW]
    best = VIEWS[int(logits.argmax())]
    seen = bool(values[_HAS_FACE] >= 0)
    if seen and best in ("back", "silhouette"):
        return VIEWS[int(logits[:3].argmax())], True
    if not seen and best not in ("back", "silhouette"):
        return ("back" if logits[3] > logits[4] else None), False
    return (None if best == "silhouette" else best), seen


def _exp(values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.exp(np.clip(values, -5.0, 5.0))


def _sigmoid(values: Any) -> Any:
    import numpy as np

    return 1.0 / (1.0 + np.exp(-np.clip(values, -30.0, 30.0)))


def _overlap(a: Box | None, b: Box | None) -> float:
    if a is None or b is None:
        return 0.0
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = math.prod((a[2] - a[0], a[3] - a[1])) + math.prod((b[2] - b[0], b[3] - b[1])) - common
    return common / union


def _head_height(subject: Subject) -> float:
    return subject.head[3] - subject.head[1] if subject.head else 0.0
