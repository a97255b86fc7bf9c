"""A stored checkpoint on a test set: found, evaluated, its predictions saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun import resources
from gridrun.errors import GridrunError, StoreError
from gridrun.store import Store
from trainer import Runtime, files

if TYPE_CHECKING:
    from trainer.datasets import DatasetOptions
    from trainer.evaluation import TTA, Evaluation, KeptWeights


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a checkpoint is, and what it came to."""

    path: Path
    checkpoint: KeptWeights
    on: str
    """The images, in words."""
    tta: TTA
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values; errors are fractions."""
        kept, found = self.checkpoint, self.evaluation
        return {
            "checkpoint": str(self.path),
            "trial_id": kept.trial_id,
            "seed": kept.seed,
            "model": kept.config.model.label,
            "kept": kept.which,
            "epoch": kept.epoch,
            "on": self.on,
            "images": len(found.labels),
            "tta": self.tta,
            "test_error": found.error,
            "test_loss": found.loss,
            "classes": found.classes,
            "class_errors": found.class_errors,
            "confusion": found.confusion.tolist(),
        }


def checkpoint_path(store: Store, named: str) -> Path:
    """Return the checkpoint file that a trial id, its beginning or a path means.

    Raises:
        StoreError: there is none, or several begin so.
    """
    path = Path(named)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise StoreError(f"{named[:100]}: cannot be read ({error.strerror})") from None
    if path.suffix or len(path.parts) > 1:
        raise StoreError(f"{named}: no such file")
    trial_id = store.find(named)
    if not store.weights_path(trial_id).is_file():
        raise StoreError(
            f"trial {trial_id} has kept no checkpoint; `keep_checkpoint: last` (or best) in its grid file, "
            "or --keep-checkpoint, asks for one before it is trained"
        )
    return store.weights_path(trial_id)


def choose_device(gpus: int | None) -> str:
    """Return the GPU if there is one and `gpus` is not 0, else the CPU. Imports torch.

    Raises:
        LaunchError: there are fewer than `gpus`.
    """
    import torch

    if gpus:
        resources.check_gpus(gpus)
    return "cuda" if gpus != 0 and torch.cuda.is_available() else "cpu"


def evaluate(path: Path, *, dataset: DatasetOptions | None, tta: TTA, runtime: Runtime) -> Report:
    """Evaluate a checkpoint file on its own test set, or on that of `dataset`. Imports torch.

    Raises:
        StoreError: the file cannot be used.
        GridrunError: the data set is of another kind, or not to be had.
    """
    from trainer import evaluation
    from trainer.checkpoint import CheckpointError
    from trainer.datasets import DataError

    try:
        kept = evaluation.load_weights(path)
    except CheckpointError as error:
        raise StoreError(f"{path}: {error}") from None
    try:
        found = evaluation.evaluate(kept, dataset=dataset, tta=tta, runtime=runtime)
    except (ValueError, DataError) as error:
        raise GridrunError(str(error)) from None
    return Report(path=path, checkpoint=kept, on=_images(kept, dataset), tta=tta, evaluation=found)


def _images(kept: KeptWeights, dataset: DatasetOptions | None) -> str:
    if dataset is None and kept.config.val_ratio:
        return f"held-out training images of {kept.config.dataset.label}"
    return f"test set of {(dataset or kept.config.dataset).label}"


def read_dataset(text: str) -> DatasetOptions:
    """Return the data set that a name, or a mapping such as `{name: svhn, extra: true}`, means.

    Raises:
        GridrunError: there is no such data set, or its options are not right.
    """
    from gridrun.grid.yaml import parse_yaml
    from trainer.datasets import DatasetOptions, datasets
    from trainer.schema import ConfigError, read_options

    try:
        options = read_options(datasets, parse_yaml(text, "--dataset").plain(), "")
    except ConfigError as error:
        raise GridrunError(f"--dataset: {error}") from None
    assert isinstance(options, DatasetOptions)
    return options


def save_predictions(evaluation: Evaluation, path: Path) -> None:
    """Write one row an image: index, label, prediction, and `probability_0` and so on.

    Where the classes have names, `label_name` and `prediction_name` too.

    Raises:
        StoreError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = {"label": evaluation.labels, "prediction": evaluation.predictions}
    named = {
        f"{what}_name": pa.DictionaryArray.from_arrays(numbers, evaluation.classes)
        for what, numbers in classes.items()
        if evaluation.classes
    }
    columns = {
        "index": pa.array(range(len(evaluation.labels)), pa.int64()),
        **classes,
        **named,
        **{f"probability_{i}": column for i, column in enumerate(evaluation.probabilities.T)},
    }
    try:
        with files.replacing(path) as partial:
            pq.write_table(pa.table(columns), partial, compression="zstd")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
