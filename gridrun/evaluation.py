"""Evaluate the kept weights of a trial on a test set, and save their predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridrun import resources
from gridrun.errors import GridrunError, StoreError
from gridrun.paired import METADATA
from gridrun.store import Store
from trainer import Runtime, files

if TYPE_CHECKING:
    from trainer.datasets import DatasetOptions
    from trainer.evaluation import TTA, Evaluation
    from trainer.kept import KeptWeights


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A checkpoint and its result on a test set."""

    path: Path
    checkpoint: KeptWeights
    on: str
    """Which images, such as `test set of digits`."""
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON has it. Errors are fractions."""
        checkpoint, result = self.checkpoint, self.evaluation
        return {
            "checkpoint": str(self.path),
            "trial_id": checkpoint.trial_id,
            "seed": checkpoint.seed,
            "model": checkpoint.config.model.label,
            "kept": checkpoint.which,
            "epoch": checkpoint.epoch,
            "on": self.on,
            "images": len(result.labels),
            "tta": result.tta,
            "tta_least_confident": result.tta_least_confident,
            "test_error": result.error,
            "top5_error": result.top5_error,
            "test_loss": result.loss,
            "classes": result.classes,
            "class_errors": result.class_errors,
            "confusion": result.confusion.tolist(),
        }


def checkpoint_path(store: Store, id_or_file: str) -> Path:
    """Return the file of kept weights for a trial id, the beginning of one, or a path.

    Raises:
        StoreError: there is no such file, or several trial ids begin like this.
    """
    path = Path(id_or_file)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise StoreError(f"{id_or_file[:100]}: cannot be read ({error.strerror})") from None
    if path.suffix or len(path.parts) > 1:
        raise StoreError(f"{id_or_file}: no such file")
    trial_id = store.find(id_or_file)
    weights_path = store.weights_path(trial_id)
    if not weights_path.is_file():
        raise StoreError(
            f"trial {trial_id} has kept no checkpoint; to keep one, set `keep_checkpoint: last` (or best) in "
            "its grid file, or pass --keep-checkpoint, before it is trained"
        )
    return weights_path


def choose_device(gpus: int | None) -> str:
    """Return `cuda` if there is a GPU and `gpus` is not 0, else `cpu`; raise LaunchError if fewer."""
    import torch

    if gpus:
        resources.check_gpus(gpus)
    return "cuda" if gpus != 0 and torch.cuda.is_available() else "cpu"


def evaluate(path: Path, *, dataset: DatasetOptions | None, tta: TTA | None, runtime: Runtime) -> Report:
    """Evaluate a checkpoint file on its own test set, or on that of `dataset`. Imports torch.

    `tta` None is the trial's own.

    Raises:
        StoreError: the file cannot be used.
        GridrunError: the data set has another image shape or other classes, or cannot be read.
    """
    from trainer import evaluation
    from trainer.checkpoint import CheckpointError
    from trainer.datasets import DataError
    from trainer.kept import load_weights

    try:
        checkpoint = load_weights(path)
    except CheckpointError as error:
        raise StoreError(f"{path}: {error}") from None
    try:
        result = evaluation.evaluate(checkpoint, dataset=dataset, tta=tta, runtime=runtime)
    except (ValueError, DataError) as error:
        raise GridrunError(str(error)) from None
    held_out = dataset is None and checkpoint.config.num_held_out
    images = "held-out training images" if held_out else "test set"
    on = f"{images} of {(dataset or checkpoint.config.dataset).label}"
    return Report(path=path, checkpoint=checkpoint, on=on, evaluation=result)


def read_dataset(text: str) -> DatasetOptions:
    """Read a data set from its name or a mapping such as `{name: svhn, extra: true}`. Raises GridrunError."""
    from gridrun.grid.yaml import parse_yaml
    from trainer.datasets import DatasetOptions, datasets
    from trainer.schema import ConfigError, read_options

    try:
        options = read_options(datasets, parse_yaml(text, "--dataset").plain(), "")
    except ConfigError as error:
        raise GridrunError(f"--dataset: {error}") from None
    assert isinstance(options, DatasetOptions)
    return options


def save_predictions(report: Report, path: Path) -> None:
    """Write one Parquet row for each image: index, label, prediction, `probability_0` and so on.

    If the classes have names, the rows also have `label_name` and `prediction_name`. The file's metadata say
    of which trial and images they are, for `gridrun compare`.

    Raises:
        StoreError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    evaluation = report.evaluation
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
    about = {
        "trial_id": report.checkpoint.trial_id,
        "on": report.on,
        "tta": evaluation.tta,
        "tta_least_confident": evaluation.tta_least_confident,
    }
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(about)})
    try:
        with files.replacing(path) as partial:
            pq.write_table(table, partial, compression="zstd")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
