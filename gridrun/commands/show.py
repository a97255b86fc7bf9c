"""`gridrun show`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand, complete_id
from gridrun.commands._options import json_option, results_option
from gridrun.commands._show import echo_json, note_line
from gridrun.text import printable


@click.command("show", cls=GroupedCommand, example="gridrun show 0c39ed")
@click.argument("trial", metavar="ID", shell_complete=complete_id)
@results_option
@json_option
def command(trial: str, results: Path, as_json: bool) -> None:
    """Show all about an ended trial, by its id or its beginning."""
    from gridrun.store import Store
    from gridrun.store.records import about

    store = Store(results)
    trial_id = store.find(trial)
    row = store.rows([trial_id])[trial_id]
    parts, notes = about(row), store.notes.read([trial_id, row["config_id"]])
    if as_json:
        epochs = [
            {name: value for name, value in epoch.items() if name != "trial_id"}
            for epoch in store.epochs([trial_id]).get(trial_id, [])
        ]
        echo_json({**parts, "user_notes": [note.as_dict() for note in notes], "epochs": epochs})
        return
    traceback = parts["trial"].pop("traceback", None)
    for title, values in parts.items():
        click.echo(f"{title}:")
        for name, value in values.items():
            click.echo(f"  {name:28} {printable(str(value))}")
    for note in notes:
        click.echo(note_line(note))
    for line in (traceback or "").splitlines():
        click.echo(printable(line))
