"""Defaults of options: ids leave them out, so none may change without a new version."""

from __future__ import annotations

import copy
import json

import option_defaults
import pytest

GOLDEN = json.loads(option_defaults.GOLDEN.read_text())


@pytest.fixture(scope="module")
def now() -> dict[str, object]:
    return json.loads(json.dumps(option_defaults.current()))  # type: ignore[no-any-return]


def test_no_default_has_changed(now: dict[str, object]) -> None:
    assert option_defaults.problems(GOLDEN, now) == [], (
        "A changed default makes stored results stand for another training: raise trainer.VERSION or the "
        "part's `version`, then run `python tests/option_defaults.py`. For a new option, just run it."
    )


def test_a_changed_default_is_noticed() -> None:
    changed = copy.deepcopy(GOLDEN)
    changed["parts"]["augmentation cutout"]["size"] = 17
    assert option_defaults.problems(GOLDEN, changed) == [
        "augmentation cutout: the default of size was 16 and is 17"
    ]
    assert option_defaults.problems(GOLDEN, changed | {"version": GOLDEN["version"] + 1}) == []
    changed["parts"]["augmentation cutout"]["(version)"] = 2
    assert option_defaults.problems(GOLDEN, changed) == ["augmentation cutout: (version) is not listed"]


def test_a_new_option_has_to_be_listed() -> None:
    more = copy.deepcopy(GOLDEN)
    more["parts"]["config"]["new_option"] = 1
    assert option_defaults.problems(GOLDEN, more) == ["config: new_option is not listed"]
