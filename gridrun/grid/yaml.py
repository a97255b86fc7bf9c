"""YAML to plain data that remembers its lines; what YAML would misread silently is an error here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from gridrun.errors import GridError
from trainer.registry import did_you_mean

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50
MAX_NODES = 1_000_000
"""Of a document with its aliases written out; a few nested aliases can stand for billions."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BOOLS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True)
class Located:
    """A value and where it stands.

    `value` is a scalar, a list of Located or a dict from text to Located. `line` counts from 1; an
    entry of a mapping has the line of its key. 0: not from a file.
    """

    value: Any
    line: int = 0

    def plain(self) -> Any:
        """Return the value without its lines."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value


def locate(value: Any) -> Located:
    """Wrap plain data that comes from no file."""
    if isinstance(value, dict):
        return Located({key: locate(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return Located([locate(item) for item in value])
    return Located(value)


def load_yaml(path: Path) -> Located:
    """Read the one YAML document of a file.

    Raises:
        GridError: the file cannot be read, or is not what `parse_yaml` takes.
    """
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most MAX_BYTES.

    Raises:
        GridError: it is missing, no regular file, too large or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise GridError(path, 0, "", "is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise GridError(path, 0, "", "no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise GridError(path, 0, "", f"cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise GridError(path, 0, "", f"is larger than {MAX_BYTES // 2**20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise GridError(path, line, "", "is not UTF-8 text") from None


def parse_yaml(text: str, source: Path | str) -> Located:
    """Read one YAML document.

    Only YAML's own core types are built. Text that YAML 1.1 reads as a number in base 60 (`1:30`)
    stays text.

    Args:
        source: the file's name, for error messages.

    Raises:
        GridError: a syntax error, no document or several, a key that repeats or is not text, a tag
            or date, a number with a leading zero or without end, or more than MAX_DEPTH, MAX_NODES.
    """
    try:
        return _Reader(text, source).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise GridError(source, mark.line + 1 if mark else 0, "", f"not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise GridError(source, line, "", f"not YAML: {error.reason}") from None
    except UnicodeEncodeError as error:
        raise GridError(source, text.count("\n", 0, error.start) + 1, "", "is not UTF-8 text") from None


class _Reader:
    """Builds values straight from parse events: that bounds their depth, which composing does not."""

    def __init__(self, text: str, source: Path | str) -> None:
        self.source = source
        self.loader = _Loader(text)
        self.anchors: dict[str, tuple[Any, int] | None] = {}  # name -> value and size; None: unfinished
        self.depth = 0

    def document(self) -> Located:
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            self._fail(1, "is empty")
        event = self._next()
        root, _ = self._value(event)
        self._next()  # document end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._fail(_line(after), "a second document starts here; put it into a file of its own")
        return Located(root, _line(event))

    def _next(self) -> Any:
        return self.loader.get_event()

    def _fail(self, line: int, problem: str, key: str = "") -> NoReturn:
        raise GridError(self.source, line, key, problem)

    def _value(self, event: Any) -> tuple[Any, int]:
        """Return the value that `event` begins, and its number of nodes."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value, size = self._scalar(event), 1
        else:
            self.depth += 1
            if self.depth > MAX_DEPTH:
                self._fail(_line(event), f"is nested more than {MAX_DEPTH} deep")
            mapping = isinstance(event, yaml.MappingStartEvent)
            self._refuse_tag(event, "map" if mapping else "seq")
            value, size = self._mapping() if mapping else self._sequence()
            self.depth -= 1
        if size > MAX_NODES:
            self._fail(_line(event), f"stands for more than {MAX_NODES:,} values")
        if event.anchor:
            self.anchors[event.anchor] = value, size
        return value, size

    def _alias(self, event: Any) -> tuple[Any, int]:
        if event.anchor not in self.anchors:
            self._fail(_line(event), f"unknown alias *{event.anchor}")
        found = self.anchors[event.anchor]
        if found is None:
            self._fail(_line(event), f"the alias *{event.anchor} stands inside what it names")
        return found

    def _sequence(self) -> tuple[list[Located], int]:
        items, size = [], 1
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            value, count = self._value(event)
            items.append(Located(value, _line(event)))
            size += count
        return items, size

    def _mapping(self) -> tuple[dict[str, Located], int]:
        items: dict[str, Located] = {}
        size = 1
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event), _line(event)
            if key in items:
                self._fail(line, f"stands here twice (first on line {items[key].line})", key)
            value, count = self._value(self._next())
            items[key] = Located(value, line)
            size += count
        return items, size

    def _key(self, event: Any) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(line, "a key must be text")
        if event.value == "<<" and not event.style:
            self._fail(line, "merge keys are not read; use `include`", "<<")
        key = self._scalar(event)
        if not isinstance(key, str):
            self._fail(line, f"a key must be text; YAML reads it as {key!r} unless quoted", event.value)
        if not key.isprintable():
            self._fail(line, f"the key {key!r} has characters that cannot be shown")
        return key

    def _scalar(self, event: Any) -> Any:
        text, line = event.value, _line(event)
        tag = event.tag or self.loader.resolve(yaml.ScalarNode, text, event.implicit)
        if not event.style and not event.tag and _LEADING_ZERO.fullmatch(text):
            self._fail(
                line, f"{text}: a leading zero makes YAML read base 8; drop it, or quote it to mean text"
            )
        if tag == _TAG + "timestamp":
            self._fail(line, f"{text}: YAML reads it as a date; quote it to mean text")
        if tag in (_TAG + "str", _TAG + "value", "!") or (tag == _TAG + "merge" and not event.tag):
            return text
        try:
            return _construct(tag, text)
        except KeyError:
            self._fail(line, f"unknown tag {_shown_tag(tag)}; a grid holds plain values only")
        except ValueError as error:
            self._fail(line, f"{text[:40]!r}: {error}")

    def _refuse_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            self._fail(_line(event), f"unknown tag {_shown_tag(event.tag)}; a grid holds plain values only")


def _construct(tag: str, text: str) -> Any:
    """Build a null, bool, int or float. Raises ValueError, or KeyError for any other tag."""
    if tag == _TAG + "null":
        return None
    if tag == _TAG + "bool":
        if text.lower() not in _BOOLS:
            raise ValueError("is not true or false")
        return _BOOLS[text.lower()]
    if tag not in (_TAG + "int", _TAG + "float"):
        raise KeyError(tag)
    if ":" in text:
        return text
    number = text.replace("_", "")
    if tag == _TAG + "int":
        integer = int(number[:100], 0)  # 100: far past the limit below, yet quick to read
        if abs(integer) >= 2**63:
            raise ValueError("is too large a number")
        return integer
    value = float(re.sub(r"(?i)\.(inf|nan)$", r"\1", number))
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _shown_tag(tag: str) -> str:
    return repr(tag.replace(_TAG, "!!", 1))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


@dataclass(frozen=True, slots=True)
class Node:
    """A value, the file it stands in and its key there, such as `axes[1].lr`."""

    file: Path | str
    key: str
    located: Located

    @property
    def value(self) -> Any:
        """The value as `Located` holds it."""
        return self.located.value

    @property
    def line(self) -> int:
        """Counted from 1; 0: not from a file."""
        return self.located.line

    def error(self, problem: str) -> GridError:
        """Return the error that says what is wrong here."""
        return GridError(self.file, self.line, self.key, problem)

    def child(self, key: str | int) -> Node:
        """Return an entry of a mapping or an item of a list."""
        if isinstance(key, int):
            return Node(self.file, f"{self.key}[{key}]", self.value[key])
        return Node(self.file, f"{self.key}.{key}" if self.key else key, self.value[key])

    def mapping(self, what: str = "a mapping") -> dict[str, Node]:
        """Return the entries. Raises GridError: this is no mapping."""
        if not isinstance(self.value, dict):
            raise self.error(f"must be {what}, got {shown(self.located)}")
        return {key: self.child(key) for key in self.value}

    def options(self, known: Iterable[str]) -> dict[str, Node]:
        """Return the entries. Raises GridError: no mapping, or a key is none of `known`."""
        entries, known = self.mapping(), tuple(known)
        for key, node in entries.items():
            if key not in known:
                raise node.error(f"unknown key.{did_you_mean(key, known)}")
        return entries

    def items(self, what: str = "a list") -> list[Node]:
        """Return the items. Raises GridError: this is no list, or an empty one."""
        if not isinstance(self.value, list):
            raise self.error(f"must be {what}, got {shown(self.located)}")
        if not self.value:
            raise self.error(f"must be {what}, got an empty one")
        return [self.child(index) for index in range(len(self.value))]

    def text(self) -> str:
        """Return the value. Raises GridError: it is no text, or blank."""
        if not isinstance(self.value, str):
            raise self.error(f"must be text, got {shown(self.located)}; quote it to mean text")
        if not self.value.strip():
            raise self.error("must not be blank")
        return self.value

    def plain(self) -> Any:
        """Return the value as plain data."""
        return self.located.plain()


def read_name(node: Node) -> str:
    """Read a name that can stand in a file name. Raises GridError: it cannot."""
    name = node.text()
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", name):
        raise node.error(f"may hold letters, digits, `_`, `-` and `.` only, got {name!r}")
    return name


def shown(located: Located) -> str:
    """Return a value as an error message shows it."""
    value = located.value
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
