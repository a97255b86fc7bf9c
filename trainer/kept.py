"""The weights that a trial has kept, read from a file that nobody need trust."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer import checkpoint
from trainer.checkpoint import CheckpointError
from trainer.config import TrainConfig
from trainer.models.count import on_meta
from trainer.schema import ConfigError
from trainer.version import VERSION


@dataclass(frozen=True, eq=False, slots=True)
class KeptWeights:
    """The weights that a trial has kept."""

    config: TrainConfig
    seed: int
    trial_id: str | None
    which: str
    """The epoch they are from: `last` or `best`."""
    epoch: int
    """Its number, counted from 1."""
    state_dict: dict[str, torch.Tensor]

    def network(self) -> nn.Module:
        """Return the network with these weights, on the CPU, ready for evaluation."""
        model = self.config.model.build(self.config.dataset.spec)
        model.to(next(value.dtype for value in self.state_dict.values() if value.is_floating_point()))
        model.load_state_dict(self.state_dict)
        return model.to(memory_format=torch.channels_last).eval()


def load_weights(path: Path) -> KeptWeights:
    """Read the weights that a trial has kept. Only tensors and plain values are unpickled.

    Raises:
        CheckpointError: the file is missing, damaged, or holds no kept weights; or this version of the
            trainer does not know its config or its network.
    """
    try:
        state = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; it is not, or no longer, a file of kept weights") from None
    if state is None:
        raise CheckpointError("there is no such file")
    keys = {"version": int, "config": dict, "seed": int, "kept": str, "epoch": int, "state_dict": dict}
    if not all(isinstance(state.get(key), kind) for key, kind in keys.items()):
        raise CheckpointError(
            "holds no kept weights: it is the checkpoint of a running trial, or from another program"
        )
    if state["version"] != VERSION:
        raise CheckpointError(f"is from trainer version {state['version']}, this is version {VERSION}")
    try:
        config = TrainConfig.from_dict(state["config"])
    except ConfigError as error:
        raise CheckpointError(f"has a config that cannot be read: {error}") from None
    if (
        state["kept"] not in ("last", "best")
        or not 1 <= state["epoch"] <= config.last_epoch
        or state["seed"] < 0
    ):
        raise CheckpointError("holds weights of an epoch or a seed that its trial cannot have")
    _check_fit(config, state["state_dict"])
    trial_id = state.get("trial_id")
    trial_id = trial_id if isinstance(trial_id, str) else None
    return KeptWeights(config, state["seed"], trial_id, state["kept"], state["epoch"], state["state_dict"])


def _check_fit(config: TrainConfig, state_dict: dict[str, Any]) -> None:
    """Refuse weights that do not fit the network, before allocating memory for it."""
    try:
        network = on_meta(config.model, config.dataset.spec)
    except Exception as error:  # a crafted file may ask for impossible sizes
        raise CheckpointError(f"has a network that cannot be built: {error}") from None
    wanted = {name: _kind(value) for name, value in network.state_dict().items()}
    found = {name: _kind(value) for name, value in state_dict.items()}
    wrong = sorted(str(name) for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    wrong = wrong or sorted(name for name, value in state_dict.items() if not _is_whole(value))
    if wrong:
        raise CheckpointError(f"has weights that are not those of {config.model.label}: {wrong[0]}")


def _kind(value: Any) -> tuple[torch.Size, bool] | None:
    """Return what two weights of one name must have in common; None if `value` is no weight."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return None
    return value.shape, value.is_floating_point()


def _is_whole(value: torch.Tensor) -> bool:
    """Return whether a tensor of the file has all its numbers there: a stride of 0 would make many of one."""
    num_bytes = value.numel() * value.element_size()
    return value.device.type == "cpu" and value.untyped_storage().nbytes() >= num_bytes
