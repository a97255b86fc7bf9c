"""The training step: a network, what is trained beside it, and how one batch changes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from trainer import loss as loss_of
from trainer import parallel, seeds
from trainer.config import TrainConfig
from trainer.data.pipeline import Pipeline
from trainer.datasets import DataSpec
from trainer.loss import Batch
from trainer.models._layers import initialise, set_bn_momentum
from trainer.models.count import count_params
from trainer.optimizers._groups import clip_gradients, for_optimizer, frozen, parameter_groups
from trainer.precision import autocast, grad_scaler, like_weights, weight_dtype
from trainer.selections import Selection


def build_model(config: TrainConfig, seed: int, spec: DataSpec, device: torch.device) -> nn.Module:
    """Return a trial's network on its device, with the initial weights that its seed draws."""
    torch.manual_seed(seeds.stream(seed, "init"))
    model = config.model.build(spec)
    initialise(model, config.init, config.bn_scale_init, config.linear_init)
    if config.sync_bn:
        model = parallel.synchronise_batch_norm(model, device)
    if isinstance(config.bn_momentum, (int, float)):
        set_bn_momentum(model, config.bn_momentum)
    model.to(device, weight_dtype(config.precision))
    return model.to(memory_format=torch.channels_last)


class Learner:
    """What a trial trains, and the step that does it.

    Args:
        model: the network, ready to train. Its parameters change.
        selection: which images of a batch to train on; None: all.
        pipeline: makes a batch of pixels.
        config: of the trial.
        seed: the trial's. This seeds torch's default generator, for dropout and the like.
        group: the processes of the trial.
    """

    def __init__(
        self,
        model: nn.Module,
        selection: Selection | None,
        pipeline: Pipeline,
        config: TrainConfig,
        seed: int,
        group: parallel.Group,
    ) -> None:
        self.model, self.selection, self.pipeline = model, selection, pipeline
        self.config, self.seed, self.group, self.device = config, seed, group, pipeline.device
        self.network = group.wrap(model)  # what a step calls: on several GPUs, or compiled
        self.compiled = False
        self.num_params = count_params(model)
        options = config.running_average
        self.average = options.build(model, config.total_steps) if options else None
        torch.manual_seed(seeds.stream(seed, "model", *group.stream))
        self.groups = parameter_groups(model, config)
        groups = for_optimizer(self.groups, config)
        self.optimizer = config.optimizer.build(groups, config.lr, config.total_steps)
        self.scaler = grad_scaler(config.precision, self.device)
        self.generator = torch.Generator(self.device)
        self.generator.manual_seed(seeds.stream(seed, "augmentation", *group.stream))
        self.step = 0  # optimiser steps taken
        self.totals = torch.zeros(2, dtype=torch.float64, device=self.device)  # of this epoch: loss, errors

    @property
    def evaluated(self) -> nn.Module:
        """The network that is tested: the average of the weights, if there is one in its place."""
        return self.average.evaluated(self.model) if self.average else self.model

    def train_step(
        self, pixels: torch.Tensor, targets: torch.Tensor, places: torch.Tensor, epoch: int
    ) -> None:
        """Take one optimiser step. Nothing in it waits for the device but, in fp16, the gradient scaler.

        Args:
            pixels: images, (N, C, H, W) uint8.
            targets: their labels, (N,) int64.
            places: their indices in the training set, (N,) int64.
            epoch: counted from 0.
        """
        for own, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = self.config.lr_at(self.step, own.options)
        if self.config.bn_momentum == "dynamic":
            set_bn_momentum(self.model, 1 / (1 + self.step % self.config.steps_per_epoch))
        batch = self.pipeline.batch(pixels, targets, self.generator, places, epoch)
        if self.selection:
            batch = self.selection.select(batch)
        self.optimizer.zero_grad()
        *parts, last = _parts(batch, self.config.subdivision)
        with parallel.unsynchronised(self.network):
            for part in parts:
                self._backward(part)
        self._backward(last)
        self._freeze()
        if self.config.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.model, self.groups, self.config)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        if self.average:
            self.average.update(self.model, self.step)

    def _backward(self, batch: Batch) -> None:
        """Add the gradients of a batch, or of a part of one, and count it in the epoch's totals."""
        with autocast(self.config.precision, self.device):
            logits = self.network(like_weights(batch.images, self.model))
        logits = logits.float()
        loss = loss_of.training_loss(logits, batch, self.config.label_smoothing)
        self.scaler.scale(loss / self.config.subdivision).backward()
        self.totals[0] += loss.detach() * batch.num_originals
        self.totals[1] += loss_of.wrong(logits.detach(), batch)

    def _freeze(self) -> None:
        """Drop the gradients of the groups whose epochs are over, and compute no more of them."""
        for own in frozen(self.groups, self.config, self.step):
            for parameter in own.params:
                parameter.grad = None
                if self.group.size == 1:  # several GPUs wait for the gradient of every parameter
                    parameter.requires_grad_(False)

    def state_dict(self) -> dict[str, Any]:
        """Return what later steps depend on and all ranks have in common, as tensors and plain values."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.average else None,
            "selection": self.selection.state_dict() if self.selection else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "device": self.device.type,
        }

    def rank_state(self) -> dict[str, Any]:
        """Return what later steps depend on and differs between ranks, on the CPU."""
        on_cuda = self.device.type == "cuda"
        return {
            "totals": self.totals.cpu(),
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if on_cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any], own: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, and `rank_state` on this rank.

        It may have been on another kind of device.
        """
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.model.load_state_dict(state["average"])
        if self.selection:
            self.selection.load_state_dict(state["selection"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.totals.copy_(own["totals"])
        torch.set_rng_state(own["rng"])
        if state["device"] == self.device.type:
            self.generator.set_state(own["generator"])
            if own["cuda_rng"] is not None:
                torch.cuda.set_rng_state(own["cuda_rng"], self.device)
        else:  # a generator's state fits one kind of device only: start a new stream
            self.generator.manual_seed(seeds.stream(self.seed, "augmentation", self.step, *self.group.stream))


def _parts(batch: Batch, number: int) -> Iterator[Batch]:
    """Split a batch into equal parts. Copies of one image stay in one part."""
    images, labels, weights = batch.images.chunk(number), batch.labels, batch.weights
    parts = zip(images, labels.chunk(number, dim=1), weights.chunk(number, dim=1), strict=True)
    return (Batch(*part, batch.agreement) for part in parts)
