"""The reference of grid keys, commands and Parquet columns, as docs/reference.md has it: from the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

import click

INTRODUCTION = """\
# Reference

Keys of grid files, commands and columns of results. The options of a trial are in [options.md](options.md).

This page is made from the code: `gridrun list reference --markdown > docs/reference.md`.
"""


def reference(group: click.Group, context: click.Context) -> str:
    """Return the whole page as Markdown."""
    parts = [INTRODUCTION, "## Grid files\n", *_grid_keys(), "## Commands\n", *_commands(group, context)]
    return "\n".join([*parts, *_columns()]).rstrip("\n") + "\n"


def _grid_keys() -> Iterable[str]:
    from gridrun.grid import GRID_KEYS
    from gridrun.grid.comparisons import COMPARE_KEYS
    from gridrun.grid.layers import AXIS_KEYS, CASE_KEYS
    from gridrun.grid.looks import AUTO_KEYS
    from gridrun.grid.plot_specs import PLOT_KEYS
    from gridrun.grid.profiles import PROFILE_KEYS, SCALE_KEYS
    from gridrun.grid.published import VALUE_KEYS
    from gridrun.grid.search import Search
    from gridrun.grid.table_specs import TABLE_KEYS
    from trainer.reference import options_of

    search = {o.name: f"{o.meaning} Default: {o.default_in_words}." for o in options_of(Search)[1:]}
    sections: dict[str, Mapping[str, str]] = {
        "The file": GRID_KEYS,
        "An axis, beside the name of an option": AXIS_KEYS,
        "A case or an `extra`, beside options": CASE_KEYS,
        "Seeds that stop by themselves": AUTO_KEYS,
        "A table": TABLE_KEYS,
        "A comparison between rows": COMPARE_KEYS,
        "A published value, beside the options that pick its row": VALUE_KEYS,
        "A figure": PLOT_KEYS,
        "A profile": PROFILE_KEYS,
        "A scale": SCALE_KEYS,
        "A search": search,
    }
    for title, keys in sections.items():
        yield f"### {title}\n"
        yield _table(("key", "meaning"), ((f"`{key}`", meaning) for key, meaning in keys.items()))


def _commands(group: click.Group, context: click.Context) -> Iterable[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield f"### gridrun {name}\n"
        text = inspect.cleandoc(command.help or "").replace("\b\n", "")
        yield f"{text}\n"
        if needs := getattr(command, "needs", ""):
            yield f"    # Needs: {needs}"
        yield f"    {getattr(command, 'example', '') or f'gridrun {name}'}\n"
        inner = click.Context(command, info_name=name, parent=context)
        records = [
            param.get_help_record(inner) for param in command.params if isinstance(param, click.Option)
        ]
        yield _table(("option", "meaning"), ((f"`{one[0]}`", one[1]) for one in records if one))


def _columns() -> Iterable[str]:
    from gridrun.store.records import Provenance, Record
    from trainer.metrics import Epoch
    from trainer.reference import options_of

    yield "## Results\n"
    yield "`trials.parquet` also has a column for each option of a trial, such as `model.depth`.\n"
    hidden = ("config", "provenance", "epochs")  # spread over columns of their own, or in the other file
    for title, classes in {"trials.parquet": (Record, Provenance), "epochs.parquet": (Epoch,)}.items():
        options = [option for cls in classes for option in options_of(cls) if option.name not in hidden]
        yield f"### {title}\n"
        rows = ((f"`{o.name}`", o.meaning or o.name.replace("_", " ").capitalize() + ".") for o in options)
        yield _table(("column", "meaning"), rows)


def _table(header: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [header, ("---", "---"), *rows]
    cells = (" | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells) + "\n"
