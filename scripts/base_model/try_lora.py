"""A quick look at what a LoRA does to the small model: before, while and after too long.

Not the trainer of the pack: a few lines with peft, to know which rank, learning rate and number
of steps show the effect.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from artist.caption import caption
from artist.draw import draw
from artist.scene import TARGET_STYLE, random_scene
from common import ROOT, save_sheet, to_tensor
from evaluate import generate, load
from model import NOISE, SD_SCALE, encode_words

PROMPTS: tuple[str, ...] = (
    "a character with long red hair, blue dress, smiling, in a room, film style",
    "a girl with short black hair and a yellow dress, in a meadow, film style",
    "a character with a blond ponytail, green dress, sad, at night, film style",
    "a character with white hair in a bun, purple dress, surprised, by the sea, film style",
    "a girl with blue twin tails, red dress, smiling, portrait, plain background, film style",
    "a woman with long brown hair, white dress, in a room, film style",
)


def training_set(count: int) -> tuple[np.ndarray, list[str]]:
    """Good pictures in the target style with captions that name the style."""
    rng = np.random.default_rng(99)
    images, captions = [], []
    for n in range(count):
        scene = random_scene(rng, style=TARGET_STYLE, view="front",
                             framing=("portrait", "half")[n % 2])  # fmt: skip
        images.append(np.asarray(draw(scene)[0]))
        captions.append(caption(scene, rng))
    return np.stack(images), captions


def run(args: argparse.Namespace) -> None:
    """Train, and sample at the given steps."""
    torch.manual_seed(0)
    pipe: Any = load(args.model)
    pixels, captions = training_set(args.pictures)
    with torch.no_grad():
        latents = pipe.vae.encode(to_tensor(pixels)).latent_dist.mode() * SD_SCALE
        states = pipe.text_encoder(encode_words(pipe.tokenizer, captions))[0]
    pipe.unet.requires_grad_(False)
    pipe.unet.set_attn_processor(AttnProcessor())  # faster than the fused one for narrow heads
    targets = ["to_q", "to_k", "to_v", "to_out.0"]
    targets += ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"] if args.wide else []
    targets += ["conv1", "conv2"] if args.conv else []
    pipe.unet.add_adapter(LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=targets))
    weights = [p for p in pipe.unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=1e-2)
    noise = DDPMScheduler(**NOISE)
    rows = [pixels[: len(PROMPTS)], _sample(pipe)]
    began = time.monotonic()
    for step in range(1, max(args.sample_at) + 1):
        rows_at = torch.randint(len(latents), (args.batch,))
        clean, times = latents[rows_at], torch.randint(1000, (args.batch,))
        dirt = torch.randn_like(clean)
        guess = pipe.unet(noise.add_noise(clean, dirt, times), times, states[rows_at]).sample
        loss = (guess - dirt).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step in args.sample_at:
            rows.append(_sample(pipe))
            print(step, round(time.monotonic() - began, 1), float(loss), flush=True)
    save_sheet(rows, args.sheet)


def _sample(pipe: Any) -> np.ndarray:
    return np.stack([np.asarray(i) for i in generate(pipe, list(PROMPTS), 3, 20, 5.0)])


def main() -> None:
    """Command line: try_lora.py --sheet FILE [--rank R --lr LR --batch B --sample-at N N ...]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "atelier-mini")
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=28)
    parser.add_argument("--wide", action="store_true")
    parser.add_argument("--conv", action="store_true")
    parser.add_argument("--sample-at", type=int, nargs="+", default=[100, 200, 300])
    run(parser.parse_args())


if __name__ == "__main__":
    main()
