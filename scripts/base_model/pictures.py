"""Pictures for training, drawn once by all cores and kept as one array on disk."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from artist.caption import caption
from artist.draw import draw
from artist.scene import TARGET_STYLE, random_scene
from artist.styles import texture
from common import recipe


def _vae_picture(seed: int) -> tuple[np.ndarray, list[Any]]:
    """Any style, sometimes two characters, sometimes with texture over it."""
    conf = recipe()["vae"]
    rng = np.random.default_rng((conf["seed"], seed))
    style = TARGET_STYLE if rng.random() < conf["film_share"] else None
    count = 2 if rng.random() < 0.06 else 1
    scene = random_scene(rng, style=style, characters=count)
    image, truths = draw(scene)
    pixels = np.asarray(image)
    if rng.random() < conf["texture_share"]:
        pixels = texture(pixels, rng)
    spots = [[round(v, 1) for v in spot] for t in truths
             for spot in (*t.eyes, *((t.mouth,) if t.mouth else ()))]  # fmt: skip
    face = truths[0].face_box
    return pixels, [spots, list(face) if face else None]


def _unet_picture(seed: int) -> tuple[np.ndarray, list[Any]]:
    """One character in a base style, with several captions to choose from at each visit."""
    rng = np.random.default_rng((recipe()["unet"]["seed"], seed))
    scene = random_scene(rng)
    image, _ = draw(scene)
    return np.asarray(image), [caption(scene, rng) for _ in range(6)]


def make(kind: str, folder: Path, workers: int) -> None:
    """Draw the pictures of one kind (`vae` or `unet`) into `folder`."""
    count = int(recipe()[kind]["pictures"])
    job = {"vae": _vae_picture, "unet": _unet_picture}[kind]
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((count, 128, 128, 3), np.uint8)
    notes: list[Any] = []
    with multiprocessing.Pool(workers) as pool:
        for index, (image, note) in enumerate(pool.imap(job, range(count), chunksize=64)):
            pixels[index] = image
            notes.append(note)
    np.save(folder / f"{kind}.npy", pixels)
    (folder / f"{kind}.json").write_text(json.dumps(notes), encoding="utf-8")


def main() -> None:
    """Command line: pictures.py vae|unet FOLDER."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=("vae", "unet"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    make(args.kind, args.folder, args.workers)


if __name__ == "__main__":
    main()
