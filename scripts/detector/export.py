"""Writes the averaged network as ONNX and checks that OpenCV gives the same answer as torch."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import torch

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detector.network import Detector
from detector.pool import ROOT, load_recipe

LIMIT = 2_000_000
TOLERANCE = 2e-3


def to_onnx(model: Detector, path: Path, side: int) -> None:
    """A fixed input (1, 3, side, side); batch normalisation is folded into the convolutions."""
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, side, side),), str(part), input_names=["picture"], output_names=["maps"],
            opset_version=13, dynamo=False,
        )  # fmt: skip
    graph = onnx.load(str(part))
    onnx.checker.check_model(graph)
    part.unlink()
    part.write_bytes(graph.SerializeToString())
    if part.stat().st_size > LIMIT:
        raise SystemExit(f"{part.stat().st_size} bytes are more than {LIMIT}")
    part.replace(path)


def difference(model: Detector, path: Path, side: int) -> float:
    """Largest difference between torch and OpenCV over noise and flat pictures."""
    rng, worst = np.random.default_rng(0), 0.0
    net = cv2.dnn.readNetFromONNX(str(path))
    for scale in (0.0, 0.3, 1.0):
        blob = (rng.random((1, 3, side, side)) * scale + (1 - scale) * 0.5).astype(np.float32)
        net.setInput(blob)
        with torch.no_grad():
            expected = model(torch.from_numpy(blob)).numpy()
        worst = max(worst, float(np.abs(net.forward() - expected).max()))
    return worst


def main() -> None:
    """Command line: export.py WORK [--out FILE]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "atelier-detector" / "detector.onnx")
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe()["network"]
    state = torch.load(args.work / "detector.pt", weights_only=True)
    model = Detector(recipe["widths"]).eval()
    model.load_state_dict(state["average"])
    to_onnx(model, args.out, recipe["input"])
    gap = difference(model, args.out, recipe["input"])
    print(f"step {state['step']}, {args.out.stat().st_size} bytes, OpenCV {cv2.__version__} differs by {gap:.1e}")
    if gap > TOLERANCE:
        raise SystemExit("OpenCV reads this network differently")


if __name__ == "__main__":
    main()
