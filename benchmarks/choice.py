"""How good is the choice of the checkpoint? Simulated runs with known truth, many per scenario.

Prints regret against the raw arg-max over the same pictures, how often the near-optimal set holds the best
checkpoint, how often a flat run is called clear, and how far the reported onset is from the true one.

    python benchmarks/choice.py [--runs 100] [--scenario timeline ...] [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lora_atelier.core.types import Choice, Score, ScoreTable
from lora_atelier.validation.selection import choose

STEPS = (
    *range(500, 8001, 500), 9000, 10000, 12000, 14000, 16000, 18000, 20000, 22000, 24000, 26500, 29000,
)  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """Trait curves over the steps (0 = base, 1 = data), the true onset of the faces' decline, odd checkpoints."""

    face: Callable[[np.ndarray], np.ndarray]
    style: Callable[[np.ndarray], np.ndarray]
    free: Callable[[np.ndarray], np.ndarray]
    onset: tuple[float, float] | None = None
    outcomes: tuple[str, ...] = ("clear", "range")
    broken: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()
    dissent: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def ramp(start: float, end: float, low: float = 0.0, high: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """Linear in log(step) from `low` at `start` to `high` at `end`, flat outside."""
    return lambda steps: low + (high - low) * np.clip(np.log(steps / start) / np.log(end / start), 0, 1)


def product(*curves: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The curves multiplied with each other."""
    return lambda steps: np.prod([curve(steps) for curve in curves], axis=0)


def constant(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """The same value at every step."""
    return lambda steps: np.full(len(steps), value)


def two_peaks(steps: np.ndarray) -> np.ndarray:
    """Peaks of equal height at 1500 and 9000."""
    place = np.log(steps)
    return sum(np.exp(-0.5 * ((place - np.log(at)) / 0.3) ** 2) for at in (1500, 9000)) + np.zeros(len(steps))


FACE = product(ramp(200, 2000), ramp(4100, 15000, 1.0, 0.35))
STYLE = ramp(300, 5000)
FREE = ramp(4200, 20000, 0.95, 0.35)
SCENARIOS: dict[str, Truth] = {
    "timeline": Truth(FACE, STYLE, FREE, onset=(4000, 4200)),
    "broken checkpoint": Truth(FACE, STYLE, FREE, onset=(4000, 4200), broken=(3000,)),
    "missing steps": Truth(FACE, STYLE, FREE, onset=(4000, 4200), gone=(1500, 2500, 3000, 4500, 7000, 8000, 12000)),
    "dissenting prompt": Truth(FACE, STYLE, FREE, onset=(4000, 4200), dissent=True),
    "flat": Truth(constant(0.6), constant(0.6), constant(0.8), outcomes=("no_clear_winner",)),
    "monotone": Truth(ramp(400, 32000), ramp(400, 32000), constant(0.9), outcomes=("still_improving",)),
    "two peaks": Truth(two_peaks, two_peaks, constant(0.9), outcomes=("no_clear_winner", "range")),
}


def simulate(
    truth: Truth, rng: np.random.Generator, prompts: int = 6, seeds: int = 4, wobble: float = 0.015, loud: float = 2.2
) -> tuple[ScoreTable, np.ndarray, tuple[int, ...]]:
    """A score table with prompt, seed and picture noise, the true utility per step, and the steps.

    `wobble` is noise shared by all pictures of a checkpoint, which no number of pictures averages out.
    """
    steps = tuple(step for step in STEPS if step not in truth.gone)
    place = np.asarray(steps, dtype=float)
    traits = {"face": truth.face(place), "style": truth.style(place), "free": truth.free(place)}
    utility = (traits["face"] + traits["style"] + traits["free"]) / 3
    rows: list[Score] = []
    noise = {"face": 0.18 * loud, "style": 0.15 * loud, "free": 0.12 * loud}
    for trait, values in traits.items():
        level = rng.normal(0, 0.08, prompts)[:, None] + rng.normal(0, 0.05, (prompts, seeds))
        shared = rng.normal(0, wobble, len(steps))
        cloud = level + values[:, None, None] + shared[:, None, None]
        cloud = cloud + rng.normal(0, noise[trait], cloud.shape)
        if truth.dissent:
            cloud[:, 0] += 0.5 * (values[::-1] - values)[:, None]
        for step in truth.broken:
            cloud[steps.index(step)] -= 0.75
        rows += _rows(trait, steps, cloud, level, noise[trait], rng)
    return ScoreTable(tuple(rows)), utility, steps


def _rows(
    trait: str, steps: tuple[int, ...], cloud: np.ndarray, level: np.ndarray, noise: float, rng: np.random.Generator
) -> list[Score]:
    name, unit = {
        "face": ("face_sharpness", lambda v: 0.35 + 0.6 * v),
        "style": ("style_distance", lambda v: 5.0 - 4.0 * v),
        "free": ("seed_diversity", lambda v: v),
    }[trait]
    rows = [
        Score(step, f"p{p}", s, name, float(unit(cloud[t, p, s])))
        for t, step in enumerate(steps)
        for p, s in np.ndindex(*cloud.shape[1:])
    ]
    if trait == "free":
        return rows
    base = level + rng.normal(0, noise, level.shape)
    rows += [Score(0, f"p{p}", s, name, float(unit(base[p, s]))) for p, s in np.ndindex(*level.shape)]
    rows += [Score("data", f"d{i}", 0, name, float(unit(v))) for i, v in enumerate(1 + rng.normal(0, 0.1, 24))]
    return rows


def raw_best(table: ScoreTable, steps: tuple[int, ...]) -> int:
    """The step that the plain best mean would choose, from the same pictures on the same scale."""
    scale = {"face_sharpness": lambda v: (v - 0.35) / 0.6, "style_distance": lambda v: (5 - v) / 4}
    total: dict[int, dict[str, list[float]]] = {step: {} for step in steps}
    for row in table.rows:
        if row.step in total:
            value = scale.get(row.metric, lambda v: v)(row.value)
            total[row.step].setdefault(row.metric, []).append(value)
    return max(steps, key=lambda step: sum(float(np.mean(values)) for values in total[step].values()))


@dataclass
class Tally:
    """What happened over the runs of one scenario."""

    outcomes: Counter[str] = field(default_factory=Counter)
    regret: list[float] = field(default_factory=list)
    raw_regret: list[float] = field(default_factory=list)
    covered: int = 0
    chosen: list[int] = field(default_factory=list)
    onsets: list[int] = field(default_factory=list)
    onset_hits: int = 0
    sizes: list[int] = field(default_factory=list)
    named: int = 0
    seconds: float = 0.0

    def add(self, choice: Choice, table: ScoreTable, utility: np.ndarray, steps: tuple[int, ...], truth: Truth) -> None:
        """Count one run."""
        self.outcomes[choice.outcome] += 1
        good = [index for index, step in enumerate(steps) if step not in truth.broken]
        best = max(utility[index] for index in good)
        if choice.recommended_step is not None:
            self.chosen.append(choice.recommended_step)
            self.regret.append(best - utility[steps.index(choice.recommended_step)])
            raw = raw_best(table, tuple(steps[index] for index in good))
            self.raw_regret.append(best - utility[steps.index(raw)])
        best_step = steps[max(good, key=lambda index: utility[index])]
        self.covered += best_step in choice.near_optimal_steps
        self.sizes.append(len(choice.near_optimal_steps))
        self.named += all(any(item.step == step for item in choice.excluded) for step in truth.broken)
        onset = choice.onset.get("identity")
        if onset:
            self.onsets.append(onset.step)
            self.onset_hits += truth.onset is not None and _near(onset.step, truth.onset, steps)


def _near(step: int, truth: tuple[float, float], steps: tuple[int, ...]) -> bool:
    """Within one checkpoint spacing of the true onset."""
    before = max(s for s in steps if s <= truth[0])
    spacing = min(s for s in steps if s > before) - before
    return truth[0] - spacing <= step <= truth[1] + spacing


def run_scenario(name: str, runs: int, seed: int = 0, prompts: int = 6, seeds: int = 4, draws: int = 1000) -> Tally:
    """Simulate and choose `runs` times."""
    tally, truth = Tally(), SCENARIOS[name]
    for index in range(runs):
        rng = np.random.default_rng([seed, index, sum(map(ord, name))])
        table, utility, steps = simulate(truth, rng, prompts, seeds)
        start = time.process_time()
        choice = choose(table, seed=index, draws=draws)
        tally.seconds += time.process_time() - start
        tally.add(choice, table, utility, steps, truth)
    return tally


def summary(name: str, tally: Tally) -> dict[str, Any]:
    """The figures of one scenario as plain numbers."""
    runs = sum(tally.outcomes.values())
    truth = SCENARIOS[name]
    return {
        "scenario": name,
        "runs": runs,
        "outcomes": dict(tally.outcomes),
        "designed_outcome": sum(tally.outcomes[o] for o in truth.outcomes) / runs,
        "false_clear": tally.outcomes["clear"] / runs if name == "flat" else None,
        "regret": float(np.mean(tally.regret)) if tally.regret else None,
        "raw_regret": float(np.mean(tally.raw_regret)) if tally.raw_regret else None,
        "coverage": tally.covered / runs,
        "near_optimal_size": float(np.mean(tally.sizes)),
        "chosen_10_90": [_quantile(tally.chosen, 0.1), _quantile(tally.chosen, 0.9)],
        "chosen_range": [min(tally.chosen, default=None), max(tally.chosen, default=None)],
        "onset_seen": len(tally.onsets) / runs,
        "onset_10_90": [_quantile(tally.onsets, 0.1), _quantile(tally.onsets, 0.9)],
        "onset_within_one_spacing": tally.onset_hits / runs if truth.onset else None,
        "broken_named": tally.named / runs if truth.broken else None,
        "milliseconds": 1000 * tally.seconds / runs,
    }


def _quantile(values: list[int], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None


def main() -> None:
    """Run the scenarios and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--prompts", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in options.scenario or SCENARIOS:
        tally = run_scenario(name, options.runs, prompts=options.prompts, seeds=options.seeds, draws=options.draws)
        figures = summary(name, tally)
        print(json.dumps(figures) if options.json else _text(figures), flush=True)


def _text(figures: dict[str, Any]) -> str:
    def show(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
        return "-".join(map(show, value)) if isinstance(value, list) else str(value)

    lines = [f"{figures['scenario']} ({figures['runs']} runs, {figures['milliseconds']:.0f} ms each)"]
    lines += [f"  {key:26} {show(value)}" for key, value in list(figures.items())[2:-1] if value is not None]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
