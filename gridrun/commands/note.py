"""`gridrun note`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gridrun.commands._help import GroupedCommand, complete_id
from gridrun.commands._options import json_option, results_option
from gridrun.commands._show import echo_json, note_line
from gridrun.errors import GridrunError, StoreError
from gridrun.text import number_of

if TYPE_CHECKING:
    from gridrun.store import Store


@click.command("note", cls=GroupedCommand, example="gridrun note 0c39ed 'the fan was broken'")
@click.argument("words", metavar="[ID]... [TEXT]", nargs=-1, shell_complete=complete_id)
@results_option
@click.option("--clear", is_flag=True, help="Remove the notes about these ids; give no TEXT.")
@json_option
def command(words: tuple[str, ...], results: Path, clear: bool, as_json: bool) -> None:
    """Keep a note on trials or rows.

    ID is a trial's id, or for a row its config id, as `gridrun why` and `gridrun status` show them; the
    beginning is enough. The note stays with the results: `status`, `why`, `show` and `load_results` have it.

    With a lone ID, or nothing, the notes that there are are printed.
    """
    from gridrun.store import Store, unwritable

    store = Store(results)
    if not clear and len(words) < 2:
        notes = store.notes.read([find(store, words[0])] if words else None)
        if as_json:
            echo_json([note.as_dict() for note in notes])
        for note in () if as_json else notes:
            click.echo(note_line(note))
        return
    if as_json:
        raise click.UsageError("--json goes with reading notes: give one ID, or nothing")
    *starts, text = (*words, "") if clear else words
    ids = list(dict.fromkeys(find(store, start) for start in starts))
    if not ids:
        raise click.UsageError("--clear needs an ID")
    try:
        if clear:
            click.echo(f"{number_of(store.notes.clear(ids), 'note')} removed", err=True)
            return
        add(store, ids, text)
    except OSError as error:
        raise unwritable(store.root, error) from error


def add(store: Store, ids: Sequence[str], text: str) -> None:
    """Add a note on each of some ids. Raises GridrunError: the text is empty or too long."""
    from gridrun.store.notes import Note
    from gridrun.sweep import provenance
    from gridrun.text import utc_now

    try:
        notes = [Note(about=each, text=text.strip(), at=utc_now(), by=provenance.user()) for each in ids]
    except ValueError as error:
        raise GridrunError(str(error)) from None
    if not store.root.is_dir():
        raise StoreError(f"{store.root}: no such results directory")
    for note in notes:
        store.notes.add(note)
        click.echo(note_line(note), err=True)


def find(store: Store, start: str) -> str:
    """Return the id of a trial or a row that begins so. Raises GridrunError: none does, or several do."""
    from gridrun.store.records import is_trial_id
    from gridrun.trial import SHORTEST_ID

    if is_trial_id(start):
        return start  # perhaps of a trial that has not ended yet
    rows = store.rows(columns=["config_id"])
    known: list[str] = sorted({*rows, *(row["config_id"] for row in rows.values())})
    found = [each for each in known if each.startswith(start)] if len(start) >= SHORTEST_ID else []
    if len(found) == 1:
        return found[0]
    if found:
        raise GridrunError(f"{start!r} begins several ids: {', '.join(found[:8])}")
    hint = "give at least 4 characters" if len(start) < SHORTEST_ID else "`gridrun why` and `status` show ids"
    raise GridrunError(f"no trial or row of {store.root} has an id that begins with {start!r}; {hint}")
