"""What a record says, and what of a store's columns cannot be: by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from by_hand import H200, record, row

from gridrun.store.records import Provenance, Record, about, is_trial_id

ONE = record(row(), 0, test_error=0.05)


def read_back(name: str, *values: Any) -> list[Any]:
    """Return what records say whose column `name` has these values."""
    columns = {"trial_id": [ONE.trial_id] * len(values), name: list(values)}
    return [getattr(one, name) for one in Record.from_columns(columns, len(values))]


def test_a_measurement_is_a_number_that_can_have_been_measured() -> None:
    assert read_back("train_seconds", 0, 0.0, 1.5, 1e100) == [0, 0.0, 1.5, 1e100]
    odd = [-1e-9, 1.1e100, float("inf"), float("nan"), True, "5", None, b"5"]
    assert read_back("train_seconds", 2.0, *odd) == [2.0] + [None] * len(odd)
    for value in odd:
        assert read_back("train_seconds", value, value) == [None, None]
    assert read_back("train_seconds", 2.0, 2.0, -1.0) == [2.0, 2.0, None], "one odd value among equal ones"


def test_a_count_is_a_whole_number() -> None:
    found = read_back("num_params", 5, 5.0, 5.5, -1, "5", True, None)
    assert found == [5, 5, None, None, None, None, None]
    assert type(found[1]) is int
    assert read_back("attempts", None, -1, 3) == [1, 1, 3]
    assert read_back("resumes", None, 2) == [0, 2]
    assert read_back("epochs_trained", None, 2) == [0, 2]


def test_texts_and_truths_are_of_their_type() -> None:
    assert read_back("notes", "a", 5, None, True) == ["a", None, None, None]
    assert read_back("compiled", True, False, 1, "yes", None) == [True, False, None, None, None]


def test_gpu_hours_are_hours_times_gpus_or_the_part_of_one() -> None:
    def hours(num_gpus: Any = None, seconds: float | None = 7200.0, **source: Any) -> float | None:
        config = {} if num_gpus is None else {"num_gpus": num_gpus}
        provenance = replace(H200, **{"gpu_share": 1.0, **source})
        return replace(ONE, config=config, train_seconds=seconds, provenance=provenance).gpu_hours

    assert hours() == 2
    assert hours(gpu_share=0.25) == 0.5
    assert hours(3) == 6
    assert hours(3, gpu_share=3.0) == 6, "the share of a trial on several GPUs is their number"
    assert hours(gpu=None) is None
    assert hours(gpu_share=None) is None
    assert hours(seconds=None) is None
    assert hours("three") is None


def nested(depth: int) -> Any:
    return 1 if depth == 0 else [nested(depth - 1)]


def from_json(**fields: Any) -> Record:
    return Record.from_json(json.dumps({**json.loads(ONE.to_json()), **fields}))


def test_a_record_reads_back_from_its_line() -> None:
    assert from_json() == ONE
    for value in (nested(8), 2**63 - 1, -(2**63), "text", 0.5, True, None, [[1, 0.5], [2, 0.1]]):
        assert from_json(config={"lr": value}).config == {"lr": value}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"config": {"lr": nested(9)}}, "config: lr: .* is no value of an option"),
        ({"config": {"lr": 2**63}}, "config: lr: 9223372036854775808 is no value of an option"),
        ({"config": {"lr": -(2**63) - 1}}, "is no value of an option"),
        ({"config": {"lr": {"a": 1}}}, "is no value of an option"),
        ({"config": {"lr": [1, {"a": 1}]}}, "is no value of an option"),
        ({"config": {"seed": 1}}, "config: seed is no option"),
        ({"config": {"lr": float("nan")}}, "not a trial record"),
        ({"test_loss": float("nan")}, "not a trial record"),
        ({"notes": "\ud800"}, "not a trial record"),
        ({"nonsense": 1}, "not a trial record"),
    ],
)
def test_what_no_store_could_hold_is_no_record(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_json(**fields)


def test_what_would_be_refused_later_is_not_written_now() -> None:
    for odd in (replace(ONE, test_loss=float("nan")), replace(ONE, config={"lr": float("inf")})):
        with pytest.raises(ValueError, match="not JSON compliant"):
            odd.to_json()


def test_a_row_is_split_into_trial_config_and_machine() -> None:
    parts = about(ONE.row())
    assert parts["config"]["lr"] == 0.1
    assert parts["provenance"] == {name: value for name, value in vars_of(H200).items() if value is not None}
    assert (parts["trial"]["seed"], parts["trial"]["test_error"]) == (0, 0.05)
    assert "config_json" not in parts["trial"]
    assert None not in parts["trial"].values()


def vars_of(source: Provenance) -> dict[str, Any]:
    return {name: getattr(source, name) for name in source.__dataclass_fields__}


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("0" * 16, True), ("0123456789abcdef", True), ("0" * 15, False), ("0" * 17, False), ("G" * 16, False)],
)
def test_ids_are_safe_as_names_of_files(text: str, is_one: bool) -> None:
    assert is_trial_id(text) == is_one
