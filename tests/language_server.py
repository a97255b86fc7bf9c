"""A client for a language server: opens documents, gets diagnostics and completions. For tests."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

Message = dict[str, Any]


class LanguageServer:
    """A language server that speaks on its standard input and output."""

    def __init__(self, command: Sequence[str], seconds: float = 60) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._seconds = seconds
        self._number = 0
        self._received: queue.Queue[Message] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> LanguageServer:
        root = {"processId": None, "rootUri": None, "workspaceFolders": None}
        documents = {"publishDiagnostics": {}, "completion": {}, "hover": {}, "synchronization": {}}
        self.request("initialize", {**root, "capabilities": {"textDocument": documents, "workspace": {}}})
        self._notify("initialized", {})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._reader.join()
        with self._process:  # closes its pipes
            pass

    def configure(self, settings: Message) -> None:
        """Send the settings that an editor has."""
        self._notify("workspace/didChangeConfiguration", {"settings": settings})

    def problems(self, path: Path, text: str) -> list[str]:
        """Open a YAML document and return what is marked in it: `LINE: message`, lines from 1."""
        self._notify("textDocument/didOpen", {"textDocument": _document(path, text)})
        while True:
            message = self._next()
            if message.get("method") == "textDocument/publishDiagnostics":
                shown = message["params"]
                if shown["uri"] == path.as_uri():
                    found = shown["diagnostics"]
                    return [f"{one['range']['start']['line'] + 1}: {one['message']}" for one in found]

    def completions(self, path: Path, text: str) -> list[str]:
        """Return what is offered at the `|` in a document that is not open yet."""
        before, _, after = text.partition("|")
        self._notify("textDocument/didOpen", {"textDocument": _document(path, before + after)})
        lines = before.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        found = self.request("textDocument/completion", {**_place(path), "position": place})
        items = found["items"] if isinstance(found, dict) else found or []
        return [item["label"] for item in items]

    def hover(self, path: Path, text: str) -> str:
        """Return what is shown about the word at the `|` in a document that is not open yet."""
        before, _, after = text.partition("|")
        self._notify("textDocument/didOpen", {"textDocument": _document(path, before + after)})
        lines = before.split("\n")
        place = {"line": len(lines) - 1, "character": len(lines[-1])}
        found = self.request("textDocument/hover", {**_place(path), "position": place})
        return str(found["contents"]["value"]) if found else ""

    def request(self, method: str, params: Message) -> Any:
        """Return the result of a request. Questions of the server are answered with nothing."""
        self._number += 1
        number = self._number
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message["error"]
                return message["result"]

    def _next(self) -> Message:
        message = self._received.get(timeout=self._seconds)
        if "id" in message and "method" in message:  # the server asks, such as for its configuration
            self._send({"id": message["id"], "result": None})
        return message

    def _notify(self, method: str, params: Message) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: Message) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout
        while header := self._process.stdout.readline():
            length = int(header.partition(b":")[2])
            while self._process.stdout.readline().strip():
                pass
            self._received.put(json.loads(self._process.stdout.read(length)))


def _document(path: Path, text: str) -> Message:
    return {"uri": path.as_uri(), "languageId": "yaml", "version": 1, "text": text}


def _place(path: Path) -> Message:
    return {"textDocument": {"uri": path.as_uri()}}
