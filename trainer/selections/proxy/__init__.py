"""Training on the hardest images, as a small network sees them (airbench96_faster.py)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from trainer.models import ModelOptions
from trainer.schema import check
from trainer.selections import SelectionOptions, selections


@selections.register("proxy")
@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyOptions(SelectionOptions):
    """A proxy, a small network, sees each batch first and keeps the images with the highest loss.

    It trains beside the network, with the same optimiser, learning rates and loss. In
    github.com/KellerJordan/cifar10-airbench it first goes through all batches and notes which images to
    keep. Its choices depend on the batches alone, so these are the same images.
    """

    model: ModelOptions
    """The proxy's network."""
    keep: float = 0.5
    """Share of a batch to train on."""
    update_every: int = 4
    """The proxy takes an optimiser step at the first of so many batches, on the images that it keeps. It only
    looks at the others, which still move its running statistics."""

    def __post_init__(self) -> None:
        check(0 < self.keep <= 1, "keep", f"must be > 0 and <= 1, got {self.keep}")
        check(self.update_every > 0, "update_every", f"must be > 0, got {self.update_every}")

    def num_kept(self, size: int) -> int:
        return max(round(self.keep * size), 1)

    def config_of_proxy(self, config: Any) -> Any:
        """Return a config that trains the proxy alone as it is trained in a run of `config`."""
        return dataclasses.replace(
            config,
            model=self.model,
            init="fan_out" if self.model.own_init else config.init,
            linear_init="normal" if self.model.own_init else config.linear_init,
            bn_scale_init="ones",
            bn_momentum=None,
            parameter_groups=tuple(g for g in config.parameter_groups if g.name != "whitening_bias"),
            select_examples=None,
            subdivision=1,
            ema_decay=None,
            average=None,
        )

    def check(self, config: Any) -> None:
        check(config.num_gpus == 1, "", "needs num_gpus 1, got {}", config.num_gpus)
        self.config_of_proxy(config)  # a config checks itself
