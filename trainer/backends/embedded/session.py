"""The training loop: steps, checkpoints, resume state, fixed-noise losses and validation pictures of one run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ....core.errors import Interrupted, WorkFailed
from ....core.pipelines import render_many
from ....core.rundir import RunDir
from ....core.types import Prompt
from ...config import config_hash
from ...job import TrainJob
from ...run_writer import append_event
from .cache import Store, check_pictures
from .diffusion import Diffusion, noise_like
from .fixed_loss import FixedLoss
from .network import add_network
from .order import Draw, draw, dropout_seed, group_of, steps_per_epoch
from .prepare import Inputs, choose_device, load_base, park, sizes_of
from .publish import check_disk, mend_ledger, publish_checkpoint, remove_leftovers
from .schedule import rate_factor
from .state import latest_state, restore, save_state

_MAX_NON_FINITE = 3


class Stop(Interrupted):
    """Somebody asked the child to end."""


class Session:
    """One child's work on one run. `stopping` is asked between steps and between denoising steps."""

    def __init__(self, run: RunDir, job: TrainJob, stopping: Callable[[], bool]) -> None:
        self.run, self.job, self.config = run, job, job.config
        self.stopping = stopping
        self.step = 0
        self._bad_losses = 0
        self._progress_time = 0.0
        self._phase_name = ""

    def work(self, resume: bool) -> bool:
        """Train to the last step; False when it was stopped on the way (with state and checkpoint written)."""
        try:
            self._load(resume)
            self._milestone()
            self._loop()
        except Stop:
            self._save_at_stop()
            return False
        self._phase("done")
        return True

    # ---- getting ready -------------------------------------------------------------------------------------------

    def _load(self, resume: bool) -> None:
        self._clean_up()
        check_disk(self.run.path, self.config.output.reserve_mb)
        self._phase("loading")
        train, held = self.job.dataset.split("train"), self.job.dataset.split("heldout")
        check_pictures((*train, *held))
        self.device = choose_device(self.config.precision)
        self.pipe = load_base(self.job.base, self.config, self.device)
        self._check_stop()
        self._cache(train, held)
        self.network = add_network(self.pipe, self.config.network, self.config.schedule.seed)
        self.diffusion = Diffusion.of(self.pipe.scheduler.config, self.config.model.prediction, self.device.name)
        self.optimizer = self._make_optimizer()
        self.scaler = torch.amp.GradScaler(self.device.name, enabled=self.device.compute == "fp16")
        self.fixed = FixedLoss(self.pipe, self.device, self.diffusion, self.config)
        park(self.pipe, self.device, True, self.config.network.train_text_encoder)
        self._resume(resume)

    def _clean_up(self) -> None:
        mend_ledger(self.run.events_file)
        remove_leftovers(self.run.checkpoints_dir, self.run.state_dir, self.run.samples_dir, self.run.path / "cache")

    def _cache(self, train: Sequence[Any], held: Sequence[Any]) -> None:
        self._phase("caching")
        data, live, device = self.config.data, self.config.network.train_text_encoder, self.device.name
        store = Store(self.run.path / "cache" if data.cache == "disk" else None)
        self.train = Inputs(self.pipe, self.job.base, train, sizes_of(train, data), store, live, device)
        self.held = Inputs(self.pipe, self.job.base, held, sizes_of(held, data), store, live, device)
        self.train.warm(data.flip, self._progress)
        self.held.warm(False, self._progress)

    def _make_optimizer(self) -> torch.optim.AdamW:
        o = self.config.optimizer
        text_rate = o.text_encoder_learning_rate if o.text_encoder_learning_rate is not None else o.learning_rate / 2
        groups = [{"params": list(self.network.of("unet")), "lr": o.learning_rate, "base": o.learning_rate}]
        if text := list(self.network.of("text")):
            groups.append({"params": text, "lr": text_rate, "base": text_rate})
        # fused: hundreds of small tensors would otherwise cost more than a small U-Net's whole backward pass
        return torch.optim.AdamW(
            groups, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay, fused=self.device.name != "mps"
        )

    def _resume(self, resume: bool) -> None:
        if not resume:
            return
        state = latest_state(self.run.state_dir, self.config.schedule.max_steps)
        if state is not None:
            try:
                restore(state, self.network, self.optimizer)
            except (KeyError, RuntimeError) as error:
                raise WorkFailed(
                    "The resume state belongs to another network or base model.", "Start a new run."
                ) from error
            if self.scaler.is_enabled() and "scaler" in state.facts:
                self.scaler.load_state_dict(state.facts["scaler"])
            self.step = state.step
        self._event("resumed", step=self.step)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        last = self.config.schedule.max_steps
        while self.step < last:
            self._check_stop()
            self._phase("training")
            self._train_step(self.step + 1)
            self.step += 1
            self._milestone()

    def _train_step(self, step: int) -> None:
        began = time.perf_counter()
        s, d = self.config.schedule, self.config.data
        group = group_of(step, self.train.sizes, self._group_size, d.repeats, s.seed)
        draws = [draw(s.seed, step, place, d.flip, d.caption_dropout) for place in range(len(group))]
        self.network.train(True)
        total = 0.0
        for number, start in enumerate(range(0, len(group), s.batch_size)):
            part = slice(start, start + s.batch_size)
            if self.config.network.dropout:
                torch.manual_seed(dropout_seed(s.seed, step, number))
            with self.device.autocast():
                loss = self._loss(group[part], draws[part]) / len(group)
            total += loss.item()
            self.scaler.scale(loss).backward()
        rate = self._update(step, total)
        self._event(
            "step",
            step=step,
            loss=round(total, 8) if math.isfinite(total) else None,
            lr=rate,
            epoch=round(step / steps_per_epoch(self.train.sizes, self._group_size, d.repeats), 4),
            seconds=round(time.perf_counter() - began, 4),
        )
        self._watch_loss(step, total)

    @property
    def _group_size(self) -> int:
        return self.config.schedule.batch_size * self.config.schedule.gradient_accumulation

    def _loss(self, group: Sequence[int], draws: Sequence[Draw]) -> torch.Tensor:
        """Sum over the pictures of their weighted mean squared error."""
        s, device = self.config.schedule, self.device
        flips = [d.flip for d in draws]
        latents = torch.stack([self.train.latents(n, f) for n, f in zip(group, flips, strict=True)])
        shape = tuple(latents.shape[1:])
        noise = torch.stack([noise_like(shape, d.noise_seed, s.noise_offset) for d in draws])
        latents, noise = latents.to(device.name), noise.to(device.name)
        times = torch.tensor([d.timestep for d in draws], device=device.name)
        captions = ["" if d.drop_caption else self.train.items[n].caption for n, d in zip(group, draws, strict=True)]
        conditions = self.train.conditions(group, captions, flips, device.dtype)
        noisy = self.diffusion.noisy(latents, noise, times).to(device.dtype)
        guess = self.pipe.unet(noisy, times, **conditions, return_dict=False)[0]
        error = (guess.float() - self.diffusion.target(latents, noise, times)).pow(2).mean((1, 2, 3))
        return (error * self.diffusion.weights(times, s.min_snr_gamma)).sum()

    def _update(self, step: int, loss: float) -> float:
        """Apply the gradients (not those of a loss that is not finite); returns the U-Net's learning rate."""
        factor = rate_factor(step, self.config.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        if math.isfinite(loss):
            if limit := self.config.optimizer.max_grad_norm:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(list(self.network.parameters.values()), limit)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return self.optimizer.param_groups[0]["lr"]

    def _watch_loss(self, step: int, loss: float) -> None:
        self._bad_losses = 0 if math.isfinite(loss) else self._bad_losses + 1
        if self._bad_losses >= _MAX_NON_FINITE:
            raise WorkFailed(
                f"The loss was not a finite number {_MAX_NON_FINITE} times in a row (step {step}).",
                "Lower the learning rate, or train in bf16 or fp32 instead of fp16; earlier checkpoints are kept.",
            )

    # ---- what is written -----------------------------------------------------------------------------------------

    def _milestone(self) -> None:
        """Whatever belongs to the present step and is not there yet (after a kill, part of it may be)."""
        if self._due(self.config.output.save_every):
            if self.step:
                self._save()
            self._measure_losses()
        validation = self.config.validation
        if validation.every_steps and self._due(validation.every_steps) and (self.step or validation.at_start):
            self._draw_samples()

    def _due(self, every: int) -> bool:
        return self.step in (0, self.config.schedule.max_steps) or (every > 0 and self.step % every == 0)

    def _save(self) -> None:
        known = self.run.ledger("checkpoint")
        there = any(event["step"] == self.step for event in known) and self.run.checkpoint_path(self.step).exists()
        if not there:
            self._phase("saving")
            check_disk(self.run.path, self.config.output.reserve_mb, self._bytes() * 4)
            self._publish()
            self._save_state()

    def _save_at_stop(self) -> None:
        """Keep what was learned since the last save; before the first step there is nothing to keep."""
        if self.step and not any(event["step"] == self.step for event in self.run.ledger("checkpoint")):
            self._phase("saving")
            self._publish()
            self._save_state()

    def _publish(self) -> None:
        path = self.run.checkpoint_path(self.step)
        digest, size = publish_checkpoint(path, self.network.arrays(self.config.precision.save), self._metadata())
        relative = path.relative_to(self.run.path).as_posix()
        self._event("checkpoint", step=self.step, path=relative, sha256=digest, bytes=size)

    def _save_state(self) -> None:
        facts: dict[str, Any] = {"config_hash": config_hash(self.config)}
        if self.scaler.is_enabled():
            facts["scaler"] = self.scaler.state_dict()
        save_state(self.run.state_dir, self.step, self.network, self.optimizer, facts)

    def _metadata(self) -> dict[str, str]:
        return {
            "format": "pt",
            "lora_adapter_metadata": self.network.adapter_metadata(),
            "atelier.step": str(self.step),
            "atelier.base_sha256": self.job.base.sha256,
            "atelier.base_name": self.job.base.name,
            "atelier.family": self.job.base.family,
            "atelier.prediction": "v_prediction" if self.diffusion.velocity else "epsilon",
            "atelier.config_hash": config_hash(self.config),
            "atelier.trigger_words": json.dumps(list(self.job.dataset.trigger_words), ensure_ascii=False),
        }

    def _bytes(self) -> int:
        return 4 * sum(parameter.numel() for parameter in self.network.parameters.values())

    def _measure_losses(self) -> None:
        done = {event["split"] for event in self.run.ledger("fixed_loss") if event["step"] == self.step}
        self.network.train(False)
        for split, inputs in (("train", self.train), ("heldout", self.held)):
            if split not in done and inputs.items and self.config.validation.loss_pictures:
                loss, by_timestep = self.fixed.measure(inputs, self._check_stop)
                self._event("fixed_loss", step=self.step, split=split, loss=loss, by_timestep=by_timestep)

    def _draw_samples(self) -> None:
        plan = self.config.plan()
        done = {(event["prompt"], event["seed"]) for event in self.run.ledger("sample") if event["step"] == self.step}
        pairs: list[tuple[Prompt, int]] = [
            (prompt, seed) for prompt in plan.prompts for seed in plan.seeds if (prompt.id, seed) not in done
        ]
        if not pairs:
            return
        self._phase("sampling")
        check_disk(self.run.path, self.config.output.reserve_mb)
        self.network.train(False)
        park(self.pipe, self.device, False, self.config.network.train_text_encoder)
        try:
            with self.device.autocast():
                began = time.perf_counter()
                for prompt, seed, picture in render_many(self.pipe, plan, pairs, self._check_stop):
                    self._keep_sample(prompt, seed, picture, time.perf_counter() - began)
                    began = time.perf_counter()
        finally:
            park(self.pipe, self.device, True, self.config.network.train_text_encoder)

    def _keep_sample(self, prompt: Prompt, seed: int, picture: Any, seconds: float) -> None:
        from ....core.files import publish

        path = self.run.sample_path(self.step, prompt.id, seed)
        with publish(path) as temporary:
            picture.save(temporary, format="PNG")
        relative = path.relative_to(self.run.path).as_posix()
        self._event("sample", step=self.step, prompt=prompt.id, seed=seed, path=relative, seconds=round(seconds, 3))

    # ---- events --------------------------------------------------------------------------------------------------

    def _check_stop(self) -> None:
        if self.stopping():
            raise Stop("The training was asked to stop.")

    def _event(self, kind: str, **facts: Any) -> None:
        append_event(self.run, kind, **facts)

    def _phase(self, name: str) -> None:
        if name != self._phase_name:
            self._phase_name = name
            self._event("phase", name=name)

    def _progress(self, done: int, total: int) -> None:
        self._check_stop()
        if time.monotonic() - self._progress_time > 1.0:
            self._progress_time = time.monotonic()
            self._event("progress", name=self._phase_name, done=done, total=total)
