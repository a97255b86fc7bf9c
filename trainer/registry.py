"""Registries of the options that a config may name. Options register themselves where they are defined."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

KindT = TypeVar("KindT", bound="Options")
ClassT = TypeVar("ClassT", bound="type[Options]")


class Options:
    """The options of one registered thing: a model, a schedule, ...

    A subclass is a frozen dataclass. Its fields are the options; `name` comes from its registration. Its
    module is imported to check a grid, so it must not import torch at the top, only in methods that build
    something.
    """

    __slots__ = ()
    name: str
    kind: str
    version: ClassVar[int] = 1
    """Raise it when the part computes something else than before: trials of it then have new ids."""
    in_epochs: ClassVar[tuple[str, ...]] = ()
    """Names of the options that count epochs, and so change with the length of a run. In pairs, the first
    number counts epochs."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` with the nearest known name, or the list of all names."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Choose from: {', '.join(choices)}." if choices else ""


class Registry(Generic[KindT]):
    """The names of one kind, found by importing every public module of one package.

    To add a name, add a module; there is no list to edit. A module that cannot be imported takes only its own
    names with it, and is named wherever an unknown name is.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._known: dict[str, type[KindT]] = {}
        self._broken: dict[str, str] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[ClassT], ClassT]:
        """Class decorator: register the decorated options as `name`. Raises ValueError: the name is taken."""

        def add(options: ClassT) -> ClassT:
            if name in self._known:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            options.name = name
            options.kind = self.kind
            self._known[name] = cast("type[KindT]", options)
            return options

        return add

    def get(self, name: str) -> type[KindT]:
        """Return the options class called `name`.

        Raises:
            ValueError: there is no such name; the message has the nearest one, and every broken module.
        """
        known = self._discover()
        if name not in known:
            hint = "" if name in self._broken else did_you_mean(name, known)
            problems = "".join(f" {problem}." for problem in self._broken.values())
            raise ValueError(f"unknown {self.kind} {name!r}.{hint}{problems}")
        return known[name]

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return sorted(self._discover())

    @property
    def broken(self) -> list[str]:
        """Why modules could not be imported: one text each, with file and line."""
        self._discover()
        return list(self._broken.values())

    def _discover(self) -> dict[str, type[KindT]]:
        if not self._discovered:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    self._import(f"{self.package}.{module.name}")
            self._discovered = True
        return self._known

    def _import(self, module: str) -> None:
        """Import a module, which registers its names. If it fails, note why; it registers none then."""
        before = dict(self._known)
        try:
            importlib.import_module(module)
        except Exception as error:  # anything: it is somebody's work in progress
            self._known = before
            self._broken[module.rpartition(".")[2]] = (
                f"{_place(module, error)}: {type(error).__name__}: {error}"
            )


def _place(module: str, error: Exception) -> str:
    """Return the file and line of a module that raised an error, seen from the folder of its package."""
    root, inside = Path(__file__).parent.parent, "/".join(module.split("."))
    if isinstance(error, SyntaxError) and error.filename:
        places = [(error.filename, error.lineno)]
    else:
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    for name, line in reversed(places):
        path = Path(name)
        if path.is_relative_to(root) and path.relative_to(root).as_posix().startswith(inside):
            return f"{path.relative_to(root).as_posix()}:{line}"
    return module
