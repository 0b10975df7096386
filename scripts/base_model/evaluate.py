"""Does the model draw what the prompt says? Colours are read back from generated pictures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from artist.caption import COLOR_WORDS, EXPRESSION_WORDS, HAIR_WORDS, PLACE_WORDS
from artist.readback import read_colors
from artist.scene import BACKGROUNDS, DRESS_COLORS, EXPRESSIONS, HAIR_COLORS, HAIR_STYLES
from common import ROOT, recipe

FORMS: tuple[str, ...] = (
    "a character with {hair}, {dress} dress, {mood}, {place}",
    "a girl with {hair} and a {dress} dress, {mood}, {place}",
    "a woman in a {dress} dress with {hair}, {place}",
    "{hair}, {dress} dress, {mood}, {place}",
    "a person, {hair}, {dress} dress, {place}",
)


@dataclass(frozen=True)
class Prompt:
    """A prompt and the colours that must be seen."""

    text: str
    hair: str
    dress: str


def prompts(count: int, seed: int = 2024) -> list[Prompt]:
    """Prompts as a person writes them; every pair of colours about equally often."""
    rng = np.random.default_rng(seed)
    pairs = [(h, d) for h in HAIR_COLORS for d in DRESS_COLORS]
    order = [pairs[int(i)] for _ in range(count // len(pairs) + 1)
             for i in rng.permutation(len(pairs))]  # fmt: skip

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    result = []
    for hair, dress in order[:count]:
        look = pick(HAIR_WORDS[pick(HAIR_STYLES)]).format(COLOR_WORDS[hair][0])
        text = pick(FORMS).format(
            hair=look, dress=COLOR_WORDS[dress][0], mood=pick(EXPRESSION_WORDS[pick(EXPRESSIONS)]),
            place=pick(PLACE_WORDS[pick(BACKGROUNDS)]),
        )  # fmt: skip
        result.append(Prompt(text, hair, dress))
    return result


def generate(
    pipe: StableDiffusionPipeline, texts: list[str], seed: int, steps: int, guidance: float,
    batch: int = 10,
) -> list[Image.Image]:  # fmt: skip
    """One picture per text, each with its own seed, so that batching changes nothing."""
    images: list[Image.Image] = []
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        states = [torch.Generator().manual_seed(seed + start + n) for n in range(len(part))]
        images += pipe(
            part, num_inference_steps=steps, guidance_scale=guidance, generator=states,
            height=128, width=128,
        ).images  # fmt: skip
    return images


def score(wanted: list[Prompt], images: list[Image.Image]) -> dict[str, Any]:
    """Shares of right hair, right dress and both, and the confusions."""
    seen = [read_colors(image) for image in images]
    hair = np.array([s["hair"] == w.hair for s, w in zip(seen, wanted, strict=True)])
    dress = np.array([s["dress"] == w.dress for s, w in zip(seen, wanted, strict=True)])
    wrong = [
        {"prompt": w.text, "wanted": [w.hair, w.dress], "seen": [s["hair"], s["dress"]]}
        for s, w in zip(seen, wanted, strict=True)
        if (s["hair"], s["dress"]) != (w.hair, w.dress)
    ]
    return {"count": len(wanted), "hair": float(hair.mean()), "dress": float(dress.mean()),
            "both": float((hair & dress).mean()), "wrong": wrong}  # fmt: skip


def load(folder: Path, scheduler: str | None = None) -> StableDiffusionPipeline:
    """The pipeline in fp32, quiet."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    if scheduler == "ddim":
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    """Command line: evaluate.py [--model DIR] [--count 200] [--sheet FILE] [--json FILE]."""
    conf = recipe()["sampling"]
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "assets" / "atelier-mini")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=conf["steps"])
    parser.add_argument("--guidance", type=float, default=conf["guidance"])
    parser.add_argument("--scheduler", choices=("dpm", "ddim"), default="dpm")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    wanted = prompts(args.count)
    pipe = load(args.model, args.scheduler)
    began = time.monotonic()
    images = generate(pipe, [w.text for w in wanted], args.seed, args.steps, args.guidance)
    result = score(wanted, images)
    result |= {"steps": args.steps, "guidance": args.guidance, "scheduler": args.scheduler,
               "seconds_per_picture": (time.monotonic() - began) / len(images)}  # fmt: skip
    if args.sheet:
        columns = 10
        sheet = Image.new("RGB", (128 * columns, 128 * -(-len(images) // columns)))
        for n, image in enumerate(images):
            sheet.paste(image, (128 * (n % columns), 128 * (n // columns)))
        sheet.save(args.sheet)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps({k: v for k, v in result.items() if k != "wrong"}))
    for row in result["wrong"][:20]:
        print(row)


if __name__ == "__main__":
    main()
