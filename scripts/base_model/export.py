"""Assemble `assets/atelier-mini/` from a training folder: weights in fp16, card, curve, samples."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from common import ROOT, recipe
from model import build_text_encoder, build_unet, load_tokenizer, sampler

LIMIT_BYTES = 24_000_000
TARGET = ROOT / "assets" / "atelier-mini"


def read_log(path: Path) -> list[dict[str, Any]]:
    """All complete rows of a log; steps that a resumed run repeated keep their last value."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    latest = {(row["step"], "loss" in row): row for row in rows if "step" in row}
    return [latest[key] for key in sorted(latest)]


def curve_svg(series: dict[str, list[tuple[float, float]]], title: str) -> str:
    """A small line chart; values on a scale from 0 to the 98th percentile."""
    width, height, left, top = 640, 300, 50, 36
    points = [p for values in series.values() for p in values]
    x_max = max(p[0] for p in points)
    ordered = sorted(p[1] for p in points)
    y_max = 1.1 * ordered[int(0.98 * (len(ordered) - 1))]
    colors = ("#3465a4", "#cc5500", "#4e9a06")
    inner_w, inner_h = width - left - 20, height - top - 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="20" font-size="14">{title}</text>',
    ]
    for k in range(5):
        y = top + inner_h * (1 - k / 4)
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y:.1f}" y2="{y:.1f}" '
                     'stroke="#ddd"/>')  # fmt: skip
        parts.append(f'<text x="6" y="{y + 4:.1f}">{y_max * k / 4:.3f}</text>')
    for n, (name, values) in enumerate(series.items()):
        path = " ".join(
            f"{left + inner_w * x / x_max:.1f},{top + inner_h * (1 - min(y / y_max, 1)):.1f}" for x, y in values
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colors[n]}" '
                     'stroke-width="1.6"/>')  # fmt: skip
        parts.append(f'<text x="{width - 160}" y="{20 + 15 * n}" fill="{colors[n]}">{name}</text>')
    parts.append(f'<text x="{width - 90}" y="{height - 12}">step {x_max:.0f}</text></svg>')
    return "\n".join(parts)


def write_curves(folder: Path, target: Path) -> dict[str, Any]:
    """`training.json` and `loss.svg`; returns the curves."""
    vae = [r for r in read_log(folder / "vae-log.jsonl") if "l1" in r]
    rows = read_log(folder / "unet-log.jsonl")
    loss = [(r["step"], r["loss"]) for r in rows if "loss" in r]
    held = [(r["step"], r["held_out"]) for r in rows if "held_out" in r]
    curves = {
        "vae": [{k: r[k] for k in ("step", "loss", "l1", "edge", "kl")} for r in vae],
        "unet_loss": loss,
        "unet_held_out": held,
        "recipe": recipe(),
    }
    (target / "training.json").write_text(json.dumps(curves, indent=1), encoding="utf-8")
    if loss and held:
        svg = curve_svg({"training (min-SNR)": loss, "held out": held}, "U-Net: noise error")
        (target / "loss.svg").write_text(svg, encoding="utf-8")
    return curves


def weight_bytes(target: Path) -> int:
    """Bytes of all weight files."""
    return sum(p.stat().st_size for p in target.rglob("*.safetensors"))


def averaged_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The pipeline of the last checkpoint, also of a run that is still going on."""
    conf = recipe()
    tokenizer = load_tokenizer(folder / "tokenizer")
    shadow = torch.load(folder / "unet.pt", weights_only=False)["ema"]
    unet = build_unet(conf["unet"], conf["text_encoder"]["width"])
    text = build_text_encoder(conf["text_encoder"], tokenizer)
    unet.load_state_dict(shadow["unet"])
    text.load_state_dict(shadow["text"])
    better = folder / "vae-decoder"
    vae = AutoencoderKL.from_pretrained(better if better.exists() else folder / "vae-normal")
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=sampler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).to(torch.float16)  # fmt: skip


def export(folder: Path, target: Path) -> int:
    """Write the pipeline beside its final place, check it, then swap; returns the bytes."""
    pipe = averaged_pipeline(folder)
    part = target.with_name(target.name + ".part")
    if part.exists():
        shutil.rmtree(part)
    pipe.save_pretrained(part, safe_serialization=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(folder / "tokenizer" / name, part / "tokenizer" / name)
    index = json.loads((part / "model_index.json").read_text(encoding="utf-8"))
    index.pop("_name_or_path", None)
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None],
              "requires_safety_checker": False}  # fmt: skip
    index.setdefault("image_encoder", [None, None])
    (part / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    for file in part.rglob("config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    size = weight_bytes(part)
    if size > LIMIT_BYTES:
        raise SystemExit(f"weights are {size / 1e6:.1f} MB, more than {LIMIT_BYTES / 1e6:.0f}")
    target.mkdir(parents=True, exist_ok=True)
    for item in part.iterdir():
        goal = target / item.name
        if goal.is_dir():
            shutil.rmtree(goal)
        item.replace(goal)
    part.rmdir()
    write_curves(folder, target)
    return size


def main() -> None:
    """Command line: export.py FOLDER [--target assets/atelier-mini]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, default=TARGET)
    args = parser.parse_args()
    print(f"{export(args.folder, args.target) / 1e6:.2f} MB of weights")


if __name__ == "__main__":
    main()
