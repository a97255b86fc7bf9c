"""YAML text to plain data that remembers its lines.

What YAML would misread in silence is an error here: `010`, a date, `no: 1`, a key that stands twice.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from gridrun.errors import GridError
from gridrun.grid.node import Located

MAX_BYTES = 4 * 2**20
MAX_DEPTH = 50
MAX_NODES = 1_000_000
"""Values in a document with its aliases written out; a few nested aliases can stand for billions."""

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BOOLS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def load_yaml(path: Path) -> Located:
    """Read the one YAML document of a file. Raises GridError: see `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most MAX_BYTES.

    Raises:
        GridError: the file is missing, not a regular file, too large or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():
            raise GridError(path, 0, "", "is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise GridError(path, 0, "", f"no such file.{nearest_beside(path, Path.is_file)}") from None
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


def nearest_beside(path: Path, is_kind: Callable[[Path], bool]) -> str:
    """Return ` Did you mean 'x'?` for the closest name in the same directory, or an empty text."""
    try:
        known = {found.stem: found.name for found in path.parent.iterdir() if is_kind(found)}
    except (OSError, ValueError):
        return ""
    stems = sorted(known)  # a common suffix alone makes no two names alike
    longer = [stem for stem in stems if stem.startswith(path.stem)]
    near = difflib.get_close_matches(path.stem, stems, n=1) or longer[:1]
    return f" Did you mean {known[near[0]]!r}?" if near else ""


def parse_yaml(text: str, source: Path | str) -> Located:
    """Read one YAML document.

    Only YAML's own core types are built. Text that YAML 1.1 reads as a number in base 60 (`1:30`)
    stays text.

    Args:
        source: name of the file, for error messages.

    Raises:
        GridError: a syntax error; no document, or several; a key that repeats or is not text; a tag or
            a date; a number with a leading zero, or one that is not finite; a document that exceeds
            MAX_DEPTH or MAX_NODES.
    """
    try:
        return _Builder(source, *_read_events(text, source)).located(yaml.compose(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise GridError(source, mark.line + 1 if mark else 0, "", f"not YAML: {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise GridError(source, line, "", f"not YAML: {error.reason}") from None
    except UnicodeEncodeError as error:
        raise GridError(source, text.count("\n", 0, error.start) + 1, "", "is not UTF-8 text") from None


def _read_events(text: str, source: Path | str) -> tuple[list[int], dict[int, str]]:
    """Check a document's size, depth and aliases before anything is built from it.

    Return what composed nodes no longer tell: the line of every alias, in order, and every tag that is
    written out, by the index in the text where its value begins.

    Composing recurses as deep as the text says, and an alias inside the value that it names makes an
    endless one, so all of this has to be refused first.
    """

    def fail(line: int, problem: str) -> NoReturn:
        raise GridError(source, line, "", problem)

    alias_lines: list[int] = []
    tags: dict[int, str] = {}
    sizes: dict[str, tuple[int, int] | None] = {}  # anchor -> values and depth; None: not ended yet
    opened: list[tuple[Any, int, int]] = []  # lists and mappings: start event, values and depth so far
    documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark: Any = event.start_mark
        line = mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                fail(line, "a second document starts here; put it into its own file")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                fail(line, f"unknown alias *{event.anchor}")
            if (named := sizes[event.anchor]) is None:
                fail(line, f"the alias *{event.anchor} is inside the value it names")
            size, depth = named
            alias_lines.append(line)
        elif isinstance(event, (yaml.ScalarEvent, yaml.CollectionStartEvent)):
            size, depth = 1, 0
            if event.anchor in sizes:
                fail(line, f"the anchor &{event.anchor} already names another value")
            if event.tag:
                tags[mark.index] = event.tag
            if event.anchor:
                sizes[event.anchor] = size, depth
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append((event, size, depth))
                if event.anchor:
                    sizes[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            start, size, depth = opened.pop()
            depth += 1
            if size > MAX_NODES:
                fail(_line(start), f"stands for more than {MAX_NODES:,} values")
            if start.anchor:
                sizes[start.anchor] = size, depth
        else:
            continue
        if len(opened) + depth > MAX_DEPTH:
            fail(line, f"is nested more than {MAX_DEPTH} deep")
        if opened and not isinstance(event, yaml.CollectionStartEvent):
            start, total, deepest = opened[-1]
            opened[-1] = start, total + size, max(deepest, depth)
    if not documents:
        fail(1, "is empty")
    return alias_lines, tags


class _Builder:
    """Builds values from composed nodes. An alias is the node that it names, met a second time."""

    def __init__(self, source: Path | str, alias_lines: list[int], tags: dict[int, str]) -> None:
        self.source = source
        self.alias_lines = iter(alias_lines)
        self.tags = tags
        self.built: dict[int, Any] = {}  # by id of the node

    def located(self, node: Any) -> Located:
        """Return the value of a node with the line where it, or the alias, stands."""
        if id(node) in self.built:
            return Located(self.built[id(node)], next(self.alias_lines))
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = self._scalar(node)
        elif isinstance(node, yaml.MappingNode):
            self._refuse_tag(node, "map")
            value = self._mapping(node)
        else:
            self._refuse_tag(node, "seq")
            value = [self.located(item) for item in node.value]
        self.built[id(node)] = value
        return Located(value, _line(node))

    def _fail(self, line: int, problem: str, key: str = "") -> NoReturn:
        raise GridError(self.source, line, key, problem)

    def _mapping(self, node: Any) -> dict[str, Located]:
        items: dict[str, Located] = {}
        for key_node, value_node in node.value:
            key, line = self._key(key_node), _line(key_node)
            if key in items:
                self._fail(line, f"appears twice (first on line {items[key].line})", key)
            items[key] = Located(self.located(value_node).value, line)
        return items

    def _key(self, node: Any) -> str:
        if id(node) in self.built:
            self._fail(next(self.alias_lines), "a key must be text")
        line = _line(node)
        if not isinstance(node, yaml.ScalarNode):
            self._fail(line, "a key must be text")
        if node.value == "<<" and not node.style:
            self._fail(line, "merge keys are not supported; use `include`", "<<")
        key = self.located(node).value
        if not isinstance(key, str):
            self._fail(line, f"a key must be text; YAML reads it as {key!r} unless you quote it", node.value)
        if not key.isprintable():
            self._fail(line, f"the key {key!r} has characters that cannot be shown")
        return key

    def _scalar(self, node: Any) -> Any:
        text, line = node.value, _line(node)
        written_tag = self.tags.get(node.start_mark.index)
        tag = written_tag or node.tag
        if not node.style and not written_tag and _LEADING_ZERO.fullmatch(text):
            self._fail(
                line, f"{text}: a leading zero makes YAML read base 8; drop it, or quote it to mean text"
            )
        if tag == _TAG + "timestamp":
            self._fail(line, f"{text}: YAML reads it as a date; quote it to mean text")
        if tag in (_TAG + "str", _TAG + "value", "!") or (tag == _TAG + "merge" and not written_tag):
            return text
        try:
            return _construct(tag, text)
        except KeyError:
            self._fail(line, f"unknown tag {_shown_tag(tag)}; a grid holds plain values only")
        except ValueError as error:
            self._fail(line, f"{text[:40]!r}: {error}")

    def _refuse_tag(self, node: Any, kind: str) -> None:
        if node.tag != _TAG + kind and self.tags.get(node.start_mark.index) != "!":
            self._fail(_line(node), f"unknown tag {_shown_tag(node.tag)}; a grid holds plain values only")


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


def _line(event_or_node: Any) -> int:
    return int(event_or_node.start_mark.line) + 1
