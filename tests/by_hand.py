"""Rows, records and tables made by hand, for the tests of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gridrun.grid import Published, Row
from gridrun.grid.table_specs import Reported, TableSpec
from gridrun.store.records import Provenance, Record
from gridrun.tables.build import build_table
from gridrun.tables.model import Cell, Table
from gridrun.tables.render import to_markdown
from gridrun.trial import Trial
from trainer import TrainConfig
from trainer.datasets.cifar import Cifar10
from trainer.models import ModelOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class FakeNet(ModelOptions):
    """A model that is only ever named."""

    name = "fake_net"
    depth: int = 20
    text: str = "FakeNet"

    @property
    def label(self) -> str:
        return f"{self.text}-{self.depth}"

    def build(self, data: Any) -> Any:
        raise AssertionError("a table builds no network")


@dataclass(frozen=True)
class Spec:
    rows: tuple[Row, ...]
    columns: tuple[str, ...] = ("batch_size", "test_error")
    published: Mapping[str, Published] = field(default_factory=dict)
    id: str = "linear_scaling"
    title: str = "Linear scaling"
    reported: tuple[Reported, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    spread: Any = None
    source: str | None = None
    tolerance: float = 0.2
    compare: Any = None
    mark_best: bool = False
    columns_are_given: bool = True
    held_out = TableSpec.held_out


def row(name: str | None = None, *, model: FakeNet | None = None, **options: Any) -> Row:
    config = TrainConfig(model=model or FakeNet(), **{"dataset": Cifar10(), "epochs": 200, **options})
    return Row(config, name)


H200 = Provenance(
    commit="a" * 40, dirty=False, gpu="NVIDIA H200", device="cuda", torch_version="2.15.0", trainer_version=1
)


CPU = Provenance(
    commit="a" * 40,
    dirty=False,
    cpu="Xeon",
    device="cpu",
    threads=1,
    torch_version="2.15.0",
    trainer_version=1,
)


def record(
    row: Row, seed: int, status: Any = "done", *, provenance: Provenance = H200, **metrics: Any
) -> Record:
    """Return the record of a trial as the store would give it back: values that cannot be are dropped."""
    trial = Trial(row.config, seed)
    made = Record(
        trial_id=trial.trial_id,
        config_id=trial.config_id,
        seed=seed,
        status=status,
        config=row.config.flat(),
        config_json="{}",
        ended_at="2026-01-01T00:00:00.000+00:00",
        provenance=provenance,
        **metrics,
    )
    return Record.from_row(made.row())


def records(*found: Record) -> dict[str, Record]:
    return {one.trial_id: one for one in found}


def errors(row: Row, *test_errors: float) -> list[Record]:
    """Return one record a seed, from 0 on."""
    return [record(row, seed, test_error=value) for seed, value in enumerate(test_errors)]


def build(spec: Spec, seeds: Sequence[int], *found: Record) -> Table:
    """Return a table all of whose rows have these seeds."""
    rows = tuple(replace(one, seeds=tuple(seeds)) for one in spec.rows)
    return build_table(replace(spec, rows=rows), records(*found))  # type: ignore[arg-type]


def only_cell(table: Table, metric: str = "test_error") -> Cell:
    (line,) = table.lines
    return line.cells[metric]


def to_markdown_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def markdown_cells(table: Table) -> list[list[str]]:
    """Return header and lines of a table without its rule, cells stripped."""
    header, _, *lines = to_markdown_lines(to_markdown(table))
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in (header, *lines)]
