"""A JSON Schema (draft-07) of grid files, for editors: they complete keys and names, and mark mistakes.

It is made of what also checks a grid: the keys of each reader, the fields of `TrainConfig`, the registries.
It knows keys, names and types. What depends on several values, such as whether a batch fits the data set,
only the readers know.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

from gridrun.grid import GRID_KEYS
from gridrun.grid.comparisons import COMPARE_KEYS
from gridrun.grid.json_shapes import (
    FLAG,
    LET_KEY,
    NUMBER,
    Shape,
    count,
    described,
    kinds,
    mapping,
    names,
    one_or_more,
    options_as_shapes,
    ref,
    settings,
    settings_like,
    several,
    values_of_rows,
)
from gridrun.grid.layers import AXIS_KEYS, CASE_KEYS
from gridrun.grid.looks import AUTO_KEYS
from gridrun.grid.plot_specs import EPOCH_METRICS, PLOT_KEYS, Kind
from gridrun.grid.profiles import PROFILE_KEYS, SCALE_KEYS
from gridrun.grid.published import VALUE_KEYS
from gridrun.grid.search import Search
from gridrun.grid.settings import LET, known_keys, settable_keys
from gridrun.grid.table_specs import TABLE_KEYS, Spread
from gridrun.metrics import LABELS, METRICS
from trainer import TrainConfig
from trainer.runtime import Compile, KeepCheckpoint
from trainer.schema import field_types

TEXT: Shape = {"type": "string", "minLength": 1}
NAME: Shape = {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$"}


def json_schema() -> dict[str, Any]:
    """Return the schema of grid files, with the models and the like that are registered here."""
    known = ordered(known_keys())
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A grid file of gridrun",
        **mapping(described(GRID_KEYS, _grid())),
        "definitions": {
            "settings": settings(),
            "let": {"type": "object", "additionalProperties": NUMBER},
            "axis": _axis(),
            "case": settings_like({key: ref("settings", key) for key in ordered(settable_keys())}, _case()),
            "pick": _pick(),
            "derive": mapping({key: ref("expression") for key in known}),
            "expression": one_or_more({"type": ["number", "string"]}),
            "seeds": _seeds(),
            "published": mapping({**values_of_rows(), "name": TEXT, **_values()}),
            "reported": {"type": "object", "properties": _values(), "additionalProperties": _shown()},
            "metric": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"\d"}]},
            "table": _table(),
            "compare": mapping(described(COMPARE_KEYS, _compare()), required=["by", "to"]),
            "column": names([*METRICS, *LABELS, *known]),
            "plot": _plot(),
            "key": names([*LABELS, *known]),
            "profile": _profile(),
            "search": mapping(options_as_shapes(Search, "base")),
            **kinds(),
        },
    }


def ordered(keys: Collection[str]) -> list[str]:
    """Return keys as an editor should offer them: whole options first, then their parts."""
    return sorted(keys, key=lambda key: ("." in key, key))


def _grid() -> dict[str, Shape]:
    return {
        "name": NAME,
        "title": TEXT,
        "description": TEXT,
        "source": TEXT,
        "include": one_or_more(TEXT),
        "base": ref("settings"),
        "axes": {"anyOf": [several(ref("axis")), ref("axis")]},
        "exclude": several(ref("pick")),
        "extra": several(ref("case")),
        "derive": ref("derive"),
        "seeds": ref("seeds"),
        "tables": several(ref("table")),
        "compare": ref("compare"),
        "mark_best": FLAG,
        "plots": several(ref("plot")),
        "profiles": {"type": "object", "additionalProperties": ref("profile")},
        "search": ref("search"),
        "keep_checkpoint": {**names(get_args(KeepCheckpoint)), "default": "none"},
        "compile": {"enum": [*get_args(Compile), True, False], "default": "off"},
        "gpus_per_trial": {"anyOf": [names(["auto"]), {"type": "number", "exclusiveMinimum": 0}]},
        "skip_hopeless": FLAG,
        "retries": count(least=0),
        "stop_after_failures": count(least=1),
    }


def _seeds() -> Shape:
    """Return a count, a list, or seeds that stop by themselves."""
    counts = {
        "min": count(least=1),
        "max": count(least=1),
        "looks": several(count(least=1), uniqueItems=True),
    }
    fixed = [count(least=1), several(count(least=0), uniqueItems=True)]
    return {"anyOf": [*fixed, names(["auto"]), mapping(described(AUTO_KEYS, counts))]}


def _axis() -> Shape:
    """Return one axis: an option and its values, options that are walked together, or cases."""
    keys = ordered(settable_keys())
    columns = {key: several(ref("settings", key), uniqueItems=True) for key in keys}
    walked = {key: several(ref("settings", key)) for key in keys}
    patterns = {LET_KEY: several(NUMBER)}
    zipped = mapping({**walked, "seeds": several(ref("seeds"))}, patterns, minProperties=1)
    own = described(AXIS_KEYS, {"cases": several(ref("case")), "zip": zipped})
    return mapping({**own, LET: several(ref("let")), **columns}, patterns, minProperties=1)


def _case() -> dict[str, Shape]:
    """Return the keys of a case that are no settings."""
    return described(CASE_KEYS, {"name": TEXT, "published": mapping(_values()), "seeds": ref("seeds")})


def _pick() -> Shape:
    """Return what picks rows: for each option a value, or a list of those that are fine."""
    shapes = {key: one_or_more(shape) for key, shape in values_of_rows().items()}
    return mapping({**shapes, "name": one_or_more(TEXT), "seeds": ref("seeds")}, minProperties=1)


def _values() -> dict[str, Shape]:
    """Return what may be published for a row."""
    own = {"paper": TEXT, "runs": count(least=1), "note": TEXT}
    return described(VALUE_KEYS, {**dict.fromkeys(METRICS, ref("metric")), **own})


def _shown() -> Shape:
    return {"type": ["string", "number", "boolean", "null", "array"]}


def _table() -> Shape:
    published = [several(ref("published")), mapping({"file": TEXT}, required=["file"])]
    shapes = {
        "id": NAME,
        "title": TEXT,
        "where": ref("pick"),
        "columns": several(ref("column"), uniqueItems=True),
        "headers": {"type": "object", "additionalProperties": TEXT},
        "published": {"anyOf": published},
        "reported": several(ref("reported")),
        "source": TEXT,
        "tolerance": {"type": "number", "minimum": 0},
        "compare": ref("compare"),
        "mark_best": FLAG,
        "spread": names(get_args(Spread)),
    }
    # Rows that are only reported may have columns of their own.
    shapes_of_reported = {**shapes, "columns": several(TEXT, uniqueItems=True)}
    return {
        "if": {"type": "object", "required": ["reported"]},
        "then": mapping(described(TABLE_KEYS, shapes_of_reported)),
        "else": mapping(described(TABLE_KEYS, shapes)),
    }


def _compare() -> dict[str, Shape]:
    key = names(["name", *ordered({*field_types(TrainConfig), *known_keys()})])
    return {"by": key, "to": _shown(), "within": several(key, uniqueItems=True)}


def _plot() -> Shape:
    keys = one_or_more(ref("key"), uniqueItems=True)
    shapes: dict[str, Shape] = {
        "id": NAME,
        "title": TEXT,
        "kind": names(get_args(Kind)),
        "where": ref("pick"),
        **dict.fromkeys(("x", "by", "panels"), keys),
        "y": one_or_more(names([*EPOCH_METRICS, *METRICS])),
        **dict.fromkeys(("log_x", "log_y", "published"), FLAG),
    }
    return mapping(described(PLOT_KEYS, shapes))


def _profile() -> Shape:
    share = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    share_or_count = {"anyOf": [share, count(least=1)]}
    scale = described(SCALE_KEYS, {"epochs": share_or_count, "train": share_or_count})
    shapes: dict[str, Shape] = {
        "set": ref("settings"),
        "scale": mapping(scale),
        "exclude": several(ref("pick")),
        "seeds": ref("seeds"),
    }
    return mapping(described(PROFILE_KEYS, shapes), minProperties=1)
