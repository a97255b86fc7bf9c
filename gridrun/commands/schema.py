"""`gridrun schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._out_file import OutFile
from gridrun.errors import GridrunError


@click.command("schema", cls=GroupedCommand, example="gridrun schema -o grids/schema.json")
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    type=OutFile(".json"),
    help="Write the schema to this file. [default: print it]",
)
def command(out: Path | None) -> None:
    """Print a JSON Schema of grid files, for editors.

    An editor with the YAML language server then completes keys, options and names, shows what they mean, and
    marks what is wrong, in each grid file that begins with

    \b
        # yaml-language-server: $schema=schema.json

    where the path is seen from the grid file. The schema has your own models and augmentations too: write it
    again when you add one.
    """
    text = schema_text()
    if out is None:
        click.echo(text, nl=False)
    else:
        write_schema(out, text)


def schema_text() -> str:
    """Return the schema as it is written to files."""
    from gridrun.grid.json_schema import json_schema

    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def write_schema(path: Path, text: str) -> None:
    """Write the schema, over an older one. Raises GridrunError: the file is another one."""
    from trainer import files

    try:
        if path.exists() and _title(path.read_text(encoding="utf-8")) != _title(text):
            raise GridrunError(f"{path}: is another file; choose a name that is free")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GridrunError(f"{path}: cannot be written: {reason}") from None


def _title(text: str) -> object:
    try:
        schema = json.loads(text)
    except ValueError:
        return None
    return schema.get("title") if isinstance(schema, dict) else None
