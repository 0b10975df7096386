"""Buckets, data order, learning rates and noise: pure functions with properties."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_atelier.trainer.backends.embedded.order import (
    Size,
    bucket_of,
    buckets,
    draw,
    fixed_noise_seed,
    group_of,
    steps_per_epoch,
)
from lora_atelier.trainer.backends.embedded.schedule import rate_factor
from lora_atelier.trainer.config import ScheduleConfig

_STEPS = st.sampled_from([8, 16, 32, 64])
_SIZES = st.lists(st.sampled_from([Size(64, 64), Size(96, 40), Size(40, 96)]), min_size=1, max_size=20).map(tuple)


@given(st.integers(8, 130), _STEPS, st.floats(1, 4))
@settings(deadline=None)
def test_buckets_fill_the_area_and_stay_within_the_limits(eighths: int, step: int, aspect: float) -> None:
    resolution = max(eighths * 8, step)
    found = buckets(resolution, step, aspect)
    assert Size(resolution // step * step, resolution // step * step) in found
    for size in found:
        assert size.width % step == size.height % step == 0
        assert size.width * size.height <= resolution**2
        assert max(size.width, size.height) <= aspect * min(size.width, size.height) + 1e-9
        assert Size(size.height, size.width) in found


@given(st.integers(1, 5000), st.integers(1, 5000), _STEPS)
@settings(deadline=None)
def test_bucket_is_the_nearest_aspect_and_turns_with_the_picture(width: int, height: int, step: int) -> None:
    choices = buckets(256, step, 3.0)
    chosen = bucket_of(width, height, choices)

    def distance(size: Size) -> float:
        return abs(math.log(size.width / size.height) - math.log(width / height))

    assert distance(chosen) <= min(map(distance, choices)) + 1e-6
    turned = bucket_of(height, width, choices)
    assert distance(Size(turned.height, turned.width)) == pytest.approx(distance(chosen), abs=1e-6)


@given(_SIZES, st.integers(1, 6), st.integers(1, 3), st.integers(0, 5))
@settings(deadline=None)
def test_every_epoch_uses_every_picture_equally_in_one_bucket_per_step(
    sizes: tuple[Size, ...], group: int, repeats: int, epoch: int
) -> None:
    length = steps_per_epoch(sizes, group, repeats)
    groups = [group_of(epoch * length + place + 1, sizes, group, repeats, 7) for place in range(length)]
    assert Counter(number for members in groups for number in members) == dict.fromkeys(range(len(sizes)), repeats)
    assert all(len({sizes[number] for number in members}) == 1 and len(members) <= group for members in groups)


def test_order_changes_with_epoch_and_seed_only() -> None:
    sizes = (Size(64, 64),) * 32
    first, again, other = ([group_of(step, sizes, 4, 1, seed) for step in range(1, 9)] for seed in (1, 1, 2))
    assert first == again != other
    assert first != [group_of(step, sizes, 4, 1, 1) for step in range(9, 17)]


def test_draws_are_spread_and_independent_of_each_other() -> None:
    draws = [draw(3, step, place, True, 0.25) for step in range(1, 500) for place in range(4)]
    assert abs(sum(d.timestep for d in draws) / len(draws) - 499.5) < 25
    assert abs(sum(d.flip for d in draws) / len(draws) - 0.5) < 0.05
    assert abs(sum(d.drop_caption for d in draws) / len(draws) - 0.25) < 0.05
    assert len({d.noise_seed for d in draws}) == len(draws)
    assert not any(draw(3, step, 0, False, 0.0).flip for step in range(50))
    assert [d.timestep for d in draws[:40]] == [
        draw(3, s, p, False, 0.9).timestep for s in range(1, 11) for p in range(4)
    ]


def test_fixed_noise_depends_on_content_and_timestep_only() -> None:
    assert fixed_noise_seed("ab" * 32, 100) == fixed_noise_seed("ab" * 32, 100)
    assert len({fixed_noise_seed(name * 32, t) for name in ("ab", "cd") for t in (100, 250)}) == 4


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial", "inverse_sqrt"])  # noqa: E501  # fmt: skip
def test_learning_rates_warm_up_and_stay_between_zero_and_one(name: Any) -> None:
    schedule = ScheduleConfig(scheduler=name, max_steps=100, warmup_steps=10, cycles=2)
    rates = [rate_factor(step, schedule) for step in range(1, 101)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert max(rates) == 1
    if name != "constant":
        assert rates[:10] == pytest.approx([step / 10 for step in range(1, 11)])
    if name in ("linear", "cosine", "polynomial"):
        assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 0.05
    if name == "cosine_with_restarts":
        assert rates[55] > rates[54]


def test_min_snr_weights_and_targets() -> None:
    import torch
    from diffusers import DDIMScheduler
    from lora_atelier.trainer.backends.embedded.diffusion import Diffusion, noise_like

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    epsilon = Diffusion.of(scheduler.config, "auto", "cpu")
    velocity = Diffusion.of(scheduler.config, "v_prediction", "cpu")
    times = torch.tensor([0, 100, 500, 999])
    snr = scheduler.alphas_cumprod[times] / (1 - scheduler.alphas_cumprod[times])
    torch.testing.assert_close(epsilon.weights(times, 5.0), snr.clamp(max=5) / snr, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(velocity.weights(times, 5.0), snr.clamp(max=5) / (snr + 1), rtol=1e-4, atol=1e-6)
    assert epsilon.weights(times, 0).tolist() == [1.0] * 4
    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    torch.testing.assert_close(epsilon.noisy(latents, noise, times), scheduler.add_noise(latents, noise, times))
    torch.testing.assert_close(velocity.target(latents, noise, times), scheduler.get_velocity(latents, noise, times))
    assert float(epsilon.fixed_weights().sum()) == pytest.approx(1.0)
    plain, shifted = noise_like((4, 8, 8), 3), noise_like((4, 8, 8), 3, 0.1)
    assert (shifted - plain).std(dim=(1, 2)).max() < 1e-6 < (shifted - plain).abs().max()
