"""`gridrun doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._help import GroupedCommand
from gridrun.commands._options import json_option, results_option
from gridrun.commands._show import echo_json
from gridrun.text import printable


@click.command("doctor", cls=GroupedCommand, example="gridrun doctor")
@results_option
@json_option
def command(results: Path, as_json: bool) -> None:
    """Show what this machine can run, and what is missing."""
    from gridrun.doctor import examine

    findings = examine(results)
    if as_json:
        echo_json([{"what": f.what, "found": f.found, "ok": f.ok} for f in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok ' if finding.ok else 'NO '} {finding.what:22} {printable(finding.found)}")
    if not all(finding.ok for finding in findings):
        raise SystemExit(1)
