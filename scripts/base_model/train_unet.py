"""Train U-Net and text encoder together on the base styles; the target style stays unseen.

Resumable: run the same command again. Every few minutes the averaged weights are written to
`FOLDER/pipeline`, so that others can work against an early version.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import Clock, Ema, cosine, log, recipe, save_atomic, save_sheet, to_tensor
from meaning import Meaning, facts_of, teach
from model import (
    NOISE,
    build_text_encoder,
    build_unet,
    encode_words,
    load_tokenizer,
    normalise_latents,
    sampler,
)
from tokenizer import write_tokenizer

SHEET_PROMPTS: tuple[str, ...] = (
    "a character with long red hair, blue dress, smiling, in a room",
    "a girl with short black hair and a yellow dress, sad, in a meadow",
    "a woman in a green dress with a blond ponytail, at night",
    "a person with white hair in a bun, purple dress, surprised, by the sea",
    "a girl, blue twin tails, red dress, smiling, plain background, close-up",
    "a young woman with pink long hair, black dress, portrait, in a room, cel style",
    "brown short hair, white dress, happy, in a meadow, pastel style",
    "a character with long blond hair, red dress, from behind, by the sea",
)


class Words:
    """Token ids of all captions, computed once; -1 stands for the empty caption."""

    def __init__(self, tokenizer: Any, captions: list[list[str]]) -> None:
        self.width = len(captions[0])
        flat = [text for options in captions for text in options]
        self.ids = torch.cat([encode_words(tokenizer, flat[i : i + 2048]).to(torch.int16)
                              for i in range(0, len(flat), 2048)])  # fmt: skip
        self.empty = encode_words(tokenizer, [""])[0]

    def pick(self, rows: np.ndarray, rng: np.random.Generator, drop: float) -> torch.Tensor:
        """One of each picture's captions, or none at all for guidance without a prompt."""
        which = torch.from_numpy(rows * self.width + rng.integers(self.width, size=len(rows)))
        ids = self.ids[which].long()
        ids[torch.from_numpy(rng.random(len(rows)) < drop)] = self.empty
        return ids


def coarse_noise(rng: np.random.Generator, shape: tuple[int, ...], offset: float) -> np.ndarray:
    """White noise plus some that is equal over the picture and over its sixteenths.

    On 16 x 16 latents Stable Diffusion's last step still shows the picture's mean colours through white noise. The
    model would learn to read them there, and draw the random mean of the noise instead of what the prompt asks for.
    """
    batch, channels, height, width = shape
    noise = rng.standard_normal(shape, dtype=np.float32)
    whole = rng.standard_normal((batch, channels, 1, 1), dtype=np.float32)
    parts = rng.standard_normal((batch, channels, 4, 4), dtype=np.float32)
    return noise + offset * (whole + parts.repeat(height // 4, axis=2).repeat(width // 4, axis=3))


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, pixels: np.ndarray) -> torch.Tensor:
    """Latents of all pictures (the mean of the posterior), not scaled yet."""
    parts = []
    for start in range(0, len(pixels), 32):
        with torch.autocast("cpu", torch.bfloat16):
            parts.append(vae.encode(to_tensor(pixels[start : start + 32])).latent_dist.mode())
    return torch.cat([p.float() for p in parts])


def prepare(folder: Path) -> tuple[AutoencoderKL, torch.Tensor]:
    """Latents of mean 0 and deviation 1 with the autoencoder they belong to; made once."""
    file, fitted = folder / "latents.pt", folder / "vae-normal"
    if file.exists():
        return AutoencoderKL.from_pretrained(fitted), torch.load(file)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    latents = encode_pictures(vae, np.load(folder / "data" / "unet.npy", mmap_mode="r"))
    normalise_latents(vae, latents)
    vae.save_pretrained(fitted)
    mean, std = latents.mean(dim=(0, 2, 3), keepdim=True), latents.std(dim=(0, 2, 3), keepdim=True)
    latents = (latents - mean) / std
    torch.save(latents, file)
    return vae, latents


class Trainer:
    """Everything that a step needs, and that a checkpoint keeps."""

    def __init__(self, folder: Path) -> None:
        conf = recipe()
        self.folder, self.conf = folder, conf["unet"]
        torch.manual_seed(self.conf["seed"])
        write_tokenizer(folder / "tokenizer", conf["tokenizer"]["length"])
        self.tokenizer = load_tokenizer(folder / "tokenizer")
        self.vae, self.latents = prepare(folder)
        notes = json.loads((folder / "data" / "unet.json").read_text(encoding="utf-8"))
        self.words = Words(self.tokenizer, notes)
        self.text = build_text_encoder(conf["text_encoder"], self.tokenizer)
        self.unet = build_unet(self.conf, conf["text_encoder"]["width"])
        # With heads this narrow, plain attention in bfloat16 is twice as fast on a CPU.
        self.unet.set_attn_processor(AttnProcessor())
        self.noise = DDPMScheduler(**NOISE)
        facts, sizes = facts_of(self.conf["seed"], len(self.latents))
        self.facts = torch.from_numpy(facts)
        self.meaning = Meaning(conf["text_encoder"]["width"], sizes, self.tokenizer.eos_token_id)
        groups = [{"params": list(self.unet.parameters()), "scale": 1.0},
                  {"params": [*self.text.parameters(), *self.meaning.parameters()],
                   "scale": self.conf["text_lr_scale"]}]  # fmt: skip
        self.optimizer = torch.optim.AdamW(groups, lr=self.conf["lr"], betas=(0.9, 0.99),
                                           weight_decay=self.conf["weight_decay"])  # fmt: skip
        self.ema = Ema({"unet": self.unet, "text": self.text}, self.conf["ema"])
        self.clock, self.step = Clock(self.conf["steps"], self.conf["minutes"]), 0
        ratio = self.noise.alphas_cumprod / (1 - self.noise.alphas_cumprod)
        self.weight = ratio.clamp(max=self.conf["min_snr"]) / ratio

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise error on one batch weighted by min-SNR, and how well the encoder's states say what is drawn."""
        rng = np.random.default_rng((self.conf["seed"], 2, self.step))
        rows = rng.integers(len(self.latents) - 256, size=self.conf["batch"])
        ids = self.words.pick(rows, rng, self.conf["drop_caption"])
        clean = self.latents[torch.from_numpy(rows)]
        noise = torch.from_numpy(coarse_noise(rng, tuple(clean.shape), self.conf["noise_offset"]))
        times = torch.from_numpy(rng.integers(1000, size=len(rows)))
        noisy = self.noise.add_noise(clean, noise, times)
        with torch.autocast("cpu", torch.bfloat16):
            states = self.text(ids)[0]
            guess = self.unet(noisy, times, states).sample
        error = (guess.float() - noise).square().mean(dim=(1, 2, 3))
        said = torch.from_numpy((ids.numpy() != self.words.empty.numpy()).any(1))
        places = torch.from_numpy(rng.random(int(said.sum())))
        facts = self.facts[torch.from_numpy(rows)][said]
        meaning = self.meaning.loss(ids[said], states[said], facts, places)
        return (error * self.weight[times]).mean(), meaning

    def teach_words(self) -> None:
        """Once, before the U-Net sees a caption: the encoder alone learns what captions say."""

        def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            rng = np.random.default_rng((self.conf["seed"], 3, step))
            rows = rng.integers(len(self.latents) - 256, size=48)
            ids = self.words.pick(rows, rng, 0.0)
            return ids, self.facts[torch.from_numpy(rows)], torch.from_numpy(rng.random(len(rows)))

        history = teach(self.text, self.meaning, batch, self.conf["teach_steps"], self.conf["teach_lr"])
        for start in range(0, len(history), 50):
            part = history[start : start + 50]
            log(self.folder / "unet-log.jsonl", {"teach": start + len(part), "meaning": round(float(np.mean(part)), 4)})

    @torch.no_grad()
    def held_out(self) -> float:
        """Plain noise error on the last 256 pictures at fixed noise and times."""
        rng = np.random.default_rng(5)
        rows = np.arange(len(self.latents) - 256, len(self.latents))[::4]
        ids = self.words.pick(rows, rng, 0.0)
        clean = self.latents[torch.from_numpy(rows)]
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        times = torch.from_numpy(rng.integers(1000, size=len(rows)))
        noisy = self.noise.add_noise(clean, noise, times)
        with torch.autocast("cpu", torch.bfloat16):
            guess = self.unet(noisy, times, self.text(ids)[0]).sample
        return float((guess.float() - noise).square().mean())

    def save(self) -> None:
        """The full state, under its final name only when complete."""
        state = {
            "unet": self.unet.state_dict(), "text": self.text.state_dict(),
            "meaning": self.meaning.state_dict(), "ema": self.ema.shadow,
            "optimizer": self.optimizer.state_dict(), "step": self.step,
            "seconds": self.clock.seconds(),
        }  # fmt: skip
        save_atomic(state, self.folder / "unet.pt")

    def load(self) -> None:
        """Carry on from the last checkpoint, if there is one."""
        file = self.folder / "unet.pt"
        if not file.exists():
            self.teach_words()
            return
        state = torch.load(file, weights_only=False)
        self.unet.load_state_dict(state["unet"])
        self.text.load_state_dict(state["text"])
        self.meaning.load_state_dict(state["meaning"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.shadow = state["ema"]
        self.step, self.clock.before = state["step"], state["seconds"]

    def averaged_pipeline(self) -> StableDiffusionPipeline:
        """A pipeline with copies of the averaged weights."""
        conf = recipe()
        unet = build_unet(self.conf, conf["text_encoder"]["width"])
        text = build_text_encoder(conf["text_encoder"], self.tokenizer)
        unet.load_state_dict(self.ema.shadow["unet"])
        text.load_state_dict(self.ema.shadow["text"])
        return StableDiffusionPipeline(
            vae=self.vae, text_encoder=text.eval(), tokenizer=self.tokenizer, unet=unet.eval(),
            scheduler=sampler(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip

    def publish(self, name: str) -> None:
        """Write the averaged pipeline and a sheet of samples, once with and once per seed."""
        conf = recipe()["sampling"]
        pipe = self.averaged_pipeline()
        pipe.save_pretrained(self.folder / "pipeline")
        pipe.set_progress_bar_config(disable=True)
        rows = []
        for seed in (1, 2):
            state = [torch.Generator().manual_seed(100 * seed + n)
                     for n in range(len(SHEET_PROMPTS))]  # fmt: skip
            with torch.autocast("cpu", torch.bfloat16):
                images = pipe(list(SHEET_PROMPTS), num_inference_steps=20, generator=state,
                              guidance_scale=conf["guidance"], output_type="np").images  # fmt: skip
            rows.append((images * 255).round().astype(np.uint8))
        save_sheet(rows, self.folder / "sheets" / f"{name}.png")

    def train(self, publish_minutes: tuple[float, ...]) -> None:
        """Run to the end of the schedule."""
        logs = self.folder / "unet-log.jsonl"
        due = [60 * m for m in publish_minutes if 60 * m > self.clock.seconds()]
        recent: list[tuple[float, float]] = []
        while (progress := self.clock.progress(self.step)) < 1.0:
            factor = cosine(progress, self.step, self.conf["warmup"])
            for group in self.optimizer.param_groups:
                group["lr"] = self.conf["lr"] * factor * group["scale"]
            loss, meaning = self.loss()
            self.optimizer.zero_grad(set_to_none=True)
            (loss + self.conf["meaning"] * meaning).backward()
            for group in self.optimizer.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            self.optimizer.step()
            self.step += 1
            self.ema.update(self.step)
            recent.append((float(loss.detach()), float(meaning.detach())))
            if self.step % 50 == 0:
                log(logs, {"step": self.step, "s": round(self.clock.seconds()),
                           "loss": round(float(np.mean([a for a, _ in recent])), 4),
                           "meaning": round(float(np.mean([b for _, b in recent])), 4)})  # fmt: skip
                recent = []
            if self.step % 250 == 0:
                log(logs, {"step": self.step, "held_out": round(self.held_out(), 4)})
                self.save()
            if due and self.clock.seconds() > due[0]:
                due.pop(0)
                self.save()
                self.publish(f"unet-{self.step:05d}")
        self.save()
        self.publish("unet-final")
        log(logs, {"step": self.step, "held_out": round(self.held_out(), 4), "done": True})


def main() -> None:
    """Command line: train_unet.py FOLDER (data/, vae/ inside)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    trainer = Trainer(args.folder)
    trainer.load()
    print(f"prepared in {time.monotonic() - began:.0f} s", flush=True)
    trainer.clock.began = time.monotonic()
    trainer.train((4, 10, 17, 25, 34))


if __name__ == "__main__":
    main()
