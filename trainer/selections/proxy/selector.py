"""The small network of `trainer.selections.proxy`, and its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import loss as loss_of
from trainer import seeds
from trainer.loss import Batch
from trainer.models._layers import initialise
from trainer.optimizers._groups import clip_gradients, for_optimizer, frozen, parameter_groups
from trainer.precision import autocast, grad_scaler, like_weights, weight_dtype

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.selections.proxy import ProxyOptions


class Selector:
    """Keeps the images of a batch with the highest loss, and learns from some of these batches.

    Its initial weights have a random stream of their own. Its whitening bias, if it has one, is frozen. If
    the network asks for images to prepare with, give it some before the first step.

    Args:
        options: what to keep, and when to learn.
        config: the run's. Its optimiser, rates, loss and precision are the proxy's too.
        seed: the run's.
        device: where to compute.
    """

    def __init__(self, options: ProxyOptions, config: TrainConfig, seed: int, device: torch.device) -> None:
        self.options, self.device = options, device
        self.config: TrainConfig = options.config_of_proxy(config)
        torch.manual_seed(seeds.stream(seed, "proxy"))
        model = options.model.build(config.dataset.spec)
        initialise(model, self.config.init, linear=self.config.linear_init)
        for name, parameter in model.named_parameters():
            if name == "whitening.bias":
                parameter.requires_grad_(False)
        model.to(device, weight_dtype(config.precision))
        self.model: nn.Module = model.to(memory_format=torch.channels_last).train()
        self.groups = parameter_groups(self.model, self.config)
        groups = for_optimizer(self.groups, self.config)
        updates = -(-config.total_steps // options.update_every)
        self.optimizer = config.optimizer.build(groups, config.lr, updates)
        self.scaler = grad_scaler(config.precision, device)
        self.step = 0  # batches seen

    def select(self, batch: Batch) -> Batch:
        """Return the images of a batch with the highest loss, in their order; first learn from them if due.

        Copies of one image are kept together, by their mean loss. Nothing here waits for the device.
        """
        learns = self.step % self.options.update_every == 0
        with torch.set_grad_enabled(learns), autocast(self.config.precision, self.device):
            logits = self.model(like_weights(batch.images, self.model))
        logits = logits.float()
        kept = self._hardest(logits.detach(), batch)
        chosen = Batch(batch.images[kept], batch.labels[:, kept], batch.weights[:, kept], batch.agreement)
        if learns:
            self._update(logits[kept], chosen)
        self.step += 1
        return chosen

    def _hardest(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the places of the images to keep, in ascending order."""
        targets = loss_of.targets(batch, logits.shape[1])
        smoothing = self.config.label_smoothing
        losses = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        copies = len(losses) // batch.num_originals
        losses = losses.view(-1, copies).mean(1)
        kept = losses.topk(self.options.num_kept(len(losses)), sorted=False).indices.sort().values
        return (kept[:, None] * copies + torch.arange(copies, device=kept.device)).flatten()

    def _update(self, logits: Tensor, batch: Batch) -> None:
        """Take an optimiser step on the images that are kept. Groups whose epochs are over stay frozen."""
        for own, group in zip(self.groups, self.optimizer.param_groups, strict=True):
            group["lr"] = self.config.lr_at(self.step, own.options)
        self.optimizer.zero_grad(set_to_none=True)
        loss = loss_of.training_loss(logits, batch, self.config.label_smoothing)
        self.scaler.scale(loss).backward()
        for own in frozen(self.groups, self.config, self.step):
            for parameter in own.params:
                parameter.grad = None
        if self.config.gradient_clip is not None:
            self.scaler.unscale_(self.optimizer)
            clip_gradients(self.model, self.groups, self.config)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later calls depend on, as tensors and plain values."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
