"""What is trained in which step, as pure functions of (seed, step): resuming is exact because nothing is remembered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Separate streams of random numbers, so that adding a draw to one never shifts another.
_EPOCH, _SAMPLE, _NOISE, _DROPOUT, _FIXED = range(5)
TIMESTEPS = 1000


@dataclass(frozen=True, order=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Draw:
    """What chance decides for one picture in one step."""

    timestep: int
    flip: bool
    drop_caption: bool
    noise_seed: int


def buckets(resolution: int, step: int, max_aspect: float) -> tuple[Size, ...]:
    """All sizes whose edges are multiples of `step`, whose area is at most resolution² and nearly fills it."""
    square = resolution // step * step
    found = {Size(square, square)}
    for width in range(step, int(resolution * math.sqrt(max_aspect)) + step, step):
        height = resolution * resolution // width // step * step
        if height and max(width, height) <= max_aspect * min(width, height):
            found |= {Size(width, height), Size(height, width)}
    return tuple(sorted(found))


def bucket_of(width: int, height: int, choices: Sequence[Size]) -> Size:
    """The bucket whose aspect ratio is nearest (on a log scale); the larger one when two are equally near."""
    aspect = math.log(width / height)
    return min(
        choices,
        key=lambda size: (round(abs(math.log(size.width / size.height) - aspect), 9), -size.width * size.height, size),
    )


def steps_per_epoch(sizes: Sequence[Size], group: int, repeats: int) -> int:
    """Optimizer steps in which every picture is used `repeats` times; `group` pictures make one step."""
    counts: dict[Size, int] = {}
    for size in sizes:
        counts[size] = counts.get(size, 0) + repeats
    return sum(-(-count // group) for count in counts.values())


@lru_cache(maxsize=4)
def epoch_groups(
    sizes: tuple[Size, ...], group: int, repeats: int, seed: int, epoch: int
) -> tuple[tuple[int, ...], ...]:
    """The groups of picture numbers of one epoch in order: one bucket per group, all shuffled.

    The last group of a bucket may be smaller; its loss is the mean over what it has.
    """
    rng = _rng(seed, _EPOCH, epoch)
    groups: list[tuple[int, ...]] = []
    for bucket in sorted(set(sizes)):
        members = np.repeat([number for number, size in enumerate(sizes) if size == bucket], repeats)
        members = rng.permutation(members).tolist()
        groups += [tuple(members[start : start + group]) for start in range(0, len(members), group)]
    return tuple(groups[number] for number in rng.permutation(len(groups)))


def group_of(step: int, sizes: tuple[Size, ...], group: int, repeats: int, seed: int) -> tuple[int, ...]:
    """Picture numbers of an optimizer step (counted from 1)."""
    length = steps_per_epoch(sizes, group, repeats)
    epoch, place = divmod(step - 1, length)
    return epoch_groups(sizes, group, repeats, seed, epoch)[place]


def draw(seed: int, step: int, place: int, flip: bool, caption_dropout: float) -> Draw:
    """The draws for the picture at `place` in the group of `step`."""
    rng = _rng(seed, _SAMPLE, step, place)
    timestep, flipped, dropped = int(rng.integers(TIMESTEPS)), rng.random() < 0.5, rng.random() < caption_dropout
    return Draw(timestep, flip and bool(flipped), bool(dropped), _seed(seed, _NOISE, step, place))


def dropout_seed(seed: int, step: int, batch: int) -> int:
    """The seed of torch's own generator before a forward pass (LoRA dropout)."""
    return _seed(seed, _DROPOUT, step, batch)


def fixed_noise_seed(sha256: str, timestep: int) -> int:
    """The noise of a picture in the fixed-noise losses: by its content, so that it is the same in every run."""
    return _seed(int(sha256[:15] or "0", 16), _FIXED, timestep)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def _seed(*key: int) -> int:
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
