"""Teach the text encoder what a caption says, beside what helps to draw it.

The noise error alone takes many thousand steps to tell "red hair, blue dress" from "blue hair, red dress", since a
colour matters for few pixels. Naming the drawn attributes from the encoder's own states takes seconds. CLIP's text
encoder is causal, so only the end token and the padding behind it have read the whole caption: they carry the summary,
and the U-Net sees them beside the words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from artist.scene import framing_of, random_scene

FACTS = ("hair_color", "dress_color", "hair_style", "expression", "view", "background", "style", "framing")


def facts_of(seed: int, count: int) -> tuple[np.ndarray, list[int]]:
    """Class index per picture and fact, shape (count, facts), and the number of classes of each fact."""
    rows = []
    for index in range(count):
        scene = random_scene(np.random.default_rng((seed, index)))
        someone = scene.characters[0]
        known = {"background": scene.background, "style": scene.style, "framing": framing_of(someone)}
        rows.append([known.get(fact) or getattr(someone, fact) for fact in FACTS])
    columns = [np.unique([row[n] for row in rows], return_inverse=True) for n in range(len(FACTS))]
    return np.stack([inverse for _, inverse in columns], axis=1), [len(names) for names, _ in columns]


class Meaning(torch.nn.Module):
    """Linear read-outs of all facts from states that have read the whole caption."""

    def __init__(self, width: int, sizes: list[int], end_token: int) -> None:
        super().__init__()
        self.sizes, self.end_token = sizes, end_token
        self.read = torch.nn.Linear(width, sum(sizes))

    def loss(self, ids: torch.Tensor, states: torch.Tensor, facts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy; `places` (batch,) in 0-1 picks a position between the end token and the last one."""
        first = (ids == self.end_token).int().argmax(1)
        position = first + (places * (ids.shape[1] - first)).long()
        logits = self.read(states.float()[torch.arange(len(ids)), position]).split(self.sizes, dim=1)
        return torch.stack([F.cross_entropy(part, facts[:, n]) for n, part in enumerate(logits)]).mean()


def teach(text: Any, meaning: Meaning, batch: Any, steps: int, lr: float) -> list[float]:
    """Train encoder and read-outs alone for `steps`; `batch(step)` gives ids, facts and places."""
    optimizer = torch.optim.AdamW([*text.parameters(), *meaning.parameters()], lr=lr, betas=(0.9, 0.99))
    history = []
    for step in range(steps):
        ids, facts, places = batch(step)
        with torch.autocast("cpu", torch.bfloat16):
            states = text(ids)[0]
        loss = meaning.loss(ids, states, facts, places)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return history
