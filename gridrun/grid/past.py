"""A grid as it was at a git revision."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridrun.errors import GridError
from gridrun.grid import Grid, load_grid

_SECONDS = 60.0


def grid_at(revision: str, path: Path, options: Mapping[str, Any]) -> tuple[Grid, str]:
    """Return a grid as it was at a revision, and the commit that this is. Its files are gone again.

    Today's gridrun reads it: an option that has gone since is an error, and ids are those of today.

    Args:
        revision: anything that git takes for a commit: `HEAD~3`, a tag, a hash.
        path: where the file was, as seen from here. It need not be there today.
        options: how to read it: arguments of `load_grid`.

    Raises:
        GridError: there is no such revision or file, or the grid is not valid.
    """
    place = f"{revision}:{path}"
    home = next((parent for parent in path.absolute().parents if parent.is_dir()), Path())
    top = Path(_git(home, place, "rev-parse", "--show-toplevel").decode().strip()).resolve()
    wanted = f"{revision}^{{commit}}"  # `--verify`: nothing but a revision, whatever it begins with
    name = _git(home, place, "rev-parse", "--verify", "--end-of-options", wanted).decode().strip()
    within = (path.absolute().parent.resolve() / path.name).relative_to(top)
    grids = next((parent for parent in within.parents if parent.name == "grids"), within.parent)
    packed = _git(top, place, "archive", "--format=tar", name, "--", grids.as_posix())
    with tempfile.TemporaryDirectory(prefix="gridrun-") as directory:
        root = Path(directory).resolve()
        try:
            with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
                tar.extractall(root, filter="data")
            return load_grid(root / within, **options), name
        except GridError as error:
            shown = str(error).replace(f"{root}/", f"{revision}:")
            raise GridError(place, 0, "", shown.removeprefix(f"{place}: ")) from None
        except (tarfile.TarError, OSError) as error:
            raise GridError(place, 0, "", f"cannot be unpacked: {error}") from None


def _git(directory: Path, place: str, *arguments: str) -> bytes:
    command = ["git", "-C", str(directory), *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=_SECONDS, check=True).stdout
    except FileNotFoundError:
        raise GridError(place, 0, "", "git is not installed") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        problem = said[-1].removeprefix("fatal: ") if said else "git gives no reason"
        if "rev-parse" in arguments and "--verify" in arguments:
            problem = "git knows no such revision"
        raise GridError(place, 0, "", problem) from None
    except subprocess.TimeoutExpired:
        raise GridError(place, 0, "", f"git takes longer than {_SECONDS:g} s") from None
