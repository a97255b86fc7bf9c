"""`gridrun plan`."""

from __future__ import annotations

from pathlib import Path

import click

from gridrun.commands._options import (
    grids_argument,
    json_option,
    profile_option,
    read_grids,
    results_option,
    scale_option,
    seeds_option,
    set_option,
)
from gridrun.commands._show import show_plan


@click.command("plan")
@grids_argument(required=False)
@results_option
@set_option
@profile_option
@scale_option
@seeds_option
@json_option
def command(
    grids: tuple[Path, ...],
    results: Path,
    settings: tuple[str, ...],
    profile: str | None,
    scale: str | None,
    seeds: int | None,
    as_json: bool,
) -> None:
    """Show what a launch would do: trials, done, missing, failed, their order. Starts nothing."""
    from gridrun.plan import make_plan
    from gridrun.store import Store

    wanted = read_grids(grids, settings, seeds, profile=profile, scale=scale)
    show_plan(make_plan(wanted, Store(results).statuses()), as_json)
