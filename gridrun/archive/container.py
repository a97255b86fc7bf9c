"""The zip archive: names to bytes. What is read may come from anybody."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridrun.errors import GridrunError
from gridrun.text import printable
from trainer import files

MANIFEST = "gridrun.json"
FORMAT = 1
MAX_BYTES = 2**30
"""Of an archive, and of all that is in it once it is unpacked."""
MAX_FILES = 1000
MAX_DEPTH = 10
TOP = ("records.jsonl", "notes.jsonl", "tables.json", "tables.md", "environment.json")
"""Files beside the manifest; all others lie in `grids/`."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, MemoryError),
)
"""What `zipfile` raises on damaged or hostile input."""


class ArchiveError(GridrunError):
    """A file that is no archive of gridrun, or one that is damaged or built to do harm."""


def write(path: Path, about: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Write an archive with a manifest: `about`, and digests of the contents.

    Raises:
        ArchiveError: it would be too large to be read again.
        GridrunError: the file cannot be written.
    """
    manifest = {"format": FORMAT, **about, "files": {name: sha256(data) for name, data in contents.items()}}
    whole = {MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode(), **contents}
    if sum(map(len, whole.values())) > MAX_BYTES or len(whole) > MAX_FILES:
        raise ArchiveError(
            f"{path}: would hold more than {MAX_BYTES >> 30} GiB or {MAX_FILES} files; export fewer grids, "
            "or hand on the results directory, for `gridrun merge`"
        )
    try:
        with files.replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in whole.items():
                entry = zipfile.ZipInfo(name, _EPOCH)  # the same content makes the same bytes
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(entry, data)
    except OSError as error:
        raise GridrunError(f"{path}: cannot be written ({error.strerror or error})") from None


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return an archive's manifest, and its other files by name; each has the digest that it should have.

    Raises:
        ArchiveError: it is damaged, too large or not ours, or has a name or a kind of entry that no export
            writes: a path that leads out, a link, the same name twice.
    """
    try:
        if not path.is_file():
            raise _error(path, "no such file")
        if path.stat().st_size > MAX_BYTES:
            raise _error(path, f"is larger than {MAX_BYTES >> 30} GiB")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            found = {entry.filename: _content(archive, entry) for entry in entries}
    except _DAMAGE as error:
        raise _error(path, f"cannot be read as a zip archive ({printable(str(error))[:100]})") from None
    manifest = _manifest(path, found.pop(MANIFEST))
    _check_digests(path, manifest["files"], found)
    return manifest, found


def is_safe_name(name: str) -> bool:
    """Return whether an archive may have a file of this name: one of ours, or one within `grids/`."""
    first, *parts = name.split("/")
    if not parts:
        return name in (MANIFEST, *TOP)
    plain = all(re.fullmatch(r"[^\\:\s]([^\\:]{0,98}[^\\:\s])?", part) for part in parts)
    dots = any(set(part) <= {"."} for part in parts)
    return first == "grids" and len(parts) <= MAX_DEPTH and plain and not dots and name.isprintable()


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise _error(path, f"holds more than {MAX_BYTES >> 30} GiB or {MAX_FILES} files")
    for entry in entries:
        shown = printable(entry.filename)[:80]
        if not is_safe_name(entry.orig_filename) or entry.orig_filename != entry.filename:
            raise _error(path, f"{shown!r} is not the name of a file that gridrun exports")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _error(path, f"{shown!r} is a link or a device")
        if entry.flag_bits & 1 or entry.compress_type not in _METHODS:
            raise _error(path, f"{shown!r} is encrypted, or packed in a way that gridrun does not use")
    folded = {name.casefold() for name in names}
    folders = {name[: m.start()] for name in folded for m in re.finditer("/", name)}
    if len(folded) < len(names) or folders & folded:
        raise _error(path, "has two files, or a file and a folder, of one name")
    if MANIFEST not in names:
        raise _error(path, f"has no {MANIFEST}: it is no archive of gridrun")


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return what is in an entry: no more than it says, which is what was checked."""
    with archive.open(entry) as file:
        data = file.read(entry.file_size + 1)
    if len(data) != entry.file_size:
        raise ValueError(f"{entry.filename} has another size than it says")
    return data


def _manifest(path: Path, text: bytes) -> dict[str, Any]:
    manifest = json_of(path, MANIFEST, text)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise _error(path, f"{MANIFEST} is not as gridrun writes it")
    if manifest.get("format") != FORMAT:
        shown = printable(str(manifest.get("format")))[:20]
        raise _error(path, f"has format {shown}; this version of gridrun reads format {FORMAT}")
    return manifest


def _check_digests(path: Path, listed: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    if odd := sorted(listed.keys() ^ contents.keys()):
        where = "lacks" if odd[0] in listed else "has, and its manifest does not name,"
        raise _error(path, f"{where} {printable(odd[0])[:80]!r}")
    for name, data in contents.items():
        if listed[name] != sha256(data):
            raise _error(path, f"{name} was changed after it was exported: it has another SHA-256")


def json_of(path: Path, name: str, text: bytes) -> Any:
    """Return what a JSON file of an archive says. Raises ArchiveError: it is no JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _error(path, f"{name}: no JSON ({printable(str(error))[:100]})") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _error(path: Path, problem: str) -> ArchiveError:
    return ArchiveError(f"{path}: {problem}")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, as hex digits."""
    return hashlib.sha256(data).hexdigest()
