"""Train the autoencoder from scratch on every style, texture and fine noise.

It must carry the target style as well, although the U-Net never sees that style: a LoRA can
only draw what the decoder can show. Resumable: run the same command again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import Clock, Ema, cosine, log, recipe, save_atomic, save_sheet, to_pixels, to_tensor


def build_vae(conf: dict[str, Any]) -> AutoencoderKL:
    """Stable Diffusion's f8 autoencoder with small widths.

    Four channels a group as in Stable Diffusion: with 32 groups on 32 channels the last norm before
    the output would erase each channel's mean, and with it the picture's colours.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(conf["block_out_channels"]),
        layers_per_block=conf["layers_per_block"],
        latent_channels=4, norm_num_groups=8, sample_size=128,
    )  # fmt: skip
    open_paths(vae)
    return vae


@torch.no_grad()
def open_paths(vae: AutoencoderKL) -> None:
    """Start as a plain shrink-and-enlarge of random features, with little noise between.

    Residual branches begin at zero and resampling passes channels on, so mean colours get through
    from the first step. From the default start, brightness drowns them for thousands of steps.
    """
    vae.quant_conv.weight[4:].zero_()
    vae.quant_conv.bias[4:].fill_(-5.0)
    for name, module in vae.named_modules():
        if isinstance(module, ResnetBlock2D):
            module.conv2.weight.zero_()
            module.conv2.bias.zero_()
            if module.conv_shortcut is not None:
                torch.nn.init.dirac_(module.conv_shortcut.weight)
        elif isinstance(module, Attention):
            module.to_out[0].weight.zero_()
            module.to_out[0].bias.zero_()
        elif name.endswith("upsamplers.0.conv"):
            torch.nn.init.dirac_(module.weight)
        elif name.endswith("downsamplers.0.conv"):
            eye = torch.eye(module.weight.shape[0]) / 4
            module.weight.zero_()
            module.weight[:, :, :2, :2] = eye[:, :, None, None]


def weight_map(spots: list[list[float]], extra: float, size: int) -> np.ndarray:
    """1 everywhere, more around eyes and mouths: small areas that decide what a face says."""
    grid = np.ones((size, size), np.float32)
    reach = size // 14
    for x, y in spots:
        x0, y0 = int(x) - reach, int(y) - reach
        grid[max(0, y0) : max(0, y0 + 2 * reach), max(0, x0) : max(0, x0 + 2 * reach)] = extra
    return grid


class Feed:
    """Random crops near the faces, or whole pictures."""

    def __init__(self, folder: Path, conf: dict[str, Any]) -> None:
        self.pixels = np.load(folder / "vae.npy", mmap_mode="r")
        self.notes = json.loads((folder / "vae.json").read_text(encoding="utf-8"))
        self.conf = conf

    def batch(self, step: int, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of a step; the same for every run of the recipe."""
        rng = np.random.default_rng((self.conf["seed"], 1, step))
        crop = 128 if whole else int(self.conf["crop"])
        count = max(1, int(self.conf["batch"] * (self.conf["crop"] / crop) ** 2))
        images, weights = [], []
        for index in rng.integers(len(self.notes) - 64, size=count):
            spots, face = self.notes[int(index)]
            grid = weight_map(spots, self.conf["eyes_mouth"], 128)
            centre = (64.0, 64.0)
            if face is not None and rng.random() < 0.7:
                centre = ((face[0] + face[2]) / 2, (face[1] + face[3]) / 2)
            x, y = (int(np.clip(c - crop / 2 + rng.uniform(-24, 24), 0, 128 - crop))
                    for c in centre)  # fmt: skip
            window = (slice(y, y + crop), slice(x, x + crop))
            image, grid = self.pixels[int(index)][window], grid[window]
            if rng.random() < 0.5:
                image, grid = image[:, ::-1], grid[:, ::-1]
            images.append(image)
            weights.append(grid)
        stacked = torch.from_numpy(np.stack(weights))[:, None]
        return to_tensor(np.stack(images)), stacked

    def held_out(self) -> torch.Tensor:
        """The last 64 pictures are never trained on."""
        return to_tensor(np.asarray(self.pixels[-64:]))


def _slopes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]


def edge_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """L1 of the slopes at three scales: keeps lines sharp without any pretrained network."""
    total = a.new_zeros(())
    for level in range(3):
        for x, y in zip(_slopes(a), _slopes(b), strict=True):
            total = total + (x - y).abs().mean()
        if level < 2:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def texture_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Compare how much fine detail there is around a point, not where exactly it lies.

    L1 alone makes paper and grain vanish, since the latent cannot hold the place of each speck.
    """
    total = a.new_zeros(())
    for x, y in zip(_slopes(a.mean(1, keepdim=True)), _slopes(b.mean(1, keepdim=True)),
                    strict=True):  # fmt: skip
        total = total + (F.avg_pool2d(x.abs(), 8, 4) - F.avg_pool2d(y.abs(), 8, 4)).abs().mean()
    return total


def color_guide(mean: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Pull three latent channels towards the mean brightness and the two colour differences.

    Left alone, all four channels learn brightness first and colour takes thousands of steps.
    """
    r, g, b = F.avg_pool2d(images, 8).unbind(1)
    light = 0.3 * r + 0.6 * g + 0.1 * b
    target = torch.stack([2.0 * light, 3.0 * (r - light), 3.0 * (b - light)], dim=1)
    return (mean[:, :3] - target).square().mean()


def losses(
    vae: AutoencoderKL, images: torch.Tensor, weights: torch.Tensor, conf: dict[str, Any],
    progress: float,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """All parts of the loss of one batch; the colour guide fades over the first third."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(images).latent_dist
        decoded = vae.decode(posterior.sample()).sample
    decoded = decoded.float()
    # Slopes alone teach shapes long before colours; the mean colour of each latent cell does not.
    l1 = ((decoded - images).abs() * weights).sum() / (weights.sum() * 3)
    edge, fine = edge_loss(decoded, images), texture_loss(decoded, images)
    kl = posterior.kl().float().mean()
    color = (F.avg_pool2d(decoded, 8) - F.avg_pool2d(images, 8)).abs().mean()
    total = l1 + conf["edge"] * edge + conf["texture"] * fine + conf["kl"] * kl
    guide = color_guide(posterior.mean.float(), images)
    fade = max(conf["guide_end"], conf["guide"] * (1.0 - 3.0 * progress))
    total = total + conf["color"] * color + fade * guide
    return {"loss": total, "l1": l1, "edge": edge, "fine": fine, "color": color,
            "guide": guide, "kl": kl}  # fmt: skip


@torch.no_grad()
def picture_sheet(vae: AutoencoderKL, images: torch.Tensor, path: Path) -> float:
    """Originals above reconstructions; returns the mean absolute error in 0-255 steps."""
    with torch.autocast("cpu", torch.bfloat16):
        out = vae.decode(vae.encode(images[:16]).latent_dist.mode()).sample
    a, b = to_pixels(images[:16]), to_pixels(out)
    save_sheet([a[:8], b[:8], a[8:], b[8:]], path)
    return float(np.abs(a.astype(np.float32) - b).mean())


@torch.no_grad()
def latent_scale(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """1 / standard deviation of the latents, Stable Diffusion's scaling factor."""
    latents = [vae.encode(part).latent_dist.sample() for part in images.split(16)]
    return 1.0 / float(torch.cat(latents).std())


def train(folder: Path) -> None:
    """Run or resume the training; writes `vae.pt` (state) and `vae/` (the averaged weights)."""
    conf = recipe()["vae"]
    torch.manual_seed(conf["seed"])
    vae = build_vae(conf)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=conf["lr"], betas=(0.9, 0.98),
                                  weight_decay=1e-4)  # fmt: skip
    ema, clock, step = Ema({"vae": vae}, conf["ema"]), Clock(conf["steps"], conf["minutes"]), 0
    state_file = folder / "vae.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, step, clock.before = state["ema"], state["step"], state["seconds"]
    feed = Feed(folder / "data", conf)
    held = feed.held_out()
    while (progress := clock.progress(step)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = conf["lr"] * cosine(progress, step, conf["warmup"])
        images, weights = feed.batch(step, progress > conf["full_size_from"])
        parts = losses(vae, images, weights, conf, progress)
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        ema.update(step)
        if step % 25 == 0:
            row = {k: round(float(v.detach()), 4) for k, v in parts.items()}
            log(folder / "vae-log.jsonl", {"step": step, "s": round(clock.seconds()), **row})
        if step % 200 == 0:
            error = picture_sheet(vae, held, folder / "sheets" / f"vae-{step:05d}.png")
            log(folder / "vae-log.jsonl", {"step": step, "held_out_error": round(error, 3)})
            save_atomic({"vae": vae.state_dict(), "optimizer": optimizer.state_dict(),
                         "ema": ema.shadow, "step": step, "seconds": clock.seconds()},
                        state_file)  # fmt: skip
    vae.load_state_dict(ema.shadow["vae"])
    vae.register_to_config(scaling_factor=round(latent_scale(vae, held), 5))
    error = picture_sheet(vae, held, folder / "sheets" / "vae-final.png")
    vae.save_pretrained(folder / "vae")
    log(folder / "vae-log.jsonl", {"step": step, "final_error": round(error, 3),
                                   "scaling_factor": vae.config.scaling_factor})  # fmt: skip


def main() -> None:
    """Command line: train_vae.py FOLDER, where FOLDER/data holds the pictures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    train(parser.parse_args().folder)


if __name__ == "__main__":
    main()
