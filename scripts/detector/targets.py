"""What the network should answer for a training picture, and batches of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector import network as net
from detector import pool
from detector.augment import Sample

Floats = NDArray[np.float32]


def encode(row: Floats, cell: tuple[int, int], stride: int) -> tuple[Floats, Floats]:
    """Values and mask (CHANNELS,) for a head seen from the given cell (x, y)."""
    value, mask = np.zeros(net.CHANNELS, np.float32), np.zeros(net.CHANNELS, np.float32)
    x0, y0, x1, y1 = row[pool.HEAD]
    w, h, cx, cy = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
    value[net.OFFSET] = cx / stride - cell[0] - 0.5, cy / stride - cell[1] - 0.5
    value[net.SIZE] = np.log(w / stride), np.log(h / stride)
    mask[1:5] = 1
    if not np.isnan(row[4]):
        a, b, c, d = row[pool.FACE]
        value[net.FACE] = ((a + c) / 2 - cx) / w, ((b + d) / 2 - cy) / h, (c - a) / w, (d - b) / h
        mask[net.FACE] = 1
    a, b, c, d = row[pool.BODY]
    sides = np.array([(cx - a) / w, (cy - b) / h, (c - cx) / w, (d - cy) / h])
    value[net.BODY] = np.log(np.clip(sides, 0, 12) + 0.2)
    mask[net.BODY] = 1
    for k, answer in ((0, pool.EYES), (2, pool.EYES), (4, pool.MOUTH)):
        if row[answer] == 1:
            at = net.POINTS.start + k
            value[at : at + 2] = (row[12 + k] - cx) / w, (row[13 + k] - cy) / h
            mask[at : at + 2] = 1
    for answer, at in ((pool.HAS_FACE, net.HAS_FACE), (pool.EYES, net.EYES), (pool.MOUTH, net.MOUTH)):
        value[at], mask[at] = max(row[answer], 0), float(row[answer] >= 0)
    if row[pool.VIEW] >= 0:
        value[net.VIEW.start + int(row[pool.VIEW])] = 1
        mask[net.VIEW] = 1
    return value, mask


def _splat(heat: Floats, cx: float, cy: float, w: float, h: float) -> None:
    """A Gaussian hill around the centre (in cells), as wide as the head."""
    side = heat.shape[0]
    ys, xs = np.mgrid[:side, :side] + 0.5
    sx, sy = max(w / 6, 0.55), max(h / 6, 0.55)
    np.maximum(heat, np.exp(-(((xs - cx) / sx) ** 2 + ((ys - cy) / sy) ** 2) / 2), out=heat)


def maps(sample: Sample, stride: int) -> dict[str, Any]:
    """Heat, weight (s, s) and the cells that answer, with values and masks."""
    side = sample.pixels.shape[0] // stride
    heat, weight = np.zeros((side, side), np.float32), np.ones((side, side), np.float32)
    for x0, y0, x1, y1 in sample.ignore / stride:
        weight[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
    where: list[tuple[int, int]] = []
    encoded: list[tuple[Floats, Floats]] = []
    order = np.argsort(-(sample.rows[:, 2] - sample.rows[:, 0]) * (sample.rows[:, 3] - sample.rows[:, 1]))
    for row in sample.rows[order]:
        x0, y0, x1, y1 = row[pool.HEAD] / stride
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        cell = (min(int(cx), side - 1), min(int(cy), side - 1))
        _splat(heat, cx, cy, x1 - x0, y1 - y0)
        heat[cell[1], cell[0]], weight[cell[1], cell[0]] = 1, 1
        cells = [cell]
        if min(x1 - x0, y1 - y0) > 4:  # large heads are also described from the cells beside the centre
            cells += [(cell[0] + 1, cell[1]), (cell[0] - 1, cell[1]), (cell[0], cell[1] + 1), (cell[0], cell[1] - 1)]
        for x, y in cells:
            if 0 <= x < side and 0 <= y < side:
                where.append((y, x))
                encoded.append(encode(row, (x, y), stride))
    return {"heat": heat, "weight": weight, "where": where, "encoded": encoded}


def collate(samples: list[Sample], stride: int = net.STRIDE) -> dict[str, torch.Tensor]:
    """A batch: pictures uint8 (n, s, s, 3), heat, weight, where (k, 3), value and mask (k, CHANNELS)."""
    parts = [maps(sample, stride) for sample in samples]
    where = [(index, y, x) for index, part in enumerate(parts) for y, x in part["where"]]
    encoded = [pair for part in parts for pair in part["encoded"]]
    empty = np.zeros((0, net.CHANNELS), np.float32)
    return {
        "pictures": torch.from_numpy(np.stack([sample.pixels for sample in samples])),
        "heat": torch.from_numpy(np.stack([part["heat"] for part in parts])),
        "weight": torch.from_numpy(np.stack([part["weight"] for part in parts])),
        "where": torch.tensor(where, dtype=torch.long).reshape(-1, 3),
        "value": torch.from_numpy(np.stack([v for v, _ in encoded]) if encoded else empty),
        "mask": torch.from_numpy(np.stack([m for _, m in encoded]) if encoded else empty),
    }
