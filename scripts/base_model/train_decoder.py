"""Go on training the decoder alone while the U-Net learns the latents of the finished encoder.

What the encoder writes stays fixed, so both trainings may run at the same time; the sharper
decoder is put into the pipeline at the end. Resumable: run the same command again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import Clock, Ema, cosine, log, recipe, save_atomic
from train_vae import Feed, edge_loss, picture_sheet, texture_loss


def decoder_loss(
    vae: AutoencoderKL, images: torch.Tensor, weights: torch.Tensor, conf: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Total and weighted L1; the latents are sampled, so the decoder bears small errors."""
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.sample()
        latents = latents + conf["latent_noise"] / 0.18215 * torch.randn_like(latents)
        decoded = vae.decode(latents).sample.float()
    l1 = ((decoded - images).abs() * weights).sum() / (weights.sum() * 3)
    fine = texture_loss(decoded, images)
    return l1 + conf["edge"] * edge_loss(decoded, images) + conf["texture"] * fine, l1


def train(folder: Path) -> None:
    """Run or resume; writes `vae-decoder/` with each checkpoint."""
    conf = recipe()["vae"] | recipe()["decoder"]
    torch.manual_seed(conf["seed"])
    vae = AutoencoderKL.from_pretrained(folder / "vae-normal")
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    parts = torch.nn.ModuleDict({"decoder": vae.decoder, "post": vae.post_quant_conv})
    optimizer = torch.optim.AdamW(parts.parameters(), lr=conf["lr"], betas=(0.9, 0.98),
                                  weight_decay=1e-4)  # fmt: skip
    ema, clock, step = Ema({"parts": parts}, conf["ema"]), Clock(conf["steps"], conf["minutes"]), 0
    state_file = folder / "decoder.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=False)
        parts.load_state_dict(state["parts"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, step, clock.before = state["ema"], state["step"], state["seconds"]
    feed = Feed(folder / "data", conf)
    held = feed.held_out()
    while (progress := clock.progress(step)) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = conf["lr"] * cosine(progress, step, conf["warmup"])
        images, weights = feed.batch(step + 100_000, progress > conf["full_size_from"])
        loss, l1 = decoder_loss(vae, images, weights, conf)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        step += 1
        ema.update(step)
        if step % 50 == 0:
            log(folder / "decoder-log.jsonl", {
                "step": step, "s": round(clock.seconds()), "loss": round(float(loss.detach()), 4),
                "l1": round(float(l1.detach()), 4),
            })  # fmt: skip
        if step % 200 == 0:
            save_atomic({"parts": parts.state_dict(), "optimizer": optimizer.state_dict(),
                         "ema": ema.shadow, "step": step, "seconds": clock.seconds()},
                        state_file)  # fmt: skip
            publish(vae, parts, ema, folder, held, f"decoder-{step:05d}")
    publish(vae, parts, ema, folder, held, "decoder-final")


def publish(
    vae: AutoencoderKL, parts: torch.nn.Module, ema: Ema, folder: Path, held: torch.Tensor,
    name: str,
) -> None:  # fmt: skip
    """Write the averaged decoder in a whole autoencoder, then put the running weights back."""
    running = {k: v.clone() for k, v in parts.state_dict().items()}
    parts.load_state_dict(ema.shadow["parts"])
    error = picture_sheet(vae, held, folder / "sheets" / f"{name}.png")
    vae.save_pretrained(folder / "vae-decoder")
    parts.load_state_dict(running)
    log(folder / "decoder-log.jsonl", {"name": name, "held_out_error": round(error, 3)})


def main() -> None:
    """Command line: train_decoder.py FOLDER (data/ and vae-normal/ inside)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    train(parser.parse_args().folder)


if __name__ == "__main__":
    main()
