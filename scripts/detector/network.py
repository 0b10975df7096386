"""The network: a small convolutional pyramid with an anchor-free head on stride 8."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 8
# Output channels: head heat 1, offset of the head's centre 2, log size 2, face box 4, body box 4,
# two eyes and mouth 6, face seen 1, view 5 (the four and "silhouette"), eyes visible 1, mouth visible 1.
CHANNELS = 27
OFFSET, SIZE, FACE, BODY, POINTS = slice(1, 3), slice(3, 5), slice(5, 9), slice(9, 13), slice(13, 19)
VIEW_WEIGHTS = (1.0, 1.3, 1.2, 1.0, 1.2)  # three quarters is the hardest to tell
HAS_FACE, VIEW, EYES, MOUTH = 19, slice(20, 25), 25, 26


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Detector(nn.Module):
    """Pictures (n, 3, s, s) in RGB, 0-1 -> maps (n, CHANNELS, s / 8, s / 8); channel 0 is a logit."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = nn.Sequential(_block(3, a, 2), _block(a, b, 2))
        self.eighth = nn.Sequential(_block(b, c, 2), _block(c, c), _block(c, c))
        self.sixteenth = nn.Sequential(_block(c, d, 2), _block(d, d), _block(d, d))
        self.coarse = nn.Sequential(_block(d, e, 2), _block(e, e))
        self.up_coarse = nn.Conv2d(e, d, 1)
        self.up_sixteenth = nn.Conv2d(d, c, 1)
        self.merge = _block(c, c)
        self.heat = nn.Sequential(_block(c, c // 2), nn.Conv2d(c // 2, 1, 1))
        self.values = nn.Sequential(_block(c, d), nn.Conv2d(d, CHANNELS - 1, 1))
        last = self.heat[1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias, -3.0)

    def forward(self, pictures: Tensor) -> Tensor:
        """Maps of all answers."""
        x8 = self.eighth(self.stem(pictures * 2.0 - 1.0))
        x16 = self.sixteenth(x8)
        x16 = x16 + F.interpolate(self.up_coarse(self.coarse(x16)), scale_factor=2.0, mode="nearest")
        x8 = self.merge(x8 + F.interpolate(self.up_sixteenth(x16), scale_factor=2.0, mode="nearest"))
        return torch.cat([self.heat(x8), self.values(x8)], dim=1)


def heat_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Focal loss of CenterNet (Zhou et al. 2019, eq. 1), per head; `weight` 0 where nothing is asked."""
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    positive = (target > 0.999).float()
    good = positive * (1 - p) ** 2 * torch.log(p)
    bad = (1 - positive) * (1 - target) ** 4 * p**2 * torch.log(1 - p) * weight
    return -(good + bad).sum() / positive.sum().clamp(min=4.0)


def losses(output: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
    """All parts of the loss; see `targets.collate` for the batch."""
    out = {"heat": heat_loss(output[:, 0], batch["heat"], batch["weight"])}
    where = batch["where"]
    got = output[where[:, 0], :, where[:, 1], where[:, 2]].float()
    value, mask = batch["value"], batch["mask"]

    def distance(part: slice, beta: float = 0.1) -> Tensor:
        gap = F.smooth_l1_loss(got[:, part], value[:, part], beta=beta, reduction="none") * mask[:, part]
        return gap.sum() / mask[:, part].sum().clamp(min=1.0)

    def answer(k: int) -> Tensor:
        gap = F.binary_cross_entropy_with_logits(got[:, k], value[:, k], reduction="none") * mask[:, k]
        return gap.sum() / mask[:, k].sum().clamp(min=1.0)

    out["size"] = 1.5 * distance(SIZE) + distance(OFFSET)
    out["face"], out["body"] = distance(FACE), 0.5 * distance(BODY)
    # A turned head shows in where eyes and mouth sit, by a tenth of its width: the points must not be vague.
    out["points"] = 2.0 * distance(POINTS, 0.02)
    out["has_face"], out["eyes"], out["mouth"] = 0.5 * answer(HAS_FACE), answer(EYES), answer(MOUTH)
    asked = mask[:, VIEW.start]
    balance = torch.tensor(VIEW_WEIGHTS)
    view = F.cross_entropy(got[:, VIEW], value[:, VIEW].argmax(1), balance, reduction="none") * asked
    out["view"] = 1.5 * view.sum() / asked.sum().clamp(min=1.0)
    return out
