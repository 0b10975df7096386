"""Latents and text embeddings, computed once and kept in memory or in files named by what they were made from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ....core.errors import BadInput
from ....core.files import sha256_file
from ....core.images import PictureError, open_rgb
from ....core.tensorfile import load, save
from ....core.types import DatasetItem
from .order import Size

_FORMAT = "1"  # part of every key: a change of how things are computed makes old files useless, not wrong
Tensors = dict[str, torch.Tensor]


class Store:
    """Named groups of tensors in memory, and below `folder` as well when one is given."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._memory: dict[str, Tensors] = {}

    def get(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """The tensors under `key`, made by `make` when they are not there."""
        if key in self._memory:
            return self._memory[key]
        path = self._folder / key[:2] / f"{key}.safetensors" if self._folder else None
        if path is not None and path.exists():
            return {name: torch.from_numpy(array) for name, array in load(path).items()}
        made = {name: tensor.detach().float().cpu().contiguous() for name, tensor in make().items()}
        if path is None:
            self._memory[key] = made
        else:
            save(path, {name: tensor.numpy() for name, tensor in made.items()}, {})
        return made


def key_of(*parts: str) -> str:
    """A file-name-safe key over everything a cached value depends on."""
    return hashlib.sha256("\0".join((_FORMAT, *parts)).encode()).hexdigest()


def check_pictures(items: Sequence[DatasetItem]) -> None:
    """BadInput naming every picture that is gone or no longer the one that was curated."""
    wrong = []
    for item in items:
        path = Path(item.path)
        if not path.is_file():
            wrong.append(f"{path.name} is gone")
        elif sha256_file(path) != item.sha256:
            wrong.append(f"{path.name} was changed")
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise BadInput(
            f"The pictures are not the ones that were prepared: {'; '.join(wrong[:5])}{more}.",
            "Prepare the dataset again.",
        )


def fit(item: DatasetItem, size: Size) -> tuple[Image.Image, tuple[int, int]]:
    """The picture scaled to cover `size` and cropped in the middle, and (top, left) of the crop after scaling."""
    try:
        image = open_rgb(Path(item.path))
    except PictureError as error:
        raise BadInput(f"{Path(item.path).name} cannot be used: {error.message}") from error
    scale = max(size.width / image.width, size.height / image.height)
    scaled = (max(size.width, round(image.width * scale)), max(size.height, round(image.height * scale)))
    left, top = (scaled[0] - size.width) // 2, (scaled[1] - size.height) // 2
    image = image.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image.crop((left, top, left + size.width, top + size.height)), (top, left)


def encode_picture(vae: Any, item: DatasetItem, size: Size, flip: bool) -> Tensors:
    """`latents` (4, h/8, w/8), scaled as the U-Net wants them, and `crop` (top, left).

    The mean of the posterior, not a sample of it: its spread is far below the smallest noise of training, and so the
    latents depend on the picture alone. One picture at a time, because results must not depend on the neighbours.
    """
    image, crop = fit(item, size)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    latents = (latents[0].float() - shift) * vae.config.scaling_factor
    return {"latents": latents, "crop": torch.tensor(crop, dtype=torch.float32)}


def encode_captions(pipe: Any, captions: Sequence[str], device: str) -> Tensors:
    """`text` (n, tokens, width) and, for SDXL, `pooled` (n, width), by the pipeline's own encoder."""
    result = pipe.encode_prompt(
        prompt=list(captions), device=torch.device(device), num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    found = {"text": result[0]}
    return found | {"pooled": result[2]} if len(result) == 4 else found


def encode_caption(pipe: Any, caption: str, device: str) -> Tensors:
    """The same for one caption, without the first dimension and without gradients."""
    with torch.no_grad():
        return {name: tensor[0] for name, tensor in encode_captions(pipe, [caption], device).items()}
