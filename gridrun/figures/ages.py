"""The figure of a network's losses by how long ago it saw the images."""

from __future__ import annotations

from gridrun.ages import AgeReport
from gridrun.figures.model import Axis, Figure, Panel, Point, Series


def figure_of(report: AgeReport) -> Figure:
    """Return the figure: a curve of the training images, and a level line of the test images."""
    kept, bins = report.checkpoint, list(report.bins)
    train = [((one.first + one.last) / 2, one.loss) for one in bins]
    test = [(float(x), report.test_loss) for x in (1, kept.config.steps_per_epoch)]
    series = [
        Series(
            role="measured",
            index=index,
            metric="loss",
            points=tuple(Point(x=x, median=y, low=y, high=y, n=y is not None, wanted=1) for x, y in points),
        )
        for index, points in enumerate((train, test))
    ]
    return Figure(
        id="by_age",
        title=f"{kept.config.model.label} after {kept.epoch} epochs: loss by when an image was last seen",
        kind="curves",
        x=Axis(label="Steps ago"),
        y=Axis(label="Loss"),
        legend="",
        labels=("training images", "test images"),
        ordered=False,
        metrics={},
        panels=(Panel(title="", series=tuple(series)),),
        notes=("without augmentation",),
    )
