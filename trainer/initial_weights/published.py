"""Weights that torchvision publishes for its networks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.datasets import DataError
from trainer.datasets.npz import sha256_of
from trainer.initial_weights import InitialWeightsOptions, initial_weights
from trainer.models.torchvision_models import TorchvisionOptions
from trainer.schema import check

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.models import ModelOptions


@initial_weights.register("torchvision")
@dataclass(frozen=True, kw_only=True, slots=True)
class Published(InitialWeightsOptions):
    """Torchvision's weights for the config's network, trained on ImageNet. Downloaded once."""

    weights: str = "IMAGENET1K_V1"
    """Torchvision's name of one set of weights."""

    def check(self, model: ModelOptions) -> None:
        whole = isinstance(model, TorchvisionOptions) and not model.small_images
        problem = "is for model: {{name: torchvision, arch: ...}} without small_images, not {}"
        check(whole, "", problem, model.label)

    def available(self, model: ModelOptions, data_dir: Path, cache_dir: Path) -> Path:
        import torch
        from torchvision.models import get_model_weights

        assert isinstance(model, TorchvisionOptions)
        known = {one.name: one.url for one in get_model_weights(model.arch)}  # not DEFAULT, which may change
        if self.weights not in known:
            names = ", ".join(known)
            raise DataError(f"init_from: {model.arch} has no weights {self.weights!r}, only {names}")
        url = known[self.weights]
        path = cache_dir / "downloads" / Path(url).name
        digest = re.search(r"-([0-9a-f]{8,})\.pth$", url)
        if path.is_file() and (not digest or sha256_of(path).startswith(digest[1])):
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), digest and digest[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"init_from: {url} cannot be downloaded ({error}). Without a network, copy it into the data "
                "directory's folder weights/ and take init_from: {name: file, sha256: ...}"
            ) from error
        return path

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        # The files of DenseNets are older than the names of their layers.
        return {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name): value for name, value in state.items()}
