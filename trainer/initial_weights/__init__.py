"""Initial weights: those of a network that was trained before, for fine-tuning. Torch-free at the top."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.datasets import DataError
from trainer.registry import Options, Registry

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from trainer.models import ModelOptions

initial_weights: Registry[InitialWeightsOptions] = Registry("initial weights", __name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialWeightsOptions(Options, abc.ABC):
    """Where the weights are from, and which of them to use."""

    registry: ClassVar[Registry[InitialWeightsOptions]] = initial_weights
    keep_head: bool = False
    """Use the last linear layer too, for the same classes as before. Otherwise it is drawn anew, from the
    trial's seed, and the number of classes may differ."""

    def check(self, model: ModelOptions) -> None:
        """Raise ConfigError if the weights cannot be those of such a network."""

    @abc.abstractmethod
    def available(self, model: ModelOptions, data_dir: Path, cache_dir: Path) -> Path:
        """Return the file of the weights; download it if need be.

        Args:
            model: the network that they are for.
            data_dir: where the user keeps original files; never written to.
            cache_dir: for downloads, in `downloads/`.

        Raises:
            DataError: it is missing and cannot be downloaded.
        """

    def load_into(self, network: nn.Module, model: ModelOptions, data_dir: Path, cache_dir: Path) -> None:
        """Replace the weights and batch statistics of the network of `model` by those of the file.

        Raises:
            DataError: the file is missing, cannot be read safely, or holds another network's weights.
        """
        import torch

        from trainer.models._layers import last_linear

        path = self.available(model, data_dir, cache_dir)
        head, _ = last_linear(network)
        dropped = ("num_batches_tracked",) if self.keep_head else ("num_batches_tracked", f"{head}.")

        def used(state: dict[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: value
                for name, value in state.items()
                if not (name.endswith(dropped[0]) or name.startswith(dropped[1:]))
            }

        wanted, found = used(network.state_dict()), used(self.renamed(_read(path)))
        for name in sorted(wanted.keys() | found.keys()):
            there, here = (_shape(state, name) for state in (found, wanted))
            if there != here:
                raise DataError(
                    f"init_from: {path} has another network's weights: {name} is {there} there, {here} here"
                )
        with torch.no_grad():
            for name, value in wanted.items():
                value.copy_(found[name])

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return weights under the names that the network has for them."""
        return state


def _shape(state: dict[str, Tensor], name: str) -> str:
    return " x ".join(map(str, state[name].shape)) or "a number" if name in state else "missing"


def _read(path: Path) -> dict[str, Any]:
    """Return the tensors of a file: kept weights, or what `torch.save(network.state_dict())` writes."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any type; torch's own messages advise loading without weights_only
        kind = "cannot be loaded safely; it must hold tensors and plain values alone"
        raise DataError(f"init_from: {path} {kind} ({type(error).__name__})") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
        for name, value in state.items()
    ):
        kind = "holds no weights; keep some with --keep-checkpoint, or save a network's state_dict()"
        raise DataError(f"init_from: {path} {kind}")
    return state
